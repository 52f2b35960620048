//! What Squall starts, watches and ends.

use crate::load::LOG_EVENTS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What Squall starts and owns: it ends with the run, its lease, or the controller's loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// A training job: steps, epochs and checkpoints are understood.
    Training(Training),
    /// Any other command.
    Process(Process),
}

/// A training job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Training {
    /// The command line, split like a shell would but run without one. `{out}` is a fresh folder of this run.
    pub run: String,
    /// Also run it undisturbed first, for comparison.
    #[serde(default)]
    pub reference: bool,
    /// How often it is run undisturbed, 1 to 20. 1 with `reference: true`. From 3 on the spread of their losses is known, and with it whether training that is not reproducible bit for bit stayed on course.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub references: Option<u32>,
    /// Environment variables beside the inherited ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory. The folder of the experiment file unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Log patterns that become training events, for jobs without a hook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<LogPattern>,
    /// Number of epochs of the whole job, so that `every: {epochs: N}` does not fire at the last. Learned from a reference run when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Steps between two checkpoints, when no event tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<u64>,
}

impl Training {
    /// How often it is run undisturbed.
    pub fn undisturbed(&self) -> u32 {
        self.references.unwrap_or(u32::from(self.reference))
    }
}

/// Any other command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// The command line, split like a shell would but run without one. `{out}` is a fresh folder of this run.
    pub run: String,
    /// Environment variables beside the inherited ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory. The folder of the experiment file unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// A proxy between the command and the service of language models that it calls. It is started before the command and ends with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyOption>,
}

/// A proxy that a run starts: it listens on a free port of 127.0.0.1, and variables tell the workload where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxyOption {
    /// The service: `http://host:port`, or `mock`, which answers by itself in OpenAI's and Anthropic's shapes (`mock:first-token=20ms,token=5ms,tokens=16`).
    pub upstream: String,
    /// Further variables that get the proxy's address, and what follows it: `{LLM_URL: "", OPENAI_API_BASE: /v1}`. `OPENAI_BASE_URL` (with `/v1`) and `ANTHROPIC_BASE_URL` are always set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// A pattern on lines of the workload's output that makes a training event of each match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogPattern {
    /// The kind of event.
    #[schemars(with = "EventKind")]
    pub event: String,
    /// A regular expression. Groups named `step`, `epoch`, `loss`, `lr`, `grad_norm`, `rank`, `restart`, `path`, `digest`, `stage` fill the event's fields.
    pub pattern: String,
}

/// The words that a log pattern may give as its event, for the schema and the structure pass.
struct EventKind;

impl JsonSchema for EventKind {
    fn schema_name() -> Cow<'static, str> {
        "EventKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kinds: Vec<&str> = LOG_EVENTS.iter().map(|(kind, _)| *kind).collect();
        json_schema!({"description": "A kind of training event.", "type": "string", "enum": kinds})
    }
}
