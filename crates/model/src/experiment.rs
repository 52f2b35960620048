//! The experiment file, version 1. Doc comments here are the reference, the schema's descriptions and the help.

use crate::syntax::FaultList;
use crate::timing::{Selector, StepKeys};
use crate::units::{Bytes, Percent, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
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
}

/// A pattern on lines of the workload's output that makes a training event of each match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogPattern {
    /// The kind of event: `step-end`, `epoch-end`, `checkpoint-renamed`, `checkpoint-loaded`, `recovery`, …
    pub event: String,
    /// A regular expression. Groups named `step`, `epoch`, `loss`, `rank`, `restart`, `path`, `digest`, `stage` fill the event's fields.
    pub pattern: String,
}

/// One probe of a hypothesis or an abort condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Check {
    /// What is measured and what must be true of it.
    pub probe: Probe,
    /// A name for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time between two measurements. 1s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Failures in a row before an abort condition fires. 1 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

/// One measurement with its condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// An HTTP GET answers as it should.
    Http(HttpProbe),
    /// A TCP connection is accepted.
    Tcp(TcpProbe),
    /// A command ends as it should.
    Command(CommandProbe),
    /// A file is there, fresh, and of the right size or content.
    File(FileProbe),
    /// A line appears (or does not) in the workload's output.
    LogLine(LogLineProbe),
    /// The target's process is alive.
    ProcessAlive(ProcessAliveProbe),
    /// Free disk space. As an abort condition it fires below the bound; as a steady state it holds at or above it.
    DiskFree(DiskFreeProbe),
    /// Training makes progress.
    TrainingEvent(TrainingEventProbe),
}

/// An HTTP GET answers as it should.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpProbe {
    /// http or https.
    pub url: String,
    /// The status expected. 200 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Text the body must contain (its first 1 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// The longest the whole answer may take. 5s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// A TCP connection is accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TcpProbe {
    /// `host:port`.
    pub address: String,
    /// The longest the connection may take. 2s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// A command ends as it should.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandProbe {
    /// The command line, split like a shell would but run without one.
    pub run: String,
    /// The exit status expected. 0 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// A regular expression that its output (first 64 KiB) must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The longest it may take before it is ended. 10s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// A file is there, fresh, and of the right size or content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileProbe {
    /// Path; a pattern with `*` in its last part means the newest match. `{out}` is the workload's folder.
    pub path: String,
    /// The oldest its modification time may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Span>,
    /// The smallest size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Bytes>,
    /// The largest size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bytes>,
    /// SHA-256 of its content, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A line appears (or does not) in the workload's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LogLineProbe {
    /// A regular expression.
    pub pattern: String,
    /// Such a line must have appeared within this time. Absent: since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// The line must not appear.
    #[serde(default)]
    pub absent: bool,
}

/// The target's process is alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProcessAliveProbe {
    /// Which process.
    pub target: Selector,
}

/// Free disk space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskFreeProbe {
    /// A path on the file system asked about.
    pub path: String,
    /// The bound.
    pub below: Bytes,
}

/// Training makes progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainingEventProbe {
    /// Which event must keep coming.
    pub every: Unit,
    /// The longest time between two of them.
    pub within: Span,
}

/// Units of training progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// An optimiser step.
    Step,
    /// A pass over the data.
    Epoch,
    /// A finished checkpoint.
    Checkpoint,
}

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

/// What is sampled while the experiment runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Monitor {
    /// Samples per second, 1 to 100. 10 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub rate: Option<u32>,
}

/// One step of the method: a fault, a wait, or a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<F> {
    /// Nothing happens for this long.
    Wait(Span),
    /// Steps one after the other.
    Sequence(Vec<Step<F>>),
    /// Steps side by side; ends when all have ended.
    Parallel(Vec<Step<F>>),
    /// A fault.
    Fault(Box<FaultStep<F>>),
}

/// A fault with the keys that all faults share.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultStep<F> {
    /// The fault with its own config.
    pub fault: F,
    /// When and on what.
    pub keys: StepKeys,
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

const GROUPS: [&str; 3] = ["wait", "sequence", "parallel"];

impl<F: FaultList> Serialize for Step<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Step::Wait(span) => map.serialize_entry("wait", span)?,
            Step::Sequence(steps) => map.serialize_entry("sequence", steps)?,
            Step::Parallel(steps) => map.serialize_entry("parallel", steps)?,
            Step::Fault(step) => map.serialize_entry(step.fault.kind(), &step.body())?,
        }
        map.end()
    }
}

