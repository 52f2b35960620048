//! Puts blocks together into series, thinned to what memory bears.
//!
//! A gauge is thinned to the mean of each bin, a counter to its last reading in each bin; a rate is then taken between readings. A bin
//! without readings yields nothing: a gap in time stays a gap in data.

use super::codec::{Block, SeriesId};
use squall_analysis::run::Series;
use std::collections::BTreeMap;

/// A pause in a counter longer than this has no rate: nobody knows what happened in it.
const RATE_GAP_NS: u64 = 3_000_000_000;

/// How one series is read.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) unit: String,
    pub(super) per_second: Option<f64>,
}

#[derive(Debug, Default)]
struct Bin {
    number: u64,
    t_ns: u64,
    sum: f64,
    last: f64,
    count: u32,
}

#[derive(Debug, Default)]
struct Points {
    t_ns: Vec<u64>,
    values: Vec<f64>,
    bin: Bin,
}

/// Collects blocks in order of time.
pub(super) struct Gather {
    definitions: BTreeMap<SeriesId, Definition>,
    points: BTreeMap<SeriesId, Points>,
    bin_ns: u64,
}

impl Gather {
    /// `bin_ns` 0 keeps every reading.
    pub(super) fn new(definitions: BTreeMap<SeriesId, Definition>, bin_ns: u64) -> Gather {
        Gather {
            definitions,
            points: BTreeMap::new(),
            bin_ns,
        }
    }

    pub(super) fn add(&mut self, block: &Block) {
        for (id, samples) in &block.columns {
            let Some(definition) = self.definitions.get(id) else {
                continue;
            };
            let counter = definition.per_second.is_some();
            let points = self.points.entry(*id).or_default();
            for (tick, value) in samples {
                if let Some(t_ns) = block.times.get(*tick as usize) {
                    points.push(*t_ns, *value, self.bin_ns, counter);
                }
            }
        }
    }

    /// All series, rates taken.
    pub(super) fn finish(self) -> Vec<Series> {
        let mut all = Vec::with_capacity(self.points.len());
        for (id, mut points) in self.points {
            let Some(definition) = self.definitions.get(&id).cloned() else {
                continue;
            };
            points.close_bin(definition.per_second.is_some());
            let (t_ns, values) = match definition.per_second {
                Some(scale) => rates(&points.t_ns, &points.values, scale, self.bin_ns),
                None => (points.t_ns, points.values),
            };
            all.push(Series {
                name: definition.name,
                labels: definition.labels,
                unit: definition.unit,
                t_ns,
                values,
            });
        }
        all
    }
}

impl Points {
    fn push(&mut self, t_ns: u64, value: f64, bin_ns: u64, counter: bool) {
        if bin_ns == 0 {
            self.keep(t_ns, value);
            return;
        }
        let number = t_ns / bin_ns;
        if number != self.bin.number {
            self.close_bin(counter);
            self.bin.number = number;
        }
        self.bin.t_ns = t_ns;
        self.bin.last = value;
        self.bin.sum += value;
        self.bin.count += 1;
    }

    fn close_bin(&mut self, counter: bool) {
        let bin = std::mem::take(&mut self.bin);
        if bin.count > 0 {
            let mean = bin.sum / f64::from(bin.count);
            self.keep(bin.t_ns, if counter { bin.last } else { mean });
        }
    }

    fn keep(&mut self, t_ns: u64, value: f64) {
        if self.t_ns.last().is_none_or(|last| *last < t_ns) {
            self.t_ns.push(t_ns);
            self.values.push(value);
        }
    }
}

/// Units a second between each reading and the one before. A counter that went back yields nothing there.
fn rates(t_ns: &[u64], counts: &[f64], scale: f64, bin_ns: u64) -> (Vec<u64>, Vec<f64>) {
    let gap = RATE_GAP_NS.max(bin_ns.saturating_mul(2));
    let pairs = t_ns.windows(2).zip(counts.windows(2));
    pairs
        .filter(|(t, v)| t[1] - t[0] <= gap && v[1] >= v[0])
        .map(|(t, v)| (t[1], (v[1] - v[0]) * scale * 1e9 / (t[1] - t[0]) as f64))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(per_second: Option<f64>, bin_ns: u64, samples: &[(u64, f64)]) -> Series {
        let definition = Definition {
            name: "x".into(),
            labels: BTreeMap::new(),
            unit: "%".into(),
            per_second,
        };
        let mut gather = Gather::new(BTreeMap::from([(SeriesId(0), definition)]), bin_ns);
        gather.add(&Block {
            times: samples.iter().map(|(t, _)| *t).collect(),
            columns: vec![(
                SeriesId(0),
                samples
                    .iter()
                    .enumerate()
                    .map(|(i, (_, v))| (i as u32, *v))
                    .collect(),
            )],
        });
        gather.finish().remove(0)
    }

    #[test]
    fn a_counter_becomes_a_rate_but_not_across_a_gap_or_a_reset() {
        let second = 1_000_000_000;
        let samples = [
            (0, 10.0),
            (second, 14.0),
            (9 * second, 99.0),
            (10 * second, 3.0),
            (11 * second, 4.5),
        ];
        let series = gather(Some(2.0), 0, &samples);
        assert_eq!(series.t_ns, [second, 11 * second]);
        assert_eq!(series.values, [8.0, 3.0]);
    }

    #[test]
    fn thinning_means_gauges_and_keeps_gaps() {
        let series = gather(None, 10, &[(1, 1.0), (2, 3.0), (11, 5.0), (55, 7.0)]);
        assert_eq!(series.t_ns, [2, 11, 55]);
        assert_eq!(series.values, [2.0, 5.0, 7.0]);
    }

    #[test]
    fn thinning_keeps_the_last_reading_of_counters() {
        let series = gather(
            Some(1.0),
            1_000_000_000,
            &[(1, 0.0), (999_999_999, 4.0), (1_999_999_999, 9.0)],
        );
        assert_eq!(series.values, [5.0]);
    }
}
