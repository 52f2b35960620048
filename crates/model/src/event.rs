//! The event log: the truth about a run. State, report, metrics and pages are folds over it.
//!
//! Append-only. One function, [`RunState::apply`], knows the legal transitions.

use crate::exit::Exit;
use crate::hook::TrainingEvent;
use crate::id::{InjectionId, RuleId, RunId};
use crate::process::ProcessIdentity;
use crate::syntax::Class;
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the event format.
pub const VERSION: u32 = 1;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// Nanoseconds since the run started, on the boot-time clock, stamped by the receiver.
    pub t_ns: u64,
    /// What happened.
    pub body: Body,
}

/// The stages of an experiment's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Plan,
    Reference,
    Start,
    SteadyState,
    Method,
    Undo,
    Recovery,
    Analyse,
}

/// What a read-back of the world says about one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// The change is in the world.
    Present,
    /// It is not.
    Absent,
    /// The workload has itself replaced or removed what was changed.
    Superseded,
    /// It could not be read.
    Unknown,
}

/// A reading of the world, with the words that prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Observation {
    /// What was found.
    pub presence: Presence,
    /// Who saw it: `kernel state`, `counter`, `effect probe`, `process table`, …
    pub source: String,
    /// What was read, e.g. `state T (stopped) in /proc/4711/stat`.
    pub evidence: String,
}

/// Where in training something happened: the high-water position of the aimed rank when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Place {
    /// The step in progress (from 1), or just completed at `step-end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
}

/// How an injection was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// The aimed process was held at the place until the fault had landed.
    Held,
    /// The hold ran into its deadline before the fault landed.
    Late,
    /// No hold: the place is where training was when the fault landed, by the last event seen.
    Observed,
    /// The rule aims at no place in training.
    NotAimed,
}

/// One act of the run, as it is written. Externally tagged; unknown kinds of newer versions are refused on reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// First event of every log.
    RunStarted {
        version: u32,
        run: RunId,
        title: String,
        seed: u64,
        /// UTC, RFC 3339.
        started_utc: String,
        /// Boot-time clock at t = 0, in nanoseconds: places the run on the host's own clock.
        boot_ns: u64,
        boot_id: String,
        squall: String,
        /// SHA-256 of the experiment file.
        experiment: String,
        /// kernel, cores, memory, cgroup layout, …
        host: BTreeMap<String, String>,
    },
    StageEntered {
        stage: Stage,
    },
    /// The owned workload (or its reference run) runs.
    WorkloadStarted {
        reference: bool,
        command: String,
        process: Option<ProcessIdentity>,
        out: String,
    },
    WorkloadEnded {
        reference: bool,
        exit: Option<i32>,
        signal: Option<i32>,
        /// How it was made sure that no process of it is left.
        evidence: String,
    },
    /// A training event; `reference` tells which of the two runs.
    Training {
        reference: bool,
        rank: Option<u32>,
        restart: u32,
        pid: Option<u32>,
        /// `hook` or `log`.
        source: String,
        event: TrainingEvent,
    },
    /// A probe was taken. `check` is its name or its place in the file, e.g. `steady-state/0`.
    Probed {
        check: String,
        held: bool,
        /// What was measured, in words with a unit.
        measured: String,
        value: Option<f64>,
    },
    Armed {
        rule: RuleId,
        kind: String,
        name: Option<String>,
        /// When it is to act, in words.
        aim: String,
    },
    /// A process reached an armed hold point.
    Held {
        rule: RuleId,
        place: Place,
    },
    /// The undo is durable; the world is about to be changed. One that failed before its first change stands right before its `not-landed`.
    InjectionBegun {
        injection: InjectionId,
        rule: RuleId,
        kind: String,
        class: Class,
        /// Whom it acts on, in words.
        target: String,
        process: Option<ProcessIdentity>,
        /// Where it was meant to land.
        aim: Place,
        /// How it acts, e.g. `SIGKILL by pidfd`.
        mechanism: String,
    },
    /// The change was read back.
    Landed {
        injection: InjectionId,
        place: Place,
        precision: Precision,
        /// How long a process was held for it, in nanoseconds.
        held_ns: Option<u64>,
        observations: Vec<Observation>,
    },
    /// The injection failed or could not be shown to have acted.
    NotLanded {
        injection: InjectionId,
        because: String,
        observations: Vec<Observation>,
    },
    UndoBegun {
        injection: InjectionId,
        because: String,
        by: String,
    },
    Undone {
        injection: InjectionId,
        /// `agent`, `guard`, `recovery`.
        by: String,
        observations: Vec<Observation>,
    },
    Stuck {
        injection: InjectionId,
        by: String,
        because: String,
        /// What a person is to type or do.
        remedy: String,
    },
    /// An occasion that was not taken (probability, spent count, no target).
    Skipped {
        rule: RuleId,
        because: String,
    },
    RuleEnded {
        rule: RuleId,
        because: String,
    },
    AbortFired {
        check: String,
        measured: String,
    },
    /// The run was ended from outside: SIGINT, SIGTERM or SIGHUP reached the controller, the agent or the guard.
    Interrupted {
        /// Which, and whom it reached where that was not the controller.
        signal: String,
    },
    /// A holder of the run was lost.
    Lost {
        what: String,
        because: String,
    },
    /// Records that could not be kept. What needs them is inconclusive.
    Dropped {
        what: String,
        count: u64,
    },
    Note {
        text: String,
    },
    /// Last event of a run that was closed properly.
    RunEnded {
        exit: Exit,
        /// `controller`, or `recovery` when a later command closed it.
        by: String,
    },
}

