//! When and on what a fault acts: the keys that every fault step shares.

use crate::units::{Percent, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a fault or probe acts on. Exactly one of the ways to name it is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Selector {
    /// A target defined under `targets:`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A rank of the workload: the topmost process that carries it (data-loader workers inherit the variable).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// The whole owned workload, from its first process down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<bool>,
    /// A process that already runs, by its pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A process that already runs, by the file that holds its pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// Processes that already run, by a regular expression on their command line. Squall's own never match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Files, by a pattern with `*` and `?` in its last part; `{out}` is the workload's own folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A network namespace, by the name `ip netns` shows or by a path below /proc or /run/netns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A running container, by its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Running containers that carry this label, `KEY` or `KEY=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_label: Option<String>,
    /// The Unix socket of the container engine (Docker's API). Where `DOCKER_HOST` says unless said, else `/run/docker.sock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// This machine as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<bool>,
    /// The most targets touched by one injection. 1 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
}

/// A moment: a time since the method began, or a completed step or epoch, optionally in a phase of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Moment {
    /// Time since this step of the method was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
    /// Step, counted from 1. Without a phase: when it has completed. With one: in that phase of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Epoch, counted from 1. Without a phase: when it has ended, before its checkpoint begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// A phase in which the aimed process is held until the fault has landed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// A regular expression: the first line of the workload's output that matches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// A repetition. Exactly one of epochs, steps and time is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Every {
    /// When epoch N, 2N, … has ended; not at the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// When step N, 2N, … has completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Each time this long has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
    /// A phase of the aimed unit in which the process is held until the fault has landed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
}

/// The end of another injection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct After {
    /// The `name:` of another fault step.
    pub injection: String,
    /// Time to wait after it was undone (or, for a one-shot fault, after it landed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plus: Option<Span>,
}

/// The keys that every fault step may carry beside those of its fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StepKeys {
    /// A name, so that other steps and the report can refer to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the fault acts on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Selector>,
    /// How long the fault stays before it is undone. Required for faults that last.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// When it acts, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// When it acts, again and again until the workload ends or `times` is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// Acts when another injection has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// The chance that each occasion is taken; drawn from the run's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<Percent>,
    /// Acts at random moments, exponentially spaced with this mean; drawn from the run's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_time_between: Option<Span>,
    /// The most injections of a repeated step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Also act on steps and epochs that are repeated after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_replay: Option<bool>,
    /// When a container ends in mid-fault and comes back within `for`, a new injection acts on it for the time that is left. Not unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_restarts: Option<bool>,
    /// Acts only where the training script asks for it (`squall_hook.every_epochs`, `squall_hook.terminate`), until the workload ends or `times` is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_request: Option<bool>,
}

impl StepKeys {
    /// Whether it aims at a unit of training, or waits for the trainer to ask: a place that a quick job may reach before the method begins.
    pub fn aims_at_training(&self) -> bool {
        let at = self.at.as_ref();
        let every = self.every.as_ref();
        at.is_some_and(|at| at.step.is_some() || at.epoch.is_some())
            || every.is_some_and(|every| every.steps.is_some() || every.epochs.is_some())
            || self.on_request == Some(true)
    }

    /// The keys as they are written in the file. A fault's own config may use none of them.
    pub const KEYS: &'static [&'static str] = &[
        "name",
        "target",
        "for",
        "at",
        "every",
        "after",
        "probability",
        "mean-time-between",
        "times",
        "on-replay",
        "follow-restarts",
        "on-request",
    ];
}