impl<F: FaultList> FaultStep<F> {
    /// The step as one map: the fault's own keys and the shared ones.
    pub fn body(&self) -> serde_json::Value {
        let mut body = match self.fault.config() {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        if let Ok(serde_json::Value::Object(keys)) = serde_json::to_value(&self.keys) {
            body.extend(keys);
        }
        serde_json::Value::Object(body)
    }

    /// Splits one map into the fault's own keys and the shared ones, and reads both.
    pub fn from_body(kind: &str, body: serde_json::Value) -> Result<Self, (String, String)> {
        let serde_json::Value::Object(body) = body else {
            return Err((
                String::new(),
                format!("`{kind}` takes a map, e.g. `{kind}: {{target: …}}`"),
            ));
        };
        let (shared, own): (serde_json::Map<_, _>, serde_json::Map<_, _>) = body
            .into_iter()
            .partition(|(key, _)| StepKeys::KEYS.contains(&key.as_str()));
        let keys: StepKeys = serde_path_to_error::deserialize(serde_json::Value::Object(shared))
            .map_err(|error| (error.path().to_string(), error.inner().to_string()))?;
        let fault = F::parse(kind, serde_json::Value::Object(own))?;
        Ok(FaultStep { fault, keys })
    }
}

impl<'de, F: FaultList> Deserialize<'de> for Step<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut entries = map.into_iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(D::Error::custom(
                "a step of the method is a map with exactly one key, e.g. `- wait: 10s`",
            ));
        };
        let nested = |error: serde_json::Error| D::Error::custom(error);
        match key.as_str() {
            "wait" => serde_json::from_value(value)
                .map(Step::Wait)
                .map_err(nested),
            "sequence" => serde_json::from_value(value)
                .map(Step::Sequence)
                .map_err(nested),
            "parallel" => serde_json::from_value(value)
                .map(Step::Parallel)
                .map_err(nested),
            kind => FaultStep::from_body(kind, value)
                .map(|step| Step::Fault(Box::new(step)))
                .map_err(|(path, reason)| D::Error::custom(format!("{kind}.{path}: {reason}"))),
        }
    }
}

/// A config's own schema where the list gave a reference to it, since the shared keys are added to a copy.
fn inlined(config: Schema, generator: &SchemaGenerator) -> serde_json::Value {
    let name = config
        .get("$ref")
        .and_then(|target| target.as_str())
        .and_then(|target| target.strip_prefix("#/$defs/"));
    match name.and_then(|name| generator.definitions().get(name)) {
        Some(definition) => definition.clone(),
        None => config.into(),
    }
}

impl<F: FaultList> JsonSchema for Step<F> {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shared = generator.root_schema_for::<StepKeys>();
        generator.subschema_for::<Selector>();
        generator.subschema_for::<crate::timing::Moment>();
        generator.subschema_for::<crate::timing::Every>();
        generator.subschema_for::<crate::timing::After>();
        generator.subschema_for::<Percent>();
        let shared = shared
            .get("properties")
            .and_then(|properties| properties.as_object().cloned())
            .unwrap_or_default();
        let span = generator.subschema_for::<Span>();
        let steps =
            serde_json::json!({"type": "array", "items": generator.subschema_for::<Step<F>>()});
        let single = |key: &str, description: &str, value: serde_json::Value| {
            serde_json::json!({"type": "object", "description": description, "properties": {key: value},
                "required": [key], "additionalProperties": false})
        };
        let mut choices = vec![
            single("wait", "Nothing happens for this long.", span.into()),
            single("sequence", "Steps one after the other.", steps.clone()),
            single(
                "parallel",
                "Steps side by side; ends when all have ended.",
                steps,
            ),
        ];
        debug_assert_eq!(choices.len(), GROUPS.len());
        for info in F::kinds() {
            let Some(config) = F::config_schema(info.kind, generator) else {
                continue;
            };
            let mut body = inlined(config, generator);
            if let Some(body) = body.as_object_mut() {
                body.insert("additionalProperties".into(), false.into());
                let properties = body
                    .entry("properties")
                    .or_insert_with(|| serde_json::json!({}));
                if let Some(properties) = properties.as_object_mut() {
                    properties.extend(shared.clone());
                }
            }
            choices.push(single(info.kind, info.summary, body));
        }
        json_schema!({"description": "One step of the method: a fault, a wait, or a group.", "oneOf": choices})
    }
}
