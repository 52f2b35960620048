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
    told.chain(run.series.iter().map(Cow::Borrowed)).collect()
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
