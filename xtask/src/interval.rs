//! A share with its 95 % interval after Clopper and Pearson: exact, so that few trials do not look like many.

/// `3 of 20 (15 %, 95 % interval 3 % to 38 %)`.
pub(crate) fn of(hits: u32, trials: u32) -> String {
    if trials == 0 {
        return "0 of 0".into();
    }
    let (low, high) = bounds(hits, trials, 0.05);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let share = f64::from(hits) / f64::from(trials);
    format!(
        "{hits} of {trials} ({}, 95 % interval {} to {})",
        percent(share),
        percent(low),
        percent(high)
    )
}

/// The shares at which so many hits or more, and so many or fewer, have the chance `alpha / 2`.
fn bounds(hits: u32, trials: u32, alpha: f64) -> (f64, f64) {
    let low = if hits == 0 {
        0.0
    } else {
        solve(|p| 1.0 - at_most(hits - 1, trials, p) < alpha / 2.0)
    };
    let high = if hits == trials {
        1.0
    } else {
        solve(|p| at_most(hits, trials, p) > alpha / 2.0)
    };
    (low, high)
}

/// Where `below`, true for small shares and false for large ones, changes.
fn solve(below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The chance of at most `hits` in `trials` when each has the chance `p`.
fn at_most(hits: u32, trials: u32, p: f64) -> f64 {
    let mut term = (1.0 - p).powi(trials.try_into().unwrap_or(i32::MAX));
    if term == 0.0 {
        return if hits >= trials { 1.0 } else { 0.0 };
    }
    let mut sum = term;
    for k in 1..=hits {
        term *= f64::from(trials - k + 1) / f64::from(k) * p / (1.0 - p);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{bounds, of};

    #[test]
    fn the_interval_is_that_of_published_tables() {
        for (hits, trials, low, high) in [
            (0, 20, 0.0, 0.1684),
            (3, 20, 0.0321, 0.3789),
            (20, 20, 0.8316, 1.0),
            (1, 10, 0.0025, 0.4450),
        ] {
            let (mine_low, mine_high) = bounds(hits, trials, 0.05);
            assert!(
                (mine_low - low).abs() < 1e-4,
                "{hits} of {trials}: {mine_low}"
            );
            assert!(
                (mine_high - high).abs() < 1e-4,
                "{hits} of {trials}: {mine_high}"
            );
        }
    }

    #[test]
    fn it_is_said_in_words() {
        assert_eq!(of(3, 20), "3 of 20 (15 %, 95 % interval 3 % to 38 %)");
    }
}
