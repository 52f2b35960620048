//! What the hook costs a PyTorch trainer at steps of 10 ms, observed by the real agent of a real run that has armed a hold.

use anyhow::Context as _;
use serde_json::Value;

use super::Figure;
use crate::product::{Desk, shipped};

/// Goal: percent of the trainer's processor time, for the upper bound.
const UPPER_PERCENT: f64 = 2.0;
const NAME: &str = "PyTorch hook at 10 ms steps, upper bound";
/// Pairs of blocks with the hook on and off, unless said.
pub const PAIRS: usize = 300;

/// The figures of the hook on PyTorch. What cannot be measured is a figure that says so.
/// `python` is one that has PyTorch.
pub fn figures(pairs: usize, python: Option<&str>) -> Vec<Figure> {
    measured(pairs, python).unwrap_or_else(|error| {
        vec![Figure::missing(
            NAME,
            "%",
            UPPER_PERCENT,
            format!("{error:#}"),
        )]
    })
}

fn measured(pairs: usize, python: Option<&str>) -> anyhow::Result<Vec<Figure>> {
    let python = python.context("no --python; start it by `cargo xtask bench hook-torch`")?;
    let desk = Desk::new()?;
    let told = desk.path().join("overhead.json");
    let script = shipped::repository().join("python/bench/torch_overhead.py");
    let run = format!("{python} {} {pairs} {}", script.display(), told.display());
    let file = desk.write(
        "overhead.yaml",
        &format!(
            r#"version: 1
title: what the hook costs
workload:
  training:
    run: {run}
    env: {{RANK: "0", OMP_NUM_THREADS: "1"}}
steady-state:
  - probe: {{training-event: {{every: step, within: 1m}}}}
    interval: 200ms
baseline: 300ms
method:
  - process-kill: {{target: {{rank: 0}}, at: {{step: 1000000, phase: backward}}}}
expect:
  - completes: {{exit: 0}}
time-limit: 10m
"#
        ),
    )?;
    // Its aim is never reached, so how the run ends says nothing.
    let ended = desk.run(&file)?;
    let text = std::fs::read_to_string(&told).with_context(|| ended.told())?;
    let told: Value = serde_json::from_str(&text).context("what the trainer says")?;
    let number = |name: &str| {
        told[name]
            .as_f64()
            .with_context(|| format!("no {name} in {told}"))
    };
    let how = format!(
        "torch {}, {:.0} events a step, a hold armed far away; processor time of the trainer, {pairs} pairs of five steps with the hook on and off, load {}; bootstrap, 97.5 %",
        told["torch"].as_str().unwrap_or("?"),
        number("events_a_step")?,
        told["load"],
    );
    let upper = Figure::at_most(
        NAME,
        number("overhead_upper")? * 100.0,
        "%",
        UPPER_PERCENT,
        how,
    );
    Ok(vec![
        upper.against(format!(
            "{:.2} ms a step without the hook",
            number("step_ms")?
        )),
        Figure::shown(
            "PyTorch hook at 10 ms steps, median",
            number("overhead")? * 100.0,
            "%",
            format!(
                "{} µs a step; {} events dropped",
                number("hook_us_a_step")?,
                number("dropped")?
            ),
        ),
    ])
}
