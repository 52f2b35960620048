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

    /// The same for the first reference run.
    pub fn reference(&self) -> PathBuf {
        self.path.join("reference")
    }

    /// The same for the disturbed run, or for the reference run of this number, from 1. It is made if it is not there.
    pub(super) fn out_of(&self, undisturbed: Option<u32>) -> io::Result<PathBuf> {
        let path = match undisturbed {
            None => self.out(),
            Some(number) => self.path.join(numbered("reference", number)),
        };
        squall_faults::state_dir::create_private(&path)?;
        Ok(path)
    }

    /// The workload's output.
    pub fn log(&self, undisturbed: Option<u32>) -> PathBuf {
        let name = undisturbed.map_or("workload".into(), |number| numbered("reference", number));
        self.path.join("logs").join(name + ".log")
    }
}

/// The first of many has no number.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        name.to_owned()
    } else {
        format!("{name}-{number}")
    }
}
