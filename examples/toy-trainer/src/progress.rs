//! The progress file: how far the data has been consumed, synced after every step.
//!
//! A checkpoint is only written now and then; this small file says which batch the job had reached when it stopped.
//! On resume it counts only when it was left by a planned stop, because only then was a checkpoint saved at the same
//! step. After a crash it merely tells how many steps are lost.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Context, Result};

/// Bytes of the file: one record padded with spaces, overwritten in place (one sector, so never torn in practice;
/// a record that cannot be read is ignored).
const SIZE: usize = 128;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps completed.
    pub(crate) step: u64,
    /// Global batches the sampler has handed out.
    pub(crate) sampler_position: u64,
    /// The job stopped here on purpose.
    pub(crate) preempted: bool,
}

/// Writes the records.
pub(crate) struct ProgressFile(File);

fn path(directory: &Path) -> PathBuf {
    directory.join("progress.json")
}

impl ProgressFile {
    /// Opens or creates the file in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path(directory));
        file.map(Self).context("opening the progress file")
    }

    /// Replaces the record and syncs it.
    pub(crate) fn record(&self, progress: Progress) -> Result<()> {
        let text = serde_json::to_string(&progress).context("encoding progress")?;
        let line = format!("{text:<width$}\n", width = SIZE - 1);
        let written = self
            .0
            .write_all_at(line.as_bytes(), 0)
            .and_then(|()| self.0.sync_data());
        written.context("writing progress")
    }
}

/// The last record in `directory`, if there is a readable one.
pub(crate) fn read(directory: &Path) -> Option<Progress> {
    serde_json::from_slice(&std::fs::read(path(directory)).ok()?).ok()
}
