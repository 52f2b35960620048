//! The formulas by themselves: numbers in, numbers out. `None` where a formula has no value.

/// P(F) = n_f / n: the share of components that failed at least once in the window.
pub fn fault_probability(failed: u64, components: u64) -> Option<f64> {
    (components > 0 && failed <= components).then(|| failed as f64 / components as f64)
}

/// E(I) = Σ wᵢ·iᵢ over pairs of weight and impact; the weights must not be negative and add up to 1.
pub fn expected_impact(parts: &[(f64, f64)]) -> Option<f64> {
    let weights: f64 = parts.iter().map(|(weight, _)| weight).sum();
    let sound = parts.iter().all(|(weight, _)| *weight >= 0.0) && (weights - 1.0).abs() < 1e-9;
    sound.then(|| parts.iter().map(|(weight, impact)| weight * impact).sum())
}

/// E(S) = C(R) / T(R): capacity changed per time that the change took.
pub fn elasticity(capacity: f64, time: f64) -> Option<f64> {
    (time > 0.0).then(|| capacity / time)
}

/// P(D) = N(D) / N(T): the share of faults that somebody noticed.
pub fn detection_probability(noticed: u64, faults: u64) -> Option<f64> {
    (faults > 0 && noticed <= faults).then(|| noticed as f64 / faults as f64)
}

/// Mean time to failure, in seconds, of a job on some nodes, each of which fails at a rate per 1000 days:
/// MTTF(N) = 1 / (N·r_f).
pub fn mttf(nodes: f64, per_thousand_node_days: f64) -> f64 {
    86_400.0 * 1_000.0 / (nodes * per_thousand_node_days)
}

/// The renewal form of ETTR: 1 / (1 + δ/Δt + E\[L\]/MTTF), with a blocking save of δ every Δt and a loss of E\[L\] per failure.
pub fn projected_ettr(save: f64, interval: f64, loss: f64, mttf: f64) -> f64 {
    1.0 / (1.0 + save / interval + loss / mttf)
}

/// Young's interval between checkpoints: √(2·δ·M).
pub fn young(save: f64, mttf: f64) -> f64 {
    (2.0 * save * mttf).sqrt()
}

/// Daly's interval: √(2·δ·M)·\[1 + ⅓·√(δ/2M) + ⅑·(δ/2M)\] − δ where δ < 2M, else M.
pub fn daly(save: f64, mttf: f64) -> f64 {
    if save >= 2.0 * mttf {
        return mttf;
    }
    let ratio = save / (2.0 * mttf);
    young(save, mttf) * (1.0 + ratio.sqrt() / 3.0 + ratio / 9.0) - save
}

/// Wilson's interval at 95 % for a share of successes (E. B. Wilson, 1927).
pub fn wilson(successes: u64, trials: u64) -> Option<(f64, f64)> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (z, n) = (1.959_964_f64, trials as f64);
    let share = successes as f64 / n;
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Some(((middle - half).max(0.0), (middle + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() < 1e-12)
    }

    #[test]
    fn the_printed_examples_of_the_four_models() {
        assert!(near(fault_probability(2, 10), 0.20));
        assert!(near(
            expected_impact(&[(0.5, 1.0), (0.3, 2.0), (0.2, 3.0)]),
            1.7
        ));
        assert!(near(elasticity(1000.0, 2.0), 500.0));
        assert!(near(detection_probability(3, 5), 0.60));
    }

    #[test]
    fn what_has_no_value_has_none() {
        assert_eq!(fault_probability(0, 0), None);
        assert_eq!(fault_probability(3, 2), None);
        assert_eq!(expected_impact(&[(0.5, 1.0), (0.3, 2.0)]), None);
        assert_eq!(expected_impact(&[(-0.5, 1.0), (1.5, 2.0)]), None);
        assert_eq!(elasticity(1.0, 0.0), None);
        assert_eq!(detection_probability(0, 0), None);
        assert_eq!(wilson(0, 0), None);
    }

    /// The values that Daly prints under his figures 3, 4 and 5 (δ = 5 min).
    #[test]
    fn dalys_own_examples() {
        for (mttf, wanted, digits) in [(1440.0, 117.0, 0.5), (360.0, 57.0, 0.5), (15.0, 9.1, 0.05)]
        {
            assert!(
                (daly(5.0, mttf) - wanted).abs() < digits,
                "{}",
                daly(5.0, mttf)
            );
        }
        assert!((daly(40.0, 15.0) - 15.0).abs() < 1e-12);
        assert!((young(5.0, 1440.0) - 120.0).abs() < 1e-9);
    }

    /// 2 048 nodes at 6.5 failures per 1000 node-days: 1.80 h; 16 384 nodes: 13.5 min.
    #[test]
    fn time_to_failure_of_large_jobs() {
        assert!((mttf(2048.0, 6.5) / 3600.0 - 1.80).abs() < 0.005);
        assert!((mttf(16_384.0, 6.5) / 60.0 - 13.5).abs() < 0.05);
    }

    #[test]
    fn wilsons_interval_of_three_in_five() {
        let (low, high) = wilson(3, 5).unwrap();
        assert!(
            (low - 0.2307).abs() < 1e-3 && (high - 0.8824).abs() < 1e-3,
            "{low} {high}"
        );
    }
}
