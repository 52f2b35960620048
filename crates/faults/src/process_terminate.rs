//! `process-terminate`: a process is asked to end, and made to when it does not, as by a cluster manager that drains a node.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::process_pause::{death, gone, may_signal, open, os, process_of};
use crate::undo::Undo;
use crate::undo::process::{Ended, end_open};
use rustix::process::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::Observation;
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Span;
use std::io;
use std::time::{Duration, Instant};

/// How long a process may take to die of SIGKILL.
const DEATH: Duration = Duration::from_secs(5);
/// Between two looks whether the run is ending.
const LOOK: Duration = Duration::from_millis(50);
/// The longest grace: as long as cluster managers give at most.
const GRACE_MAX: Duration = Duration::from_secs(600);

/// Asks a process to end with SIGTERM, and ends it with SIGKILL after a grace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProcessTerminate {
    /// How long it may take to end by itself. 5s unless said, at most 10m.
    pub grace: Span,
}

impl Default for ProcessTerminate {
    fn default() -> Self {
        ProcessTerminate {
            grace: Span(Duration::from_secs(5)),
        }
    }
}

impl FaultKind for ProcessTerminate {
    const INFO: KindInfo = KindInfo {
        kind: "process-terminate",
        summary: "A process is asked to end by SIGTERM, and ended by SIGKILL after a grace.",
        class: Class::OneShot,
        layer: "the process's own SIGTERM handler first, then the kernel",
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
        example: "process-terminate: {target: {rank: 0}, at: {epoch: 3}, grace: 10s}",
    };
}

impl Fault for ProcessTerminate {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        may_signal(target, facts)
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        format!("SIGTERM by pidfd, SIGKILL after {}", self.grace)
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        let identity = process_of(target)?;
        let process = open(identity)?;
        let act = format!("SIGTERM to process {}", identity.pid);
        host.change(Undo::Nothing { act }, "SIGTERM", &mut || {
            // A stopped target stays stopped: this is a fault, not a clean-up.
            if process.signal(Signal::TERM)? {
                Ok(())
            } else {
                Err(gone())
            }
        })?;
        let deadline = Instant::now() + self.grace.0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let dead = process
                .wait_dead(left.min(LOOK))
                .map_err(|source| os("wait for", identity.pid, source))?;
            if dead {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
            host.check_cancelled()?;
        }
        let act = format!(
            "SIGKILL to process {} after a grace of {}",
            identity.pid, self.grace
        );
        host.change(Undo::Nothing { act }, "SIGKILL", &mut || match end_open(
            &process,
            Duration::ZERO,
            DEATH,
        )? {
            Ended::Alive => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not die within {} s of SIGKILL", DEATH.as_secs()),
            )),
            _ => Ok(()),
        })
    }

    /// Its own handler is to run, and to save what it wants to save.
    fn lets_go_early(&self) -> bool {
        true
    }

    fn observe(&self, target: &Target, changes: &[Undo]) -> Vec<Observation> {
        let Ok(identity) = process_of(target) else {
            return Vec::new();
        };
        let mut observation = death(identity);
        let how = match changes.len() {
            0 => return Vec::new(),
            1 => format!("of SIGTERM, within the grace of {}", self.grace),
            _ => format!("of SIGKILL, after the grace of {}", self.grace),
        };
        observation.evidence = format!("{} {how}", observation.evidence);
        vec![observation]
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        if self.grace.0 <= GRACE_MAX {
            return Vec::new();
        }
        vec![ConfigProblem {
            key: "grace",
            message: format!("a grace of {} is longer than 10m", self.grace),
            help: "write `grace: 10m` or less".to_owned(),
        }]
    }
}
