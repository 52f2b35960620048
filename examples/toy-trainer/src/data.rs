//! The task and the order in which its samples are seen.
//!
//! A seeded teacher draws points around cluster centres; the class of a point is its cluster modulo the number of
//! classes, so the classes are not linearly separable. In every epoch each training sample is used exactly once:
//! the sampler walks a seeded permutation per epoch, and each rank takes its shard of every global batch.

use crate::random::Random;

/// Numbers in one sample.
pub(crate) const INPUTS: usize = 16;
/// Classes of the task.
pub(crate) const CLASSES: usize = 8;
/// Samples in the held-out set.
const HELD_OUT: usize = 256;
const CLUSTERS: usize = 2 * CLASSES;
/// Standard deviation of a point around its centre (centres have standard deviation 1).
const SPREAD: f32 = 0.9;

/// Samples in rows of [`INPUTS`] numbers, and their classes.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) inputs: Vec<f32>,
    pub(crate) classes: Vec<usize>,
}

/// Everything the task offers.
pub(crate) struct Data {
    train: Batch,
    pub(crate) held_out: Batch,
}

impl Data {
    /// Draws `samples` training samples and the held-out set of `seed`.
    pub(crate) fn generate(seed: u64, samples: usize) -> Self {
        let mut teacher = Random::new(seed, 1 << 32);
        let centres: Vec<f32> = (0..CLUSTERS * INPUTS).map(|_| teacher.normal()).collect();
        let mut draw = |count: usize| {
            let mut batch = Batch::default();
            for _ in 0..count {
                let cluster = teacher.below(CLUSTERS);
                let centre = &centres[cluster * INPUTS..][..INPUTS];
                batch
                    .inputs
                    .extend(centre.iter().map(|c| c + SPREAD * teacher.normal()));
                batch.classes.push(cluster % CLASSES);
            }
            batch
        };
        let held_out = draw(HELD_OUT);
        Self {
            train: draw(samples),
            held_out,
        }
    }

    /// Copies the samples `ids`, each number shaken by the rank's own noise of standard deviation `noise`.
    pub(crate) fn batch(&self, ids: &[usize], random: &mut Random, noise: f32) -> Batch {
        let mut batch = Batch::default();
        for &id in ids {
            let row = &self.train.inputs[id * INPUTS..][..INPUTS];
            batch
                .inputs
                .extend(row.iter().map(|x| x + noise * random.normal()));
            batch.classes.push(self.train.classes[id]);
        }
        batch
    }
}

/// Hands each rank its shard of every global batch, without replacement within an epoch.
pub(crate) struct Sampler {
    seed: u64,
    steps_per_epoch: usize,
    /// Samples in one global batch.
    global_batch: usize,
    /// Global batches handed out since the start of training.
    position: u64,
    order: Option<(u64, Vec<usize>)>,
}

impl Sampler {
    /// A sampler that has already handed out `position` global batches of `global_batch` samples.
    pub(crate) fn new(
        seed: u64,
        steps_per_epoch: usize,
        global_batch: usize,
        position: u64,
    ) -> Self {
        Self {
            seed,
            steps_per_epoch,
            global_batch,
            position,
            order: None,
        }
    }

    /// Global batches handed out so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The samples of the next global batch that belong to shard `rank` of `world`.
    pub(crate) fn next(&mut self, rank: usize, world: usize) -> Vec<usize> {
        let epoch = self.position / self.steps_per_epoch as u64;
        let offset = (self.position % self.steps_per_epoch as u64) as usize;
        self.position += 1;
        let shard = self.global_batch / world;
        let start = offset * self.global_batch + rank * shard;
        let samples = self.steps_per_epoch * self.global_batch;
        let seed = self.seed;
        match &self.order {
            Some((of, order)) if *of == epoch => order[start..start + shard].to_vec(),
            _ => {
                let order = permutation(seed, epoch, samples);
                let ids = order[start..start + shard].to_vec();
                self.order = Some((epoch, order));
                ids
            }
        }
    }
}

/// The order of `samples` in one epoch (Fisher-Yates).
fn permutation(seed: u64, epoch: u64, samples: usize) -> Vec<usize> {
    let mut random = Random::new(seed, (2 << 32) + epoch);
    let mut order: Vec<usize> = (0..samples).collect();
    for last in (1..samples).rev() {
        order.swap(last, random.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_used_exactly_once_per_epoch() {
        let (world, steps) = (3, 5);
        let mut ranks: Vec<Sampler> = (0..world).map(|_| Sampler::new(9, steps, 12, 0)).collect();
        let mut orders = Vec::new();
        for _ in 0..2 {
            let mut seen = Vec::new();
            for _ in 0..steps {
                for (rank, sampler) in ranks.iter_mut().enumerate() {
                    seen.extend(sampler.next(rank, world));
                }
            }
            orders.push(seen.clone());
            seen.sort_unstable();
            assert_eq!(seen, (0..60).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1], "each epoch has its own order");
    }

    #[test]
    fn a_sampler_continues_from_a_position_within_an_epoch() {
        let mut whole = Sampler::new(9, 5, 12, 0);
        let mut later = Sampler::new(9, 5, 12, 7);
        for _ in 0..7 {
            whole.next(1, 3);
        }
        assert_eq!(whole.next(1, 3), later.next(1, 3));
    }
}
