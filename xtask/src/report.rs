//! What a run's `report.json` says, as far as the tests with real frameworks ask.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn read(folder: &Path) -> Result<Value> {
    let path = folder.join("report.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The exit status of the workload, when it ended by itself.
pub(crate) fn workload_exit(folder: &Path) -> Option<i64> {
    let report = read(folder).ok()?;
    let expectations = report["expectations"].as_array()?;
    let completes = expectations.iter().find(|it| it["key"] == "completes")?;
    completes["measured"]
        .as_str()?
        .strip_prefix("exit status ")?
        .parse()
        .ok()
}

/// What a report says of a run without a bug.
pub(crate) struct Outcome {
    pub(crate) finished: bool,
    pub(crate) landed: u32,
    pub(crate) recovered: u32,
    pub(crate) sameness: String,
}

pub(crate) fn outcome(folder: &Path) -> Result<Outcome> {
    let report = read(folder)?;
    let count = |list: &str, fits: &dyn Fn(&Value) -> bool| {
        let all = report[list].as_array().into_iter().flatten();
        all.filter(|it| fits(it)).count() as u32
    };
    Ok(Outcome {
        finished: workload_exit(folder) == Some(0),
        landed: count("injections", &|it| it["landed"] == "on-aim"),
        recovered: count("recoveries", &|it| it["outcome"] == "caught-up"),
        sameness: report["same_result"]["sameness"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The mistake that a report names, `same` where the result is, `no answer` where the fault did not land or nothing was decided.
pub(crate) fn named(folder: &Path) -> Result<String> {
    let report = read(folder)?;
    let injections = report["injections"].as_array().cloned().unwrap_or_default();
    if injections.len() != 1 || injections[0]["landed"] != "on-aim" {
        return Ok("no answer".into());
    }
    let name = report["diagnosis"]["mistake"].as_str();
    let name = name.unwrap_or(match report["same_result"]["sameness"].as_str() {
        Some("same") => "same",
        _ => "no answer",
    });
    Ok(name.to_owned())
}

/// Injections that landed, and restarts of the job.
pub(crate) fn landed_and_restarts(folder: &Path) -> Result<(usize, u64)> {
    let report = read(folder)?;
    let injections = report["injections"].as_array().cloned().unwrap_or_default();
    let landed = injections
        .iter()
        .filter(|it| !it["landed_ns"].is_null())
        .count();
    Ok((
        landed,
        report["training"]["attempts"]
            .as_u64()
            .unwrap_or(1)
            .saturating_sub(1),
    ))
}

/// A verdict that holds must also be complete: so many kills as aimed, each recovered, and equality that was measured.
pub(crate) fn is_whole(folder: &Path, kills: usize) -> Result<bool> {
    let report = read(folder)?;
    let all = |list: &str, key: &str, value: &str| {
        let list = report[list].as_array().cloned().unwrap_or_default();
        list.len() == kills && list.iter().all(|it| it[key] == value)
    };
    let problems: Vec<&str> = [
        (
            all("injections", "landed", "on-aim"),
            "not every kill landed where it was aimed",
        ),
        (
            all("recoveries", "outcome", "caught-up"),
            "not every kill was recovered from",
        ),
        (
            report["same_result"]["sameness"] == "same"
                && report["same_result"]["decided_by"] == "bit-equal",
            "the parameters were not compared bit by bit",
        ),
    ]
    .iter()
    .filter(|(good, _)| !good)
    .map(|(_, problem)| *problem)
    .collect();
    for problem in &problems {
        eprintln!(
            "the verdict is not whole: {problem}; see {}",
            folder.display()
        );
    }
    Ok(problems.is_empty())
}

/// Whether the report says that work was lost, and how many steps.
pub(crate) fn lost_steps_are_told(folder: &Path) -> Result<bool> {
    let report = read(folder)?;
    let expectations = report["expectations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let lost = expectations.iter().find(|it| it["key"] == "lost-steps");
    let measured = lost
        .and_then(|it| it["measured"].as_str())
        .unwrap_or_default();
    let deviated = lost.is_some_and(|it| it["judgement"] == "deviated");
    println!("what it says of the lost work: {measured}");
    Ok(deviated && measured.contains("lost"))
}
