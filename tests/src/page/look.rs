//! What the probe inside the page saw, and what it must have seen.

use super::browser::{Browser, Look};
use super::run::{SPIKE, SPIKE_ROW};
use super::{Check, check, facts};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const PROBE: &str = include_str!("probe.js");
/// Catches what goes wrong before anything else runs.
pub(super) const CATCH: &str = "window.errors = []; \
    window.addEventListener('error', (e) => window.errors.push(String(e.message))); \
    window.addEventListener('unhandledrejection', (e) => window.errors.push(String(e.reason))); \
    document.addEventListener('securitypolicyviolation', (e) => window.errors.push(e.violatedDirective + ' ' + e.blockedURI)); \
    console.error = console.warn = (...all) => window.errors.push(all.join(' '));";

/// Where the probe looks for the spike.
#[derive(Debug, Serialize)]
struct Task {
    row: &'static str,
    at: f64,
    scripts: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Saw {
    errors: Vec<String>,
    width: u32,
    background: String,
    spike: bool,
    elsewhere: bool,
    high: String,
    values: Vec<String>,
    lines: Vec<u32>,
    flat: u32,
    tools: bool,
    scroll: u32,
    wide: Vec<String>,
    faint: Vec<String>,
    pale: Vec<String>,
    tables: u32,
    headings: Vec<u32>,
    heads: u32,
    text: String,
    #[serde(default)]
    requests: Vec<String>,
}

/// Opens the page and looks.
pub(super) fn probe(browser: &mut Browser, page: &str, look: Look) -> Result<Saw> {
    browser.open(page, look)?;
    let task = serde_json::to_string(&Task {
        row: SPIKE_ROW,
        at: SPIKE.1 as f64 / 1e9,
        scripts: look.scripts,
    })?;
    // The file ends in a comment-free expression, so that it can be called.
    let saw = browser.evaluate(&format!("({})({task})", PROBE.trim_end()))?;
    let mut saw: Saw = serde_json::from_value(saw).context("what the probe saw")?;
    saw.requests = browser.requests();
    Ok(saw)
}

impl Saw {
    pub(super) fn desk(&self, all: &mut Vec<Check>) {
        self.clean("on a desk", all);
        self.spike("the whole run", all);
        let light = self.background == "rgb(255, 255, 255)";
        check(all, "light by preference", light, &self.background);
        let read = self.values.iter().any(|it| it.contains("412 %"));
        check(all, "the cursor reads the spike", read, &self.values);
        let gap = self.lines.iter().any(|n| *n > 1);
        check(
            all,
            "a gap in the data is a gap in a line",
            gap,
            &self.lines,
        );
        check(all, "each chart has a table", self.tables >= 6, self.tables);
        check(
            all,
            "each table names its columns",
            self.heads == 0,
            self.heads,
        );
        let mut levels = self.headings.windows(2);
        let whole = self.headings.first() == Some(&1) && levels.all(|it| it[1] <= it[0] + 1);
        check(all, "headings skip no level", whole, &self.headings);
    }

    pub(super) fn spike(&self, name: &str, all: &mut Vec<Check>) {
        let told = (self.spike, self.elsewhere, &self.high);
        let holds = self.spike && !self.elsewhere && self.high == "412 %";
        check(
            all,
            &format!("the spike of one sample is on the screen: {name}"),
            holds,
            told,
        );
    }

    pub(super) fn phone(&self, all: &mut Vec<Check>) {
        check(all, "390 px wide", self.width == 390, self.width);
        check(
            all,
            "no sideways scroll on a phone",
            self.scroll <= self.width && self.wide.is_empty(),
            (self.scroll, &self.wide),
        );
        self.clean("on a phone", all);
        self.spike("on a phone", all);
    }

    pub(super) fn dark(&self, all: &mut Vec<Check>) {
        let dark = self.background == "rgb(21, 23, 27)";
        check(all, "dark by preference", dark, &self.background);
        self.clean("in the dark", all);
    }

    /// Without scripts: every fact, every line, and no button that does nothing.
    pub(super) fn still(&self, wanted: &[String], all: &mut Vec<Check>) {
        let missing = facts::missing(wanted, &self.text);
        check(
            all,
            "every fact without scripts",
            missing.is_empty(),
            &missing,
        );
        self.spike("without scripts", all);
        check(
            all,
            "no dead controls without scripts",
            !self.tools,
            self.tools,
        );
        self.clean("without scripts", all);
    }

    fn clean(&self, name: &str, all: &mut Vec<Check>) {
        let name = |what: &str| format!("{what} {name}");
        check(all, &name("no error"), self.errors.is_empty(), &self.errors);
        let own = self.requests.len() == 1 && self.requests[0].starts_with("file:");
        check(all, &name("nothing is fetched"), own, &self.requests);
        check(all, &name("every line is drawn"), self.flat == 0, self.flat);
        check(
            all,
            &name("contrast of text ≥ 4.5 : 1"),
            self.faint.is_empty(),
            &self.faint,
        );
        check(
            all,
            &name("contrast of lines and marks ≥ 3 : 1"),
            self.pale.is_empty(),
            &self.pale,
        );
    }
}

/// What assistive programs are told: everything that is a picture or can be operated has a name.
pub(super) fn alternatives(told: &[(String, String)], all: &mut Vec<Check>) {
    const NAMED: [&str; 5] = ["image", "button", "DisclosureTriangle", "region", "link"];
    let of = |role: &'static str| told.iter().filter(move |it| it.0 == role);
    let nameless: Vec<&str> = NAMED
        .iter()
        .filter(|role| of(role).any(|it| it.1.trim().is_empty()))
        .copied()
        .collect();
    check(
        all,
        "each picture and control has a name",
        nameless.is_empty(),
        &nameless,
    );
    let charts: Vec<&str> = of("image")
        .map(|it| it.1.as_str())
        .filter(|it| it.contains(" to "))
        .collect();
    check(
        all,
        "each chart says its range in words",
        charts.len() >= 5,
        &charts,
    );
}
