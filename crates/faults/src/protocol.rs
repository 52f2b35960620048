//! Controller ↔ agent: length-prefixed JSON (u32 little-endian, then the bytes), version in the first message.
//!
//! The same words travel over a socket pair, ssh or a container's exec. Triggers are armed in the agent; losing the controller disarms them and starts the undo.

use serde::{Deserialize, Serialize};
use squall_model::event::Body;
use squall_model::experiment::LogPattern;
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::policy::PolicyFile;
use squall_model::process::ProcessIdentity;
use squall_model::timing::{Selector, StepKeys};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The protocol version this build speaks.
pub const VERSION: u32 = 1;
/// The longest message either side accepts, in bytes.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// What the owned workload is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// Program and arguments, `{out}` already replaced.
    pub argv: Vec<String>,
    /// Variables beside the inherited ones.
    pub env: BTreeMap<String, String>,
    pub directory: PathBuf,
    /// The fresh folder of this workload.
    pub out: PathBuf,
    /// The reference run of the same workload.
    pub reference: bool,
    /// Where its time-stamped output goes.
    pub log: PathBuf,
    pub patterns: Vec<LogPattern>,
    /// Whether the hook is offered to it (environment and files).
    pub hook: bool,
    /// The proxy that stands between it and a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// It starts in network and mount namespaces of its own.
    #[serde(default)]
    pub private: bool,
    /// Rules with which the method begins and whose aim may come before it: whoever reaches it is held until they are armed.
    #[serde(default)]
    pub first: Vec<Rule>,
}

/// The workload's own proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySpec {
    /// `http://host:port` or `mock`.
    pub upstream: String,
    /// Variables that get its address, and what follows that there.
    pub env: BTreeMap<String, String>,
}

/// One fault step, armed in the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    /// The fault's key and config.
    pub kind: String,
    pub config: serde_json::Value,
    /// The selector after names were resolved, `{out}` replaced.
    pub target: Selector,
    pub keys: StepKeys,
    /// Epochs of the whole job, when known: `every: {epochs}` does not fire at the last.
    pub last_epoch: Option<u64>,
    /// Who had the pid of a `pid` target when the run was planned: whoever has it later is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
    /// Policies that what the selector matches must satisfy at each injection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyFile>,
}

/// From the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "a message of a few a second")]
pub enum ToAgent {
    Hello {
        v: u32,
        run: RunId,
        seed: u64,
        lease_ms: u64,
        patterns_rate_max: u32,
    },
    /// Prolongs the lease. Sent every second, to the guard too.
    Renew,
    StartWorkload(WorkloadSpec),
    /// TERM, grace, KILL of the whole tree.
    EndWorkload,
    Arm(Rule),
    Disarm {
        rule: RuleId,
    },
    /// Another rule's injection ended: rules with `after:` may wait for it. Sent for rules on other agents too.
    Undo {
        injection: InjectionId,
    },
    /// Disarm everything, undo everything, end the workload, report, exit.
    Finish {
        because: String,
    },
}

/// From the agent. Everything that happened is an event of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromAgent {
    Hello {
        v: u32,
        pid: u32,
        facts: crate::kind::HostFacts,
    },
    /// `boot_ns`: the agent's boot-time clock when it happened.
    Event { boot_ns: u64, body: Box<Body> },
    /// The request could not be served.
    Refused {
        request: String,
        because: String,
        remedy: String,
    },
    /// Everything is undone (or stuck) and reported; the agent exits.
    Finished { outstanding: Vec<InjectionId> },
}
