//! The experiment file, version 1. Doc comments here are the reference, the schema's descriptions and the help.

mod expect;
mod probe;
mod step;
mod workload;

pub use expect::{
    AtLeast, Completes, Expect, LostSteps, Reference, ResultKind, SameResult, StepCount,
};
pub use probe::{
    Check, CommandProbe, DiskFreeProbe, FileProbe, HttpProbe, LogLineProbe, Probe,
    ProcessAliveProbe, TcpProbe, TrainingEventProbe, Unit,
};
pub use step::{FaultStep, Step};
pub use workload::{LogPattern, Process, ProxyOption, Training, Workload};

use crate::syntax::FaultList;
use crate::timing::Selector;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the file format this build writes and the newest it reads.
pub const VERSION: u32 = 1;

/// An experiment: what is asked, on what, which faults, and what would be an acceptable answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(bound = "F: FaultList", rename = "Experiment")]
#[serde(bound = "F: FaultList")]
pub struct Experiment<F> {
    /// Version of this file format: 1.
    pub version: u32,
    /// One line for people: what the system is expected to survive.
    pub title: String,
    /// The question the report answers first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<Requirement>,
    /// Seed of every random choice of Squall's own. Drawn and recorded when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What Squall starts, watches and ends. Absent when it attaches to what already runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Named targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, Selector>,
    /// Probes that must hold before anything is injected, and again at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady_state: Vec<Check>,
    /// How long the steady state is watched before the first injection. 3s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Span>,
    /// How long a workload that was just started may take until its first training event (a step, an epoch or a checkpoint), and then until its steady state. 60s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Span>,
    /// What is done, in order.
    pub method: Vec<Step<F>>,
    /// Probes that, when they fire, end the experiment and undo everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_when: Vec<Check>,
    /// What must be true at the end for the hypothesis to have held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expect>,
    /// What is sampled while the experiment runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
    /// The longest the whole run may take. 1h unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Span>,
}

/// The question an experiment answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requirement {
    /// Which kind of property is asked about.
    pub goal: Goal,
    /// Why it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What would be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
}

/// Kinds of requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// A training job survives faults with the right result.
    TrainingReliability,
    /// A model-serving application keeps its promises under faults.
    InferenceReliability,
    /// Capacity follows demand and loss.
    Elasticity,
    /// Data stays available, correct and private.
    DataSafety,
    /// Speed stays inside its bounds.
    Performance,
}

/// What is sampled while the experiment runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Monitor {
    /// Samples per second, 1 to 100. 10 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub rate: Option<u32>,
}
