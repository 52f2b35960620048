//! `process-kill`: a process ends at once, as by the out-of-memory killer, a failing node or a preempted machine.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::process_pause::{death, gone, may_signal, open, process_of};
use crate::undo::Undo;
use rustix::process::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::Observation;
use squall_model::syntax::{Class, KindInfo};
use std::io;
use std::time::Duration;

/// How long a process may take to die; one that handles the signal may not die at all.
const DEATH: Duration = Duration::from_secs(5);

/// A signal that ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum KillSignal {
    /// Cannot be caught: no handler runs, nothing is flushed.
    #[default]
    Kill,
    /// As `abort()`: a core dump where those are enabled.
    Abrt,
    /// As a memory error.
    Segv,
    /// As a failing memory page.
    Bus,
    /// As Ctrl-C.
    Int,
    /// As Ctrl-\.
    Quit,
    /// As a closed terminal.
    Hup,
    /// As Slurm and cluster managers warn before preemption.
    Usr1,
    /// As some cluster managers warn before preemption.
    Usr2,
}

impl KillSignal {
    fn signal(self) -> Signal {
        match self {
            KillSignal::Kill => Signal::KILL,
            KillSignal::Abrt => Signal::ABORT,
            KillSignal::Segv => Signal::SEGV,
            KillSignal::Bus => Signal::BUS,
            KillSignal::Int => Signal::INT,
            KillSignal::Quit => Signal::QUIT,
            KillSignal::Hup => Signal::HUP,
            KillSignal::Usr1 => Signal::USR1,
            KillSignal::Usr2 => Signal::USR2,
        }
    }

    fn name(self) -> String {
        format!("SIG{self:?}").to_uppercase()
    }
}

/// Ends a process with one signal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProcessKill {
    /// The signal. KILL unless said.
    pub signal: KillSignal,
}

impl FaultKind for ProcessKill {
    const INFO: KindInfo = KindInfo {
        kind: "process-kill",
        summary: "A process ends at once.",
        class: Class::OneShot,
        layer: "the kernel ends the process; peers see their connections reset or closed, its parent sees the exit status",
        requires: "permission to signal the target (same user, or CAP_KILL)",
        after_kill: "nothing is left to remove",
        targets: &[
            "rank",
            "workload",
            "pid",
            "pid-file",
            "command",
            "container",
            "container-label",
        ],
        example: "process-kill: {target: {rank: 1}, every: {epochs: 10}, signal: KILL}",
    };
}

impl Fault for ProcessKill {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        may_signal(target, facts)
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        format!("{} by pidfd", self.signal.name())
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        let identity = process_of(target)?;
        let process = open(identity)?;
        let action = self.signal.name();
        let undo = Undo::Nothing {
            act: format!("{action} to process {}", identity.pid),
        };
        host.change(undo, &action, &mut || {
            if !process.signal(self.signal.signal())? {
                return Err(gone());
            }
            if process.wait_dead(DEATH)? {
                return Ok(());
            }
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not die of {action} within {} s", DEATH.as_secs()),
            ))
        })
    }

    fn observe(&self, target: &Target, changes: &[Undo]) -> Vec<Observation> {
        match process_of(target) {
            Ok(identity) if !changes.is_empty() => vec![death(identity)],
            _ => Vec::new(),
        }
    }
}
