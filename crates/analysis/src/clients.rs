//! What clients of a service did when it misbehaved, from what the wire showed alone: calls and their attempts, and a verdict on each rule of
//! good conduct.
//!
//! Pure. Three values: held, broken, inconclusive; a rule whose fault never fired is inconclusive, and so is one without a baseline that was
//! well. Nobody is blamed for what was injected: only for what was done about it.

mod calls;
mod rules;
#[cfg(test)]
mod tests;
mod users;

pub use calls::{Call, calls};
pub use users::{Experience, Share, Users, users};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::exchange::Exchange;

/// How a rule of good conduct was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Conduct {
    /// It was put to the test, and kept each time.
    Held,
    /// It was broken; the evidence shows where.
    Broken,
    /// It was not put to the test, or what happened does not tell.
    Inconclusive,
}

/// One rule of good conduct, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Its name, e.g. `retry-after`.
    pub rule: String,
    /// What a good client does.
    pub expects: String,
    /// How it was kept.
    pub conduct: Conduct,
    /// Why, in one sentence.
    pub because: String,
    /// Times it was put to the test, and times it was broken.
    pub tested: u64,
    /// See `tested`.
    pub broken: u64,
    /// The first of those, each request with its time: at most five lines.
    pub evidence: Vec<String>,
}

/// What users saw and what their clients did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Clients {
    /// What users saw.
    pub users: Users,
    /// What clients did, rule by rule.
    pub findings: Vec<Finding>,
}

/// What is known beside the exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// Exchanges of which nothing is known, because their records were lost.
    pub lost: u64,
    /// Where times are counted from, in nanoseconds since 1970.
    pub from_ns: u64,
}

/// Judges the clients behind these exchanges.
pub fn judge(exchanges: &[Exchange], known: Known) -> Vec<Finding> {
    rules::all(&calls(exchanges), known)
}
