//! Which signals share a row of the timeline: one row for each kind of signal, one line for each rank or thing measured, and on that line
//! every process that took the role, one after the other. Rows that matter in every training run come first; signals that never change are
//! listed, not drawn.

use super::view::{HEIGHT, WIDTH, share, show};
use crate::chart::{Gap, SeriesReport, reduce};
use crate::num;
use crate::report::{Report, Timeline};
use crate::run::Series;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Points of all lines that stand in the page itself, for readers without scripts.
const STATIC_POINTS: usize = 50_000;
/// Lines of one row that get a look of their own.
const LOOKS: usize = 4;

/// The readings of one signal within the time that is shown.
pub(super) struct Source<'a> {
    report: &'a SeriesReport,
    pub(super) points: Vec<(u64, f64)>,
    pub(super) gaps: Vec<Gap>,
}

/// One kind of signal.
pub(super) struct Row<'a> {
    pub(super) title: String,
    /// The signal's own name, where the title is another.
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) summary: String,
    pub(super) low: String,
    pub(super) high: String,
    /// Whether its scale begins at zero.
    pub(super) zero: bool,
    pub(super) lines: Vec<Line<'a>>,
}

/// What was measured of one rank, or of one thing.
pub(super) struct Line<'a> {
    pub(super) label: String,
    /// Which colour and dash it gets.
    pub(super) look: usize,
    /// SVG path, broken at gaps.
    pub(super) path: String,
    pub(super) low: String,
    pub(super) high: String,
    pub(super) samples: String,
    pub(super) sources: Vec<Source<'a>>,
}

/// A signal with one value.
pub(super) struct Constant {
    pub(super) title: String,
    pub(super) values: String,
}

/// All rows of the timeline.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) main: Vec<Row<'a>>,
    pub(super) others: Vec<Row<'a>>,
    pub(super) constant: Vec<Constant>,
    /// Signals without a reading in the time that is shown.
    pub(super) outside: usize,
}

impl<'a> Rows<'a> {
    /// All that are drawn, in the order in which the page numbers them.
    pub(super) fn drawn(&self) -> Vec<&Row<'a>> {
        self.main.iter().chain(&self.others).collect()
    }
}

