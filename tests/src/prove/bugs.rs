//! Every seeded bug makes the verdict say 'different' under the shipped experiment that provokes it.

use anyhow::ensure;
use serde_json::json;

use super::{Proof, each};
use crate::product::{Desk, shipped};

/// Runs every bug's experiment with `seeds` seeds of the trainer and of Squall.
pub fn prove(seeds: usize, jobs: usize) -> Proof {
    let trials: Vec<(&str, usize)> = shipped::BUGS
        .iter()
        .flat_map(|bug| (1..=seeds).map(|seed| (*bug, seed)))
        .collect();
    let outcomes = each(jobs, &trials, |(bug, seed)| different(bug, *seed));
    let mut missed = Vec::new();
    for ((bug, seed), outcome) in trials.iter().zip(&outcomes) {
        if let Err(error) = outcome {
            missed.push(format!("{bug}, seed {seed}: {error:#}"));
        }
    }
    let found = |bug: &str| {
        let of_it = trials
            .iter()
            .zip(&outcomes)
            .filter(|((it, _), _)| *it == bug);
        of_it.filter(|(_, outcome)| outcome.is_ok()).count()
    };
    let counts: Vec<(&str, usize)> = shipped::BUGS.iter().map(|bug| (*bug, found(bug))).collect();
    let rows = counts.iter();
    Proof {
        promise: "seeded bugs gave the verdict 'different' under their shipped experiment".into(),
        tried: trials.len(),
        missed,
        table: rows
            .map(|(bug, n)| format!("{bug:16} {n} of {seeds}"))
            .collect(),
        detail: json!({"seeds": seeds, "different": counts.iter().copied().collect::<std::collections::BTreeMap<_, _>>()}),
    }
}

fn different(bug: &str, seed: usize) -> anyhow::Result<()> {
    let text = shipped::text(&format!("bug-{bug}"))?;
    let text = shipped::changed(
        &text,
        &[
            ("--seed 1 ", &format!("--seed {seed} ")),
            ("\nseed: 7\n", &format!("\nseed: {seed}\n")),
        ],
    )?;
    let (ended, report) = Desk::new()?.report_of(&text)?;
    ensure!(report.sameness() == "different", "{}", report.told());
    ensure!(
        report.text("/same_result/decided_by") == "bit-equal",
        "{}",
        report.told()
    );
    ensure!(
        report.injections().len() == 1 && report.all_held(),
        "{}",
        report.told()
    );
    ended.expect(10)
}
