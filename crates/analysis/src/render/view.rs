//! Geometry of the page: what is drawn where, in shares of the width, so that it fits every screen.

use super::text;
use crate::ettr::Effectiveness;
use crate::num;
use crate::report::{MarkKind, Report, Timeline};

/// Size of a chart's own coordinates; it is stretched to the width of the page.
pub(super) const WIDTH: f64 = 1000.0;
pub(super) const HEIGHT: f64 = 100.0;
/// Width of a letter of a label in percent of a chart on a large screen.
const LETTER: f64 = 0.8;
/// The fewest and the most lines of the time axis.
const TICKS: (u64, u64) = (4, 7);

/// A stretch of time behind all lines.
pub(super) struct Stretch {
    /// Number of the injection, from 1.
    pub(super) number: String,
    pub(super) label: String,
    /// Both ends as shares of the timeline, for the script.
    pub(super) from: String,
    pub(super) to: String,
    /// The same in percent, for the page without it.
    pub(super) left: String,
    pub(super) width: String,
    /// Whether there is room for the whole label.
    pub(super) roomy: bool,
}

/// Marks of one kind over all rows.
pub(super) struct Lane {
    pub(super) name: &'static str,
    pub(super) glyph: &'static str,
    pub(super) class: &'static str,
    pub(super) marks: Vec<Glyph>,
}

pub(super) struct Glyph {
    pub(super) at: String,
    /// Position in percent of the width.
    pub(super) left: String,
    pub(super) words: String,
    pub(super) seconds: String,
}

/// A mark as a row of a table.
pub(super) struct MarkRow {
    pub(super) seconds: String,
    pub(super) utc: String,
    pub(super) mark: String,
    pub(super) number: String,
    pub(super) words: String,
}

pub(super) struct Tick {
    pub(super) at: String,
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
    pub(super) number: String,
    pub(super) injection: String,
    pub(super) words: String,
    pub(super) notes: Vec<String>,
    pub(super) total: String,
    pub(super) parts: Vec<BarPart>,
    pub(super) overlapped: String,
}

/// Share of the timeline at a moment, 0 to 1.
pub(super) fn share(timeline: &Timeline, t_ns: u64) -> f64 {
    let span = timeline.to_ns.saturating_sub(timeline.from_ns).max(1) as f64;
    (t_ns.saturating_sub(timeline.from_ns) as f64 / span).clamp(0.0, 1.0)
}

/// A value with its unit, as rows show it.
pub(super) fn show(value: f64, unit: &str) -> String {
    match unit {
        "s" if value > 0.0 => num::duration((value * 1e9) as u64),
        "bytes/s" => num::quantity(value, "bytes") + "/s",
        "1/s" => num::significant(value) + " /s",
        unit => num::quantity(value, unit),
    }
}

/// The number of an injection, as the page counts them; empty when there is none.
pub(super) fn number(report: &Report, id: Option<&squall_model::id::InjectionId>) -> String {
    let mut injections = report.injections.iter();
    let at = id.and_then(|id| injections.position(|it| it.id == *id));
    at.map_or(String::new(), |at| (at + 1).to_string())
}

fn stretch(timeline: &Timeline, number: String, label: String, ends: (u64, u64)) -> Stretch {
    let (from, to) = (share(timeline, ends.0), share(timeline, ends.1));
    Stretch {
        number,
        label,
        from: format!("{from:.6}"),
        to: format!("{to:.6}"),
        left: format!("{:.3}", from * 100.0),
        width: format!("{:.3}", (to - from) * 100.0),
        roomy: true,
    }
}

/// Where each injection acted, with short labels; a label without room before the next one is left out.
pub(super) fn bands(report: &Report) -> Vec<Stretch> {
    let timeline = &report.timeline;
    let mut bands: Vec<Stretch> = timeline
        .bands
        .iter()
        .map(|band| {
            // What follows the pid stands in the table.
            let short = band.label.split([' ']).collect::<Vec<_>>();
            let until = short
                .iter()
                .position(|word| *word == "pid" || word.starts_with('('));
            let label = short[..until.unwrap_or(short.len())].join(" ");
            let label = label.trim_end_matches(',').to_owned();
            let number = number(report, Some(&band.injection));
            stretch(timeline, number, label, (band.from_ns, band.to_ns))
        })
        .collect();
    let lefts: Vec<f64> = timeline
        .bands
        .iter()
        .map(|band| share(timeline, band.from_ns) * 100.0)
        .collect();
    for (index, band) in bands.iter_mut().enumerate() {
        let next = lefts.get(index + 1).copied().unwrap_or(100.0);
        let letters = band.label.chars().count() + band.number.len() + 3;
        band.roomy = lefts[index] + letters as f64 * LETTER <= next;
    }
    bands
}

/// Where a process was held for an injection.
pub(super) fn holds(report: &Report) -> Vec<Stretch> {
    let held = report.injections.iter().filter_map(|it| {
        let (end, length) = (it.landed_ns?, it.held_ns?);
        let label = format!("held {} for {}", num::duration(length), it.kind);
        let ends = (end.saturating_sub(length), end);
        let number = number(report, Some(&it.id));
        Some(stretch(&report.timeline, number, label, ends))
    });
    held.collect()
}

/// Kind, name, shape and look of each lane.
const LANES: [(MarkKind, &str, &str, &str); 5] = [
    (MarkKind::Held, "held", "‖", "holding"),
    (MarkKind::Landed, "landed", "▼", "landed"),
    (MarkKind::Detected, "detected", "◆", "detected"),
    (MarkKind::Recovered, "recovered", "▲", "recovered"),
    (MarkKind::Checkpoint, "checkpoint", "○", "saved"),
];

