//! Undo as data: what takes one change back, total and idempotent. Written to the journal before the change is made.

use serde::{Deserialize, Serialize};
use squall_model::process::ProcessIdentity;
use std::path::PathBuf;

/// How to take one change back. Reverting twice, or when the change never happened, or half-way, succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// A one-shot act: nothing to take back. Recorded so that the log shows that it may have happened.
    Nothing { act: String },
    /// Lets a stopped process run again.
    Continue { process: ProcessIdentity },
    /// Ends one process that we started (a served child): TERM, a grace, KILL.
    EndProcess {
        process: ProcessIdentity,
        grace_ms: u64,
        what: String,
    },
    /// Ends everything that carries a mark: the cgroups (when any) and every process with `SQUALL_WORKLOAD=mark` in its environment.
    EndTree {
        mark: String,
        cgroups: Vec<PathBuf>,
        grace_ms: u64,
    },
    /// Puts ranges, length, mode, owner, xattrs and mtime of a file back from a verified backup.
    RestoreFile {
        path: PathBuf,
        /// Folder with `data` and `manifest.json`.
        backup: PathBuf,
    },
    /// Deletes an nftables table by name, inside a network namespace (None: the agent's own).
    DeleteTable {
        family: String,
        table: String,
        namespace: Option<PathBuf>,
    },
    /// Removes cgroup folders that we made.
    RemoveCgroups { paths: Vec<PathBuf> },
}
