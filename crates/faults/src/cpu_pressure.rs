//! `cpu-pressure`: processors are kept busy by a burner.

use crate::agent::procs;
use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::serve::{Child, volunteer_for_oom};
use crate::undo::Undo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Percent;
use std::time::{Duration, Instant};

/// One turn of a burner: busy for its share, then asleep.
const TURN: Duration = Duration::from_millis(20);
/// How long the processor time of the burner is watched to see that it burns.
const WATCH: Duration = Duration::from_millis(200);
/// How long it may take to get any.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keeps processors busy by a process of its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CpuPressure {
    /// The share of each processor that is taken, if nobody else wants it. 100% unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Percent>,
    /// The number of processors. All that this user may use unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// The burner's nice value, 0 (as everyone) to 19 (only what is left over). 0 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<u8>,
}

impl CpuPressure {
    fn share(&self) -> f64 {
        self.load.map_or(1.0, |load| load.0 / 100.0)
    }
}

impl FaultKind for CpuPressure {
    const INFO: KindInfo = KindInfo {
        kind: "cpu-pressure",
        summary: "Keeps processors busy by a process of its own.",
        class: Class::Served,
        layer: "the kernel's scheduler: the workload gets less processor time and later",
        requires: "nothing",
        after_kill: "the kernel, at once: the burner ends with the input that its starter held",
        targets: &["host"],
        example: "cpu-pressure: {target: {host: true}, load: 80%, cores: 2, for: 30s}",
    };
}

impl Fault for CpuPressure {
    fn unmet(&self, _target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        match self.cores {
            Some(cores) if facts.cores > 0 && cores > facts.cores => vec![Unmet {
                what: format!("{cores} processors, there are {}", facts.cores),
                remedy: format!("write `cores: {}` or leave it out", facts.cores),
            }],
            _ => Vec::new(),
        }
    }

    fn mechanism(&self, facts: &HostFacts) -> String {
        let cores = self.cores.unwrap_or(facts.cores);
        format!(
            "a child process that is busy {:.0} % of the time on {cores} {}",
            self.share() * 100.0,
            if cores == 1 {
                "processor"
            } else {
                "processors"
            }
        )
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        if *target != Target::Host {
            return Err(FaultError::Target {
                target: format!("{target:?}"),
                because: "it presses on the host as a whole".into(),
            });
        }
        let config = serde_json::to_value(self).unwrap_or_default();
        host.serve(Self::INFO.kind, config, Duration::from_secs(5))
            .map(drop)
    }

    fn observe(&self, _target: &Target, changes: &[Undo]) -> Vec<Observation> {
        vec![burning(changes)]
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut problem = |key, message: &str, help: &str| {
            problems.push(ConfigProblem {
                key,
                message: message.into(),
                help: help.into(),
            });
        };
        if self.load.is_some_and(|load| load.0 <= 0.0) {
            problem(
                "load",
                "a load of 0% presses on nothing",
                "write more than 0%, e.g. `load: 80%`",
            );
        }
        if self.cores == Some(0) {
            problem("cores", "0 cores are no pressure", "write at least 1");
        }
        if self.nice.is_some_and(|nice| nice > 19) {
            problem(
                "nice",
                "nice goes from 0 to 19",
                "write a number from 0 to 19",
            );
        }
        problems
    }
}

/// The served child of an injection, by its undo.
pub(crate) fn child(changes: &[Undo]) -> Option<u32> {
    changes.iter().find_map(|undo| match undo {
        Undo::EndProcess { process, .. } => procs::read(process.pid)
            .filter(|found| found.start_time == process.start_time && found.state != 'Z')
            .map(|found| found.pid),
        _ => None,
    })
}

pub(crate) fn unseen() -> Observation {
    Observation {
        presence: Presence::Absent,
        source: "process table".into(),
        evidence: "its child process does not run".into(),
    }
}

fn burning(changes: &[Undo]) -> Observation {
    let Some(pid) = child(changes) else {
        return unseen();
    };
    let (started, before) = (Instant::now(), procs::run_time_ns(pid));
    loop {
        std::thread::sleep(WATCH);
        let (Some(before), Some(after)) = (before, child(changes).and_then(procs::run_time_ns))
        else {
            return unseen();
        };
        let (wall, used) = (
            started.elapsed(),
            Duration::from_nanos(after.saturating_sub(before)),
        );
        // On a crowded host even a burner has to wait for its turn.
        if used.is_zero() && wall < PATIENCE {
            continue;
        }
        let presence = if used.is_zero() {
            Presence::Unknown
        } else {
            Presence::Present
        };
        return Observation {
            presence,
            source: "process accounting".into(),
            evidence: format!("process {pid} used {used:.1?} of processor time in {wall:.1?}"),
        };
    }
}

/// The burner.
pub(crate) fn serve(config: serde_json::Value, child: &Child) -> Result<(), String> {
    let config: CpuPressure = serde_json::from_value(config).map_err(|error| error.to_string())?;
    volunteer_for_oom().map_err(|error| format!("could not raise oom_score_adj: {error}"))?;
    if let Some(nice) = config.nice {
        rustix::process::nice(i32::from(nice))
            .map_err(|error| format!("could not set nice: {error}"))?;
    }
    let allowed = rustix::thread::sched_getaffinity(None).map_err(|error| error.to_string())?;
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let count = config
        .cores
        .map_or(cpus.len(), |cores| cores as usize)
        .min(cpus.len());
    let share = config.share();
    for cpu in cpus.into_iter().take(count) {
        std::thread::Builder::new()
            .spawn(move || burn(cpu, share))
            .map_err(|error| format!("could not start a burner: {error}"))?;
    }
    child.ready().map_err(|error| error.to_string())?;
    while !child.stopped(Duration::from_secs(3600)) {}
    // Burners end with their process.
    Ok(())
}

fn burn(cpu: usize, share: f64) {
    let mut only = rustix::thread::CpuSet::new();
    only.set(cpu);
    // Where it may not be bound, the scheduler spreads the burners by itself.
    rustix::thread::sched_setaffinity(None, &only).unwrap_or_default();
    let mut word = 0u64;
    loop {
        let turn = Instant::now();
        while turn.elapsed() < TURN.mul_f64(share) {
            for _ in 0..1000 {
                word = std::hint::black_box(
                    word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1),
                );
            }
        }
        std::thread::sleep(TURN.saturating_sub(turn.elapsed()));
    }
}
