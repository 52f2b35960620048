//! A trainer that keeps its promise is never called 'different', wherever it is killed.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::json;

use super::places::{Place, STEPS_PER_EPOCH};
use super::{Proof, each};
use crate::product::Desk;

/// The epoch of the earliest kill, and how many epochs they are spread over.
const FIRST_EPOCH: usize = 25;
const SPREAD: usize = 5;

/// Kills a correct trainer `count` times, one kill a run, spread over ranks, phases, epochs and seeds.
pub fn prove(count: usize, jobs: usize) -> Proof {
    let numbers: Vec<usize> = (0..count).collect();
    let outcomes = each(jobs, &numbers, |number| same(*number));
    let mut missed = Vec::new();
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let place = place(number);
        let (same, of) = table.entry(place.name()).or_default();
        *same += usize::from(outcome.is_ok());
        *of += 1;
        if let Err(error) = outcome {
            missed.push(format!(
                "{} in epoch {}: {error:#}",
                place.name(),
                place.epoch
            ));
        }
    }
    let row =
        |(place, (same, of)): (&String, &(usize, usize))| format!("{place:27} {same} of {of}");
    Proof {
        promise: "clean kills gave the verdict 'same'".into(),
        tried: count,
        missed,
        table: table.iter().map(row).collect(),
        detail: json!(table),
    }
}

fn place(number: usize) -> Place {
    Place::nth(number, (FIRST_EPOCH + number % SPREAD) as u64)
}

fn same(number: usize) -> anyhow::Result<()> {
    let text = format!(
        "version: 1\ntitle: a clean kill changes nothing\nseed: {number}\nbaseline: 50ms\nworkload:\n  training:\n    \
         run: toy-trainer --out {{out}} --epochs 31 --steps-per-epoch {STEPS_PER_EPOCH} --step-sleep-ms 4 --seed {number}\n    \
         reference: true\nmethod:\n  - {}\nexpect:\n  - completes: {{exit: 0}}\n  \
         - same-result: {{as: reference, by: final-parameters}}\n",
        place(number).kill()
    );
    let (ended, report) = Desk::new()?.report_of(&text)?;
    ensure!(report.sameness() == "same", "{}", report.told());
    ensure!(
        report.injections().len() == 1 && report.all_held(),
        "{}",
        report.told()
    );
    ended.expect(0)
}
