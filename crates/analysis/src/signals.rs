//! Signals that training events carry: loss and step time over time, as series beside the sampled ones.

use crate::lineage::Lineage;
use crate::log::Log;
use crate::run::{Run, Series};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// All signals of a run, those of its training events first: the order in which its report lists them.
pub(crate) fn all(run: &Run) -> Vec<Cow<'_, Series>> {
    let log = Log::of(run);
    let lineage = Lineage::of(&log.work);
    let told = training(&log, lineage.as_ref());
    let told = told.into_iter().map(Cow::Owned);
    told.chain(sampled(run, &log)).collect()
}

/// The sampled signals. A process that was found between its fork and the start of its program has no rank in its labels; the events
/// that it sent itself tell it.
pub(crate) fn sampled<'a>(run: &'a Run, log: &Log<'_>) -> impl Iterator<Item = Cow<'a, Series>> {
    let mut ranks: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    for seen in &log.work.training {
        if let (Some(pid), Some(rank)) = (seen.pid, seen.rank) {
            ranks.entry(pid).or_default().push((seen.t_ns, rank));
        }
    }
    let told = move |series: &Series| {
        let pid: u32 = series.labels.get("pid")?.parse().ok()?;
        let life = *series.t_ns.first()?..=*series.t_ns.last()?;
        let mut of = ranks.get(&pid)?.iter();
        of.find_map(|(t_ns, rank)| life.contains(t_ns).then_some(*rank))
    };
    run.series.iter().map(move |series| {
        if series.labels.contains_key("rank") {
            return Cow::Borrowed(series);
        }
        told(series).map_or(Cow::Borrowed(series), |rank| {
            let mut series = series.clone();
            series.labels.insert("rank".into(), rank.to_string());
            Cow::Owned(series)
        })
    })
}

/// Loss of each step as the lowest rank reports it, replays included, and the time of each step of the job.
pub(crate) fn training(log: &Log<'_>, lineage: Option<&Lineage>) -> Vec<Series> {
    let Some(lineage) = lineage else {
        return Vec::new();
    };
    let mut series = Vec::new();
    let reported = |seen: &crate::log::Seen<'_>| {
        let done = lineage.unit.completed(seen)?;
        Some((seen.rank, seen.t_ns, done, seen.event.loss?))
    };
    let losses: Vec<_> = log.work.training.iter().filter_map(reported).collect();
    if let Some(rank) = losses.iter().map(|(rank, ..)| *rank).min() {
        let points = losses
            .iter()
            .filter(|it| it.0 == rank)
            .map(|it| (it.1, it.3));
        let rank = rank.map_or("all".into(), |rank| rank.to_string());
        series.push(of("training.loss", "", &[("rank", rank)], points));
    }
    let times = lineage.step_times();
    if !times.is_empty() {
        let points = times.iter().map(|(end, ns)| (end.t_ns, *ns as f64 / 1e9));
        let name = format!("training.{}_time", lineage.unit.word());
        series.push(of(&name, "s", &[], points));
    }
    series
}

fn of(
    name: &str,
    unit: &str,
    labels: &[(&str, String)],
    points: impl Iterator<Item = (u64, f64)>,
) -> Series {
    let mut points: Vec<(u64, f64)> = points.collect();
    points.sort_by_key(|(t_ns, _)| *t_ns);
    points.dedup_by_key(|(t_ns, _)| *t_ns);
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    Series {
        name: name.into(),
        labels,
        unit: unit.into(),
        t_ns: points.iter().map(|(t_ns, _)| *t_ns).collect(),
        values: points.iter().map(|(_, value)| *value).collect(),
    }
}
