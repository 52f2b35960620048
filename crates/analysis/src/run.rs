//! A run as analysis sees it: what the file asked, what the log says, what was sampled. Nothing else enters a verdict.

use serde::{Deserialize, Serialize};
use squall_model::event::Event;
use squall_model::experiment::{Expect, Requirement};
use squall_model::id::RunId;
use std::collections::BTreeMap;

/// A stored run. Borrowed by every analyser; changed by none.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    /// What the experiment file said, as far as conclusions need it.
    pub ask: Ask,
    /// The event log, in order.
    pub events: Vec<Event>,
    /// Sampled series.
    pub series: Vec<Series>,
    /// What checkpoints on disk said after the run, by path: read by the controller, never by analysis.
    pub checkpoints: Vec<Checkpoint>,
    /// Name and SHA-256 of each policy file that applied.
    pub policies: BTreeMap<String, String>,
}

/// The question. Also kept in the run's store, so that the run can be concluded again without its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub title: String,
    /// The experiment file's own name, for "again: squall run …".
    pub file: String,
    pub requirement: Option<Requirement>,
    pub expect: Vec<Expect>,
    pub seed: u64,
    /// Whether a reference run was asked for.
    pub reference: bool,
    /// Steps between two checkpoints when the file gives it.
    pub checkpoint_interval: Option<u64>,
    /// Number of targets the plan found eligible and the most it allows at once, for the blast radius.
    pub eligible: u64,
    pub at_most: u64,
}

/// One sampled signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// e.g. `process.cpu`, `process.rss`, `cgroup.cpu`, `host.memory_available`.
    pub name: String,
    /// Labels, e.g. pid and rank.
    pub labels: BTreeMap<String, String>,
    /// e.g. `%`, `bytes`, `1/s`.
    pub unit: String,
    /// Nanoseconds since the run started. Strictly increasing.
    pub t_ns: Vec<u64>,
    /// As many values. A gap in time is a gap in data, never a value.
    pub values: Vec<f64>,
}

/// A checkpoint or final parameter file found after the run. Kept in the run's store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub path: String,
    /// Of the reference run.
    pub reference: bool,
    pub step: Option<u64>,
    /// Digest of the parameters (hook protocol's rule), when the format is understood.
    pub parameters: Option<String>,
    /// SHA-256 of the file.
    pub file_sha256: String,
}