/// Sorts all signals into rows. `all` are the readings themselves, in the order of the report's series, when they are at hand.
pub(super) fn rows<'a>(report: &'a Report, all: Option<&[Cow<'_, Series>]>) -> Rows<'a> {
    let mut rows = Rows::default();
    let mut groups: BTreeMap<(usize, &str, &str), BTreeMap<String, Vec<Source<'a>>>> =
        BTreeMap::new();
    let ranked = |name: &str| {
        let mut named = report.series.iter().filter(|it| it.name == name);
        named.any(|it| it.labels.contains_key("rank"))
    };
    for (index, series) in report.series.iter().enumerate() {
        let full = all.and_then(|all| all.get(index)).map(Cow::as_ref);
        let source = source(series, full, &report.timeline);
        if source.points.is_empty() {
            rows.outside += 1;
            continue;
        }
        let place = place(series, ranked(&series.name));
        let lines = groups
            .entry((place, &series.name, &series.unit))
            .or_default();
        lines.entry(label(series)).or_default().push(source);
    }
    let count = groups.values().flat_map(|lines| lines.values().flatten());
    let limit = (STATIC_POINTS / count.count().max(1)).clamp(40, 2_000);
    for ((place, name, unit), lines) in groups {
        let row = row(place, name, unit, lines);
        if place >= OTHERS && row.lines.iter().all(Line::is_constant) {
            rows.constant.push(constant(&row));
        } else if place < OTHERS {
            rows.main.push(row);
        } else {
            rows.others.push(row);
        }
    }
    prefer(&mut rows, &["process.cpu", "cgroup.cpu", "host.cpu"]);
    prefer(
        &mut rows,
        &["process.rss", "cgroup.memory", "host.memory_available"],
    );
    for row in rows.main.iter_mut().chain(&mut rows.others) {
        draw(row, &report.timeline, limit);
    }
    rows
}

/// Rows from here on are folded away.
const OTHERS: usize = 100;

/// Where a signal's row stands.
fn place(series: &SeriesReport, ranked: bool) -> usize {
    let bystander = ranked && !series.labels.contains_key("rank");
    match series.name.as_str() {
        _ if bystander => OTHERS + 50,
        "training.loss" => 0,
        "training.step_time" | "training.epoch_time" => 1,
        "training.steps" => 2,
        "process.cpu" => 10,
        "cgroup.cpu" => 11,
        "host.cpu" => 12,
        "process.rss" => 20,
        "cgroup.memory" => 21,
        "host.memory_available" => 22,
        name => {
            let prefixes = [
                "training.",
                "probe.",
                "process.",
                "cgroup.",
                "host.",
                "squall.",
            ];
            let known = prefixes.iter().position(|prefix| name.starts_with(prefix));
            OTHERS + known.map_or(0, |at| at + 1)
        }
    }
}

/// Of signals that say the same of different things, only the first that is there stays among the main rows.
fn prefer(rows: &mut Rows<'_>, names: &[&str]) {
    let mut there = names
        .iter()
        .filter_map(|name| rows.main.iter().position(|row| row.name == *name));
    let Some(first) = there.next().map(|at| rows.main[at].name) else {
        return;
    };
    let (stay, leave) = std::mem::take(&mut rows.main)
        .into_iter()
        .partition(|row| row.name == first || !names.contains(&row.name));
    rows.main = stay;
    for mut row in Vec::into_iter(leave) {
        row.title = plain(row.name);
        if row.lines.iter().all(Line::is_constant) {
            rows.constant.push(constant(&row));
        } else {
            rows.others.push(row);
        }
    }
}

fn source<'a>(series: &'a SeriesReport, full: Option<&Series>, timeline: &Timeline) -> Source<'a> {
    let (t_ns, values) = full.map_or((&series.t_ns, &series.values), |it| (&it.t_ns, &it.values));
    let shown = timeline.from_ns..=timeline.to_ns;
    let points = t_ns.iter().copied().zip(values.iter().copied());
    Source {
        report: series,
        points: points
            .filter(|(t_ns, value)| value.is_finite() && shown.contains(t_ns))
            .collect(),
        gaps: series
            .gaps
            .iter()
            .copied()
            .filter(|gap| gap.to_ns > timeline.from_ns && gap.from_ns < timeline.to_ns)
            .collect(),
    }
}

/// What a line is called: the rank where there is one; a process id never, because roles outlive processes.
fn label(series: &SeriesReport) -> String {
    if let Some(rank) = series.labels.get("rank") {
        return format!("rank {rank}");
    }
    let labels = series.labels.iter().filter(|(key, _)| *key != "pid");
    let labels: Vec<&str> = labels.map(|(_, value)| value.as_str()).collect();
    labels.join(" ")
}

fn row<'a>(
    place: usize,
    name: &'a str,
    unit: &'a str,
    lines: BTreeMap<String, Vec<Source<'a>>>,
) -> Row<'a> {
    let mut lines: Vec<(String, Vec<Source<'a>>)> = lines.into_iter().collect();
    // Rank 2 stands before rank 10.
    lines.sort_by_key(|(label, _)| (label.len(), label.clone()));
    Row {
        title: if place < OTHERS {
            title(name)
        } else {
            plain(name)
        },
        name,
        unit,
        summary: String::new(),
        low: String::new(),
        high: String::new(),
        zero: matches!(unit, "%" | "1/s" | "s" | "bytes/s"),
        lines: lines
            .into_iter()
            .enumerate()
            .map(|(index, (label, sources))| Line {
                label,
                look: index % LOOKS,
                path: String::new(),
                low: String::new(),
                high: String::new(),
                samples: String::new(),
                sources,
            })
            .collect(),
    }
}

