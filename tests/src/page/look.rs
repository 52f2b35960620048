//! What the probe inside the page saw, and what it must have seen.

use super::Check;
use super::browser::{self, Look};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

const PROBE: &str = include_str!("probe.js");
/// No window is narrower; a phone is a frame within one.
const WINDOW_MIN: u32 = 500;
/// Catches what goes wrong before anything else runs.
const CATCH: &str = "window.errors = []; \
    window.addEventListener('error', (e) => window.errors.push(String(e.message))); \
    window.addEventListener('unhandledrejection', (e) => window.errors.push(String(e.reason))); \
    document.addEventListener('securitypolicyviolation', (e) => window.errors.push(e.violatedDirective + ' ' + e.blockedURI)); \
    console.error = console.warn = (...all) => window.errors.push(all.join(' '));";

/// Where the probe looks for the spike.
#[derive(Debug, Serialize)]
pub(super) struct Task {
    pub(super) row: &'static str,
    pub(super) at: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Saw {
    errors: Vec<String>,
    resources: u64,
    width: u32,
    background: String,
    spike: bool,
    elsewhere: bool,
    high: String,
    values: Vec<String>,
    lines: Vec<u32>,
    stops: Vec<String>,
    unreachable: u32,
    keys: Vec<String>,
    flag: String,
    status: String,
    scroll: u32,
    wide: Vec<String>,
    faint: Vec<String>,
    unnamed: u32,
    tables: u32,
}

/// The page with the probe in it.
pub(super) fn with_probe(page: &str, task: &Task) -> Result<String> {
    let task = serde_json::to_string(task)?;
    let head = format!("<head><script>{CATCH} window.task = {task};</script>");
    let page = page.replacen("<head>", &head, 1);
    let end = page.rfind("</body>").context("the page has no end")?;
    Ok(format!(
        "{}<script>{PROBE}</script>{}",
        &page[..end],
        &page[end..]
    ))
}

pub(super) fn probe(scratch: &Path, window: &str, look: Look) -> Result<Saw> {
    let mut file = scratch.join("probed.html");
    if look.width < WINDOW_MIN {
        let frame = format!(
            "<!DOCTYPE html><body><script>addEventListener('message', (e) => {{ document.body.textContent = e.data; }});</script><iframe src=\"probed.html\" style=\"border: 0; width: {}px; height: {}px\"></iframe></body>",
            look.width, look.height
        );
        file = scratch.join("frame.html");
        std::fs::write(&file, frame)?;
    }
    let address = format!("file://{}{window}", file.display());
    let document = browser::dump(&address, look, scratch)?;
    let found = document
        .split_once("<body>")
        .and_then(|(_, rest)| rest.rsplit_once("</body>"))
        .context("chromium gave no document")?;
    let json = found
        .0
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&json).with_context(|| {
        let start: String = json.chars().take(300).collect();
        format!("the probe did not come to its end; the page is: {start}")
    })
}

fn check(all: &mut Vec<Check>, name: &str, holds: bool, seen: impl std::fmt::Debug) {
    all.push(Check {
        name: name.to_owned(),
        problem: (!holds).then(|| format!("{seen:?}")),
    });
}

impl Saw {
    pub(super) fn desk(&self, all: &mut Vec<Check>) {
        self.clean("on a desk", all);
        self.spike("the whole run", all);
        check(
            all,
            "light by preference",
            self.background == "rgb(255, 255, 255)",
            &self.background,
        );
        check(
            all,
            "the cursor reads the spike",
            self.values.iter().any(|it| it.contains("412 %")),
            &self.values,
        );
        check(
            all,
            "a gap in the data is a gap in a line",
            self.lines.iter().any(|n| *n > 1),
            &self.lines,
        );
        let order: Vec<&str> = self.stops.iter().map(String::as_str).collect();
        let begins = [
            "in",
            "out",
            "left",
            "right",
            "all",
            "div.panel",
            "span.flag",
        ];
        check(
            all,
            "the keyboard's order is the page's",
            order.starts_with(&begins),
            &self.stops,
        );
        check(
            all,
            "the keyboard reaches everything",
            self.unreachable == 0,
            self.unreachable,
        );
        let [whole, closer, later, again] = &self.keys[..] else {
            return check(all, "keys zoom", false, &self.keys);
        };
        let zoomed = closer.starts_with("#t=") && later.starts_with("#t=") && closer != later;
        check(
            all,
            "keys zoom, move and reset",
            zoomed && whole == again && !whole.starts_with("#t="),
            &self.keys,
        );
        check(
            all,
            "Enter on a fault zooms to it",
            self.flag.starts_with("#t="),
            &self.flag,
        );
        check(
            all,
            "a moved cursor is told in words",
            self.status.contains(" s · ") && self.status.contains("Loss"),
            &self.status,
        );
        check(
            all,
            "each picture has a name",
            self.unnamed == 0,
            self.unnamed,
        );
        check(all, "each chart has a table", self.tables >= 6, self.tables);
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
        check(
            all,
            "dark by preference",
            self.background == "rgb(21, 23, 27)",
            &self.background,
        );
        self.clean("in the dark", all);
    }

    fn clean(&self, name: &str, all: &mut Vec<Check>) {
        check(
            all,
            &format!("no error {name}"),
            self.errors.is_empty(),
            &self.errors,
        );
        check(
            all,
            &format!("nothing is fetched {name}"),
            self.resources == 0,
            self.resources,
        );
        check(
            all,
            &format!("contrast ≥ 4.5 : 1 {name}"),
            self.faint.is_empty(),
            &self.faint,
        );
    }
}
