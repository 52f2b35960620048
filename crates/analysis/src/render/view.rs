//! Geometry of the page: what is drawn where, in shares of the width, so that it fits every screen.

use super::text;
use crate::chart::SeriesReport;
use crate::ettr::Effectiveness;
use crate::num;
use crate::report::{MarkKind, Report, Timeline};
use std::fmt::Write as _;

/// Size of a chart's own coordinates; it is stretched to the width of the page.
pub(super) const WIDTH: f64 = 1000.0;
pub(super) const HEIGHT: f64 = 100.0;
/// The most signals that are drawn; all are in the JSON report.
const ROWS_MAX: usize = 24;

/// One signal with the injections behind it.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) summary: String,
    /// SVG path of the line, broken at gaps.
    pub(super) path: String,
    pub(super) bands: Vec<BandShape>,
}

/// A stretch of time behind a line.
pub(super) struct BandShape {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) label: String,
}

/// Marks of one kind over all rows.
pub(super) struct Lane {
    pub(super) name: &'static str,
    pub(super) glyph: &'static str,
    pub(super) class: &'static str,
    pub(super) marks: Vec<Glyph>,
}

pub(super) struct Glyph {
    /// Position in percent of the width.
    pub(super) left: String,
    pub(super) words: String,
    pub(super) at: String,
    pub(super) utc: String,
}

pub(super) struct Tick {
    pub(super) left: String,
    pub(super) text: String,
}

/// A part of a bar.
pub(super) struct BarPart {
    pub(super) name: String,
    pub(super) words: String,
    pub(super) x: String,
    pub(super) width: String,
    /// Which of the fills it gets.
    pub(super) fill: usize,
}

pub(super) struct RecoveryRow {
    pub(super) injection: String,
    pub(super) words: String,
    pub(super) total: String,
    pub(super) parts: Vec<BarPart>,
    pub(super) overlapped: String,
}

/// Share of the timeline at a moment, 0 to 1.
fn share(timeline: &Timeline, t_ns: u64) -> f64 {
    let span = timeline.to_ns.saturating_sub(timeline.from_ns).max(1) as f64;
    (t_ns.saturating_sub(timeline.from_ns) as f64 / span).clamp(0.0, 1.0)
}

pub(super) fn rows(report: &Report) -> Vec<Row> {
    let series = report.series.iter().take(ROWS_MAX);
    series.map(|it| row(it, &report.timeline)).collect()
}

fn row(series: &SeriesReport, timeline: &Timeline) -> Row {
    let labels: Vec<String> = series
        .labels
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let show =
        |value: Option<f64>| value.map_or("none".into(), |it| num::quantity(it, &series.unit));
    let mut summary = format!(
        "{} to {}, middle {} · {}",
        show(series.min),
        show(series.max),
        show(series.median),
        num::plural(series.samples as usize, "sample", "samples"),
    );
    if series.gap_count > 0 {
        summary += &format!(
            " · {}",
            num::plural(series.gap_count as usize, "gap", "gaps")
        );
    }
    if series.not_finite > 0 {
        summary += &format!(" · {} not finite", num::thousands(series.not_finite));
    }
    Row {
        title: format!("{} {}", series.name, labels.join(", "))
            .trim_end()
            .to_owned(),
        summary,
        path: path(series, timeline),
        bands: timeline
            .bands
            .iter()
            .map(|band| {
                let (from, to) = (share(timeline, band.from_ns), share(timeline, band.to_ns));
                BandShape {
                    x: format!("{:.2}", from * WIDTH),
                    // A one-shot fault has no length; it is drawn as thin as can still be seen.
                    width: format!("{:.2}", ((to - from) * WIDTH).max(2.0)),
                    label: band.label.clone(),
                }
            })
            .collect(),
    }
}

