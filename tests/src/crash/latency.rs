//! How long after the agent's death the world is clean: from SIGKILL to the begin of the first clean reading, with 256 MiB of memory pressure and a
//! damaged file of 64 MiB.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::cause::Who;
use super::cell::{Cell, Moment};
use super::journal;
use super::processes::{own, send};
use super::squall::{WORKLOAD, experiment};
use super::stage::Stage;
use super::strike::marked;
use crate::snapshot::{HostSnapshot, Kind, ProcessState, Scope, process_state};
use crate::targets::{Size, served};

/// How long the fault may take to land, and the world to be clean.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two readings.
const INTERVAL: Duration = Duration::from_micros(500);
/// What is aimed at, in milliseconds.
const GOAL_P50: f64 = 50.0;
const GOAL_P99: f64 = 250.0;

/// A cell that measures.
pub fn cell(number: usize, fault: &str, class: &str) -> Cell {
    Cell {
        number,
        fault: fault.to_owned(),
        class: class.to_owned(),
        cause: super::cause::KILL_AGENT.to_owned(),
        moment: Moment::Microseconds(0),
        env: Vec::new(),
    }
}

/// Measures once, in this process, the first of its namespaces; milliseconds.
///
/// # Errors
/// When the fault does not land or the world does not become clean.
pub fn measure(cell: &Cell, program: &Path) -> anyhow::Result<f64> {
    let mut stage = Stage::set(cell, program, Size::Large)?;
    // The first way to use it that the recipe knows is the one that is measured.
    let file = experiment(
        &stage.squall.logs,
        stage.recipe,
        &stage.prey,
        0,
        Some("60s"),
    )?;
    let controller = stage.squall.run(&file, &stage.cgroups)?;
    landed(&mut stage)?;
    let agent = own(program)
        .into_iter()
        .find(|process| process.who() == Some(Who::Agent));
    let agent = agent.context("there is no agent")?;
    let reading = Reading::prepare(&stage)?;
    let killed = Instant::now();
    send(agent.pid, Signal::KILL);
    let clean = loop {
        let at = Instant::now();
        if reading.is_clean(&stage)? {
            break at;
        }
        ensure!(at - killed < LIMIT, "not clean within {LIMIT:?}");
        std::thread::sleep(INTERVAL);
    };
    stage.settle("everybody is gone", |_| true)?;
    let left = stage.left_at_last()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    drop(controller);
    Ok((clean - killed).as_secs_f64() * 1000.0)
}

fn landed(stage: &mut Stage) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        stage.reaper.reap();
        let is_seen = match stage.recipe {
            Some(recipe) => (recipe.is_seen)(&stage.prey)?,
            None => !marked().is_empty(),
        };
        if is_seen && journal::state(&stage.squall.state, stage.cell.kind()) == "active" {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "it did not land within {LIMIT:?}: {}",
                stage.squall.said("run")
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is read again and again: as little as shows the fault, so that a reading costs less than what is measured.
enum Reading {
    Marked,
    /// Clients of a proxy: what is held back leaves when the rule goes, so a blocked reading lasts no longer.
    Answers,
    Stopped,
    /// Kinds of the snapshot, and the children that serve the fault.
    Shown(HostSnapshot, Scope, Vec<Kind>, Vec<u32>),
    File,
}

impl Reading {
    fn prepare(stage: &Stage) -> anyhow::Result<Self> {
        if stage.cell.kind() == WORKLOAD {
            return Ok(Self::Marked);
        }
        if stage.prey.proxy_socket().is_some() {
            return Ok(Self::Answers);
        }
        if stage.prey.process.is_some() {
            return Ok(Self::Stopped);
        }
        if stage.prey.file.is_some() {
            return Ok(Self::File);
        }
        // The controller, which outlives its agent, is as much of a stranger as a child that serves; those are asked by pid.
        let shown = stage
            .recipe
            .map_or(&[][..], |recipe| recipe.shows_in)
            .iter();
        let kinds: Vec<Kind> = shown
            .copied()
            .filter(|kind| *kind != Kind::StrayProcess)
            .collect();
        let children = served("");
        ensure!(
            !(kinds.is_empty() && children.is_empty()),
            "nothing shows that this fault is gone"
        );
        let before = stage.before.clone();
        Ok(Self::Shown(before, stage.scope.clone(), kinds, children))
    }

    fn is_clean(&self, stage: &Stage) -> anyhow::Result<bool> {
        let is_over = |pid: &u32| {
            matches!(
                process_state(*pid),
                ProcessState::Gone | ProcessState::Zombie
            )
        };
        Ok(match self {
            Self::Marked => marked().is_empty(),
            Self::Answers => {
                let recipe = stage.recipe.context("no recipe")?;
                !(recipe.is_seen)(&stage.prey)?
            }
            Self::Stopped => process_state(stage.prey.pid()) == ProcessState::Live,
            Self::Shown(before, scope, kinds, children) => {
                children.iter().all(is_over)
                    && before
                        .diff(&HostSnapshot::take_only(scope, kinds)?)
                        .is_empty()
            }
            // Time and length first: comparing everything takes longer than what is measured.
            Self::File => stage.prey.file_looks_restored() && stage.prey.file_is_restored(),
        })
    }
}

/// What the measurements of all faults say, in the form of the bench's results.
pub fn results(measured: &[(String, Vec<f64>)]) -> Vec<Value> {
    let mut rows = Vec::new();
    let (mut slowest_p50, mut slowest_p99) = (0.0f64, 0.0f64);
    for (fault, values) in measured {
        let (p50, p99) = (quantile(values, 0.5), quantile(values, 0.99));
        slowest_p50 = slowest_p50.max(p50);
        slowest_p99 = slowest_p99.max(p99);
        rows.push(row(
            &format!("agent killed → clean, {fault}, p50"),
            p50,
            GOAL_P50,
        ));
        rows.push(row(
            &format!("agent killed → clean, {fault}, p99"),
            p99,
            GOAL_P99,
        ));
    }
    rows.push(row(
        "agent killed → clean, slowest fault, p50",
        slowest_p50,
        GOAL_P50,
    ));
    rows.push(row(
        "agent killed → clean, slowest fault, p99",
        slowest_p99,
        GOAL_P99,
    ));
    rows
}

fn row(name: &str, value: f64, goal: f64) -> Value {
    json!({"name": name, "value": value, "unit": "ms", "against": null, "goal": goal, "met": value <= goal})
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values = [5.0, 1.0, 3.0, 2.0, 4.0];
        assert_eq!(
            (
                quantile(&values, 0.5),
                quantile(&values, 0.99),
                quantile(&values, 0.0)
            ),
            (3.0, 5.0, 1.0)
        );
    }
}
