//! A run's folder: where everything about it is kept, closed to others.

use std::io;
use std::path::{Path, PathBuf};

/// `runs/RUN` of the state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder and those below it.
    pub(super) fn create(state_dir: &Path, run: &str) -> io::Result<RunFolder> {
        squall_faults::state_dir::prepare(state_dir)?;
        let path = squall_faults::state_dir::runs_dir(state_dir).join(run);
        let folder = RunFolder { path };
        for name in ["", "logs", "out", "reference"] {
            squall_faults::state_dir::create_private(&folder.path.join(name))?;
        }
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The workload's own folder: `{out}`.
    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// The same for the reference run.
    pub fn reference(&self) -> PathBuf {
        self.path.join("reference")
    }

    /// The workload's output.
    pub fn log(&self, reference: bool) -> PathBuf {
        let name = if reference {
            "reference.log"
        } else {
            "workload.log"
        };
        self.path.join("logs").join(name)
    }
}
