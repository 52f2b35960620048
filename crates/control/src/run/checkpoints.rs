//! What checkpoints on disk say after the run: digests of parameters where the format is understood, of the file otherwise.
//!
//! Parameters are the tensors `model.…` when there are any, else all of the file. Read piece by piece, so that a large model needs no memory.

use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};
use squall_analysis::run::Checkpoint;
use squall_model::event::{Body, Event};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// More is not read: the report then says 'not measured'.
const SIZE_MAX: u64 = 64 << 30;
const HEADER_MAX: u64 = 100 << 20;
const EXTENSIONS: [&str; 6] = ["safetensors", "pt", "pth", "ckpt", "bin", "npz"];

/// Checkpoints that training events name, with their steps, of the disturbed run and of the reference.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Of the disturbed run, and of the first reference: of several the first is compared.
    paths: [BTreeMap<PathBuf, Option<u64>>; 2],
    references: u32,
}

impl Named {
    /// Looks at the next event of the log.
    pub(super) fn see(&mut self, event: &Event) {
        match &event.body {
            Body::WorkloadStarted {
                reference: true, ..
            } => self.references += 1,
            Body::Training {
                reference, event, ..
            } if event.kind == "checkpoint-renamed" && !(*reference && self.references > 1) => {
                if let Some(path) = &event.path {
                    let paths = &mut self.paths[usize::from(*reference)];
                    let step = paths.entry(PathBuf::from(path)).or_default();
                    // The hook of a plain script tells of the same file without its step.
                    *step = event.step.or(*step);
                }
            }
            _ => {}
        }
    }
}

/// The last checkpoint and the final parameters of each run of the workload. What cannot be read is told in words.
pub(super) fn read(named: &Named, out: &Path, reference: &Path) -> (Vec<Checkpoint>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (folder, is_reference) in [(out, false), (reference, true)] {
        let steps = &named.paths[usize::from(is_reference)];
        for path in candidates(folder, steps) {
            let step = steps.get(&path).copied().flatten();
            match one(&path) {
                Ok((parameters, file_sha256)) => found.push(Checkpoint {
                    path: path.to_string_lossy().into_owned(),
                    reference: is_reference,
                    step,
                    parameters,
                    file_sha256,
                }),
                Err(error) => problems.push(format!(
                    "the checkpoint {} could not be read, because {error}",
                    path.display()
                )),
            }
        }
    }
    (found, problems)
}

/// The newest checkpoint, and the file of final parameters beside it.
fn candidates(folder: &Path, named: &BTreeMap<PathBuf, Option<u64>>) -> Vec<PathBuf> {
    let in_folder = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = in_folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known))
        })
        .collect();
    paths.extend(named.keys().cloned());
    let is_final = |path: &Path| {
        path.file_stem()
            .is_some_and(|stem| stem.to_string_lossy().contains("final"))
    };
    let (finals, others): (Vec<_>, Vec<_>) = paths
        .into_iter()
        .filter(|path| path.is_file())
        .partition(|path| is_final(path));
    let newest = others.into_iter().max_by_key(|path| {
        let step = named.get(path).copied().flatten();
        let modified = std::fs::metadata(path)
            .and_then(|meta| meta.modified())
            .ok();
        (step, modified, path.clone())
    });
    let mut all: Vec<PathBuf> = finals.into_iter().chain(newest).collect();
    all.sort();
    all.dedup();
    all
}

/// Digest of the parameters, when the format is understood, and of the file.
fn one(path: &Path) -> io::Result<(Option<String>, String)> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() > SIZE_MAX {
        return Err(io::Error::other("it is larger than 64 GiB"));
    }
    let parameters = match path
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        true => parameters(&mut file).ok(),
        false => None,
    };
    let mut whole = Sha256::new();
    file.seek(SeekFrom::Start(0))?;
    copy(&mut file, &mut whole)?;
    Ok((parameters, crate::hex(&whole.finalize())))
}

fn copy(from: &mut impl Read, into: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0u8; 1 << 16];
    let mut total = 0;
    loop {
        let len = from.read(&mut buffer)?;
        if len == 0 {
            return Ok(total);
        }
        into.update(&buffer[..len]);
        total += len as u64;
    }
}

