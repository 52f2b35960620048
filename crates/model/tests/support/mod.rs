//! A small catalogue of faults, close to the real ones, so that reading can be tested without them.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use squall_model::syntax::{Class, ConfigProblem, FaultList, KindInfo};
use squall_model::units::{Bytes, Percent, Span};

/// Kills processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ProcessKill {
    /// The signal.
    #[serde(default)]
    pub(crate) signal: Signal,
}

/// A signal that ends a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Signal {
    /// Cannot be caught.
    #[default]
    Kill,
    /// Asks it to end.
    Term,
}

/// Stops processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ProcessPause {}

/// Burns processor time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CpuPressure {
    /// Share of each core.
    pub(crate) load: Percent,
    /// Number of workers.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) workers: Option<u32>,
}

/// Damages files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct FileDamage {
    /// What is done to the file.
    pub(crate) how: Damage,
}

/// Kinds of damage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Damage {
    /// Flips this many bits.
    FlipBits(u32),
    /// Cuts it to this size.
    TruncateTo(Bytes),
    /// Removes it.
    Delete,
}

/// Drops packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct NetworkPartition {
    /// Peers, by address.
    pub(crate) peers: Vec<String>,
    /// Let every packet through for this long first.
    #[serde(default)]
    pub(crate) grace: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TestFaults {
    ProcessKill(ProcessKill),
    ProcessPause(ProcessPause),
    CpuPressure(CpuPressure),
    FileDamage(FileDamage),
    NetworkPartition(NetworkPartition),
}

const PROCESSES: &[&str] = &["rank", "workload", "pid", "pid-file", "command"];

macro_rules! info {
    ($kind:literal, $summary:literal, $class:ident, $targets:expr) => {
        KindInfo {
            kind: $kind,
            summary: $summary,
            class: Class::$class,
            layer: "the kernel",
            requires: "",
            after_kill: "the kernel, at once",
            targets: $targets,
            example: "",
        }
    };
}

const KINDS: &[KindInfo] = &[
    info!("process-kill", "Kills processes.", OneShot, PROCESSES),
    info!("process-pause", "Stops processes.", Lasting, PROCESSES),
    info!("cpu-pressure", "Burns processor time.", Served, &["host"]),
    info!("file-damage", "Damages files.", Lasting, &["file"]),
    info!(
        "network-partition",
        "Drops packets.",
        Lasting,
        &["host", "namespace"]
    ),
];

impl FaultList for TestFaults {
    fn kinds() -> &'static [KindInfo] {
        KINDS
    }

    fn config_schema(kind: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(match kind {
            "process-kill" => ProcessKill::json_schema(generator),
            "process-pause" => ProcessPause::json_schema(generator),
            "cpu-pressure" => CpuPressure::json_schema(generator),
            // By reference, as lists may do.
            "file-damage" => generator.subschema_for::<FileDamage>(),
            "network-partition" => NetworkPartition::json_schema(generator),
            _ => return None,
        })
    }

    fn parse(kind: &str, config: Value) -> Result<Self, (String, String)> {
        let fail = |error: serde_json::Error| (String::new(), error.to_string());
        match kind {
            "process-kill" => serde_json::from_value(config)
                .map(Self::ProcessKill)
                .map_err(fail),
            "process-pause" => serde_json::from_value(config)
                .map(Self::ProcessPause)
                .map_err(fail),
            "cpu-pressure" => serde_json::from_value(config)
                .map(Self::CpuPressure)
                .map_err(fail),
            "file-damage" => serde_json::from_value(config)
                .map(Self::FileDamage)
                .map_err(fail),
            "network-partition" => serde_json::from_value(config)
                .map(Self::NetworkPartition)
                .map_err(fail),
            _ => Err((String::new(), format!("`{kind}` is not a fault"))),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::ProcessKill(_) => "process-kill",
            Self::ProcessPause(_) => "process-pause",
            Self::CpuPressure(_) => "cpu-pressure",
            Self::FileDamage(_) => "file-damage",
            Self::NetworkPartition(_) => "network-partition",
        }
    }

    fn config(&self) -> Value {
        let value = serde_json::to_value(self).unwrap_or_default();
        value.get(self.kind()).cloned().unwrap_or_default()
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        match self {
            Self::NetworkPartition(partition) if partition.peers.is_empty() => {
                vec![ConfigProblem {
                    key: "peers",
                    message: "a partition needs someone to be cut off from".into(),
                    help: "name at least one address, e.g. `peers: [10.0.0.7]`".into(),
                }]
            }
            _ => Vec::new(),
        }
    }
}
