//! Measurements with their conditions.

use crate::timing::Selector;
use crate::units::{Bytes, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
