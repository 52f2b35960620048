//! Intervals around figures of few observations, by percentile bootstrap: the observations are drawn anew, with
//! replacement, and the figure computed each time. Seeded, so the same run gives the same interval.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Redraws.
const REDRAWS: usize = 2000;
/// Fewer observations than this have no interval.
pub const LEAST: usize = 3;
/// Below this the interval is a rough one: it tends to be too narrow.
pub const FEW: usize = 10;

/// Where a figure lies, with the confidence given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Lower end, in the figure's unit.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence, 0 to 1.
    pub level: f64,
    /// How it was found, from how many observations, in words; `rough` with fewer than ten, where it tends to be too narrow.
    pub method: String,
}

/// The interval at 95 % of a figure of some observations; `None` with fewer than three of them.
pub fn bootstrap(
    observations: &[f64],
    seed: u64,
    figure: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> Option<Interval> {
    let n = observations.len();
    if n < LEAST {
        return None;
    }
    let mut state = seed;
    let mut draws: Vec<f64> = (0..REDRAWS)
        .map(|_| figure(&mut (0..n).map(|_| observations[below(&mut state, n)])))
        .filter(|value| value.is_finite())
        .collect();
    draws.sort_by(f64::total_cmp);
    let at =
        |share: f64| draws.get((share * draws.len().saturating_sub(1) as f64).round() as usize);
    let rough = if n < FEW { ", rough" } else { "" };
    Some(Interval {
        low: *at(0.025)?,
        high: *at(0.975)?,
        level: 0.95,
        method: format!("bootstrap, n = {n}{rough}"),
    })
}

/// The mean of a series of numbers.
pub fn mean(values: &mut dyn Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
    sum / f64::from(count)
}

/// SplitMix64 (Steele, Lea and Flood, 2014), scaled to a range.
fn below(state: &mut u64, n: usize) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((u128::from(z) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often an interval of ten exponential observations holds the true mean: not 95 %, because the bootstrap of
    /// few skewed observations is too narrow, but no less than the word 'rough' allows.
    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut state = 7;
        let runs = 400;
        let covered = (0..runs).filter(|run| {
            let sample: Vec<f64> = (0..30)
                .map(|_| {
                    let unit = (below(&mut state, 1 << 30) as f64 + 0.5) / f64::from(1 << 30);
                    -unit.ln()
                })
                .collect();
            let it = bootstrap(&sample, *run, mean).unwrap();
            it.low <= 1.0 && 1.0 <= it.high
        });
        let share = covered.count() as f64 / runs as f64;
        assert!((0.88..=0.99).contains(&share), "{share}");
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_its_observations(values in proptest::collection::vec(0.0f64..1e6, 0..20), seed: u64) {
            match bootstrap(&values, seed, mean) {
                None => prop_assert!(values.len() < LEAST),
                Some(it) => {
                    let least = values.iter().copied().fold(f64::MAX, f64::min);
                    let most = values.iter().copied().fold(0.0, f64::max);
                    prop_assert!(least - 1e-6 <= it.low && it.low <= it.high && it.high <= most + 1e-6);
                }
            }
        }
    }
}
