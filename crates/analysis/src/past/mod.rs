//! What past jobs lost, from their logs and accounting alone: nothing is run and nothing is broken.
//!
//! A *log* tells of steps and restarts, so it gives what a run gives: attempts, lost steps, productive time and ETTR.
//! *Accounting* tells when a job held its nodes and why it lost them, not whether it trained: its ETTR is a bound from
//! above. Where both tell of one job (the log's name holds the job's number), the wall time is that of the accounting,
//! queueing after an interruption included, and the productive time that of the log.

pub mod log;
pub mod sacct;

use crate::interval::{Interval, bootstrap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name and version of the format.
pub const FORMAT: &str = "squall.ettr/1";
/// Redraws are seeded, so that the same input gives the same interval.
const SEED: u64 = 1;

/// Why a job was interrupted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A node failed or did not boot.
    Node,
    /// Another job or the scheduler took its place.
    Preempted,
    /// It used more memory than it had.
    OutOfMemory,
    /// It ended with an error.
    Failed,
    /// Its time was over.
    TimeLimit,
    /// It started again, and nothing tells why.
    Unknown,
}

impl Cause {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Node => "node failed",
            Cause::Preempted => "preempted",
            Cause::OutOfMemory => "out of memory",
            Cause::Failed => "failed",
            Cause::TimeLimit => "time limit",
            Cause::Unknown => "cause unknown",
        }
    }
}

/// One past job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PastJob {
    /// The log's name, or the job's number.
    pub name: String,
    /// `log`, `sacct`, or both.
    pub sources: Vec<String>,
    /// How it ended, as far as it is told.
    pub ended: String,
    /// Interruptions by their cause.
    pub interruptions: BTreeMap<Cause, u64>,
    /// From the first sign of it to its end, in nanoseconds.
    pub wall_ns: Option<u64>,
    /// Time of steps that its final state grew from, in nanoseconds.
    pub productive_ns: Option<u64>,
    /// Time that is known to be lost, in nanoseconds.
    pub lost_ns: Option<u64>,
    /// Whether more than that may be lost, because nothing tells of steps.
    pub at_least: bool,
    /// Productive ÷ wall time, 0 to 1; with `at_least` the most that it can be.
    pub ettr: Option<f64>,
    /// Where a future job of this kind would lie, given how much its interruptions differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Steps in its final lineage.
    pub kept: Option<u64>,
    /// Steps that were made and rolled back.
    pub lost_steps: Option<u64>,
    /// GPUs it held.
    pub gpus: Option<u64>,
    /// What could not be told, each a sentence.
    pub notes: Vec<String>,
}

impl PastJob {
    fn new(name: &str, source: &str) -> PastJob {
        PastJob {
            name: name.into(),
            sources: vec![source.into()],
            ended: "not told".into(),
            interruptions: BTreeMap::new(),
            wall_ns: None,
            productive_ns: None,
            lost_ns: None,
            at_least: false,
            ettr: None,
            interval: None,
            kept: None,
            lost_steps: None,
            gpus: None,
            notes: Vec::new(),
        }
    }

    /// All interruptions.
    pub fn interrupted(&self) -> u64 {
        self.interruptions.values().sum()
    }

    /// Lost GPU-hours.
    pub fn lost_gpu_hours(&self) -> Option<f64> {
        Some(self.lost_ns? as f64 / 3.6e12 * self.gpus? as f64)
    }
}

/// All jobs together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Total {
    /// Jobs.
    pub jobs: u64,
    /// Jobs whose ETTR is measured, not only bounded.
    pub measured: u64,
    /// Interruptions by their cause.
    pub interruptions: BTreeMap<Cause, u64>,
    /// Wall time of jobs where it is known, in nanoseconds.
    pub wall_ns: u64,
    /// Time known to be lost, in nanoseconds.
    pub lost_ns: u64,
    /// GPU-hours known to be lost, of jobs whose GPUs are known; absent when none are.
    pub lost_gpu_hours: Option<f64>,
    /// Productive ÷ wall time of the jobs where it is measured, 0 to 1.
    pub ettr: Option<f64>,
    /// Where it lies for jobs like these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Wall time ÷ interruptions, in nanoseconds; absent without an interruption.
    pub between_ns: Option<u64>,
    /// Where it lies if interruptions come at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_interval: Option<Interval>,
}

/// What past jobs lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PastJobs {
    /// `squall.ettr/1`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Each job.
    pub jobs: Vec<PastJob>,
    /// All of them together.
    pub total: Total,
}

/// Puts logs and accounting together.
pub fn past_jobs(logs: Vec<PastJob>, accounts: Vec<PastJob>) -> PastJobs {
    let mut jobs = logs;
    for account in accounts {
        match jobs
            .iter_mut()
            .find(|job| holds_number(&job.name, &account.name))
        {
            Some(job) => merge(job, account),
            None => jobs.push(account),
        }
    }
    PastJobs {
        format: FORMAT.into(),
        total: total(&jobs),
        jobs,
    }
}

