//! The report as one HTML page that needs nothing else: no network, no font, no library. It is whole without its script, which adds zoom
//! and hover. Everything on it is escaped by the template; what may not be shown at all (control characters) is replaced before. The script
//! and the numbers that it reads are the same for every run but for digits: no text of a run ever stands in a script.

use super::extra::{Block, Extra, extras};
use super::pack::{Packed, pack};
use super::rows::{Rows, rows};
use super::view::{self, BarPart, Lane, RecoveryRow, Stretch, Tick};
use super::{safe, text};
use crate::landing::Gone;
use crate::num;
use crate::report::Report;
use crate::run::{Run, Series};
use crate::same_result::{self, Sameness};
use crate::signals;
use askama::Template;
use std::borrow::Cow;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    tone: &'static str,
    mark: &'static str,
    rows: Rows<'a>,
    packed: Packed,
    bands: Vec<Stretch>,
    holds: Vec<Stretch>,
    lanes: Vec<Lane>,
    ticks: Vec<Tick>,
    injections: Vec<InjectionRow<'a>>,
    recoveries: Vec<RecoveryRow>,
    expectations: Vec<ExpectationRow<'a>>,
    rungs: Vec<RungRow<'a>>,
    shares: Vec<BarPart>,
    extras: Vec<Extra>,
    /// `3 more signals`, `2 signals`, `1 signal has`.
    counts: [String; 3],
    goodput: String,
    started: String,
    length: String,
}

struct InjectionRow<'a> {
    it: &'a crate::landing::InjectionReport,
    number: usize,
    at: String,
    landed_mark: &'static str,
    gone_mark: &'static str,
}

struct ExpectationRow<'a> {
    it: &'a crate::expect::Judged,
    mark: &'static str,
    word: &'static str,
}

struct RungRow<'a> {
    it: &'a crate::same_result::Rung,
    mark: &'static str,
    word: &'static str,
}

/// The report as one self-contained page, with the readings that the report itself carries.
pub fn html(report: &Report) -> Result<String, HtmlError> {
    render(report, None)
}

/// The same with every reading of the run, for zooming in further.
pub fn detailed(report: &Report, run: &Run) -> Result<String, HtmlError> {
    render(report, Some(&signals::all(run)))
}

/// Why a page could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HtmlError {
    /// The report could not be copied through JSON.
    #[error("could not write the page, because the report is not valid: {0}")]
    Report(#[from] serde_json::Error),
    /// The template failed.
    #[error("could not write the page: {0}")]
    Template(#[from] askama::Error),
}

fn render(report: &Report, all: Option<&[Cow<'_, Series>]>) -> Result<String, HtmlError> {
    let value = cleaned(report)?;
    let extras = extras(&value);
    let report: Report = serde_json::from_value(value)?;
    Ok(page(&report, all, extras).render()?)
}

fn page<'a>(report: &'a Report, all: Option<&[Cow<'_, Series>]>, extras: Vec<Extra>) -> Page<'a> {
    let parts = report
        .training
        .as_ref()
        .and_then(|it| it.effectiveness.as_ref());
    let (tone, mark) = match report.verdict.code {
        0 => ("held", "✓"),
        10 => ("deviated", "✗"),
        40 | 1 => ("stuck", "✗"),
        _ => ("open", "?"),
    };
    let rows = rows(report, all);
    let count = |n, one, many| num::plural(n, one, many);
    Page {
        tone,
        mark,
        counts: [
            count(rows.others.len(), "more signal", "more signals"),
            count(rows.constant.len(), "signal", "signals"),
            count(rows.outside, "signal has", "signals have"),
        ],
        packed: pack(&rows.drawn(), &report.timeline),
        rows,
        bands: view::bands(report),
        holds: view::holds(report),
        lanes: view::lanes(report),
        ticks: view::ticks(&report.timeline),
        injections: report
            .injections
            .iter()
            .enumerate()
            .map(injection)
            .collect(),
        recoveries: view::recoveries(report),
        expectations: report
            .expectations
            .iter()
            .map(|it| {
                let (mark, word) = text::judgement(it.judgement);
                ExpectationRow { it, mark, word }
            })
            .collect(),
        rungs: report
            .same_result
            .rungs
            .iter()
            .map(|it| RungRow {
                it,
                mark: match it.sameness {
                    Sameness::Same => "✓",
                    Sameness::Different => "✗",
                    Sameness::NotMeasured => "?",
                },
                word: same_result::word(it.sameness),
            })
            .collect(),
        shares: parts.map(view::shares).unwrap_or_default(),
        extras,
        goodput: parts
            .and_then(|it| it.goodput)
            .map_or(String::new(), num::percent),
        started: minute(&report.started_utc),
        length: num::duration(report.length_ns),
        report,
    }
}

fn injection((index, it): (usize, &crate::landing::InjectionReport)) -> InjectionRow<'_> {
    InjectionRow {
        it,
        number: index + 1,
        at: text::seconds(it.landed_ns.unwrap_or(it.begun_ns)),
        landed_mark: if it.landed.as_aimed() { "▼" } else { "?" },
        gone_mark: match it.gone {
            Gone::Gone | Gone::NothingToUndo | Gone::Superseded => "✓",
            Gone::Unknown => "?",
            Gone::StillPresent | Gone::Stuck | Gone::Outstanding => "✗",
        },
    }
}

/// `2026-11-24 11:38 UTC` of a moment in RFC 3339; anything else stays as it is.
fn minute(utc: &str) -> String {
    match (utc.get(..10), utc.get(11..16), utc.ends_with('Z')) {
        (Some(day), Some(time), true) => format!("{day} {time} UTC"),
        _ => utc.to_owned(),
    }
}

/// The same report with every text made safe to show.
fn cleaned(report: &Report) -> Result<serde_json::Value, serde_json::Error> {
    fn clean(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = safe(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(clean),
            serde_json::Value::Object(map) => {
                let entries = std::mem::take(map);
                for (key, mut value) in entries {
                    clean(&mut value);
                    map.insert(safe(&key), value);
                }
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(report)?;
    clean(&mut value);
    Ok(value)
}
