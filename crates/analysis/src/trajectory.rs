//! Does a disturbed run's loss stay where the losses of undisturbed repeats are? For training that is not reproducible bit
//! for bit, where equal parameters cannot be asked for.
//!
//! The steps that all tell of are cut into windows of equal length, and the mean loss of each window is compared: one odd
//! step says little. σ is the standard deviation of the repeats in that window, or its root mean square over that window and
//! its neighbours where that is larger, because the spread of three numbers is often small by chance. Up to [`WITHIN`] σ the
//! run counts as the same; beyond a limit that falls with the number of repeats (Student's t at ½ %, both sides, widened for
//! the uncertainty of the repeats' mean, never below [`LEAST`]) as different; between the two more repeats are needed.

use crate::num;
use crate::same_result::Sameness;
use std::collections::BTreeMap;

/// Fewer repeats have no spread to speak of.
pub(crate) const REPEATS: usize = 3;
/// Up to so many σ a run is called the same.
const WITHIN: f64 = 3.0;
/// The limit of many repeats: sixteen windows are looked at, and each may be far off by chance.
const LEAST: f64 = 5.0;
/// Student's t for 2, 3, … 9 degrees of freedom, 0.9975.
const STUDENT: [f64; 8] = [14.089, 7.453, 5.598, 4.773, 4.317, 4.029, 3.833, 3.690];
const WINDOWS: usize = 16;
/// Windows to each side that lend a window their spread.
const NEIGHBOURS: usize = 3;
/// Fewer steps make no trajectory.
const STEPS: usize = 8;

/// Loss by step.
pub(crate) type Curve = BTreeMap<u64, f64>;

/// What the comparison says, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compared {
    pub(crate) sameness: Sameness,
    pub(crate) words: String,
}

/// One window: where it lies, and how far the run is from the repeats.
struct Window {
    from: u64,
    to: u64,
    run: f64,
    mean: f64,
    variance: f64,
}

