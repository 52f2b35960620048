//! `kill -9` at every journal boundary, and then the recovery that the next command is. What guard and agent do then is shown by cells of the
//! crash matrix, with the real `squall`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use squall_faults::fault::Target;
use squall_faults::recover::recover_all;
use squall_model::syntax::{Class, FaultList as _, KindInfo};

use super::Way;
use super::children::program;
use super::trial::{Injection, LIMIT, Trial, build};
use crate::crash::points::{BOUNDARIES, Points};
use crate::spawned::Spawned;

/// What a process that is to die is told to do, as `--inject JSON`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    state: PathBuf,
    kind: String,
    config: serde_json::Value,
    target: Target,
}

/// The process that is to die: injects and undoes, like an agent without a guard.
///
/// # Errors
/// As the fault.
pub fn obey(order: &str) -> anyhow::Result<()> {
    let order: Order = serde_json::from_str(order)?;
    let fault = build(&order.kind, order.config)?;
    let injection = Injection::begin(&order.state, &fault, order.target)?;
    injection.inject()?;
    injection
        .undo()
        .context("the journal does not know the injection")?;
    Ok(())
}

/// The other process that is to die: a recovery.
///
/// # Errors
/// When something is left.
pub fn recover(state: &Path) -> anyhow::Result<()> {
    for (folder, recovered) in recover_all(state, false)? {
        let recovered = recovered.with_context(|| folder.display().to_string())?;
        let stuck: Vec<_> = recovered.stuck().collect();
        ensure!(stuck.is_empty(), "stuck: {stuck:?}");
    }
    Ok(())
}

/// Killed at any boundary, it is undone by the next command; and when that is killed at any boundary, by the one after.
///
/// # Errors
/// With the boundary after which something was left.
pub fn is_undone_after_death(info: &KindInfo) -> anyhow::Result<()> {
    for (turn, boundary) in BOUNDARIES.into_iter().enumerate() {
        let way = Way::in_turn(info, turn)?;
        die_at(&way, boundary).with_context(|| format!("killed at {boundary}"))?;
    }
    Ok(())
}

fn die_at(way: &Way, boundary: &str) -> anyhow::Result<()> {
    let trial = Trial::set(way)?;
    let points = Points::listen(&short_path()?)?;
    let is_undo = boundary.contains("undo");
    // The recovery meets the boundaries of an undo whatever the fault's class; a one-shot fault is only undone when it died on the way.
    let first = if is_undo {
        if way.info.class == Class::OneShot {
            "after-intent"
        } else {
            "after-active"
        }
    } else {
        boundary
    };
    let fault = trial.fault()?;
    let order = Order {
        state: trial.state.clone(),
        kind: way.info.kind.to_owned(),
        config: fault.config(),
        target: trial.target()?,
    };
    let mut injector = start(&points, &["--inject", &serde_json::to_string(&order)?])?;
    kill_at(&points, &mut injector, "agent", first)?;
    if is_undo {
        let state = trial.state.to_string_lossy().into_owned();
        let mut recovery = start(&points, &["--recover", &state])?;
        kill_at(&points, &mut recovery, "recovery", boundary)?;
    }
    drop(points);
    recover(&trial.state)?;
    trial.is_as_before()
}

/// The same, killed while it undoes by itself: the agent's own undo rather than a recovery's.
///
/// # Errors
/// With the boundary after which something was left.
pub fn is_undone_after_death_while_undoing(info: &KindInfo) -> anyhow::Result<()> {
    if info.class == Class::OneShot {
        // Once it has acted nothing is undone.
        return Ok(());
    }
    let of_undo = BOUNDARIES
        .iter()
        .filter(|boundary| boundary.contains("undo"));
    for (turn, boundary) in of_undo.enumerate() {
        let way = &Way::in_turn(info, turn)?;
        let trial = Trial::set(way)?;
        let points = Points::listen(&short_path()?)?;
        let order = Order {
            state: trial.state.clone(),
            kind: way.info.kind.to_owned(),
            config: trial.fault()?.config(),
            target: trial.target()?,
        };
        let mut injector = start(&points, &["--inject", &serde_json::to_string(&order)?])?;
        kill_at(&points, &mut injector, "agent", boundary)?;
        drop(points);
        recover(&trial.state)?;
        trial
            .is_as_before()
            .with_context(|| format!("killed at {boundary}"))?;
    }
    Ok(())
}

/// Not below the state folder: the length of a socket's path is limited, that of a checkout's is not. Others have our pid in their namespace.
fn short_path() -> anyhow::Result<PathBuf> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(std::env::temp_dir().join(format!("points-{}-{}", std::process::id(), now.as_nanos())))
}

fn start(points: &Points, arguments: &[&str]) -> anyhow::Result<Spawned> {
    let mut command = Command::new(program()?);
    command
        .args(arguments)
        .env("SQUALL_CRASH_SOCKET", points.path());
    Spawned::start(&mut command)
}

/// Lets a process go on to a boundary and kills it there.
fn kill_at(
    points: &Points,
    process: &mut Spawned,
    role: &str,
    boundary: &str,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut passed = Vec::new();
    while Instant::now() < deadline {
        let Some(point) = points.next(Duration::from_millis(20))? else {
            if let Ok(status) = process.wait(Duration::ZERO) {
                bail!("it ended with {status} and never reached {boundary}, only {passed:?}");
            }
            continue;
        };
        if point.boundary == boundary {
            ensure!(
                point.role == role,
                "{} is at {boundary}, not {role}",
                point.role
            );
            process.signal(Signal::KILL)?;
            process.wait(LIMIT)?;
            return Ok(());
        }
        passed.push(point.boundary.clone());
    }
    bail!("{boundary} was not reached within {LIMIT:?}")
}
