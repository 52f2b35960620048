//! Everything a checkpoint holds, and its form as named tensors.

use std::collections::BTreeMap;

use safetensors::Dtype;
use sha2::{Digest, Sha256};

use crate::model::TENSORS;
use crate::optimizer::Adam;

/// A named tensor as safetensors stores it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Contiguous, little-endian.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// The whole state of the job between two steps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// Steps completed.
    pub(crate) step: u64,
    pub(crate) fingerprint: [u64; 5],
    pub(crate) parameters: Vec<f32>,
    pub(crate) optimizer: Adam,
    /// Global batches the sampler has handed out.
    pub(crate) sampler_position: u64,
    /// State of the noise generator of each rank.
    pub(crate) noise: Vec<[u64; 4]>,
}

/// SHA-256 of `tensors` in hex, as the hook protocol defines the digest of parameters.
pub(crate) fn digest(tensors: &Tensors) -> String {
    let mut hash = Sha256::new();
    let count = |hash: &mut Sha256, n: usize| hash.update((n as u64).to_le_bytes());
    for (name, tensor) in tensors {
        let dtype = tensor.dtype.to_string();
        for text in [name, &dtype] {
            count(&mut hash, text.len());
            hash.update(text.as_bytes());
        }
        count(&mut hash, tensor.shape.len());
        tensor
            .shape
            .iter()
            .for_each(|dimension| count(&mut hash, *dimension));
        hash.update(&tensor.bytes);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The model's parameters as tensors `model.*`.
pub(crate) fn model_tensors(parameters: &[f32]) -> Tensors {
    named("model", parameters).collect()
}

impl Snapshot {
    /// All state as tensors.
    pub(crate) fn to_tensors(&self) -> Tensors {
        let mut tensors = model_tensors(&self.parameters);
        tensors.extend(named("optimizer.first", &self.optimizer.first));
        tensors.extend(named("optimizer.second", &self.optimizer.second));
        let mut put = |name: String, numbers: &[u64]| drop(tensors.insert(name, integers(numbers)));
        put("optimizer.updates".into(), &[self.optimizer.updates]);
        put("sampler.position".into(), &[self.sampler_position]);
        put("trainer.step".into(), &[self.step]);
        put("trainer.fingerprint".into(), &self.fingerprint);
        for (rank, state) in self.noise.iter().enumerate() {
            put(format!("rank.{rank}.noise"), state);
        }
        tensors
    }

    /// Takes over every tensor of this state that is in `tensors`; returns how many are missing or misshapen.
    pub(crate) fn overlay(&mut self, tensors: &Tensors) -> usize {
        let mut missing = 0;
        let floats = [
            ("model", &mut self.parameters),
            ("optimizer.first", &mut self.optimizer.first),
            ("optimizer.second", &mut self.optimizer.second),
        ];
        for (prefix, values) in floats {
            let mut at = 0;
            for (name, shape) in TENSORS {
                let here = at..at + shape.iter().product::<usize>();
                at = here.end;
                let stored = tensors.get(&format!("{prefix}.{name}"));
                match stored.filter(|t| t.dtype == Dtype::F32 && t.bytes.len() == here.len() * 4) {
                    Some(tensor) => values[here]
                        .iter_mut()
                        .zip(tensor.bytes.chunks_exact(4))
                        .for_each(|(v, b)| {
                            *v = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                        }),
                    None => missing += 1,
                }
            }
        }
        let mut take = |name: &str, numbers: &mut [u64]| {
            let stored = tensors.get(name);
            match stored.filter(|t| t.dtype == Dtype::U64 && t.bytes.len() == numbers.len() * 8) {
                Some(tensor) => numbers
                    .iter_mut()
                    .zip(tensor.bytes.chunks_exact(8))
                    .for_each(|(n, b)| {
                        *n = u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
                    }),
                None => missing += 1,
            }
        };
        take(
            "optimizer.updates",
            std::slice::from_mut(&mut self.optimizer.updates),
        );
        take(
            "sampler.position",
            std::slice::from_mut(&mut self.sampler_position),
        );
        take("trainer.step", std::slice::from_mut(&mut self.step));
        take("trainer.fingerprint", &mut self.fingerprint);
        for (rank, state) in self.noise.iter_mut().enumerate() {
            take(&format!("rank.{rank}.noise"), state);
        }
        missing
    }
}

/// One vector laid out like the model's parameters, as tensors with `prefix`.
fn named<'a>(prefix: &'a str, values: &'a [f32]) -> impl Iterator<Item = (String, Tensor)> + 'a {
    let mut rest = values;
    TENSORS.into_iter().map(move |(name, shape)| {
        let (here, after) = rest.split_at(shape.iter().product());
        rest = after;
        let bytes = here.iter().flat_map(|value| value.to_le_bytes()).collect();
        (
            format!("{prefix}.{name}"),
            Tensor {
                dtype: Dtype::F32,
                shape: shape.to_vec(),
                bytes,
            },
        )
    })
}

fn integers(numbers: &[u64]) -> Tensor {
    let bytes = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    Tensor {
        dtype: Dtype::U64,
        shape: vec![numbers.len()],
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_matches_a_computation_by_hand() {
        let mut bytes: Vec<u8> = Vec::new();
        for entry in ["a", "b.c"] {
            bytes.extend((entry.len() as u64).to_le_bytes());
            bytes.extend(entry.as_bytes());
            bytes.extend(3u64.to_le_bytes());
            bytes.extend(b"F32");
            bytes.extend(2u64.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
            bytes.extend(2u64.to_le_bytes());
            bytes.extend(1.5f32.to_le_bytes());
            bytes.extend((-2.0f32).to_le_bytes());
        }
        let wanted: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let values = [1.5f32, -2.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>();
        let tensor = Tensor {
            dtype: Dtype::F32,
            shape: vec![1, 2],
            bytes: values,
        };
        let tensors = Tensors::from([("b.c".into(), tensor.clone()), ("a".into(), tensor)]);
        assert_eq!(digest(&tensors), wanted);
    }
}
