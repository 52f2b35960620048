//! Checkpoint files: written so that a reader never sees half of one, and checked when read.
//!
//! A checkpoint is written to a temporary file in the same directory, synced, renamed, and the directory synced.
//! It carries a SHA-256 over all its tensors in its metadata; a file that is damaged or incomplete all the same is
//! skipped with a log line and the one before it is taken. The newest [`KEEP`] files are kept.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorView};

use crate::console::say;
use crate::failure::{Context, Failure, Result};
use crate::snapshot::{Snapshot, Tensor, Tensors, digest};

/// Checkpoints kept in the directory.
const KEEP: usize = 3;
const CHECKSUM: &str = "sha256";
/// Last extension of files that are not yet complete.
const TEMPORARY: &str = "tmp";

/// The file of the checkpoint after `step` completed steps.
pub(crate) fn path(directory: &Path, step: u64) -> PathBuf {
    directory.join(format!("ckpt-{step:08}.safetensors"))
}

/// The bytes of a file that holds `tensors` and their checksum.
fn encode(tensors: &Tensors) -> Result<Vec<u8>> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, t)| {
            Ok((
                name.as_str(),
                TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?,
            ))
        })
        .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
        .context("describing tensors")?;
    let metadata = HashMap::from([(CHECKSUM.to_owned(), digest(tensors))]);
    safetensors::serialize(views, Some(metadata)).context("encoding tensors")
}

/// A file whose data is on disk but which does not yet have its name.
pub(crate) struct Unnamed {
    temporary: PathBuf,
    path: PathBuf,
}

impl Unnamed {
    /// Writes and syncs `tensors` into a temporary file beside `path`.
    pub(crate) fn write(tensors: &Tensors, path: PathBuf) -> Result<Self> {
        let temporary = path.with_extension(format!("safetensors.{TEMPORARY}"));
        let write = |bytes: &[u8]| {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write(&encode(tensors)?).context("writing the checkpoint")?;
        Ok(Self { temporary, path })
    }

    /// Gives the file its name.
    pub(crate) fn rename(self) -> Result<PathBuf> {
        fs::rename(&self.temporary, &self.path).context("renaming the checkpoint")?;
        Ok(self.path)
    }
}

/// A file being written in place, in pieces: the mistake behind `torn-checkpoint`.
pub(crate) struct InPlace {
    file: File,
    rest: Vec<u8>,
    path: PathBuf,
}

impl InPlace {
    /// Writes the first quarter.
    pub(crate) fn begin(tensors: &Tensors, path: PathBuf) -> Result<Self> {
        let mut bytes = encode(tensors)?;
        let rest = bytes.split_off(bytes.len() / 4);
        let mut file = File::create(&path).context("writing the checkpoint")?;
        file.write_all(&bytes).context("writing the checkpoint")?;
        Ok(Self { file, rest, path })
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> Result<PathBuf> {
        for piece in self.rest.chunks(8 * 1024) {
            self.file
                .write_all(piece)
                .context("writing the checkpoint")?;
        }
        Ok(self.path)
    }
}

/// Makes names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .context("syncing the directory")
}

/// Steps of the checkpoints in `directory`, oldest first.
fn steps(directory: &Path) -> Result<Vec<u64>> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(directory).context("listing checkpoints")? {
        let name = entry.context("listing checkpoints")?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix("ckpt-")?.strip_suffix(".safetensors"));
        let step: Option<u64> = digits.and_then(|digits| digits.parse().ok());
        steps.extend(step);
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Deletes what a killed writer left behind.
pub(crate) fn remove_unnamed(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).context("listing checkpoints")? {
        let path = entry.context("listing checkpoints")?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == TEMPORARY)
        {
            fs::remove_file(path).context("deleting an unfinished checkpoint")?;
        }
    }
    Ok(())
}

/// Deletes all but the newest checkpoints.
pub(crate) fn prune(directory: &Path) -> Result<()> {
    let steps = steps(directory)?;
    for &step in &steps[..steps.len().saturating_sub(KEEP)] {
        fs::remove_file(path(directory, step)).context("deleting an old checkpoint")?;
    }
    Ok(())
}

/// The state of the newest usable checkpoint, laid over `fresh`, and its file; none when there is no usable one.
/// With `verify` a file that is not complete and undamaged is skipped; without, its missing tensors stay fresh.
/// `speak` says whether this process logs what it skips.
pub(crate) fn load(
    directory: &Path,
    fresh: &Snapshot,
    verify: bool,
    speak: bool,
) -> Result<Option<(Snapshot, PathBuf)>> {
    for step in steps(directory)?.into_iter().rev() {
        let path = path(directory, step);
        let bytes = fs::read(&path).context("reading a checkpoint")?;
        let mut snapshot = fresh.clone();
        let outcome = if verify {
            checked(&bytes).and_then(|tensors| match snapshot.overlay(&tensors) {
                0 => Ok(()),
                missing => Err(format!("{missing} tensors are missing")),
            })
        } else {
            available(&bytes).map(|tensors| {
                snapshot.overlay(&tensors);
            })
        };
        match outcome {
            Ok(()) if snapshot.fingerprint != fresh.fingerprint => {
                let text = "was saved with another world, epochs, steps, batch or seed; choose another --out";
                return Err(Failure::usage(format!("{} {text}", path.display())));
            }
            Ok(()) => return Ok(Some((snapshot, path))),
            Err(why) if speak => say(format_args!("checkpoint skipped {}: {why}", path.display())),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// All tensors of a file whose form and checksum are right.
fn checked(bytes: &[u8]) -> std::result::Result<Tensors, String> {
    let damaged = |error: safetensors::SafeTensorError| format!("damaged ({error})");
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let tensors: Tensors = file
        .iter()
        .map(|(name, view)| {
            let tensor = Tensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            (name.to_owned(), tensor)
        })
        .collect();
    let stored = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(CHECKSUM));
    if stored != Some(&digest(&tensors)) {
        return Err("damaged (the checksum does not match)".into());
    }
    Ok(tensors)
}

/// The tensors that lie completely within `bytes`, unchecked: the other half of `torn-checkpoint`.
fn available(bytes: &[u8]) -> std::result::Result<Tensors, String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("empty")?;
    let (header, data) = rest
        .split_at_checked(u64::from_le_bytes(*length) as usize)
        .ok_or("no header")?;
    let header: Metadata = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let complete = header.tensors().into_iter().filter_map(|(name, info)| {
        let bytes = data.get(info.data_offsets.0..info.data_offsets.1)?.to_vec();
        Some((
            name,
            Tensor {
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes,
            },
        ))
    });
    Ok(complete.collect())
}