/// Where an injection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InjectionState {
    Begun,
    Landed,
    NotLanded,
    Undoing,
    Undone,
    Stuck,
}

/// One injection as the log tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    pub id: InjectionId,
    pub rule: RuleId,
    pub kind: String,
    pub class: Class,
    pub state: InjectionState,
}

/// The state of a run: a fold over its events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunState {
    /// Sequence number of the last event applied.
    pub seq: u64,
    pub started: bool,
    pub stage: Option<Stage>,
    pub injections: BTreeMap<InjectionId, Injection>,
    pub ended: Option<Exit>,
    /// Time of the last event.
    pub t_ns: u64,
}

/// An event that cannot follow what the log already says.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("event {seq} is illegal here, because {because}")]
pub struct IllegalEvent {
    /// The event's number.
    pub seq: u64,
    /// Why it cannot stand there.
    pub because: String,
}

impl RunState {
    /// Applies one event, or says why it cannot follow. The only place that knows which moves are legal.
    pub fn apply(mut self, event: &Event) -> Result<RunState, IllegalEvent> {
        let illegal = |because: &str| IllegalEvent {
            seq: event.seq,
            because: because.to_owned(),
        };
        if event.seq != self.seq + 1 {
            return Err(illegal("its number does not follow the last one"));
        }
        if self.ended.is_some() {
            return Err(illegal("the run has ended"));
        }
        let first = matches!(event.body, Body::RunStarted { .. });
        if first == self.started {
            return Err(illegal(if first {
                "the run has started already"
            } else {
                "the run has not started"
            }));
        }
        match &event.body {
            Body::RunStarted { .. } => self.started = true,
            Body::StageEntered { stage } => {
                if self.stage.is_some_and(|now| now >= *stage) {
                    return Err(illegal("stages only go forward"));
                }
                self.stage = Some(*stage);
            }
            Body::InjectionBegun {
                injection,
                rule,
                kind,
                class,
                ..
            } => {
                let entry = Injection {
                    id: injection.clone(),
                    rule: *rule,
                    kind: kind.clone(),
                    class: *class,
                    state: InjectionState::Begun,
                };
                if self.injections.insert(injection.clone(), entry).is_some() {
                    return Err(illegal("this injection has begun already"));
                }
            }
            Body::Landed { injection, .. } => {
                self.step(event, injection, InjectionState::Landed)?
            }
            Body::NotLanded { injection, .. } => {
                self.step(event, injection, InjectionState::NotLanded)?;
            }
            Body::UndoBegun { injection, .. } => {
                self.step(event, injection, InjectionState::Undoing)?;
            }
            Body::Undone { injection, .. } => {
                self.step(event, injection, InjectionState::Undone)?
            }
            Body::Stuck { injection, .. } => self.step(event, injection, InjectionState::Stuck)?,
            Body::RunEnded { exit, .. } => {
                if *exit != Exit::NotRolledBack && self.outstanding().next().is_some() {
                    return Err(illegal("an injection is still outstanding"));
                }
                self.ended = Some(*exit);
            }
            _ => {}
        }
        self.seq = event.seq;
        self.t_ns = self.t_ns.max(event.t_ns);
        Ok(self)
    }

    fn step(
        &mut self,
        event: &Event,
        id: &InjectionId,
        to: InjectionState,
    ) -> Result<(), IllegalEvent> {
        let illegal = |because: String| IllegalEvent {
            seq: event.seq,
            because,
        };
        let Some(injection) = self.injections.get_mut(id) else {
            return Err(illegal(format!("injection {id} never began")));
        };
        use InjectionState::{Begun, Landed, NotLanded, Stuck, Undoing, Undone};
        let legal = match (injection.state, to) {
            (Begun, Landed | NotLanded) => true,
            // An injection that failed half-way is undone too; a stuck one may be tried again.
            (Begun | Landed | NotLanded | Stuck | Undoing, Undoing) => true,
            (Undoing, Undone | Stuck) => true,
            _ => false,
        };
        if !legal {
            return Err(illegal(format!(
                "injection {id} cannot go from {:?} to {to:?}",
                injection.state
            )));
        }
        injection.state = to;
        Ok(())
    }

    /// Injections whose change may still be in the world. One-shot faults have no undo and end when they have landed or not.
    pub fn outstanding(&self) -> impl Iterator<Item = &Injection> {
        self.injections.values().filter(|injection| {
            !matches!(
                (injection.class, injection.state),
                (_, InjectionState::Undone)
                    | (
                        Class::OneShot,
                        InjectionState::Landed | InjectionState::NotLanded
                    )
            )
        })
    }
}

/// The time limit of a run when the file gives none.
pub fn default_time_limit() -> Span {
    Span(std::time::Duration::from_secs(3600))
}

#[cfg(test)]
mod tests;
