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

fn measured() -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(binaries()?.join("squall-crash"));
    command.args(["--agent-kill-latency", "--format", "json"]);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "squall-crash --agent-kill-latency ended with {}",
        output.status
    );
    let told: Value = serde_json::from_slice(&output.stdout).context("what squall-crash says")?;
    let rows = told
        .as_array()
        .or(told["faults"].as_array())
        .context("a row for each fault")?;
    let slowest = |key: &str| -> anyhow::Result<(f64, String)> {
        let values = rows.iter().filter_map(|row| {
            let fault = row["fault"].as_str().or(row["name"].as_str())?;
            Some((row[key].as_f64()?, fault.to_owned()))
        });
        values
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .with_context(|| format!("no {key} in {told}"))
    };
    let (p50, p99) = (slowest("p50_ms")?, slowest("p99_ms")?);
    let how = |fault: &str| format!("the slowest of {} faults is {fault}", rows.len());
    Ok(vec![
        Figure::at_most(NAMES[0], p50.0, "ms", P50_MS, how(&p50.1)),
        Figure::at_most(NAMES[1], p99.0, "ms", P99_MS, how(&p99.1)),
    ])
}
