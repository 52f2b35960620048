//! `process-pause`: a process stops where it stands and goes on later, as on a machine that swaps, a debugger, or a paused VM.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::sys::process::{self, Process};
use crate::undo::{Undo, presence};
use rustix::process::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::process::ProcessIdentity;
use squall_model::syntax::{Class, KindInfo};
use std::io;
use std::time::Duration;

/// How long the kernel may take to show a process as stopped.
const SETTLE: Duration = Duration::from_secs(2);
/// The most processes of one tree that are stopped.
const TREE_MAX: usize = 4096;

/// Stops a process with SIGSTOP; it goes on when the fault is undone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProcessPause {
    /// Also stop every process below it. No unless said.
    pub tree: bool,
}

impl FaultKind for ProcessPause {
    const INFO: KindInfo = KindInfo {
        kind: "process-pause",
        summary: "A process stops where it stands, and goes on when the fault ends.",
        class: Class::Lasting,
        layer: "the kernel's scheduler; the process itself sees a jump in time, its peers see silence on open connections, and its parent can see the stop by waitpid",
        requires: "permission to signal the target (same user, or CAP_KILL)",
        after_kill: "the next `squall undo`",
        targets: &[
            "rank",
            "workload",
            "pid",
            "pid-file",
            "command",
            "container",
            "container-label",
        ],
        example: "process-pause: {target: {rank: 1}, at: {step: 20}, for: 5s}",
    };
}

impl Fault for ProcessPause {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        may_signal(target, facts)
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        "SIGSTOP by pidfd, undone by SIGCONT".to_owned()
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        let identity = process_of(target)?;
        if self.tree {
            refuse_own_tree(identity)?;
        }
        let stat =
            process::stat(identity.pid).map_err(|source| os("read", identity.pid, source))?;
        if stat.is_some_and(|stat| stat.state == 'T') {
            return Err(FaultError::Target {
                target: format!("process {}", identity.pid),
                because:
                    "somebody else has stopped it already, so ending this fault would change it"
                        .to_owned(),
            });
        }
        stop(identity, host)?;
        if self.tree {
            stop_below(identity, host)?;
        }
        Ok(())
    }

    fn observe(&self, _: &Target, changes: &[Undo]) -> Vec<Observation> {
        changes.iter().map(presence).collect()
    }
}

fn stop(identity: &ProcessIdentity, host: &mut dyn Door) -> Result<(), FaultError> {
    let undo = Undo::Continue {
        process: identity.clone(),
    };
    let process = open(identity)?;
    host.change(undo, "SIGSTOP", &mut || {
        if !process.signal(Signal::STOP)? {
            return Err(gone());
        }
        let (_, stopped) =
            process.wait_stat(SETTLE, |stat| stat.is_none_or(|stat| stat.state == 'T'))?;
        if stopped {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it did not stop in time",
        ))
    })
}

/// A tree that Squall itself is in has nobody left to continue it: this process, its guard and their controller are each other's parents.
fn refuse_own_tree(root: &ProcessIdentity) -> Result<(), FaultError> {
    let own = std::process::id();
    let above = process::self_and_above().map_err(|source| os("read", own, source))?;
    if !above.contains(&root.pid) {
        return Ok(());
    }
    Err(FaultError::Target {
        target: format!("the tree below process {}", root.pid),
        because: format!(
            "Squall itself (process {own}) is in it and must be there to undo; aim at a process that has not started Squall"
        ),
    })
}