/// A line through the points; a new one begins after each gap. A point alone becomes a short stroke.
fn path(series: &SeriesReport, timeline: &Timeline) -> String {
    let (low, high) = (series.min.unwrap_or(0.0), series.max.unwrap_or(0.0));
    let height = |value: f64| {
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        // A margin keeps the stroke of extremes inside.
        HEIGHT * (0.96 - 0.92 * share)
    };
    let mut path = String::new();
    let mut gaps = series.gaps.iter().peekable();
    let mut before: Option<u64> = None;
    let shown = timeline.from_ns..=timeline.to_ns;
    let points = series.t_ns.iter().zip(&series.values);
    for (t_ns, value) in points.filter(|(t_ns, _)| shown.contains(*t_ns)) {
        let mut broken = before.is_none();
        while gaps.next_if(|gap| gap.to_ns <= *t_ns).is_some() {
            broken = true;
        }
        let x = share(timeline, *t_ns) * WIDTH;
        let command = if broken { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        _ = write!(path, "{command}{x:.2} {:.2}", height(*value));
        if broken {
            path.push_str("h.5");
        }
        before = Some(*t_ns);
    }
    path
}

pub(super) fn lanes(report: &Report) -> Vec<Lane> {
    let kinds = [
        (MarkKind::Held, "held", "‖", "mark"),
        (MarkKind::Landed, "landed", "▼", "mark fault"),
        (MarkKind::Detected, "detected", "◆", "mark"),
        (MarkKind::Recovered, "recovered", "▲", "mark good"),
    ];
    let lane = |(kind, name, glyph, class)| Lane {
        name,
        glyph,
        class,
        marks: report
            .timeline
            .marks
            .iter()
            .filter(|mark| mark.kind == kind)
            .map(|mark| Glyph {
                left: format!("{:.2}", share(&report.timeline, mark.t_ns) * 100.0),
                words: mark.words.clone(),
                at: text::seconds(mark.t_ns),
                utc: mark.utc.clone(),
            })
            .collect(),
    };
    kinds
        .into_iter()
        .map(lane)
        .filter(|lane| !lane.marks.is_empty())
        .collect()
}

pub(super) fn ticks(timeline: &Timeline) -> Vec<Tick> {
    let span = timeline.to_ns.saturating_sub(timeline.from_ns);
    [0, 1, 2, 3]
        .into_iter()
        .map(|quarter| Tick {
            left: format!("{}", quarter * 25),
            text: text::seconds(timeline.from_ns + span / 4 * quarter),
        })
        .collect()
}

pub(super) fn recoveries(report: &Report) -> Vec<RecoveryRow> {
    report
        .recoveries
        .iter()
        .map(|it| RecoveryRow {
            injection: it.injection.0.clone(),
            words: text::recovery_words(it),
            total: num::duration(it.total_ns),
            parts: bar(it
                .segments
                .iter()
                .map(|part| (part.name.clone(), part.duration_ns))),
            overlapped: it
                .overlapped_by
                .iter()
                .map(|id| id.0.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
        .collect()
}

pub(super) fn shares(it: &Effectiveness) -> Vec<BarPart> {
    let shares = it.shares.iter().filter(|share| share.duration_ns > 0);
    bar(shares.map(|share| (share.name.replace('-', " "), share.duration_ns)))
}

fn bar(parts: impl Iterator<Item = (String, u64)>) -> Vec<BarPart> {
    let parts: Vec<(String, u64)> = parts.collect();
    let total = parts.iter().map(|(_, ns)| *ns).sum::<u64>().max(1) as f64;
    let mut from = 0.0;
    parts
        .into_iter()
        .enumerate()
        .map(|(index, (name, ns))| {
            let width = ns as f64 / total * WIDTH;
            let x = from;
            from += width;
            BarPart {
                name,
                words: format!(
                    "{} ({})",
                    num::duration(ns),
                    num::percent(ns as f64 / total)
                ),
                x: format!("{x:.2}"),
                width: format!("{width:.2}"),
                fill: index % 6,
            }
        })
        .collect()
}
