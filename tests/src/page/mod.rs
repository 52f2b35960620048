//! The report's page in a real browser: what a reader sees, reaches and reads, on a desk, on a phone and in the dark.

pub mod browser;
mod look;
pub mod run;
mod signals;

use anyhow::{Context, Result};
use browser::{DESK, Look, PHONE};
use look::{Task, probe};
use run::{SPIKE, SPIKE_ROW};
use squall_analysis::render::html;
use std::path::Path;

/// One thing that must be so.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub name: String,
    /// What was seen instead; none when it is so.
    pub problem: Option<String>,
}

/// Pictures for the documentation: name, height, look, part of the run.
const PICTURES: &[(&str, Look, &str)] = &[
    (
        "report-light",
        Look {
            height: 1480,
            ..DESK
        },
        "",
    ),
    (
        "report-dark",
        Look {
            height: 1480,
            dark: true,
            ..DESK
        },
        "",
    ),
    (
        "report-zoom",
        Look {
            height: 1480,
            ..DESK
        },
        "#t=1780-1990",
    ),
    (
        "report-phone",
        Look {
            height: 1600,
            ..PHONE
        },
        "",
    ),
];

/// Writes the page of the long run and looks at it; `pictures` is where pictures of it go, if they are wanted.
pub fn checks(scratch: &Path, pictures: Option<&Path>) -> Result<Vec<Check>> {
    let run = run::long_run();
    let report = squall_analysis::conclude(&run);
    let page = html::detailed(&report, &run)?;
    std::fs::write(scratch.join("report.html"), &page)?;
    std::fs::write(
        scratch.join("probed.html"),
        look::with_probe(&page, &task())?,
    )?;
    let mut all = Vec::new();
    let whole = probe(scratch, "", DESK)?;
    whole.desk(&mut all);
    for (name, window) in [
        ("ten minutes", "#t=2300-2900"),
        ("ten seconds", "#t=2596-2606"),
        ("one second", "#t=2599.8-2600.8"),
    ] {
        probe(scratch, window, DESK)?.spike(name, &mut all);
    }
    probe(scratch, "", PHONE)?.phone(&mut all);
    probe(scratch, "", Look { dark: true, ..DESK })?.dark(&mut all);
    if let Some(folder) = pictures {
        std::fs::create_dir_all(folder)?;
        let file = format!("file://{}", scratch.join("report.html").display());
        for (name, look, window) in PICTURES {
            let to = folder.join(format!("{name}.png"));
            browser::screenshot(&format!("{file}{window}"), *look, scratch, &to)
                .with_context(|| format!("picture {name}"))?;
        }
    }
    Ok(all)
}

fn task() -> Task {
    Task {
        row: SPIKE_ROW,
        at: SPIKE.1 as f64 / 1e9,
    }
}
