//! Without hold points a kill lands some steps after its aim; how many is shown, judged by the trainer's own log.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::json;

use super::places::STEPS_PER_EPOCH;
use super::{Proof, each};
use crate::product::{Desk, PhaseLog};

/// Kills in one run.
const IN_ONE_RUN: u64 = 5;
/// The step of the first kill, and steps between two.
const FIRST: u64 = 200;
const APART: u64 = 24;

/// Kills about `count` times by log lines alone. Kept is the promise that each kill happened and its distance is known.
pub fn prove(count: usize, jobs: usize) -> Proof {
    let runs: Vec<u64> = (0..count.div_ceil(IN_ONE_RUN as usize) as u64).collect();
    let mut off = Vec::new();
    let mut missed = Vec::new();
    for outcome in each(jobs, &runs, |seed| one_run(*seed)) {
        match outcome {
            Ok(steps) => off.extend(steps),
            Err(error) => missed.push(format!("{error:#}")),
        }
    }
    off.sort_unstable();
    let at = |share: f64| {
        off.get(((off.len() as f64 - 1.0) * share).round() as usize)
            .copied()
    };
    let mut histogram: BTreeMap<i64, usize> = BTreeMap::new();
    for steps in &off {
        *histogram.entry(*steps).or_default() += 1;
    }
    let bar = |(steps, count): (&i64, &usize)| {
        format!("{steps:+4} steps  {count:3} {}", "▇".repeat(*count))
    };
    let mut table = vec![format!(
        "steps begun after the aimed one had ended: median {:?}, 90 % ≤ {:?}, worst {:?}",
        at(0.5).unwrap_or(0),
        at(0.9).unwrap_or(0),
        at(1.0).unwrap_or(0)
    )];
    table.extend(histogram.iter().map(bar));
    Proof {
        promise: "kills by log lines alone happened, and how far from their aim is known".into(),
        tried: off.len() + missed.len(),
        missed,
        table,
        detail: json!({"median": at(0.5), "p90": at(0.9), "worst": at(1.0), "histogram": histogram}),
    }
}

/// How many steps after the aimed one the killed rank had begun, for each kill.
fn one_run(seed: u64) -> anyhow::Result<Vec<i64>> {
    let desk = Desk::new()?;
    let truth = desk.path().join("phases.log");
    let aims: Vec<u64> = (0..IN_ONE_RUN)
        .map(|kill| FIRST + kill * APART + seed % 7)
        .collect();
    let kills: Vec<String> = aims
        .iter()
        .map(|step| {
            format!("      - process-kill: {{target: {{rank: 1}}, at: {{step: {step}}}}}\n")
        })
        .collect();
    let text = format!(
        "version: 1\ntitle: kills by log lines\nseed: {seed}\nbaseline: 50ms\nworkload:\n  training:\n    \
         run: env -u SQUALL_HOOK_SOCKET toy-trainer --out {{out}} --epochs 42 --steps-per-epoch {STEPS_PER_EPOCH} \
         --step-sleep-ms 4 --max-restarts 99 --phase-log {}\n    events:\n      \
         - {{event: step-end, pattern: '^epoch (?P<epoch>\\d+) step (?P<step>\\d+) loss (?P<loss>\\S+)'}}\n      \
         - {{event: checkpoint-loaded, pattern: '^resumed from step (?P<step>\\d+)'}}\n\
         method:\n  - parallel:\n{}expect:\n  - completes: {{exit: 0}}\n",
        truth.display(),
        kills.concat()
    );
    let (ended, report) = desk.report_of(&text)?;
    let log = PhaseLog::read(&truth)?;
    ensure!(
        log.restarts() as usize == aims.len(),
        "{} kills, but {} restarts: {}\n{}",
        aims.len(),
        log.restarts(),
        ended.told(),
        report.told()
    );
    let off = aims.iter().enumerate().filter_map(|(kill, aim)| {
        let edge = log.last(1, kill as u32)?;
        Some(edge.step as i64 - *aim as i64)
    });
    Ok(off.collect())
}
