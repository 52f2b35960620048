//! What a run says to a proxy of its own, over a Unix socket: one JSON object a line, one answer each. `follow` is answered by lines without end.

use crate::exchange::Exchange;
use serde::{Deserialize, Serialize};

/// The longest line of either side, in bytes.
pub const LINE_MAX: usize = 256 * 1024;
/// The kind under which a proxy is served.
pub const SERVED: &str = "proxy";

/// How a proxy is started for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Start {
    /// `http://host:port` or `mock`.
    pub upstream: String,
    /// Where it hears of rules: a path of at most 100 bytes.
    pub socket: String,
    /// What draws start from.
    pub seed: u64,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToProxy {
    /// Sets a rule, as it stands in a proxy file, with a name of its own.
    Set { rule: serde_json::Value },
    /// Removes the rule of this name. One that is not set is no problem.
    Remove { rule: String },
    /// What is known of the rule of this name.
    Tell { rule: String },
    /// From here on every exchange that is over, a line each.
    Follow,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FromProxy {
    /// Why it was not done; nothing else counts then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// Whether the rule is set.
    pub is_set: bool,
    /// How often it has acted.
    pub fired: u64,
    /// Where it acted first, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Requests that came while it was set.
    pub asked: u64,
}

/// A line for whoever follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Followed {
    /// An exchange is over.
    Exchange(Box<Exchange>),
    /// So many records were lost since the last line of this kind.
    Lost(u64),
}
