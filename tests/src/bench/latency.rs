//! From the kill of an agent to the first clean reading, measured by the crash harness.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Figure;
use crate::product::binaries;

/// Goals for the slowest fault, in milliseconds.
const P50_MS: f64 = 50.0;
const P99_MS: f64 = 250.0;
const NAMES: [&str; 2] = ["agent killed to clean, p50", "agent killed to clean, p99"];

pub(super) fn figures() -> Vec<Figure> {
    measured().unwrap_or_else(|error| {
        let why = format!("{error:#}");
        vec![
            Figure::missing(NAMES[0], "ms", P50_MS, &why),
            Figure::missing(NAMES[1], "ms", P99_MS, &why),
        ]
    })
}

/// The rows of the crash harness are in the form of ours. It fails when a goal is missed, and so shall we by its rows.
fn measured() -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(binaries()?.join("squall-crash"));
    command.args(["--agent-kill-latency", "--format", "json"]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "squall-crash --agent-kill-latency ended with {}",
            output.status
        )
    })?;
    let rows = told.as_array().context("a row for each figure")?;
    ensure!(!rows.is_empty(), "squall-crash measured nothing");
    rows.iter().map(figure).collect()
}

fn figure(row: &Value) -> anyhow::Result<Figure> {
    let name = row["name"]
        .as_str()
        .with_context(|| format!("no name in {row}"))?;
    let goal = row["goal"]
        .as_f64()
        .with_context(|| format!("no goal in {row}"))?;
    let how = "256 MiB of memory pressure, a damaged file of 64 MiB; from SIGKILL to the first clean reading";
    Ok(match row["value"].as_f64() {
        Some(value) => Figure::at_most(name, value, "ms", goal, how),
        None => Figure::missing(name, "ms", goal, "no value"),
    })
}