fn title(name: &str) -> String {
    match name {
        "training.loss" => "Loss".into(),
        "training.step_time" => "Step time".into(),
        "training.epoch_time" => "Epoch time".into(),
        "training.steps" => "Steps per second".into(),
        "process.cpu" => "CPU".into(),
        "cgroup.cpu" => "CPU of the workload".into(),
        "host.cpu" => "CPU of the host".into(),
        "process.rss" => "Memory".into(),
        "cgroup.memory" => "Memory of the workload".into(),
        "host.memory_available" => "Memory free on the host".into(),
        other => plain(other),
    }
}

/// `process.voluntary_switches` as people read it.
fn plain(name: &str) -> String {
    name.replace('.', ": ").replace('_', " ")
}

impl Line<'_> {
    fn values(&self) -> impl Iterator<Item = f64> {
        let points = self.sources.iter().flat_map(|source| &source.points);
        points.map(|(_, value)| *value)
    }

    fn is_constant(&self) -> bool {
        let first = self.values().next();
        self.values().all(|value| Some(value) == first)
    }
}

fn constant(row: &Row<'_>) -> Constant {
    let mut values: Vec<String> = Vec::new();
    for line in &row.lines {
        let value = show(line.values().next().unwrap_or(0.0), row.unit);
        values.push(format!("{} {value}", line.label).trim_start().to_owned());
    }
    Constant {
        title: row.title.clone(),
        values: values.join(" · "),
    }
}

/// Fills in what is seen without scripts.
fn draw(row: &mut Row<'_>, timeline: &Timeline, limit: usize) {
    let none = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut low, mut high) = none;
    for line in &mut row.lines {
        let ends = line
            .values()
            .fold(none, |(low, high), value| (low.min(value), high.max(value)));
        (low, high) = (low.min(ends.0), high.max(ends.1));
        (line.low, line.high) = (show(ends.0, row.unit), show(ends.1, row.unit));
        let samples: usize = line.sources.iter().map(|source| source.points.len()).sum();
        line.samples = num::thousands(samples as u64);
    }
    row.summary = format!("{} to {}", show(low, row.unit), show(high, row.unit));
    let sources = || row.lines.iter().flat_map(|line| &line.sources);
    let samples: usize = sources().map(|source| source.points.len()).sum();
    row.summary += &format!(" · {}", num::plural(samples, "sample", "samples"));
    let gaps: usize = sources().map(|source| source.gaps.len()).sum();
    if gaps > 0 {
        row.summary += &format!(" · {}", num::plural(gaps, "gap", "gaps"));
    }
    let lost: u64 = sources().map(|source| source.report.not_finite).sum();
    if lost > 0 {
        row.summary += &format!(" · {} not finite", num::thousands(lost));
    }
    if row.zero {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    (row.low, row.high) = (show(low, row.unit), show(high, row.unit));
    for line in &mut row.lines {
        for source in &line.sources {
            path(&mut line.path, source, (low, high), timeline, limit);
        }
    }
}

/// A line through the points; a new one begins after each gap. A point alone becomes a short stroke.
fn path(
    path: &mut String,
    source: &Source<'_>,
    (low, high): (f64, f64),
    timeline: &Timeline,
    limit: usize,
) {
    let height = |value: f64| {
        let share = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        // A margin keeps the stroke of extremes inside.
        HEIGHT * (0.96 - 0.92 * share)
    };
    let mut gaps = source.gaps.iter().peekable();
    let mut broken = true;
    for (t_ns, value) in reduce(&source.points, limit) {
        while gaps.next_if(|gap| gap.to_ns <= t_ns).is_some() {
            broken = true;
        }
        let x = share(timeline, t_ns) * WIDTH;
        let command = if broken { 'M' } else { 'L' };
        // Writing to a string cannot fail.
        _ = write!(path, "{command}{x:.1} {:.1}", height(value));
        if broken {
            path.push_str("h.5");
        }
        broken = false;
    }
}
