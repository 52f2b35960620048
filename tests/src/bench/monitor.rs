//! Monitoring a hundred processes ten times a second, and what that leaves on disk.
//!
//! Measured in a process of its own, so that its processor time and memory are the monitor's and the store's alone.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::Figure;
use super::load::{Load, busy_worker, idle_worker, measure};
use crate::folder::Folder;

/// First argument of a process that the bench starts for itself.
pub const CHILD: &str = "--child";

const PROCESSES: u32 = 100;
const BUSY: u32 = 25;
const RATE: u32 = 10;
/// Goals: percent of one processor, megabytes.
const CPU_PERCENT: f64 = 2.0;
const RSS_MB: f64 = 50.0;
const DAY_MB: f64 = 200.0;
const MB: f64 = 1e6;
/// Seconds from which on the size of the store is judged.
const LONG_S: f64 = 599.0;

pub(super) fn figures(length: Duration) -> Vec<Figure> {
    match measured(length) {
        Ok(figures) => told(&figures),
        Err(error) => {
            let why = format!("{error:#}");
            vec![
                Figure::missing(
                    "monitoring 100 processes at 10 Hz",
                    "% of a core",
                    CPU_PERCENT,
                    &why,
                ),
                Figure::missing("memory of the monitor", "MB", RSS_MB, &why),
                Figure::missing("store, 24 h of 100 processes at 10 Hz", "MB", DAY_MB, &why),
            ]
        }
    }
}

fn told(figures: &Value) -> Vec<Figure> {
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let seconds = number("seconds");
    let series = number("series_per_process");
    let how = format!(
        "{PROCESSES} real processes, {BUSY} of them busy, {series} series each, {RATE} Hz, {seconds:.0} s; turns missed: {}",
        number("missed_turns")
    );
    let stored = format!(
        "{:.0} bytes of the database for {:.0} samples ({:.3} bytes each) in {seconds:.0} s of real readings, extrapolated",
        number("store_bytes"),
        number("samples"),
        number("bytes_per_sample")
    );
    vec![
        Figure::at_most(
            "monitoring 100 processes at 10 Hz",
            number("cpu_percent"),
            "% of a core",
            CPU_PERCENT,
            &how,
        ),
        Figure::at_most(
            "memory of the monitor",
            number("rss_bytes") / MB,
            "MB",
            RSS_MB,
            &how,
        ),
        store(number("bytes_per_day") / MB, seconds, stored),
    ]
}

/// In a short time the first, half-empty pages of the database weigh most, and extrapolating them says nothing.
fn store(megabytes: f64, seconds: f64, how: String) -> Figure {
    let name = "store, 24 h of 100 processes at 10 Hz";
    if seconds < LONG_S {
        let how = format!("{how}; the goal of {DAY_MB} MB is judged by `--minutes 10`");
        return Figure::shown(name, megabytes, "MB", how);
    }
    Figure::at_most(name, megabytes, "MB", DAY_MB, how)
}

fn measured(length: Duration) -> anyhow::Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([CHILD, "monitor", &length.as_secs().to_string()]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the measuring process ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("what the measuring process says")
}

/// What a process does that the bench has started for itself; gives what it has to say.
///
/// # Errors
/// When it cannot do it.
pub fn child(arguments: &[String]) -> anyhow::Result<String> {
    match arguments {
        [kind, seconds] if kind == "monitor" => monitor(seconds, PROCESSES, BUSY),
        [kind, seconds, processes, busy] if kind == "monitor" => {
            monitor(seconds, processes.parse()?, busy.parse()?)
        }
        [kind] if kind == "report" => super::report::child(),
        [kind] if kind == "busy" => {
            busy_worker()?;
            Ok(String::new())
        }
        [kind] if kind == "idle" => {
            idle_worker();
            Ok(String::new())
        }
        _ => bail!("no such child: {arguments:?}"),
    }
}

fn monitor(seconds: &str, processes: u32, busy: u32) -> anyhow::Result<String> {
    let own = std::env::current_exe()?;
    let command = |kind: &str| -> (PathBuf, Vec<String>) {
        (own.clone(), vec![CHILD.to_owned(), kind.to_owned()])
    };
    let folder = Folder::new()?;
    let load = Load {
        processes,
        busy,
        rate: RATE,
        length: Duration::from_secs(seconds.parse()?),
        busy_command: command("busy"),
        idle_command: command("idle"),
    };
    let figures = measure(&load, folder.path())?;
    Ok(serde_json::to_string(&figures)?)
}
