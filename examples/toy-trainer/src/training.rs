//! The training loop of one rank: steps, evaluation, checkpoints and the planned stop.
//!
//! Every number is computed in a fixed order and all state is in the snapshot, so a run that is interrupted anywhere
//! and resumed ends with the same bits as one that is not.

use serde_json::json;

use crate::checkpoint::{self, InPlace, Unnamed};
use crate::console::say;
use crate::data::{Data, Sampler};
use crate::failure::{Context, PREEMPTED, Result};
use crate::hook::Place;
use crate::model;
use crate::observer::Observer;
use crate::optimizer::{Adam, learning_rate};
use crate::options::{Bug, Options};
use crate::progress::{Progress, ProgressFile};
use crate::random::Random;
use crate::ring::Ring;
use crate::signal;
use crate::snapshot::{Snapshot, digest, model_tensors};

/// Standard deviation of the noise added to each input during training.
const INPUT_NOISE: f32 = 0.1;

/// One rank's share of the job.
pub(crate) struct Trainer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) rank: usize,
    pub(crate) observer: &'a mut Observer,
    pub(crate) ring: Ring,
    pub(crate) data: Data,
    pub(crate) sampler: Sampler,
    pub(crate) noise: Random,
    pub(crate) parameters: Vec<f32>,
    pub(crate) optimizer: Adam,
    /// Steps completed.
    pub(crate) completed: u64,
    /// Step at which the learning-rate schedule began.
    pub(crate) schedule_start: u64,
    /// Only rank 0 records progress.
    pub(crate) progress: Option<ProgressFile>,
}

