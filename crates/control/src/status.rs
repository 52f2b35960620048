//! What runs and what is outstanding, read without touching anything.

use crate::store::{RunSummary, StoreError, runs};
use squall_faults::lease::{self, Standing};
use squall_faults::recover::{Outstanding, outstanding};
use std::io;
use std::path::{Path, PathBuf};

/// Why it could not be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Journals cannot be looked at.
    #[error("could not look for journals in {path}, because {source}", path = path.display())]
    Journals {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Runs cannot be looked at.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A run whose controller is alive.
#[derive(Debug, Clone)]
pub struct Live {
    /// The run.
    pub summary: RunSummary,
    /// Its lease, when it has one.
    pub lease: Option<Standing>,
}

/// Everything at once.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Runs whose controller is alive.
    pub live: Vec<Live>,
    /// What is injected by runs that are alive: theirs to undo.
    pub injected: Vec<Outstanding>,
    /// What is outstanding and nobody's: `squall undo` takes it back. Journals that cannot be read are here too.
    pub outstanding: Vec<Outstanding>,
    /// Runs that were cut off and whose record is still open.
    pub cut_off: Vec<RunSummary>,
}

/// Reads the state folder.
pub fn status(state_dir: &Path) -> Result<Status, StatusError> {
    let journals = outstanding(state_dir).map_err(|source| StatusError::Journals {
        path: state_dir.to_path_buf(),
        source,
    })?;
    let mut status = Status::default();
    for one in journals {
        let alive = one.held && !one.standing.is_some_and(Standing::is_abandoned);
        if alive && one.problem.is_none() {
            status.injected.push(one);
        } else {
            status.outstanding.push(one);
        }
    }
    for summary in runs(state_dir)? {
        if summary.live {
            let lease = lease::read(&summary.dir).ok().flatten();
            let lease = lease.and_then(|lease| lease.standing().ok());
            status.live.push(Live { summary, lease });
        } else if summary.is_cut_off() {
            status.cut_off.push(summary);
        }
    }
    Ok(status)
}
