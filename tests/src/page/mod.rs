//! The report's page in a real browser: what a reader sees, reaches and reads, on a desk, on a phone, in the dark, on paper, without scripts
//! and with a keyboard alone.

pub mod browser;
mod facts;
mod keyboard;
mod look;
mod paper;
pub mod run;
mod signals;

use anyhow::{Context, Result};
use browser::{Browser, DESK, Look, PHONE};
use look::probe;
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

fn check(all: &mut Vec<Check>, name: &str, holds: bool, seen: impl std::fmt::Debug) {
    all.push(Check {
        name: name.to_owned(),
        problem: (!holds).then(|| format!("{seen:?}")),
    });
}

const DARK: Look = Look { dark: true, ..DESK };
/// A page whose scripts do not run.
const STILL: Look = Look {
    scripts: false,
    ..DESK
};
/// Height of a picture of the first screen with the whole timeline.
const TALL: u32 = 1480;

/// Pictures for the documentation: name, look, part of the run.
const PICTURES: &[(&str, Look, &str)] = &[
    ("report-light", tall(DESK, TALL), ""),
    ("report-dark", tall(DARK, TALL), ""),
    ("report-zoom", tall(DESK, TALL), "#t=1780-1990"),
    ("report-phone", tall(PHONE, 1600), ""),
];

const fn tall(look: Look, height: u32) -> Look {
    Look { height, ..look }
}

/// Writes the page of the long run and looks at it; `pictures` is where pictures of it go, if they are wanted.
pub fn checks(scratch: &Path, pictures: Option<&Path>) -> Result<Vec<Check>> {
    let run = run::long_run();
    let report = squall_analysis::conclude(&run);
    std::fs::write(scratch.join("report.html"), html::detailed(&report, &run)?)?;
    let facts = facts::facts(&report);
    let page = format!("file://{}", scratch.join("report.html").display());
    let mut all = Vec::new();
    let mut browser = Browser::start(scratch)?;
    browser.prepare(look::CATCH)?;
    on_screen(&mut browser, &page, &facts, &mut all)?;
    on_paper(&mut browser, &page, scratch, &facts, &mut all)?;
    if let Some(folder) = pictures {
        std::fs::create_dir_all(folder)?;
        for (name, look, window) in PICTURES {
            browser.open(&format!("{page}{window}"), *look)?;
            browser
                .picture(&folder.join(format!("{name}.webp")))
                .with_context(|| format!("picture {name}"))?;
        }
    }
    Ok(all)
}

fn on_screen(
    browser: &mut Browser,
    page: &str,
    facts: &[String],
    all: &mut Vec<Check>,
) -> Result<()> {
    probe(browser, page, DESK)?.desk(all);
    look::alternatives(&browser.accessible()?, all);
    browser.open(page, DESK)?;
    keyboard::checks(browser, all)?;
    for (name, window) in [
        ("ten minutes", "#t=2300-2900"),
        ("ten seconds", "#t=2596-2606"),
        ("one second", "#t=2599.8-2600.8"),
    ] {
        let page = format!("{page}{window}");
        probe(browser, &page, DESK)?.spike(name, all);
    }
    probe(browser, page, PHONE)?.phone(all);
    probe(browser, page, DARK)?.dark(all);
    probe(browser, page, STILL)?.still(facts, all);
    browser.open(page, STILL)?;
    keyboard::unfolds(browser, "without scripts", all)
}

fn on_paper(
    browser: &mut Browser,
    page: &str,
    scratch: &Path,
    facts: &[String],
    all: &mut Vec<Check>,
) -> Result<()> {
    let pdf = scratch.join("report.pdf");
    for (how, look) in [("in the dark", DARK), ("without scripts", STILL)] {
        browser.open(page, look)?;
        browser.print(&pdf)?;
        paper::checks(&pdf, how, facts, all)?;
    }
    // What was folded before is folded again.
    browser.open(page, DESK)?;
    browser.print(&pdf)?;
    let open = browser.evaluate("document.querySelectorAll('details[open]').length")?;
    check(
        all,
        "after printing the page is as it was",
        open == 0,
        &open,
    );
    Ok(())
}