/// Compares a run with at least [`REPEATS`] repeats.
pub(crate) fn compare(run: &Curve, repeats: &[Curve]) -> Compared {
    let not = |words: String| Compared {
        sameness: Sameness::NotMeasured,
        words,
    };
    let n = repeats.len();
    if n < REPEATS {
        return not(format!("there are only {n} repeats"));
    }
    let steps: Vec<u64> = run
        .keys()
        .filter(|step| repeats.iter().all(|it| it.contains_key(step)))
        .copied()
        .collect();
    if steps.len() < STEPS {
        return not(format!(
            "the run and its {n} repeats tell the loss of only {} together; {STEPS} are needed",
            num::plural(steps.len(), "step", "steps")
        ));
    }
    let windows = windows(run, repeats, &steps);
    let Some((worst, distance, sigma)) = windows
        .iter()
        .enumerate()
        .map(|(at, it)| {
            let variance = it.variance.max(pooled(&windows, at));
            let sigma = unless_rounding(variance.sqrt(), it.mean);
            let difference = unless_rounding(it.run - it.mean, it.mean);
            (it, away(difference, sigma), sigma)
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
    else {
        return not("there is no step to compare".into());
    };
    let limit = limit(n);
    let (sameness, verb) = if distance <= WITHIN {
        (Sameness::Same, "stay within")
    } else if distance > limit {
        (Sameness::Different, "leave")
    } else {
        (Sameness::NotMeasured, "are at the edge of")
    };
    let more = match sameness {
        Sameness::Same => format!("; {} σ would be allowed", num::significant(WITHIN)),
        Sameness::Different => format!("; beyond {} σ it is no chance", num::significant(limit)),
        Sameness::NotMeasured => format!(
            "; up to {} σ it is the same, beyond {} σ different, so more repeats are needed",
            num::significant(WITHIN),
            num::significant(limit)
        ),
    };
    Compared {
        sameness,
        words: format!(
            "the losses {verb} the spread of {n} undisturbed repeats: at most {} σ away, in steps {} to {}, {} instead of {} (σ {}){more}",
            if distance.is_finite() {
                num::significant(distance)
            } else {
                "infinitely many".into()
            },
            num::thousands(worst.from),
            num::thousands(worst.to),
            num::significant(worst.run),
            num::significant(worst.mean),
            num::significant(sigma),
        ),
    }
}

/// Mean variance of a window and its neighbours. Not of all: the noise of the steep first steps would hide what happens late.
fn pooled(windows: &[Window], at: usize) -> f64 {
    let last = windows.len() - 1;
    let near = &windows[at.saturating_sub(NEIGHBOURS)..=(at + NEIGHBOURS).min(last)];
    near.iter().map(|it| it.variance).sum::<f64>() / near.len() as f64
}

/// Beyond so many σ a run is called different.
fn limit(repeats: usize) -> f64 {
    let freedom = repeats.saturating_sub(REPEATS).min(STUDENT.len() - 1);
    (STUDENT[freedom] * (1.0 + 1.0 / repeats as f64).sqrt()).max(LEAST)
}

fn away(difference: f64, sigma: f64) -> f64 {
    if difference == 0.0 {
        0.0
    } else {
        difference.abs() / sigma
    }
}

/// Zero for what is left of equal numbers after sums were taken.
fn unless_rounding(value: f64, beside: f64) -> f64 {
    if value.abs() <= 1e-12 * beside.abs() {
        0.0
    } else {
        value
    }
}

fn windows(run: &Curve, repeats: &[Curve], steps: &[u64]) -> Vec<Window> {
    let length = steps.len().div_ceil(WINDOWS);
    let mean_of = |curve: &Curve, part: &[u64]| {
        part.iter().filter_map(|step| curve.get(step)).sum::<f64>() / part.len() as f64
    };
    let parts = steps.chunks(length);
    parts
        .map(|part| {
            let means: Vec<f64> = repeats.iter().map(|it| mean_of(it, part)).collect();
            let n = means.len() as f64;
            let mean = means.iter().sum::<f64>() / n;
            Window {
                from: part[0],
                to: part[part.len() - 1],
                run: mean_of(run, part),
                mean,
                variance: means.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator whose numbers are the same everywhere; the test asks how often chance alone is called a difference.
    struct Chance(u64);

    impl Chance {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let (a, b) = (self.uniform().max(1e-300), self.uniform());
            (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
        }

        /// A falling loss with noise whose memory is `keeps`: 0 none, near 1 a run stays where it went.
        fn curve(&mut self, keeps: f64, shift: f64) -> Curve {
            let mut noise = 0.0;
            (1..=320)
                .map(|step| {
                    noise = keeps * noise + (1.0 - keeps * keeps).sqrt() * self.normal();
                    let grows = (step as f64 / 320.0).min(1.0);
                    (
                        step,
                        4.0 / (1.0 + step as f64 / 40.0) + 0.02 * grows * noise + shift,
                    )
                })
                .collect()
        }
    }

    fn share(keeps: f64, repeats: usize, shift: f64, of: Sameness) -> f64 {
        let mut chance = Chance(repeats as u64);
        let trials = 300;
        let hits = (0..trials)
            .filter(|_| {
                let others: Vec<Curve> = (0..repeats).map(|_| chance.curve(keeps, 0.0)).collect();
                compare(&chance.curve(keeps, shift), &others).sameness == of
            })
            .count();
        hits as f64 / trials as f64
    }

    #[test]
    fn chance_is_seldom_called_a_difference() {
        for keeps in [0.0, 0.9, 0.999] {
            for repeats in [3, 5, 10] {
                let different = share(keeps, repeats, 0.0, Sameness::Different);
                let same = share(keeps, repeats, 0.0, Sameness::Same);
                eprintln!("memory {keeps}, {repeats} repeats: different {different}, same {same}");
                assert!(
                    different <= 0.015,
                    "memory {keeps}, {repeats} repeats: {different}"
                );
                assert!(same >= 0.7, "memory {keeps}, {repeats} repeats: {same}");
            }
        }
    }

    #[test]
    fn a_loss_that_is_elsewhere_is_found() {
        // The noise of one step has σ 0.02 at the end; a mistake on resuming costs ten times that.
        for repeats in [3, 5, 10] {
            let found = share(0.9, repeats, 0.3, Sameness::Different);
            assert!(found >= 0.95, "{repeats} repeats: {found}");
        }
    }

    /// Shares that are called different and the same, where noise is ten times as large in the first 40 steps and the run is
    /// `shift` off from step 200 on.
    fn uneven(repeats: usize, shift: f64) -> (f64, f64) {
        let mut chance = Chance(repeats as u64);
        let mut curve = |shift: f64| -> Curve {
            let mut noise = 0.0;
            (1..=320)
                .map(|step| {
                    noise = 0.9 * noise + 0.19_f64.sqrt() * chance.normal();
                    let scale = if step <= 40 { 0.2 } else { 0.02 };
                    let off = if step >= 200 { shift } else { 0.0 };
                    (step, 4.0 / (1.0 + step as f64 / 40.0) + scale * noise + off)
                })
                .collect()
        };
        let trials = 300;
        let said: Vec<Sameness> = (0..trials)
            .map(|_| {
                let others: Vec<Curve> = (0..repeats).map(|_| curve(0.0)).collect();
                compare(&curve(shift), &others).sameness
            })
            .collect();
        let share = |of| said.iter().filter(|it| **it == of).count() as f64 / trials as f64;
        (share(Sameness::Different), share(Sameness::Same))
    }

    #[test]
    fn early_noise_hides_no_late_difference() {
        for repeats in [3, 5, 10] {
            let (found, _) = uneven(repeats, 0.3);
            let (different, same) = uneven(repeats, 0.0);
            eprintln!(
                "early noise, {repeats} repeats: found {found}; by chance different {different}, same {same}"
            );
            assert!(found >= 0.9, "{repeats} repeats: {found}");
            assert!(different <= 0.015, "{repeats} repeats: {different}");
            assert!(same >= 0.7, "{repeats} repeats: {same}");
        }
    }

    #[test]
    fn where_repeats_agree_exactly_any_difference_is_one() {
        let mut chance = Chance(1);
        let curve = chance.curve(0.0, 0.0);
        let repeats = vec![curve.clone(); 3];
        assert_eq!(compare(&curve, &repeats).sameness, Sameness::Same);
        let other = curve
            .iter()
            .map(|(step, loss)| (*step, loss + 1e-9))
            .collect();
        let compared = compare(&other, &repeats);
        assert_eq!(compared.sameness, Sameness::Different);
        assert!(
            compared.words.contains("infinitely many"),
            "{}",
            compared.words
        );
    }

    #[test]
    fn too_little_is_not_measured() {
        let mut chance = Chance(1);
        let curve = chance.curve(0.0, 0.0);
        let few: Curve = curve.iter().take(7).map(|(a, b)| (*a, *b)).collect();
        for (mine, repeats) in [(&few, 3), (&curve, 2)] {
            let compared = compare(mine, &vec![curve.clone(); repeats]);
            assert_eq!(
                compared.sameness,
                Sameness::NotMeasured,
                "{}",
                compared.words
            );
        }
    }
}
