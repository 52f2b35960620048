//! The report's model, `squall.report/1`: everything that text, JUnit, HTML and JSON show, and nothing they must compute.
//!
//! Times are nanoseconds since the run started unless a name says otherwise; `started_utc` places them.

use crate::chart::SeriesReport;
use crate::clients::Clients;
use crate::diagnosis::Diagnosis;
use crate::ettr::Effectiveness;
use crate::expect::Judged;
use crate::landing::InjectionReport;
use crate::lives::Unit;
use crate::models::Models;
use crate::projection::{Advice, Projection};
use crate::recovery::Recovery;
use crate::same_result::SameResult;
use crate::verdict::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::experiment::Requirement;
use squall_model::id::{InjectionId, RunId};
use std::collections::BTreeMap;

/// Name and version of the format.
pub const FORMAT: &str = "squall.report/1";

/// What a run means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// `squall.report/1`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// The run.
    pub run: RunId,
    /// Title of the experiment.
    pub title: String,
    /// When the run started: UTC, RFC 3339.
    pub started_utc: String,
    /// When its record ends: UTC, RFC 3339.
    pub ended_utc: String,
    /// Length of the record in nanoseconds.
    pub length_ns: u64,
    /// The answer.
    pub verdict: Verdict,
    /// The question, with what was found about it.
    pub requirement: Option<Answered>,
    /// The figures that matter for this kind of run.
    pub figures: Vec<Figure>,
    /// Targets at risk: eligible, and the most at once.
    pub blast_radius: BlastRadius,
    /// Every injection.
    pub injections: Vec<InjectionReport>,
    /// Every recovery.
    pub recoveries: Vec<Recovery>,
    /// Every expectation.
    pub expectations: Vec<Judged>,
    /// Whether the disturbed run ended where the undisturbed one did.
    pub same_result: SameResult,
    /// Which mistake of the trainer explains a different result; absent when the result is not proved different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What training did; absent when no event tells of it.
    pub training: Option<Training>,
    /// The four basic models and the field's measures beside them; absent when there is no training to speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Models>,
    /// What users of a service saw and what their clients did; absent when nothing went through a proxy of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
    /// What the measured recovery would cost at other sizes; absent when too little was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// What to change, each with its evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
    /// Signals: summaries and points for charts.
    pub series: Vec<SeriesReport>,
    /// Bands and marks over the charts.
    pub timeline: Timeline,
    /// What the data could not tell.
    pub data_quality: DataQuality,
    /// Policy files that applied.
    pub policies: Vec<Policy>,
    /// How to do it again.
    pub reproduce: Reproduce,
}

/// The question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// As the file puts it.
    pub asked: Requirement,
    /// Kind of property, in words.
    pub goal: String,
    /// What was found, in one sentence.
    pub answer: String,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// What it is, in a few words.
    pub label: String,
    /// Its value; absent when it is not measured.
    pub value: Option<f64>,
    /// Unit of the value.
    pub unit: String,
    /// As people read it: three significant digits with the unit, or `not measured`.
    pub text: String,
    /// What exactly is counted from where to where, or why it is not measured.
    pub definition: String,
}

/// Targets touched at most, of those eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlastRadius {
    /// Targets that the plan found eligible.
    pub eligible: u64,
    /// The most that it allows at once.
    pub at_most: u64,
}

impl BlastRadius {
    /// `at most 1 of 2 targets at once`. Ranks and files that only come with the workload are not counted beforehand.
    pub fn words(self) -> String {
        match self.eligible {
            0 => format!(
                "at most {} at once, of targets not counted beforehand",
                crate::num::plural(self.at_most as usize, "target", "targets")
            ),
            all => format!("at most {} of {all} targets at once", self.at_most),
        }
    }
}

/// What training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Training {
    /// What progress is counted in.
    pub unit: Unit,
    /// Highest completed step.
    pub high_water: Option<u64>,
    /// Attempts of the job: one more than its restarts.
    pub attempts: u64,
    /// Steps in the final lineage.
    pub kept: u64,
    /// Steps that were made and rolled back.
    pub wasted: u64,
    /// Middle time of a step in nanoseconds.
    pub step_time_ns: Option<u64>,
    /// Steps between checkpoints.
    pub checkpoint_interval: Option<u64>,
    /// Where that number is from.
    pub checkpoint_interval_source: Option<String>,
    /// Restarts that no injection explains.
    pub unexplained_restarts: u64,
    /// Where the wall time went.
    pub effectiveness: Option<Effectiveness>,
}

/// What is drawn over the charts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// From here …
    pub from_ns: u64,
    /// … to here.
    pub to_ns: u64,
    /// Stretches of time in which an injection acted.
    pub bands: Vec<Band>,
    /// Moments, in order.
    pub marks: Vec<TimelineMark>,
}

/// A stretch of time in which an injection acted; both ends are equal for a one-shot fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Band {
    /// Which injection.
    pub injection: InjectionId,
    /// What to write on it.
    pub label: String,
    /// From here …
    pub from_ns: u64,
    /// … to here.
    pub to_ns: u64,
}

/// Kinds of moments; each has a shape of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// ▼ An injection landed.
    Landed,
    /// ◆ Somebody noticed.
    Detected,
    /// ▲ Training had caught up.
    Recovered,
    /// ○ A checkpoint was put in place.
    Checkpoint,
    /// ‖ A process was held for an injection.
    Held,
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineMark {
    /// Which kind.
    pub kind: MarkKind,
    /// When.
    pub t_ns: u64,
    /// The same as UTC, RFC 3339.
    pub utc: String,
    /// Which injection it belongs to, if any.
    pub injection: Option<InjectionId>,
    /// What happened, in words.
    pub words: String,
}

/// What the data could not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataQuality {
    /// Where training events came from: `hook`, `log`, both or none.
    pub sources: Vec<String>,
    /// Records that could not be kept, by what they were.
    pub dropped: BTreeMap<String, u64>,
    /// Gaps in sampled series, in all.
    pub gaps: u64,
    /// What could not be concluded and why, each a sentence.
    pub not_concluded: Vec<String>,
    /// Further remarks, each a sentence.
    pub notes: Vec<String>,
}

/// A policy file that applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// Its path.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// How to do it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reproduce {
    /// What to type.
    pub command: String,
    /// Seed of every random choice of Squall's own.
    pub seed: u64,
    /// SHA-256 of the experiment file.
    pub experiment_sha256: String,
    /// Version of Squall.
    pub squall: String,
    /// Kernel, cores, memory, …
    pub host: BTreeMap<String, String>,
}

/// The JSON schema of reports, draft 2020-12.
pub fn report_schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}
