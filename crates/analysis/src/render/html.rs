//! The report as one HTML page that needs nothing else: no network, no script, no font. Everything on it is escaped by
//! the template; what may not be shown at all (control characters) is replaced before.

use super::view::{self, BarPart, Lane, RecoveryRow, Row, Tick};
use super::{safe, text};
use crate::landing::Gone;
use crate::num;
use crate::report::Report;
use crate::same_result::{self, Sameness};
use askama::Template;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    tone: &'static str,
    rows: Vec<Row>,
    lanes: Vec<Lane>,
    ticks: Vec<Tick>,
    injections: Vec<InjectionRow<'a>>,
    recoveries: Vec<RecoveryRow>,
    expectations: Vec<ExpectationRow<'a>>,
    rungs: Vec<RungRow<'a>>,
    shares: Vec<BarPart>,
    goodput: String,
    length: String,
}

struct InjectionRow<'a> {
    it: &'a crate::landing::InjectionReport,
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

/// The report as one self-contained page.
pub fn html(report: &Report) -> Result<String, HtmlError> {
    let report = cleaned(report)?;
    Ok(page(&report).render()?)
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

fn page(report: &Report) -> Page<'_> {
    let parts = report
        .training
        .as_ref()
        .and_then(|it| it.effectiveness.as_ref());
    Page {
        tone: match report.verdict.code {
            0 => "held",
            10 => "deviated",
            40 | 1 => "stuck",
            _ => "open",
        },
        rows: view::rows(report),
        lanes: view::lanes(report),
        ticks: view::ticks(&report.timeline),
        injections: report.injections.iter().map(injection).collect(),
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
        length: num::duration(report.length_ns),
        report,
    }
}

fn injection(it: &crate::landing::InjectionReport) -> InjectionRow<'_> {
    InjectionRow {
        it,
        at: text::seconds(it.landed_ns.unwrap_or(it.begun_ns)),
        landed_mark: if it.landed.as_aimed() { "▼" } else { "?" },
        gone_mark: match it.gone {
            Gone::Gone | Gone::NothingToUndo | Gone::Superseded => "✓",
            Gone::Unknown => "?",
            Gone::StillPresent | Gone::Stuck | Gone::Outstanding => "✗",
        },
    }
}

/// The same report with every text made safe to show.
fn cleaned(report: &Report) -> Result<Report, serde_json::Error> {
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
    serde_json::from_value(value)
}
