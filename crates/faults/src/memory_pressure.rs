//! `memory-pressure`: memory is taken and kept in use by a process that the kernel kills before any other.

use crate::agent::procs;
use crate::cpu_pressure::{child, unseen};
use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::serve::{Child, volunteer_for_oom};
use crate::undo::Undo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::{Bytes, Percent};
use std::time::Duration;

/// Taken in pieces, so that what is left for others is looked at in between.
const PIECE: usize = 16 << 20;
const PAGE: usize = 4096;
/// The share of the available memory that is taken at most, unless the file says more.
const SHARE_MAX: f64 = 80.0;

/// Takes memory and keeps it in use by a process of its own, which is the first that the kernel kills when memory runs out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryPressure {
    /// How much is taken.
    pub size: Bytes,
    /// The share of the available memory that may be taken at most; more is refused before anything is taken. 80% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_available_at_most: Option<Percent>,
}

impl MemoryPressure {
    /// Why it is too much for a host with this much available memory.
    fn excess(&self, available: u64) -> Option<String> {
        let share = self.of_available_at_most.map_or(SHARE_MAX, |share| share.0);
        let most = (available as f64 * share / 100.0) as u64;
        (self.size.0 > most).then(|| {
            format!(
                "{} is more than {share}% of the {} MiB of memory available here",
                self.size,
                available >> 20
            )
        })
    }
}

impl FaultKind for MemoryPressure {
    const INFO: KindInfo = KindInfo {
        kind: "memory-pressure",
        summary: "Takes memory and keeps it in use by a process of its own.",
        class: Class::Served,
        layer: "the kernel's memory management: page cache is dropped, pages are swapped, allocations wait for reclaim",
        requires: "as much available memory as it takes",
        after_kill: "the kernel, at once: the burner ends with the input that its starter held",
        targets: &["host"],
        example: "memory-pressure: {target: {host: true}, size: 256MiB, for: 30s}",
    };
}

impl Fault for MemoryPressure {
    fn unmet(&self, _target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        let because = (facts.memory_available > 0)
            .then(|| self.excess(facts.memory_available))
            .flatten();
        because
            .map(|because| Unmet {
                what: because,
                remedy: "write a smaller `size`, or raise `of-available-at-most`".into(),
            })
            .into_iter()
            .collect()
    }

    fn mechanism(&self, _facts: &HostFacts) -> String {
        format!(
            "a child process that holds {} and touches it every second",
            self.size
        )
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        if *target != Target::Host {
            return Err(FaultError::Target {
                target: format!("{target:?}"),
                because: "it presses on the host as a whole".into(),
            });
        }
        let available = procs::host_memory("MemAvailable").unwrap_or(0);
        if let Some(because) = self.excess(available) {
            return Err(FaultError::Limit {
                action: format!("take {}", self.size),
                because,
            });
        }
        let config = serde_json::to_value(self).unwrap_or_default();
        // Slow hosts take half a second for a GiB.
        let within = Duration::from_secs(10 + self.size.0 / (256 << 20));
        host.serve(Self::INFO.kind, config, within).map(drop)
    }

    fn observe(&self, _target: &Target, changes: &[Undo]) -> Vec<Observation> {
        let Some((pid, held)) = child(changes).and_then(|pid| {
            Some((
                pid,
                procs::memory(pid, "VmRSS")? + procs::memory(pid, "VmSwap")?,
            ))
        }) else {
            return vec![unseen()];
        };
        let enough = held as f64 >= self.size.0 as f64 * 0.95;
        vec![Observation {
            presence: if enough {
                Presence::Present
            } else {
                Presence::Unknown
            },
            source: "process accounting".into(),
            evidence: format!("process {pid} holds {} MiB (VmRSS and VmSwap)", held >> 20),
        }]
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.size.0 == 0 {
            problems.push(ConfigProblem {
                key: "size",
                message: "0 bytes are no pressure".into(),
                help: "write e.g. `size: 256MiB`".into(),
            });
        }
        if self
            .of_available_at_most
            .is_some_and(|share| share.0 <= 0.0)
        {
            problems.push(ConfigProblem {
                key: "of-available-at-most",
                message: "0% allows nothing".into(),
                help: "write more than 0%, e.g. `of-available-at-most: 90%`".into(),
            });
        }
        problems
    }
}

/// The burner.
pub(crate) fn serve(config: serde_json::Value, child: &Child) -> Result<(), String> {
    let config: MemoryPressure =
        serde_json::from_value(config).map_err(|error| error.to_string())?;
    volunteer_for_oom().map_err(|error| format!("could not raise oom_score_adj: {error}"))?;
    let available = procs::host_memory("MemAvailable").unwrap_or(0);
    if let Some(because) = config.excess(available) {
        return Err(because);
    }
    // What others must keep while we take ours: the share that was not asked for.
    let floor = available.saturating_sub(config.size.0) / 2;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut left = usize::try_from(config.size.0).map_err(|error| error.to_string())?;
    while left > 0 {
        let mut piece = vec![0u8; left.min(PIECE)];
        touch(&mut piece);
        left -= piece.len();
        pieces.push(piece);
        if procs::host_memory("MemAvailable").is_some_and(|available| available < floor) {
            return Err(
                "others took memory at the same time, and too little would have been left for them"
                    .into(),
            );
        }
        if child.stopped(Duration::ZERO) {
            return Ok(());
        }
    }
    child.ready().map_err(|error| error.to_string())?;
    while !child.stopped(Duration::from_secs(1)) {
        // Kept in use: the kernel would swap an idle process out and the pressure would be gone.
        pieces.iter_mut().for_each(|piece| touch(piece));
    }
    Ok(())
}

fn touch(piece: &mut [u8]) {
    for byte in piece.iter_mut().step_by(PAGE) {
        *byte = std::hint::black_box(byte.wrapping_add(1) | 1);
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryPressure;
    use squall_model::units::{Bytes, Percent};

    #[test]
    fn more_than_the_share_of_what_is_available_is_refused_unless_the_file_allows_it() {
        let mut fault = MemoryPressure {
            size: Bytes(81 << 20),
            of_available_at_most: None,
        };
        assert!(fault.excess(100 << 20).is_some());
        assert!(fault.excess(102 << 20).is_none());
        fault.of_available_at_most = Some(Percent(90.0));
        assert!(fault.excess(100 << 20).is_none());
    }
}
