//! Policy files: what may be done on a host, whatever an experiment says.
//!
//! Invariant: every file applies. A further file can only refuse more, in whatever order they are read.

mod judge;
mod pattern;

pub use judge::{Act, Decision, Eligible, Refusal, at_injection, judge, judge_now};
pub use pattern::matches;

use crate::diagnostic::Diagnostic;
use crate::load::{self, Node};
use crate::syntax::FaultList;
use crate::units::{Percent, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of the policy file's schema.
pub const POLICY_ID: &str = "squall.policy/1";

/// One policy file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Version of this file format: 1.
    pub version: u32,
    /// What may be touched: each target must fit one of these. Absent: everything; empty: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_targets: Option<Vec<AllowedTarget>>,
    /// Faults that are refused, by name or by a pattern such as `network-*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden_faults: Vec<String>,
    /// The longest that one injection may stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_duration: Option<Span>,
    /// The largest share of the eligible targets that one injection may touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_share: Option<Percent>,
}

/// Something that may be touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedTarget {
    /// The workload that Squall itself started: its ranks and processes.
    Workload,
    /// This machine as a whole.
    Host,
    /// Any process that already runs.
    Processes,
    /// Processes that already run, by a pattern on their whole command line; `*` stands for any text.
    Command(String),
    /// Files, by a pattern on their path: `*` stays within a folder, `**` does not; `{out}` is the workload's own folder.
    File(String),
    /// Network namespaces, by a pattern on their name.
    Namespace(String),
    /// Containers, by a pattern on their name.
    Container(String),
}

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The file.
    pub file: String,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
}

/// All policies that apply.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Policies {
    /// Each file with what it says, ordered by file name.
    pub files: Vec<PolicyFile>,
}

/// One policy file that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyFile {
    /// Where it came from.
    pub source: Source,
    /// What it says.
    pub policy: Policy,
}

/// Reads a policy file.
///
/// # Errors
/// All problems of the file. A policy that cannot be read in full must not be ignored: the run is refused.
pub fn read<F: FaultList>(text: &str, file: &str) -> Result<PolicyFile, Vec<Diagnostic>> {
    let policy: Policy = load::read_other(text, POLICY_ID, |policy, tree, report| {
        check::<F>(policy, tree, report)
    })?;
    Ok(PolicyFile {
        source: Source {
            file: file.to_owned(),
            sha256: load::sha256(text),
        },
        policy,
    })
}

/// A forbidden fault that does not exist forbids nothing, which its author surely did not mean.
fn check<F: FaultList>(policy: &Policy, tree: &Node, report: &mut load::Reporter<'_>) {
    let known = || F::kinds().iter().map(|info| info.kind);
    let places = tree
        .get("forbidden-faults")
        .map(Node::items)
        .unwrap_or_default();
    for (index, pattern) in policy.forbidden_faults.iter().enumerate() {
        if known().any(|kind| matches(pattern, kind, None)) {
            continue;
        }
        let Some(place) = places.get(index).map(|node| node.span) else {
            continue;
        };
        report.unknown_fault(place, pattern, known());
    }
}

/// The schema of the policy file: JSON Schema, draft 2020-12.
pub fn schema() -> serde_json::Value {
    load::schema_of::<Policy>(POLICY_ID)
}

/// All policies together, in an order that does not depend on the order of reading.
pub fn merge(files: Vec<PolicyFile>) -> Policies {
    let mut files = files;
    files.sort_by(|left, right| left.source.cmp(&right.source));
    files.dedup();
    Policies { files }
}

impl Policies {
    /// The longest that one injection may stay, by the strictest file.
    pub fn maximum_duration(&self) -> Option<Span> {
        self.files
            .iter()
            .filter_map(|file| file.policy.maximum_duration)
            .min()
    }

    /// The largest share that one injection may touch, by the strictest file.
    pub fn maximum_share(&self) -> Option<Percent> {
        let shares = self
            .files
            .iter()
            .filter_map(|file| file.policy.maximum_share);
        shares.min_by(|left, right| left.0.total_cmp(&right.0))
    }
}
