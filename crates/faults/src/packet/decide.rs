//! What happens to a packet: decided from the run's seed, for the n-th packet, without a clock and without a socket.

use serde::{Deserialize, Serialize};

/// What is done to the packets of a queue. Probabilities are between 0 and 1, times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    Delay {
        delay_ns: u64,
        /// The deviation: the most of a uniform one, the standard deviation of the others.
        jitter_ns: u64,
        shape: Shape,
        /// How much of a deviation is that of the packet before.
        correlation: f64,
        /// Whether a packet may overtake one that came before it.
        may_overtake: bool,
    },
    Loss {
        chance: f64,
    },
    /// Gilbert and Elliott: two states, each with its loss, and a chance to leave each.
    Bursts {
        begin: f64,
        end: f64,
        loss_within: f64,
        loss_outside: f64,
    },
    Duplicate {
        chance: f64,
    },
    /// A chosen packet waits until so many later ones have passed it.
    Reorder {
        chance: f64,
        behind: u32,
        at_most_ns: u64,
    },
    Corrupt {
        chance: f64,
        bits: u32,
        /// Whether the checksum is made to fit.
        fits: bool,
    },
    Rate {
        bytes_per_second: u64,
        burst: u64,
        /// How long a packet may wait before it is lost.
        at_most_ns: u64,
    },
}

/// How a deviation is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Uniform,
    Normal,
    Pareto,
}

/// What happens to one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    /// It waits until then.
    Hold {
        until_ns: u64,
    },
    /// It waits until so many later ones have passed, at most until then.
    Behind {
        packets: u32,
        until_ns: u64,
    },
    Twice,
    /// So many of its bits are turned; which ones, the seed says.
    Turn {
        bits: u32,
        seed: u64,
        fits: bool,
    },
}

/// Decides, packet by packet.
#[derive(Debug, Clone)]
pub struct Decider {
    treatment: Treatment,
    seed: u64,
    packets: u64,
    in_burst: bool,
    deviation: f64,
    last_ns: u64,
    free_ns: u64,
}

impl Decider {
    /// The decisions of one injection.
    pub fn new(treatment: Treatment, seed: u64) -> Decider {
        Decider {
            treatment,
            seed,
            packets: 0,
            in_burst: false,
            deviation: 0.0,
            last_ns: 0,
            free_ns: 0,
        }
    }

    /// Whether packets leave in the order in which they came.
    pub fn keeps_order(&self) -> bool {
        match &self.treatment {
            Treatment::Delay { may_overtake, .. } => !may_overtake,
            Treatment::Reorder { .. } => false,
            _ => true,
        }
    }

    /// The fate of the next packet, that came at `now_ns` with `length` bytes.
    pub fn next(&mut self, now_ns: u64, length: u32) -> Fate {
        let mut draws = Draws::new(self.seed, self.packets);
        self.packets += 1;
        match self.treatment {
            Treatment::Delay {
                delay_ns,
                jitter_ns,
                shape,
                correlation,
                may_overtake,
            } => {
                let mut wait = delay_ns as f64;
                if jitter_ns > 0 {
                    let fresh = shape.deviation(&mut draws);
                    self.deviation = correlation * self.deviation + (1.0 - correlation) * fresh;
                    wait = (wait + self.deviation * jitter_ns as f64).max(0.0);
                }
                let mut until_ns = now_ns.saturating_add(wait as u64);
                if !may_overtake {
                    until_ns = until_ns.max(self.last_ns);
                    self.last_ns = until_ns;
                }
                Fate::Hold { until_ns }
            }
            Treatment::Loss { chance } => draws.happens(chance, Fate::Drop),
            Treatment::Bursts {
                begin,
                end,
                loss_within,
                loss_outside,
            } => {
                let leaves = draws.unit() < if self.in_burst { end } else { begin };
                self.in_burst ^= leaves;
                let chance = if self.in_burst {
                    loss_within
                } else {
                    loss_outside
                };
                draws.happens(chance, Fate::Drop)
            }
            Treatment::Duplicate { chance } => draws.happens(chance, Fate::Twice),
            Treatment::Reorder {
                chance,
                behind,
                at_most_ns,
            } => {
                let until_ns = now_ns.saturating_add(at_most_ns);
                let packets = behind;
                draws.happens(chance, Fate::Behind { packets, until_ns })
            }
            Treatment::Corrupt { chance, bits, fits } => {
                let happens = draws.unit() < chance;
                let seed = draws.next();
                if happens {
                    Fate::Turn { bits, seed, fits }
                } else {
                    Fate::Pass
                }
            }
            Treatment::Rate {
                bytes_per_second,
                burst,
                at_most_ns,
            } => {
                let cost =
                    |bytes: u64| bytes.saturating_mul(1_000_000_000) / bytes_per_second.max(1);
                // The wire is free from `free_ns` on; a burst may be sent as if that were earlier.
                let from = self.free_ns.max(now_ns.saturating_sub(cost(burst)));
                let until_ns = from.max(now_ns);
                if until_ns - now_ns > at_most_ns {
                    return Fate::Drop;
                }
                self.free_ns = from.saturating_add(cost(u64::from(length)));
                Fate::Hold {
                    until_ns: self.free_ns.max(now_ns),
                }
            }
        }
    }
}

