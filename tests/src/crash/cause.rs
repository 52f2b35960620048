//! What can go wrong with a run, by name.

use rustix::process::Signal;

/// Who takes part in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Injects and undoes.
    Agent,
    /// Undoes when the agent is lost.
    Guard,
    /// The `squall run` that a person started.
    Controller,
}

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A signal to each of these.
    Signal(Signal, &'static [Who]),
    /// SIGKILL to the controller's process group, as a terminal or a job system does.
    KillGroup,
    /// SIGKILL to all in the cgroup that the run was started in, and below it. The guard is in one of its own.
    KillCgroup,
    /// The same to the guard's cgroup too, as when all of a container ends.
    KillCgroups,
    /// The controller is stopped and the agent hangs at the boundary, so that nobody but the guard sees the lease end.
    LeaseEnds,
    /// The disk with the state folder is full from here on.
    DiskFull,
    /// All are killed, and what would have been the last record is half-written.
    TornRecord,
    /// All are killed, and the undo runs on what it takes for another boot.
    OtherBoot,
}

/// A cause with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// As it is printed, and asked for with `--only`.
    pub name: &'static str,
    /// What is done.
    pub act: Act,
}

use Who::{Agent, Controller, Guard};

const fn signal(name: &'static str, signal: Signal, whom: &'static [Who]) -> Cause {
    Cause {
        name,
        act: Act::Signal(signal, whom),
    }
}

const fn cause(name: &'static str, act: Act) -> Cause {
    Cause { name, act }
}

/// The one that CI pairs with every fault and boundary.
pub const KILL_AGENT: &str = "kill-agent";

/// Every cause.
pub static CAUSES: [Cause; 26] = [
    signal(KILL_AGENT, Signal::KILL, &[Agent]),
    signal("kill-guard", Signal::KILL, &[Guard]),
    signal("kill-controller", Signal::KILL, &[Controller]),
    signal("kill-agent-guard", Signal::KILL, &[Agent, Guard]),
    signal("kill-agent-controller", Signal::KILL, &[Agent, Controller]),
    signal("kill-guard-controller", Signal::KILL, &[Guard, Controller]),
    signal("kill-all", Signal::KILL, &[Controller, Guard, Agent]),
    cause("kill-group", Act::KillGroup),
    cause("kill-cgroup", Act::KillCgroup),
    cause("kill-cgroups", Act::KillCgroups),
    signal("stop-agent", Signal::STOP, &[Agent]),
    signal("stop-guard", Signal::STOP, &[Guard]),
    signal("stop-controller", Signal::STOP, &[Controller]),
    signal("hup-controller", Signal::HUP, &[Controller]),
    signal("int-controller", Signal::INT, &[Controller]),
    signal("term-controller", Signal::TERM, &[Controller]),
    signal("hup-guard", Signal::HUP, &[Guard]),
    signal("int-guard", Signal::INT, &[Guard]),
    signal("term-guard", Signal::TERM, &[Guard]),
    signal("hup-agent", Signal::HUP, &[Agent]),
    signal("int-agent", Signal::INT, &[Agent]),
    signal("term-agent", Signal::TERM, &[Agent]),
    cause("lease-ends", Act::LeaseEnds),
    cause("disk-full", Act::DiskFull),
    cause("torn-record", Act::TornRecord),
    cause("other-boot", Act::OtherBoot),
];

impl Cause {
    /// The cause of this name.
    pub fn named(name: &str) -> Option<&'static Cause> {
        CAUSES.iter().find(|cause| cause.name == name)
    }

    /// Whether nobody is left to undo, so that the next command must.
    pub fn removes_every_rescuer(&self) -> bool {
        match self.act {
            Act::Signal(Signal::KILL, whom) => whom.contains(&Agent) && whom.contains(&Guard),
            Act::KillCgroups | Act::TornRecord | Act::OtherBoot => true,
            _ => false,
        }
    }

    /// Whether somebody is stopped and has to be continued before the end.
    pub fn stops_somebody(&self) -> bool {
        matches!(self.act, Act::Signal(Signal::STOP, _) | Act::LeaseEnds)
    }

    /// Whether it only makes sense when the run is held at a boundary.
    pub fn needs_boundary(&self) -> bool {
        self.act == Act::LeaseEnds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for cause in &CAUSES {
            assert_eq!(Cause::named(cause.name), Some(cause));
        }
    }
}
