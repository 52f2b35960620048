//! With hold points, a kill lands in exactly the step and phase it is aimed at.
//!
//! The truth is the trainer's own synced log of phases: the last edge of the killed rank. A hold that ran into its
//! deadline is a miss even if the place is right.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::{Value, json};

use super::places::{Place, STEPS_PER_EPOCH};
use super::{Proof, each};
use crate::product::{Desk, PhaseLog, Report};

/// Kills in one run.
const IN_ONE_RUN: usize = 10;
/// The epoch of the first kill: by then the method is armed.
const FIRST_EPOCH: u64 = 30;

/// One aim with what came of it.
struct Kill {
    place: Place,
    miss: Option<String>,
}

/// Kills `count` times, spread over ranks and phases.
pub fn prove(count: usize, jobs: usize) -> Proof {
    let numbers: Vec<usize> = (0..count).collect();
    let runs: Vec<&[usize]> = numbers.chunks(IN_ONE_RUN).collect();
    let kills: Vec<Kill> = each(jobs, &runs, |numbers| one_run(numbers))
        .into_iter()
        .flatten()
        .collect();
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for kill in &kills {
        let (hits, of) = table.entry(kill.place.name()).or_default();
        *hits += usize::from(kill.miss.is_none());
        *of += 1;
    }
    let row =
        |(place, (hits, of)): (&String, &(usize, usize))| format!("{place:27} {hits} of {of}");
    Proof {
        promise: "kills with hold points landed in the aimed step and phase".into(),
        tried: kills.len(),
        missed: kills.iter().filter_map(|kill| kill.miss.clone()).collect(),
        table: table.iter().map(row).collect(),
        detail: json!(table),
    }
}

fn one_run(numbers: &[usize]) -> Vec<Kill> {
    let places = numbers.iter().enumerate();
    let places: Vec<Place> = places
        .map(|(index, number)| Place::nth(*number, FIRST_EPOCH + 2 * index as u64))
        .collect();
    let outcome = watch(&places, 4);
    let judge = |place: Place| {
        let miss = match &outcome {
            Ok(seen) => miss(&place, seen),
            Err(error) => Some(format!("{error:#}")),
        };
        let miss = miss.map(|why| format!("{} in epoch {}: {why}", place.name(), place.epoch));
        Kill { place, miss }
    };
    places.into_iter().map(judge).collect()
}

/// What Squall says and what really was.
struct Seen {
    said: String,
    report: Report,
    log: PhaseLog,
}

/// Runs one job that is killed at all these places, and reads where it really was.
fn watch(places: &[Place], step_ms: u32) -> anyhow::Result<Seen> {
    let desk = Desk::new()?;
    let truth = desk.path().join("phases.log");
    let epochs = places.last().map_or(FIRST_EPOCH, |place| place.epoch) + 1;
    let kills: Vec<String> = places
        .iter()
        .map(|place| format!("      - {}\n", place.kill()))
        .collect();
    let text = format!(
        "version: 1\ntitle: kills land where they are aimed at\nseed: 1\nbaseline: 50ms\n\
         workload:\n  training:\n    run: toy-trainer --out {{out}} --epochs {epochs} --steps-per-epoch {STEPS_PER_EPOCH} \
         --step-sleep-ms {step_ms} --max-restarts 99 --phase-log {}\nmethod:\n  - parallel:\n{}expect:\n  - completes: {{exit: 0}}\n",
        truth.display(),
        kills.concat()
    );
    let (ended, report) = desk.report_of(&text)?;
    ensure!(ended.code == Some(0), "{}\n{}", ended.told(), report.told());
    let log = PhaseLog::read(&truth)?;
    let (acts, lives) = (report.injections().len(), log.restarts() as usize);
    ensure!(
        acts == lives,
        "{acts} injections, but {lives} restarts: {}\n{}",
        ended.told(),
        report.told()
    );
    Ok(Seen {
        said: ended.told(),
        report,
        log,
    })
}

/// Why this kill is a miss; none when it is not.
fn miss(place: &Place, seen: &Seen) -> Option<String> {
    let injections = seen.report.injections();
    let Some(injection) = injections.iter().find(|it| aimed_at(&it["aimed"], place)) else {
        return Some(format!("no such injection was made; the run {}", seen.said));
    };
    if injection["precision"] != "held" || injection["landed"] != "on-aim" {
        return Some(format!("it was not held: {}", injection["landed_words"]));
    }
    if !place.was_the_end(&seen.log) {
        let lives = 0..seen.log.restarts();
        let ends: Vec<_> = lives
            .filter_map(|life| seen.log.last(place.rank, life))
            .collect();
        return Some(format!(
            "by the trainer's own log the rank ended after {ends:?}"
        ));
    }
    None
}

fn aimed_at(aimed: &Value, place: &Place) -> bool {
    let unit = match place.step {
        Some(step) => aimed["step"] == step,
        None => aimed["epoch"] == place.epoch,
    };
    unit && aimed["phase"] == place.phase && aimed["rank"] == place.rank
}

/// A kill before the checkpoint of epoch 10 fires exactly once, though training passes the place again.
pub fn prove_once() -> Proof {
    let missed = once().err().map(|error| format!("{error:#}"));
    Proof {
        promise: "a kill before the checkpoint of epoch 10 fires exactly once".into(),
        tried: 1,
        missed: missed.into_iter().collect(),
        table: Vec::new(),
        detail: Value::Null,
    }
}

fn once() -> anyhow::Result<()> {
    let place = Place {
        rank: 1,
        phase: "epoch-end",
        epoch: 10,
        step: None,
    };
    let Seen { report, log, .. } = watch(std::slice::from_ref(&place), 15)?;
    ensure!(report.injections().len() == 1, "{}", report.told());
    ensure!(log.restarts() == 1, "{} restarts", log.restarts());
    ensure!(
        place.was_the_end(&log),
        "it ended after {:?}",
        log.last(1, 0)
    );
    let passes = log
        .0
        .iter()
        .filter(|edge| edge.rank == 1 && place.is_at(edge));
    let lives: Vec<u32> = passes.map(|edge| edge.restart).collect();
    ensure!(
        lives == [0, 1],
        "the place was passed in the lives {lives:?}"
    );
    Ok(())
}
