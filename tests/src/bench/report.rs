//! Writing the report of a long run: a million samples in more than twenty signals, in a process of its own so that its memory is its own.

use super::{CHILD, Figure};
use crate::page::run::long_run;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Times that it is measured.
const ROUNDS: usize = 5;
/// Goals: seconds, megabytes of memory, megabytes of the page.
const SECONDS: f64 = 2.0;
const MEMORY_MB: f64 = 300.0;
const PAGE_MB: f64 = 3.0;
const MB: f64 = 1e6;

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    samples: usize,
    signals: usize,
    seconds: f64,
    memory: f64,
    page: f64,
}

/// The figures of the report. What cannot be measured is a figure that says so.
pub fn figures() -> Vec<Figure> {
    let rounds: anyhow::Result<Vec<Measured>> = (0..ROUNDS).map(|_| measured()).collect();
    let rounds = match rounds {
        Ok(rounds) => rounds,
        Err(error) => {
            let why = format!("{error:#}");
            return vec![Figure::missing(
                "report: time to conclude and write",
                "s",
                SECONDS,
                why,
            )];
        }
    };
    let middle = |of: fn(&Measured) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let first = &rounds[0];
    let how = format!(
        "{} samples in {} signals, all five forms; median of {ROUNDS} processes",
        first.samples, first.signals
    );
    vec![
        Figure::at_most(
            "report: time to conclude and write",
            middle(|it| it.seconds),
            "s",
            SECONDS,
            how.clone(),
        ),
        Figure::at_most(
            "report: largest memory of the process",
            middle(|it| it.memory),
            "MB",
            MEMORY_MB,
            format!("{how}; resident, the run itself included"),
        ),
        Figure::at_most(
            "report: size of the page",
            middle(|it| it.page),
            "MB",
            PAGE_MB,
            how,
        ),
    ]
}

fn measured() -> anyhow::Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args([CHILD, "report"])
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

/// One measurement, as JSON.
pub(super) fn child() -> anyhow::Result<String> {
    let run = long_run();
    let folder = std::env::temp_dir().join(format!("squall-bench-report-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let started = Instant::now();
    let report = squall_analysis::conclude(&run);
    let (_, problems) = squall_control::run::write_reports(&folder, &run, &report);
    let seconds = started.elapsed().as_secs_f64();
    let page = std::fs::metadata(folder.join("report.html"));
    std::fs::remove_dir_all(&folder)?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(serde_json::to_string(&Measured {
        samples: run.series.iter().map(|series| series.t_ns.len()).sum(),
        signals: run.series.len(),
        seconds,
        memory: high_water()? / MB,
        page: page?.len() as f64 / MB,
    })?)
}

/// The most memory that this process ever held, in bytes.
fn high_water() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib
        .context("no VmHWM in /proc/self/status")?
        .parse::<f64>()?
        * 1024.0)
}