pub(super) fn lanes(report: &Report) -> Vec<Lane> {
    let lane = |(kind, name, glyph, class)| Lane {
        name,
        glyph,
        class,
        marks: report
            .timeline
            .marks
            .iter()
            .filter(|mark| mark.kind == kind)
            .map(|mark| {
                let at = share(&report.timeline, mark.t_ns);
                Glyph {
                    at: format!("{at:.6}"),
                    left: format!("{:.3}", at * 100.0),
                    words: mark.words.clone(),
                    seconds: text::seconds(mark.t_ns),
                }
            })
            .collect(),
    };
    LANES
        .into_iter()
        .map(lane)
        .filter(|lane| !lane.marks.is_empty())
        .collect()
}

/// Marks in the order of time: the checkpoints, or all others.
pub(super) fn marks(report: &Report, checkpoints: bool) -> Vec<MarkRow> {
    let marks = report.timeline.marks.iter();
    marks
        .filter(|mark| (mark.kind == MarkKind::Checkpoint) == checkpoints)
        .map(|mark| MarkRow {
            seconds: text::seconds(mark.t_ns),
            utc: mark.utc.clone(),
            mark: LANES
                .iter()
                .find(|(kind, ..)| *kind == mark.kind)
                .map_or(String::new(), |(_, name, glyph, _)| {
                    format!("{glyph} {name}")
                }),
            number: number(report, mark.injection.as_ref()),
            words: mark.words.clone(),
        })
        .collect()
}

/// Round moments, as the script finds them after each zoom.
pub(super) fn ticks(timeline: &Timeline) -> Vec<Tick> {
    const STEPS: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];
    const MINUTES: [u64; 13] = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440, 2880, 10_080];
    let millis = STEPS.iter().copied();
    let seconds = [1, 2, 5, 10, 15, 30].iter().map(|s| s * 1_000);
    let minutes = MINUTES.iter().map(|m| m * 60_000);
    let span = timeline.to_ns.saturating_sub(timeline.from_ns);
    let step = millis
        .chain(seconds)
        .chain(minutes)
        .map(|ms| ms * 1_000_000)
        .find(|step| span / step <= TICKS.1)
        .unwrap_or(span / TICKS.0)
        .max(1);
    let first = timeline.from_ns.div_ceil(step);
    (first..=timeline.to_ns / step)
        .map(|count| count * step)
        .map(|t_ns| Tick {
            at: format!("{:.6}", share(timeline, t_ns)),
            left: format!("{:.3}", share(timeline, t_ns) * 100.0),
            text: clock(t_ns, step),
        })
        .collect()
}

/// A moment as the axis names it: `8.5 s`, `12 min`, `12 min 30 s`, `3 h 7 min`.
fn clock(t_ns: u64, step_ns: u64) -> String {
    let seconds = t_ns as f64 / 1e9;
    if step_ns >= 60_000_000_000 || t_ns >= 600_000_000_000 && step_ns >= 1_000_000_000 {
        let whole = t_ns / 1_000_000_000;
        let parts = [
            (whole / 3600, "h"),
            (whole / 60 % 60, "min"),
            (whole % 60, "s"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, unit)| *count > 0 || whole == 0 && *unit == "min")
            .map(|(count, unit)| format!("{count} {unit}"))
            .collect();
        return parts.join(" ");
    }
    match step_ns {
        1_000_000_000.. => format!("{seconds:.0} s"),
        100_000_000.. => format!("{seconds:.1} s"),
        10_000_000.. => format!("{seconds:.2} s"),
        _ => format!("{seconds:.3} s"),
    }
}

/// All recoveries on one scale, so that a longer bar took longer.
pub(super) fn recoveries(report: &Report) -> Vec<RecoveryRow> {
    let longest = report.recoveries.iter().map(|it| it.total_ns).max();
    let longest = longest.unwrap_or(0);
    let mut names: Vec<&str> = Vec::new();
    for part in report.recoveries.iter().flat_map(|it| &it.segments) {
        if !names.contains(&part.name.as_str()) {
            names.push(&part.name);
        }
    }
    report
        .recoveries
        .iter()
        .map(|it| RecoveryRow {
            number: number(report, Some(&it.injection)),
            injection: it.injection.0.clone(),
            words: text::outcome_words(it),
            notes: it.notes.clone(),
            total: num::duration(it.total_ns),
            parts: bar(
                it.segments.iter().map(|part| {
                    let fill = names.iter().position(|name| *name == part.name);
                    (part.name.clone(), part.duration_ns, fill.unwrap_or(0))
                }),
                longest,
            ),
            overlapped: it
                .overlapped_by
                .iter()
                .map(|id| format!("#{}", number(report, Some(id))))
                .collect::<Vec<_>>()
                .join(", "),
        })
        .collect()
}

pub(super) fn shares(it: &Effectiveness) -> Vec<BarPart> {
    let shares = it.shares.iter().filter(|share| share.duration_ns > 0);
    let parts = shares.enumerate().map(|(index, share)| {
        let name = share.name.replace('-', " ");
        (name, share.duration_ns, index)
    });
    bar(parts, it.to_ns.saturating_sub(it.from_ns))
}

fn bar(parts: impl Iterator<Item = (String, u64, usize)>, whole: u64) -> Vec<BarPart> {
    let parts: Vec<(String, u64, usize)> = parts.collect();
    let total = parts.iter().map(|(_, ns, _)| *ns).sum::<u64>().max(1) as f64;
    let whole = total.max(whole as f64);
    let mut from = 0.0;
    parts
        .into_iter()
        .map(|(name, ns, fill)| {
            let width = ns as f64 / whole * WIDTH;
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
                fill: fill % 7,
            }
        })
        .collect()
}