/// The hook protocol's digest of the parameters in a safetensors file.
fn parameters(file: &mut File) -> io::Result<String> {
    let mut length = [0u8; 8];
    file.read_exact(&mut length)?;
    let header = u64::from_le_bytes(length);
    if header > HEADER_MAX {
        return Err(io::Error::other("its header is too long"));
    }
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(header).read_to_end(&mut bytes)?;
    let metadata: Metadata = serde_json::from_slice(&bytes)?;
    let data = 8 + header;
    let mut tensors: BTreeMap<String, _> = metadata.tensors().into_iter().collect();
    let end = tensors
        .values()
        .map(|info| info.data_offsets.1 as u64)
        .max()
        .unwrap_or(0);
    if data + end != size {
        return Err(io::Error::other("it is cut off, or longer than it says"));
    }
    if tensors.keys().any(|name| name.starts_with("model.")) {
        tensors.retain(|name, _| name.starts_with("model."));
    }
    let mut hasher = Sha256::new();
    for (name, info) in tensors {
        let dtype = info.dtype.to_string();
        for text in [name.as_bytes(), dtype.as_bytes()] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        hasher.update((info.shape.len() as u64).to_le_bytes());
        for dimension in &info.shape {
            hasher.update((*dimension as u64).to_le_bytes());
        }
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        file.seek(SeekFrom::Start(data + from))?;
        if copy(&mut (&*file).take(to.saturating_sub(from)), &mut hasher)?
            != to.saturating_sub(from)
        {
            return Err(io::Error::other("it became shorter while it was read"));
        }
    }
    Ok(crate::hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use squall_model::hook::TrainingEvent;

    fn tensors(extra: &[u8]) -> Vec<u8> {
        let (a, b) = ([1u8, 0, 0, 0, 2, 0, 0, 0], [7u8, 0, 0, 0]);
        let views = vec![
            (
                "model.b",
                TensorView::new(Dtype::F32, vec![1], &b).expect("view"),
            ),
            (
                "model.a",
                TensorView::new(Dtype::F32, vec![2, 1], &a).expect("view"),
            ),
            (
                "optimizer.x",
                TensorView::new(Dtype::U8, vec![extra.len()], extra).expect("view"),
            ),
        ];
        safetensors::serialize(views, None).expect("serialized")
    }

    /// The protocol's digest, written out by hand.
    fn by_hand() -> String {
        let mut bytes = Vec::new();
        let mut put = |name: &str, shape: &[u64], data: &[u8]| {
            for text in [name, "F32"] {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            bytes.extend((shape.len() as u64).to_le_bytes());
            shape.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(data);
        };
        put("model.a", &[2, 1], &[1, 0, 0, 0, 2, 0, 0, 0]);
        put("model.b", &[1], &[7, 0, 0, 0]);
        crate::hex(&Sha256::digest(&bytes))
    }

    #[test]
    fn only_parameters_enter_the_digest_and_in_the_protocol_s_order() {
        let scratch = Scratch::new("tensors");
        let (one_path, other_path) = (
            scratch.path().join("a.safetensors"),
            scratch.path().join("b.safetensors"),
        );
        std::fs::write(&one_path, tensors(&[1, 2, 3])).expect("written");
        std::fs::write(&other_path, tensors(&[9])).expect("written");
        let (first, second) = (
            one(&one_path).expect("read"),
            one(&other_path).expect("read"),
        );
        assert_eq!(first.0, Some(by_hand()));
        assert_eq!(first.0, second.0);
        assert_ne!(first.1, second.1, "the files differ");
    }

    #[test]
    fn a_damaged_file_has_a_checksum_but_no_parameters() {
        let scratch = Scratch::new("damaged");
        let path = scratch.path().join("a.safetensors");
        let whole = tensors(&[1]);
        for cut in [3, 20, whole.len() - 2] {
            std::fs::write(&path, &whole[..cut]).expect("written");
            assert_eq!(one(&path).expect("read").0, None, "cut at {cut}");
        }
    }

    #[test]
    fn the_newest_by_step_and_the_final_ones_are_taken() {
        let scratch = Scratch::new("newest");
        let (out, reference) = (scratch.path().join("out"), scratch.path().join("reference"));
        for folder in [&out, &reference] {
            std::fs::create_dir(folder).expect("folder");
        }
        // Written in the wrong order: the step decides, not the time.
        for name in [
            "s-20.safetensors",
            "s-10.safetensors",
            "final.safetensors",
            "x.tmp",
        ] {
            std::fs::write(out.join(name), tensors(&[1])).expect("written");
        }
        let renamed = |step: u64| Event {
            seq: step,
            t_ns: 0,
            body: Body::Training {
                reference: false,
                rank: None,
                restart: 0,
                pid: None,
                source: "hook".into(),
                event: TrainingEvent {
                    kind: "checkpoint-renamed".into(),
                    step: Some(step),
                    path: Some(
                        out.join(format!("s-{step}.safetensors"))
                            .to_string_lossy()
                            .into_owned(),
                    ),
                    ..TrainingEvent::default()
                },
            },
        };
        let mut named = Named::default();
        [renamed(10), renamed(20)]
            .iter()
            .for_each(|event| named.see(event));
        let (found, problems) = read(&named, &out, &reference);
        assert!(problems.is_empty(), "{problems:?}");
        let names: Vec<_> = found
            .iter()
            .map(|c| (c.path.rsplit('/').next().unwrap_or_default(), c.step))
            .collect();
        assert_eq!(
            names,
            [("final.safetensors", None), ("s-20.safetensors", Some(20))]
        );
    }
}
