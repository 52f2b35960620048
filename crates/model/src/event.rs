//! The event log: the truth about a run. State, report, metrics and pages are folds over it.
//!
//! Append-only. One function, [`RunState::apply`], knows the legal transitions.

mod state;

pub use state::{IllegalEvent, Injection, InjectionState, RunState};

use crate::exchange::Exchange;
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
        /// It still ran when Squall ended it; absent in logs of older builds.
        #[serde(default)]
        by_squall: bool,
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
    /// A request that went through the run's proxy, with its answer. Told when it is over.
    Exchanged {
        exchange: Box<Exchange>,
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

/// The time limit of a run when the file gives none.
pub fn default_time_limit() -> Span {
    Span(std::time::Duration::from_secs(3600))
}

#[cfg(test)]
mod tests;