/// Whether a log's name holds a job's number as a whole word: `slurm-4711.out` and `4711`.
fn holds_number(name: &str, number: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut words = file.split(|c: char| !(c.is_ascii_digit() || c == '_'));
    !number.is_empty() && words.any(|word| word == number)
}

/// Wall time, causes, end and GPUs from the accounting; steps from the log.
fn merge(job: &mut PastJob, account: PastJob) {
    let (in_log, told) = (job.interrupted(), account.interrupted());
    if in_log > told {
        job.interruptions = account.interruptions;
        *job.interruptions.entry(Cause::Unknown).or_default() += in_log - told;
        job.notes.push(
            "The log tells of more restarts than the accounting: the job restarted itself.".into(),
        );
    } else {
        job.interruptions = account.interruptions;
    }
    job.sources.extend(account.sources);
    (job.ended, job.gpus) = (account.ended, account.gpus);
    job.notes.extend(account.notes);
    if let (Some(wall), Some(productive)) = (account.wall_ns, job.productive_ns) {
        let wall = wall.max(productive);
        job.wall_ns = Some(wall);
        job.lost_ns = Some(wall - productive);
        job.ettr = (wall > 0).then(|| productive as f64 / wall as f64);
        // It was drawn over the log's wall time alone.
        job.interval = None;
    } else if job.wall_ns.is_none() {
        (job.wall_ns, job.lost_ns, job.ettr) = (account.wall_ns, account.lost_ns, account.ettr);
        job.at_least = true;
    }
}

fn total(jobs: &[PastJob]) -> Total {
    let mut interruptions: BTreeMap<Cause, u64> = BTreeMap::new();
    for (cause, count) in jobs.iter().flat_map(|job| &job.interruptions) {
        *interruptions.entry(*cause).or_default() += count;
    }
    let measured: Vec<(f64, f64)> = jobs
        .iter()
        .filter(|job| !job.at_least)
        .filter_map(|job| Some((job.productive_ns? as f64, job.wall_ns? as f64)))
        .collect();
    let ratio = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
        let (productive, wall) = pairs.fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        productive / wall
    };
    let numbers: Vec<f64> = (0..measured.len()).map(|index| index as f64).collect();
    let interval = bootstrap(&numbers, SEED, |drawn| {
        ratio(&mut drawn.map(|index| measured[index as usize]))
    });
    let timed = || jobs.iter().filter(|job| job.wall_ns.is_some());
    let wall_ns = timed().filter_map(|job| job.wall_ns).sum();
    let count: u64 = timed().map(PastJob::interrupted).sum();
    let hours: Vec<f64> = jobs.iter().filter_map(PastJob::lost_gpu_hours).collect();
    Total {
        jobs: jobs.len() as u64,
        measured: measured.len() as u64,
        interruptions,
        wall_ns,
        lost_ns: jobs.iter().filter_map(|job| job.lost_ns).sum(),
        lost_gpu_hours: (!hours.is_empty()).then(|| hours.iter().sum()),
        ettr: (!measured.is_empty()).then(|| ratio(&mut measured.iter().copied())),
        interval,
        between_ns: wall_ns.checked_div(count),
        between_interval: (count > 0).then(|| between(wall_ns as f64, count)),
    }
}

/// Byar's approximation of the exact Poisson interval at 95 % (Breslow and Day, 1987), as a time between events.
fn between(wall: f64, count: u64) -> Interval {
    let (z, n) = (1.959_964_f64, count as f64);
    let fewest = n * (1.0 - 1.0 / (9.0 * n) - z / (3.0 * n.sqrt())).powi(3);
    let more = n + 1.0;
    let most = more * (1.0 - 1.0 / (9.0 * more) + z / (3.0 * more.sqrt())).powi(3);
    Interval {
        low: wall / most,
        high: wall / fewest,
        level: 0.95,
        method: format!("Poisson, n = {count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_belongs_to_the_job_whose_number_it_holds() {
        assert!(holds_number("logs/slurm-4711.out", "4711"));
        assert!(holds_number("4711_3.log", "4711_3"));
        assert!(!holds_number("slurm-47110.out", "4711"));
        assert!(!holds_number("4711/slurm.out", "4711"));
    }

    /// Exact limits of Poisson counts at 95 %: 10 → 4.80 to 18.39.
    #[test]
    fn the_time_between_ten_interruptions_has_the_textbook_interval() {
        let it = between(1.0, 10);
        assert!((1.0 / it.high - 4.80).abs() < 0.02 && (1.0 / it.low - 18.39).abs() < 0.02);
    }
}