/// Parents before children, again and again until a look finds nobody new: a running child may fork while its siblings are stopped.
fn stop_below(root: &ProcessIdentity, host: &mut dyn Door) -> Result<(), FaultError> {
    let mut done = 0;
    loop {
        host.check_cancelled()?;
        let table = process::table().map_err(|source| os("read", root.pid, source))?;
        // Whoever runs our program is in the middle of a run too, this one or another.
        let running: Vec<u32> = process::descendants(&table, &[root.pid])
            .into_iter()
            .filter(|pid| {
                table
                    .iter()
                    .any(|(one, stat)| one == pid && stat.state != 'T' && !stat.is_dead())
            })
            .filter(|pid| !process::runs_our_program(*pid))
            .collect();
        if running.is_empty() {
            return Ok(());
        }
        for pid in running {
            done += 1;
            if done > TREE_MAX {
                return Err(FaultError::Limit {
                    action: "stop the whole tree".to_owned(),
                    because: format!("it has more than {TREE_MAX} processes"),
                });
            }
            match process::identity(pid).map_err(|source| os("read", pid, source))? {
                Some(identity) => match stop(&identity, host) {
                    // One that ends meanwhile needs no stopping.
                    Err(FaultError::Target { .. }) => {}
                    Err(FaultError::Os { source, .. }) if process::is_gone(&source) => {}
                    other => other?,
                },
                None => continue,
            }
        }
    }
}

/// The process a target names.
pub(crate) fn process_of(target: &Target) -> Result<&ProcessIdentity, FaultError> {
    match target {
        Target::Process { identity, .. } | Target::Container { init: identity, .. } => Ok(identity),
        other => Err(FaultError::Target {
            target: format!("{other:?}"),
            because: "it is not a process".to_owned(),
        }),
    }
}

/// Opens a target for signalling, refusing what must never be a target.
pub(crate) fn open(identity: &ProcessIdentity) -> Result<Process, FaultError> {
    let pid = identity.pid;
    let refuse = |because: &str| FaultError::Target {
        target: format!("process {pid}"),
        because: because.to_owned(),
    };
    if pid == 1 {
        return Err(refuse(
            "it is the init process, and without it nothing else lives",
        ));
    }
    if pid == std::process::id() {
        return Err(refuse("it is Squall itself, which must be there to undo"));
    }
    Process::open(identity)
        .map_err(|source| os("open", pid, source))?
        .ok_or_else(|| refuse("it is gone, or its pid now belongs to another process"))
}

pub(crate) fn os(action: &str, pid: u32, source: io::Error) -> FaultError {
    FaultError::Os {
        action: action.to_owned(),
        object: format!("process {pid}"),
        source,
    }
}

pub(crate) fn gone() -> io::Error {
    io::Error::from(rustix::io::Errno::SRCH)
}

/// What is missing to signal a target.
pub(crate) fn may_signal(target: &Target, facts: &HostFacts) -> Vec<Unmet> {
    use std::os::unix::fs::MetadataExt;
    let Ok(identity) = process_of(target) else {
        return vec![Unmet {
            what: "a process as its target".to_owned(),
            remedy: "name one by `rank`, `pid`, `pid-file`, `command` or `container`".to_owned(),
        }];
    };
    let owner = std::fs::metadata(format!("/proc/{}", identity.pid)).map(|meta| meta.uid());
    let own = rustix::process::geteuid().as_raw();
    match owner {
        Ok(uid) if uid != own && !facts.kill && !facts.root => vec![Unmet {
            what: format!("CAP_KILL: process {} belongs to user {uid}", identity.pid),
            remedy: "run squall as that user or as root".to_owned(),
        }],
        _ => Vec::new(),
    }
}

/// Evidence that a process is dead, read from `/proc`.
pub(crate) fn death(identity: &ProcessIdentity) -> Observation {
    let runs = crate::undo::process::lookup(identity);
    let pid = identity.pid;
    let (presence, evidence) = match runs {
        Err(error) => (Presence::Unknown, format!("/proc/{pid}/stat: {error}")),
        Ok(Some(stat)) => (
            Presence::Absent,
            format!("alive, state {} in /proc/{pid}/stat", stat.state),
        ),
        Ok(None) => (
            Presence::Present,
            format!(
                "process {pid} that started at tick {} is dead",
                identity.start_time
            ),
        ),
    };
    Observation {
        presence,
        source: "process table".to_owned(),
        evidence,
    }
}
