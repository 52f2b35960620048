//! Undo as data: what takes one change back, total and idempotent. Written to the journal before the change is made.

pub mod cgroup;
pub(crate) mod file;
pub(crate) mod folder_time;
mod hook;
pub mod mark;
pub mod perform;
pub(crate) mod process;
pub(crate) mod table;
pub mod tree;
pub(crate) mod way;

use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::process::ProcessIdentity;
use std::path::PathBuf;

/// How to take one change back. Reverting twice, or when the change never happened, or half-way, succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// A one-shot act: nothing to take back. Recorded so that the log shows that it may have happened.
    Nothing { act: String },
    /// A file of counts that a served child writes: nothing to take back; what it says is quoted when the others are undone.
    Tally { path: PathBuf },
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
        /// Inode number of that namespace, so that it is found when the path has gone or leads elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace_inode: Option<u64>,
    },
    /// Removes a rule from a proxy of ours, by its control socket. Its rules end with a proxy.
    RemoveRule { socket: PathBuf, rule: String },
    /// Deletes a network interface by name and kind, inside a network namespace.
    DeleteLink {
        name: String,
        kind: String,
        namespace: Option<PathBuf>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace_inode: Option<u64>,
    },
    /// Deletes the filters of traffic control that carry a cookie, and their place at the interface where it holds no others.
    DeleteFilters {
        device: String,
        /// The interface's number: another of the same name is not ours.
        index: u32,
        cookie: String,
        namespace: Option<PathBuf>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace_inode: Option<u64>,
    },
    /// Detaches eBPF programs by name from the TCX hooks of a network namespace. They leave by themselves with the process that holds them.
    DetachPrograms {
        name: String,
        namespace: Option<PathBuf>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace_inode: Option<u64>,
    },
    /// Removes cgroup folders that we made.
    RemoveCgroups { paths: Vec<PathBuf> },
}

/// A change that could not be taken back, with what a person must do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not {action}, because {because}")]
pub struct UndoError {
    pub action: String,
    pub because: String,
    /// The exact command or step.
    pub remedy: String,
}

impl UndoError {
    fn new(
        action: impl Into<String>,
        because: impl ToString,
        remedy: impl Into<String>,
    ) -> UndoError {
        UndoError {
            action: action.into(),
            because: because.to_string(),
            remedy: remedy.into(),
        }
    }
}

fn seen(presence: Presence, source: &str, evidence: impl Into<String>) -> Observation {
    Observation {
        presence,
        source: source.to_owned(),
        evidence: evidence.into(),
    }
}

/// Takes one change back. Succeeds when there is nothing (left) to take back.
pub fn revert(undo: &Undo) -> Result<(), UndoError> {
    if crate::crash::undo_is_broken() {
        return Ok(());
    }
    match undo {
        Undo::Nothing { .. } | Undo::Tally { .. } => Ok(()),
        Undo::Continue { process } => process::continue_process(process),
        Undo::EndProcess {
            process,
            grace_ms,
            what,
        } => process::end(process, *grace_ms, what),
        Undo::EndTree {
            mark,
            cgroups,
            grace_ms,
        } => tree::end(mark, cgroups, *grace_ms),
        Undo::RemoveRule { socket, rule } => crate::proxy::remove(socket, rule).map_err(|error| {
            UndoError::new(
                format!(
                    "remove the rule {rule} from the proxy at {}",
                    socket.display()
                ),
                error,
                "end the proxy; its rules end with it",
            )
        }),
        Undo::RemoveCgroups { paths } => cgroup::remove(paths),
        Undo::RestoreFile { path, backup } => file::restore(path, backup),
        Undo::DeleteTable {
            family,
            table,
            namespace,
            namespace_inode,
        } => table::delete(family, table, namespace.as_deref(), *namespace_inode),
        Undo::DeleteLink {
            name,
            kind,
            namespace,
            namespace_inode,
        } => way::delete_link(name, kind, at(namespace, *namespace_inode)),
        Undo::DeleteFilters {
            device,
            index,
            cookie,
            namespace,
            namespace_inode,
        } => way::delete_filters(device, *index, cookie, at(namespace, *namespace_inode)),
        Undo::DetachPrograms {
            name,
            namespace,
            namespace_inode,
        } => hook::detach(name, at(namespace, *namespace_inode)),
    }
}

/// Reads from the world whether a change is there, without using anything that `revert` found out.
pub fn presence(undo: &Undo) -> Observation {
    match undo {
        Undo::Nothing { act } => seen(
            Presence::Absent,
            "journal",
            format!("nothing to take back after a one-shot act ({act})"),
        ),
        Undo::Tally { path } => seen(Presence::Absent, "counter", tallied(path)),
        Undo::Continue { process } => process::stopped(process),
        Undo::EndProcess { process, what, .. } => process::runs(process, what),
        Undo::EndTree { mark, cgroups, .. } => tree::presence(mark, cgroups),
        Undo::RemoveRule { socket, rule } => crate::proxy::presence(socket, rule),
        Undo::RemoveCgroups { paths } => cgroup::presence(paths),
        Undo::RestoreFile { path, backup } => file::presence(path, backup),
        Undo::DeleteTable {
            family,
            table,
            namespace,
            namespace_inode,
        } => table::presence(family, table, namespace.as_deref(), *namespace_inode),
        Undo::DeleteLink {
            name,
            kind,
            namespace,
            namespace_inode,
        } => way::link_presence(name, kind, at(namespace, *namespace_inode)),
        Undo::DeleteFilters {
            device,
            index,
            cookie,
            namespace,
            namespace_inode,
        } => way::filters_presence(device, *index, cookie, at(namespace, *namespace_inode)),
        Undo::DetachPrograms {
            name,
            namespace,
            namespace_inode,
        } => hook::presence(name, at(namespace, *namespace_inode)),
    }
}

fn at(path: &Option<PathBuf>, inode: Option<u64>) -> way::At<'_> {
    way::At {
        path: path.as_deref(),
        inode,
    }
}

fn tallied(path: &std::path::Path) -> String {
    match crate::packet::counts::Counts::read(path) {
        Ok(counts) => counts.words_for_people(true),
        Err(error) => format!("what was counted is unknown: {error}"),
    }
}
