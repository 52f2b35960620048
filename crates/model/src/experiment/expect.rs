//! What must be true at the end.

use crate::units::{Percent, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// One thing that must be true at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// After each injection training has passed the step it had reached, within this time.
    RecoveredWithin(Span),
    /// The result equals another one.
    SameResult(SameResult),
    /// Steps that had to be repeated, per injection.
    LostSteps(LostSteps),
    /// The workload ends by itself with this exit status.
    Completes(Completes),
    /// Effective training time ratio over the run: productive time / wall time.
    Ettr(AtLeast),
    /// The steady state holds again within this time after the last undo.
    SteadyAgainWithin(Span),
}

/// The result equals another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SameResult {
    /// Compared with what.
    #[serde(rename = "as")]
    pub reference: Reference,
    /// Compared how.
    pub by: ResultKind,
}

/// What a result is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The undisturbed run of the same workload (`reference: true`).
    Reference,
}

/// How results are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResultKind {
    /// The digest of the parameters at the end, bit for bit.
    FinalParameters,
    /// Each sample exactly once per epoch across restarts.
    Samples,
    /// The losses within the spread of at least three undisturbed repeats (`references: 3`), for training that is not reproducible bit for bit.
    Trajectory,
}

/// Steps that had to be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LostSteps {
    /// `12 steps` or `1 checkpoint-interval`.
    pub at_most: StepCount,
}

/// A number of steps, absolute or in checkpoint intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepCount {
    /// `12 steps`.
    Steps(u64),
    /// `1 checkpoint-interval`.
    CheckpointIntervals(u64),
}

/// The workload ends by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Completes {
    /// The exit status expected. 0 unless said.
    #[serde(default)]
    pub exit: i32,
}

/// A lower bound in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AtLeast {
    /// The bound.
    pub at_least: Percent,
}

impl std::str::FromStr for StepCount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        match (number, words.next(), words.next()) {
            (Some(n), Some("step" | "steps"), None) => Ok(StepCount::Steps(n)),
            (Some(n), Some("checkpoint-interval" | "checkpoint-intervals"), None) => {
                Ok(StepCount::CheckpointIntervals(n))
            }
            _ => Err(format!(
                "`{text}` is not a number of steps; write it like `12 steps` or `1 checkpoint-interval`"
            )),
        }
    }
}

impl std::fmt::Display for StepCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StepCount::Steps(1) => f.write_str("1 step"),
            StepCount::Steps(n) => write!(f, "{n} steps"),
            StepCount::CheckpointIntervals(1) => f.write_str("1 checkpoint-interval"),
            StepCount::CheckpointIntervals(n) => write!(f, "{n} checkpoint-intervals"),
        }
    }
}

impl Serialize for StepCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for StepCount {
    fn schema_name() -> Cow<'static, str> {
        "StepCount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "squall-step-count",
            "pattern": r"^\s*[0-9]+\s+(steps?|checkpoint-intervals?)\s*$",
            "examples": ["1 checkpoint-interval"],
            "description": "A number of steps: `12 steps` or `1 checkpoint-interval`."
        })
    }
}