impl Trainer<'_> {
    /// Trains to the end (exit code 0) or to a planned stop.
    pub(crate) fn run(&mut self) -> Result<u8> {
        let total = self.options.total_steps();
        while self.completed < total {
            let stop = self.step()? && self.completed < total;
            let epoch_ended = self.completed.is_multiple_of(self.options.steps_per_epoch);
            if epoch_ended {
                self.end_epoch();
            }
            let due = epoch_ended
                && self
                    .place()
                    .epoch
                    .is_multiple_of(self.options.checkpoint_every);
            let save_handler = stop && !self.options.has(Bug::SaveHandler);
            if due || save_handler || self.completed == total {
                self.save()?;
            }
            if stop {
                self.stop_here()?;
                return Ok(PREEMPTED);
            }
        }
        self.finish()?;
        Ok(0)
    }

    /// The last completed step and its epoch.
    pub(crate) fn place(&self) -> Place {
        Place {
            step: self.completed,
            epoch: self.completed.div_ceil(self.options.steps_per_epoch),
        }
    }

    /// One step; returns whether any rank was asked to stop before its all-reduce.
    fn step(&mut self) -> Result<bool> {
        let at = Place {
            step: self.completed + 1,
            epoch: self.completed / self.options.steps_per_epoch + 1,
        };
        self.observer.enter("data-wait", at);
        let ids = self.sampler.next(self.rank, self.options.world);
        let batch = self.data.batch(&ids, &mut self.noise, INPUT_NOISE);
        self.observer.event("sample-ids", at, json!({"ids": ids}));
        self.observer.leave("data-wait", at);

        self.observer.enter("forward", at);
        std::thread::sleep(self.options.step_sleep);
        let activations = model::forward(&self.parameters, &batch);
        let (local_loss, scores) = model::loss(&activations, &batch.classes);
        self.observer.leave("forward", at);

        self.observer.enter("backward", at);
        let mut gradient = model::backward(&self.parameters, &activations, scores);
        self.observer.leave("backward", at);

        self.observer.enter("all-reduce", at);
        let (loss, stop) = self.average(&mut gradient, local_loss)?;
        self.observer.leave("all-reduce", at);

        self.observer.enter("optimizer-step", at);
        let rate = learning_rate(
            self.completed - self.schedule_start,
            self.options.total_steps(),
        );
        self.optimizer.update(&mut self.parameters, &gradient, rate);
        self.completed += 1;
        self.observer.leave("optimizer-step", at);

        let ended = json!({
            "loss": loss,
            "local_loss": local_loss,
            "lr": rate,
            "grad_norm": length(&gradient),
            "samples": ids.len(),
        });
        self.observer
            .enter_announcing("step-end", at, &[("step-end", ended)]);
        self.record_progress(false)?;
        if self.rank == 0 {
            say(format_args!(
                "epoch {} step {} loss {loss:.4}",
                at.epoch, at.step
            ));
        }
        self.observer.leave("step-end", at);
        Ok(stop)
    }

    /// Averages `gradient` and `loss` over the ranks. The wish to stop travels with them, so that all ranks learn of
    /// it in the same step.
    fn average(&mut self, gradient: &mut Vec<f32>, loss: f32) -> Result<(f32, bool)> {
        let stop = if signal::termination_requested() {
            1.0
        } else {
            0.0
        };
        gradient.extend([loss, stop]);
        self.ring
            .all_reduce(gradient)
            .context("lost a peer in the all-reduce")?;
        let stop = gradient.pop().is_some_and(|votes| votes > 0.0);
        let share = 1.0 / self.options.world as f32;
        gradient.iter_mut().for_each(|value| *value *= share);
        Ok((gradient.pop().unwrap_or_default(), stop))
    }

    fn record_progress(&self, preempted: bool) -> Result<()> {
        let Some(file) = &self.progress else {
            return Ok(());
        };
        file.record(Progress {
            step: self.completed,
            sampler_position: self.sampler.position(),
            preempted,
        })
    }

    /// The end of an epoch, before its checkpoint.
    fn end_epoch(&mut self) {
        let at = self.place();
        self.observer.enter("epoch-end", at);
        self.observer.leave("epoch-end", at);
        self.observer.enter("evaluation", at);
        let held_out = &self.data.held_out;
        let (loss, _) = model::loss(
            &model::forward(&self.parameters, held_out),
            &held_out.classes,
        );
        self.observer.leave("evaluation", at);
        self.observer.event("epoch-end", at, json!({"loss": loss}));
        if self.rank == 0 {
            say(format_args!("epoch {} held-out loss {loss:.4}", at.epoch));
        }
    }

    /// Gathers the state of all ranks; rank 0 writes it.
    fn save(&mut self) -> Result<()> {
        let mine: Vec<u8> = self
            .noise
            .state()
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let mut noise = self
            .ring
            .all_gather(&mine)
            .context("lost a peer while gathering its state")?;
        if self.rank != 0 {
            return Ok(());
        }
        if self.options.has(Bug::Rank0State) {
            noise.fill(mine);
        }
        let word = |bytes: &[u8]| {
            bytes
                .iter()
                .rev()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte))
        };
        let snapshot = Snapshot {
            step: self.completed,
            fingerprint: self.options.fingerprint(),
            parameters: self.parameters.clone(),
            optimizer: self.optimizer.clone(),
            sampler_position: self.sampler.position(),
            noise: noise
                .iter()
                .map(|state| std::array::from_fn(|at| word(&state[at * 8..][..8])))
                .collect(),
        };
        self.write_checkpoint(&snapshot)
    }

    /// Writes a checkpoint in its three phases.
    fn write_checkpoint(&mut self, snapshot: &Snapshot) -> Result<()> {
        let directory = &self.options.out;
        let path = checkpoint::path(directory, snapshot.step);
        let tensors = snapshot.to_tensors();
        let at = self.place();
        let enter = |observer: &mut Observer, phase: &str| {
            observer.enter_announcing(
                phase,
                at,
                &[(phase, json!({"path": path.to_string_lossy()}))],
            );
        };
        let in_place = self.options.has(Bug::TornCheckpoint);

        enter(self.observer, "checkpoint-begin");
        let (unnamed, torn) = if in_place {
            (None, Some(InPlace::begin(&tensors, path.clone())?))
        } else {
            (Some(Unnamed::write(&tensors, path.clone())?), None)
        };
        self.observer.leave("checkpoint-begin", at);

        enter(self.observer, "checkpoint-written");
        unnamed.map(Unnamed::rename).transpose()?;
        torn.map(InPlace::finish).transpose()?;
        self.observer.leave("checkpoint-written", at);

        enter(self.observer, "checkpoint-renamed");
        checkpoint::sync_directory(directory)?;
        checkpoint::prune(directory)?;
        say(format_args!("checkpoint written {}", path.display()));
        self.observer.leave("checkpoint-renamed", at);
        Ok(())
    }

    /// Leaves at this step because of SIGTERM: the mark in the progress file says so, and no rank goes before it is
    /// on disk.
    fn stop_here(&mut self) -> Result<()> {
        self.record_progress(true)?;
        if self.rank == 0 {
            say(format_args!("preempted at step {}", self.completed));
        }
        self.ring.barrier().context("lost a peer while stopping")
    }

    /// Writes the final parameters.
    fn finish(&mut self) -> Result<()> {
        if self.rank != 0 {
            return Ok(());
        }
        let tensors = model_tensors(&self.parameters);
        Unnamed::write(&tensors, self.options.out.join("final.safetensors"))?.rename()?;
        checkpoint::sync_directory(&self.options.out)?;
        let digest = digest(&tensors);
        say(format_args!(
            "final parameters {digest} step {}",
            self.completed
        ));
        self.observer.hook.event(
            "final-parameters",
            json!({"digest": digest, "step": self.completed}),
        );
        Ok(())
    }
}

/// The Euclidean length of a gradient.
fn length(gradient: &[f32]) -> f64 {
    let squares = gradient.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt()
}
