//! The report as one HTML page that needs nothing else: no network, no font, no library. It is whole without its script, which adds zoom
//! and hover. Everything on it is escaped by the template; what may not be shown at all (control characters) is replaced before. The script
//! and the numbers that it reads are the same for every run but for digits: no text of a run ever stands in a script.

use super::chapters::{Block, Chapter, chapters, stacks};
use super::pack::{Packed, pack};
use super::rows::{Rows, rows};
use super::view::{self, BarPart, Lane, MarkRow, RecoveryRow, Stretch, Tick};
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
    /// Below the recoveries.
    stacks: Option<Chapter>,
    chapters: Vec<Chapter>,
    /// What the parts of the recoveries are.
    stretches: Vec<String>,
    marks: Vec<MarkRow>,
    checkpoints: Vec<MarkRow>,
    words: &'static [(&'static str, &'static str)],
    /// `3 more signals`, `2 signals`, `1 signal has`, `4 checkpoints`.
    counts: [String; 4],
    goodput: String,
    started: String,
    length: String,
}

struct InjectionRow<'a> {
    it: &'a crate::landing::InjectionReport,
    number: usize,
    at: String,
    /// When it was gone; empty where nothing was to be undone or nobody knows.
    gone_at: String,
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
    let report: Report = serde_json::from_value(cleaned(report)?)?;
    Ok(page(&report, all).render()?)
}

fn page<'a>(report: &'a Report, all: Option<&[Cow<'_, Series>]>) -> Page<'a> {
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
    let checkpoints = view::marks(report, true);
    let count = |n, one, many| num::plural(n, one, many);
    Page {
        tone,
        mark,
        counts: [
            count(rows.others.len(), "more signal", "more signals"),
            count(rows.constant.len(), "signal", "signals"),
            count(rows.outside, "signal has", "signals have"),
            count(checkpoints.len(), "checkpoint", "checkpoints"),
        ],
        stacks: stacks(report),
        chapters: chapters(report),
        stretches: text::stretches(&report.recoveries),
        marks: view::marks(report, false),
        checkpoints,
        words: words(report.training.is_some()),
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
        gone_at: it.gone_ns.map_or(String::new(), text::seconds),
        landed_mark: if it.landed.as_aimed() { "▼" } else { "?" },
        gone_mark: match it.gone {
            Gone::Gone | Gone::NothingToUndo | Gone::Superseded => "✓",
            Gone::Unknown => "?",
            Gone::StillPresent | Gone::Stuck | Gone::Outstanding => "✗",
        },
    }
}

/// Words of the page for those who do not run such systems; the first ones matter only where something trained.
const WORDS: &[(&str, &str)] = &[
    (
        "parameters",
        "the numbers that training produces: the model itself",
    ),
    (
        "rank",
        "one of the processes that train a model together, numbered from 0",
    ),
    (
        "step, epoch",
        "a step changes the parameters once; an epoch is one pass over the data",
    ),
    (
        "checkpoint",
        "the state of training on disk, from which it can go on",
    ),
    (
        "repeated, lost",
        "steps that were made, were not in the checkpoint that training went on from, and had to be made again",
    ),
    (
        "reference run",
        "the same training without any fault, to compare with",
    ),
    (
        "fault, injection",
        "a disturbance that Squall makes on purpose; an injection is one such disturbance of one target",
    ),
    (
        "landed, gone",
        "Squall has read back that the disturbance was there, and that it is there no more",
    ),
    (
        "held, deviated, inconclusive",
        "what was expected came true, did not, or could not be decided",
    ),
];
/// How many of them are about training.
const TRAINING_WORDS: usize = 6;

fn words(trained: bool) -> &'static [(&'static str, &'static str)] {
    if trained {
        WORDS
    } else {
        &WORDS[TRAINING_WORDS..]
    }
}

/// `2026-11-24 11:38 UTC` of a moment in RFC 3339; anything else stays as it is.
fn minute(utc: &str) -> String {
    match (utc.get(..10), utc.get(11..16), utc.ends_with('Z')) {
        (Some(day), Some(time), true) => format!("{day} {time} UTC"),
        _ => utc.to_owned(),
    }
}

/// What the host is, with sizes as people read them.
fn host(value: &str) -> String {
    let bytes = value.strip_suffix(" bytes").and_then(|it| it.parse().ok());
    bytes.map_or(value.to_owned(), |it: f64| num::quantity(it, "bytes"))
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
