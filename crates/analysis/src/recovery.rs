//! How training came back after each injection that landed.
//!
//! All times start when the injection began to act (the record written just before it). *Back to work* is the first
//! step of any number that a new attempt completes; *caught up* is the first step beyond the last one completed before
//! the job stopped. Lost steps = last completed − resumed. What no event tells is `None`, never 0.

use crate::hang::Hang;
use crate::lives::Unit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::id::InjectionId;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The job restarted and passed the step it had reached.
    CaughtUp,
    /// The job went on without a restart.
    WentOn,
    /// It had not caught up when the observation ended.
    NotCaughtUp,
    /// Nothing can be said; `because` says why.
    NotMeasured,
}

/// A moment of a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// What happened: `detected`, `torn-down`, `rescheduled`, `started`, `loaded`, `back-to-work`, `caught-up`.
    pub what: String,
    /// Nanoseconds since the run started.
    pub t_ns: u64,
    /// Nanoseconds after the injection began to act.
    pub after_ns: u64,
    /// Who told it.
    pub source: String,
}

/// A stretch of a recovery between two moments. Where a moment in between is not known, its name lists all it covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// e.g. `detect`, `tear down + start`.
    pub name: String,
    /// Its length in nanoseconds. The segments of a recovery add up to its whole.
    pub duration_ns: u64,
}

/// One recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recovery {
    /// After which injection.
    pub injection: InjectionId,
    /// How it went.
    pub outcome: Outcome,
    /// Why it is not measured or did not end, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// When the injection began to act: nanoseconds since the run started. All durations start here.
    pub start_ns: u64,
    /// The moments that are known, in order.
    pub marks: Vec<Mark>,
    /// The stretches between them; they add up to `total_ns`.
    pub segments: Vec<Segment>,
    /// From the start to the last known moment, in nanoseconds.
    pub total_ns: u64,
    /// From the start to the first new step, in nanoseconds.
    pub back_to_work_ns: Option<u64>,
    /// From the start to the first step beyond the last completed one, in nanoseconds.
    pub caught_up_ns: Option<u64>,
    /// The longest time without a completed step around the injection, in nanoseconds, when the job went on.
    pub stall_ns: Option<u64>,
    /// What steps are counted in.
    pub unit: Unit,
    /// Last step completed before the job stopped.
    pub last_completed: Option<u64>,
    /// Steps completed in the state it resumed from.
    pub resumed: Option<u64>,
    /// Last completed − resumed.
    pub lost: Option<u64>,
    /// Steps made again because of this injection, restarts during its recovery included.
    pub repeated: Option<u64>,
    /// Restarts until it had caught up.
    pub restarts: u32,
    /// Injections that began before it had caught up: its times contain theirs.
    pub overlapped_by: Vec<InjectionId>,
    /// Where the ranks stood while nothing happened; absent when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hang: Option<Hang>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
}

/// The stretches of a restart, in order: the moment that ends each, its name, and what lies in it.
pub(crate) const STRETCHES: [(&str, &str, &str); 7] = [
    ("detected", "detect", "until somebody noticed"),
    (
        "torn-down",
        "tear down",
        "until the rest of the job was stopped",
    ),
    (
        "rescheduled",
        RESCHEDULE,
        "until the job had its machines again",
    ),
    (
        "started",
        "start",
        "until the new processes ran, on machines that the job kept or was given again",
    ),
    ("loaded", "load", "until they had read the checkpoint"),
    ("back-to-work", "first step", "until they had made a step"),
    (
        "caught-up",
        "replay",
        "until they had made again what was lost",
    ),
];
/// Most jobs keep their machines, and nobody tells of it.
const RESCHEDULE: &str = "reschedule";

/// Fills in the stretches from the moments.
pub(crate) fn finish(mut recovery: Recovery, t0: u64) -> Recovery {
    let went_on = recovery.outcome == Outcome::WentOn;
    let (mut from, mut next) = (t0, 0);
    for mark in &recovery.marks {
        let at = STRETCHES
            .iter()
            .position(|(what, ..)| *what == mark.what)
            .unwrap_or(next);
        let names: Vec<&str> = STRETCHES[next.min(at)..=at]
            .iter()
            .map(|(_, name, _)| *name)
            .filter(|name| *name != RESCHEDULE || mark.what == "rescheduled")
            .collect();
        recovery.segments.push(Segment {
            name: if went_on {
                "stall".into()
            } else {
                names.join(" + ")
            },
            duration_ns: mark.t_ns - from,
        });
        (from, next) = (mark.t_ns, at + 1);
    }
    recovery.total_ns = from - t0;
    recovery
}