/// The draws of one packet.
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64, packet: u64) -> Draws {
        let mut draws = Draws(seed ^ packet.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        draws.next();
        draws
    }

    /// Splitmix64: small, quick and even enough for a die.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happens(&mut self, chance: f64, fate: Fate) -> Fate {
        if self.unit() < chance {
            fate
        } else {
            Fate::Pass
        }
    }
}

impl Shape {
    /// A deviation in units of the jitter. Only Pareto's mean is not 0: late packets are late by much, early ones by little.
    pub(super) fn deviation(self, draws: &mut Draws) -> f64 {
        let one = draws.unit();
        match self {
            Shape::Uniform => one.mul_add(2.0, -1.0),
            Shape::Normal => {
                let radius = (-2.0 * (1.0 - one).ln()).sqrt();
                radius * (std::f64::consts::TAU * draws.unit()).cos()
            }
            // Shape 3 and scale 2/3: mean 1, so the deviation's is 0; at most 100.
            Shape::Pareto => ((2.0 / 3.0) * (1.0 - one).powf(-1.0 / 3.0) - 1.0).min(100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn fates(treatment: &Treatment, seed: u64, count: u64) -> Vec<Fate> {
        let mut decider = Decider::new(treatment.clone(), seed);
        (0..count).map(|n| decider.next(n * MS, 1000)).collect()
    }

    fn share(fates: &[Fate], fate: impl Fn(&Fate) -> bool) -> f64 {
        fates.iter().filter(|one| fate(one)).count() as f64 / fates.len() as f64
    }

    fn delay(jitter_ns: u64, shape: Shape, correlation: f64, may_overtake: bool) -> Treatment {
        Treatment::Delay {
            delay_ns: 50 * MS,
            jitter_ns,
            shape,
            correlation,
            may_overtake,
        }
    }

    /// The waits of so many packets.
    fn waits(treatment: &Treatment) -> Vec<f64> {
        let ends = fates(treatment, 5, 20_000).into_iter().zip(0u64..);
        ends.map(|(fate, n)| match fate {
            Fate::Hold { until_ns } => until_ns as f64 - (n * MS) as f64,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn the_same_seed_decides_the_same_and_another_differently() {
        let loss = Treatment::Loss { chance: 0.5 };
        assert_eq!(fates(&loss, 7, 500), fates(&loss, 7, 500));
        assert_ne!(fates(&loss, 7, 500), fates(&loss, 8, 500));
    }

    #[test]
    fn chances_are_met_within_the_binomial_interval_and_their_ends_are_exact() {
        for chance in [0.0, 0.01, 0.05, 0.5, 1.0] {
            let seen = share(&fates(&Treatment::Loss { chance }, 1, 100_000), |fate| {
                *fate == Fate::Drop
            });
            let margin = 2.576 * (chance * (1.0 - chance) / 1e5).sqrt();
            assert!((seen - chance).abs() <= margin, "{seen} for {chance}");
        }
    }

    #[test]
    fn bursts_have_their_length_and_their_share() {
        let bursts = Treatment::Bursts {
            begin: 0.01,
            end: 0.1,
            loss_within: 1.0,
            loss_outside: 0.0,
        };
        let fates = fates(&bursts, 3, 200_000);
        let lost = share(&fates, |fate| *fate == Fate::Drop);
        let runs = fates
            .windows(2)
            .filter(|pair| pair[0] != Fate::Drop && pair[1] == Fate::Drop)
            .count();
        let length = lost * fates.len() as f64 / runs as f64;
        // Stationary share begin/(begin+end); mean length 1/end. Ten standard errors wide.
        assert!((lost - 1.0 / 11.0).abs() < 0.02, "{lost}");
        assert!((length - 10.0).abs() < 1.5, "{length}");
    }

    #[test]
    fn a_plain_delay_is_the_same_for_all_and_jitter_keeps_its_mean_and_the_order() {
        let plain = waits(&delay(0, Shape::Uniform, 0.0, false));
        assert!(plain.iter().all(|wait| *wait == (50 * MS) as f64));
        for shape in [Shape::Uniform, Shape::Normal, Shape::Pareto] {
            let free = waits(&delay(10 * MS, shape, 0.0, true));
            assert!(
                (mean(&free) / MS as f64 - 50.0).abs() < 0.5,
                "{shape:?} {}",
                mean(&free)
            );
            let mut decider = Decider::new(delay(10 * MS, shape, 0.0, false), 5);
            assert!(decider.keeps_order());
            let mut last = 0;
            for n in 0..10_000 {
                let Fate::Hold { until_ns } = decider.next(n * MS, 0) else {
                    panic!()
                };
                assert!(until_ns >= last);
                last = until_ns;
            }
        }
        let most = waits(&delay(10 * MS, Shape::Uniform, 0.0, true));
        let range = (40 * MS) as f64..=(60 * MS) as f64;
        assert!(most.iter().all(|wait| range.contains(wait)));
    }

    #[test]
    fn correlated_deviations_follow_each_other() {
        let lag = |correlation| {
            let waits = waits(&delay(10 * MS, Shape::Uniform, correlation, true));
            let mean = mean(&waits);
            let pairs: f64 = waits
                .windows(2)
                .map(|pair| (pair[0] - mean) * (pair[1] - mean))
                .sum();
            let squares: f64 = waits.iter().map(|wait| (wait - mean).powi(2)).sum();
            pairs / squares
        };
        assert!(lag(0.0).abs() < 0.05, "{}", lag(0.0));
        assert!((lag(0.8) - 0.8).abs() < 0.05, "{}", lag(0.8));
    }

    #[test]
    fn a_rate_spaces_packets_lets_a_burst_through_and_loses_what_would_wait_too_long() {
        let rate = Treatment::Rate {
            bytes_per_second: 1_000_000,
            burst: 3000,
            at_most_ns: 10 * MS,
        };
        let mut decider = Decider::new(rate, 1);
        let at = 1_000 * MS;
        let ends: Vec<Fate> = (0..20).map(|_| decider.next(at, 1000)).collect();
        let holds: Vec<u64> = ends
            .iter()
            .map_while(|fate| match fate {
                Fate::Hold { until_ns } => Some(*until_ns - at),
                _ => None,
            })
            .collect();
        // 1,000 bytes take 1 ms; three of them were saved up; what would wait for more than 10 ms is lost.
        assert_eq!(holds[..5], [0, 0, 0, MS, 2 * MS]);
        assert_eq!(holds.len(), 14);
        assert!(ends[14..].iter().all(|fate| *fate == Fate::Drop));
        assert_eq!(
            decider.next(at + 1_000 * MS, 1000),
            Fate::Hold {
                until_ns: at + 1_000 * MS
            }
        );
    }
}
