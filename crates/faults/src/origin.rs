//! Where a run was made: only there can its processes be told, and its undos reach what they name.
//!
//! On the same boot it is the same kernel, whatever a container calls itself: then the pid namespace decides. On another boot the
//! machine does: the same machine has lost its processes with the boot, another one may still run them.

use crate::journal::state::Tracked;
use crate::sys::process;
use crate::undo::Undo;
use serde::{Deserialize, Serialize};

/// Where a run was made, beside its boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `/etc/machine-id`, or the host name where there is none.
    pub machine: String,
    /// The host name, for people.
    pub hostname: String,
    /// Inode number of the recorder's pid namespace; 0 when it could not be read.
    pub pid_ns: u64,
}

/// Why a run is to be undone elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    #[error("it was made on the machine `{there}`, and this is `{here}`")]
    Machine { there: String, here: String },
    #[error(
        "it was made in another pid namespace of this machine (host name `{there}`), and only there are its processes known by their numbers"
    )]
    Namespace { there: String },
}

impl Elsewhere {
    /// Where to type.
    pub fn place(&self) -> String {
        match self {
            Elsewhere::Machine { there, .. } => format!("on `{there}`"),
            Elsewhere::Namespace { there } => {
                format!("in the container (or outside of all) whose host name is `{there}`")
            }
        }
    }
}

impl Origin {
    /// Here.
    pub fn here() -> Origin {
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let id = id.trim();
        Origin {
            // An image that was never started has the file, empty or with this word.
            machine: if id.is_empty() || id == "uninitialized" {
                hostname.clone()
            } else {
                id.to_owned()
            },
            hostname,
            pid_ns: process::own_pid_namespace(),
        }
    }

    /// Whether another machine made it; on the same boot it is the same one.
    pub(crate) fn is_other_machine(&self, boot_id: &str, here: &Origin, boot_here: &str) -> bool {
        boot_id != boot_here && self.machine != here.machine
    }

    /// Why what is outstanding cannot be undone from here. Pure.
    pub(crate) fn elsewhere<'a>(
        &self,
        boot_id: &str,
        here: &Origin,
        boot_here: &str,
        mut outstanding: impl Iterator<Item = &'a Tracked>,
    ) -> Option<Elsewhere> {
        let there = self.hostname.clone();
        if self.is_other_machine(boot_id, here, boot_here) {
            let here = here.hostname.clone();
            return Some(Elsewhere::Machine { there, here });
        }
        let known = self.pid_ns != 0 && here.pid_ns != 0;
        let other = boot_id == boot_here && known && self.pid_ns != here.pid_ns;
        (other && outstanding.any(|one| one.undos.iter().any(acts_on_processes)))
            .then_some(Elsewhere::Namespace { there })
    }
}

fn acts_on_processes(undo: &Undo) -> bool {
    matches!(
        undo,
        Undo::Continue { .. } | Undo::EndProcess { .. } | Undo::EndTree { .. }
    )
}
