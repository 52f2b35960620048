//! Series for charts: summaries, gaps, and a reduction that keeps every extreme.
//!
//! Each of at most 500 slices of time keeps its first, smallest, largest and last value (the M4 aggregation of Jugel et
//! al., VLDB 2014), so a spike of one sample stays in the picture and a line drawn through the points is the same to
//! the pixel. A gap is a distance between samples of more than three times the usual one; it is listed, never bridged.

use crate::run::Series;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most points a series keeps.
pub const POINTS_MAX: usize = 2_000;
/// The most gaps that are listed; all are counted.
const GAPS_MAX: usize = 100;

/// A time without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Last sample before it: nanoseconds since the run started.
    pub from_ns: u64,
    /// First sample after it.
    pub to_ns: u64,
}

/// One signal as the report shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesReport {
    /// e.g. `training.loss`, `process.cpu`.
    pub name: String,
    /// Labels, e.g. pid and rank.
    pub labels: BTreeMap<String, String>,
    /// Unit of the values.
    pub unit: String,
    /// Number of samples before the reduction.
    pub samples: u64,
    /// Samples that are not numbers (not a number, infinite). They are in no other figure.
    pub not_finite: u64,
    /// Smallest value.
    pub min: Option<f64>,
    /// Middle value.
    pub median: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Gaps in the data, the longest when there are many.
    pub gaps: Vec<Gap>,
    /// Number of gaps.
    pub gap_count: u64,
    /// Times of the points: nanoseconds since the run started.
    pub t_ns: Vec<u64>,
    /// Values of the points.
    pub values: Vec<f64>,
}

/// Summarises and reduces a series.
pub fn report(series: &Series) -> SeriesReport {
    let pairs = series
        .t_ns
        .iter()
        .copied()
        .zip(series.values.iter().copied());
    let all: Vec<(u64, f64)> = pairs.collect();
    let finite: Vec<(u64, f64)> = all.iter().copied().filter(|(_, v)| v.is_finite()).collect();
    let mut sorted: Vec<f64> = finite.iter().map(|(_, value)| *value).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (gaps, gap_count) = gaps(&series.t_ns);
    let points = reduce(&finite, POINTS_MAX);
    SeriesReport {
        name: series.name.clone(),
        labels: series.labels.clone(),
        unit: series.unit.clone(),
        samples: all.len() as u64,
        not_finite: (all.len() - finite.len()) as u64,
        min: sorted.first().copied(),
        median: sorted.get(sorted.len() / 2).copied(),
        max: sorted.last().copied(),
        gaps,
        gap_count,
        t_ns: points.iter().map(|(t_ns, _)| *t_ns).collect(),
        values: points.iter().map(|(_, value)| *value).collect(),
    }
}

/// At most `limit` (≥ 4) of the points, in order: the first, smallest, largest and last of each slice of time.
pub fn reduce(points: &[(u64, f64)], limit: usize) -> Vec<(u64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    if points.len() <= limit {
        return points.to_vec();
    }
    let slices = (limit / 4).max(1) as u128;
    let span = u128::from(last.0 - first.0) + 1;
    let slice_of = |t_ns: u64| u128::from(t_ns - first.0) * slices / span;
    points
        .chunk_by(|a, b| slice_of(a.0) == slice_of(b.0))
        .flat_map(extremes)
        .collect()
}

fn extremes(slice: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let indices = 0..slice.len();
    let by_value = |a: &usize, b: &usize| slice[*a].1.total_cmp(&slice[*b].1);
    let mut kept: Vec<usize> = [
        Some(0),
        indices.clone().min_by(by_value),
        indices.clone().max_by(by_value),
        indices.last(),
    ]
    .into_iter()
    .flatten()
    .collect();
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|index| slice[index]).collect()
}

fn gaps(t_ns: &[u64]) -> (Vec<Gap>, u64) {
    let steps: Vec<u64> = t_ns
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let Some(usual) = crate::lineage::median(&steps) else {
        return (Vec::new(), 0);
    };
    let mut gaps: Vec<Gap> = t_ns
        .windows(2)
        .filter(|pair| pair[1].saturating_sub(pair[0]) > usual.saturating_mul(3))
        .map(|pair| Gap {
            from_ns: pair[0],
            to_ns: pair[1],
        })
        .collect();
    let count = gaps.len() as u64;
    if gaps.len() > GAPS_MAX {
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.to_ns - gap.from_ns));
        gaps.truncate(GAPS_MAX);
        gaps.sort_by_key(|gap| gap.from_ns);
    }
    (gaps, count)
}
