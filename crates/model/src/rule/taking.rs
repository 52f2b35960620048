//! How a trigger takes, skips and gives up its occasions.

use super::aim::{Aim, Unit};
use super::{HOLD_GRACE_NS, Occasion, Outcome, Trigger};
use crate::event::Place;
use crate::hook::TrainingEvent;
use crate::seed;

impl Trigger {
    pub(super) fn watches(&self, rank: Option<u32>) -> bool {
        match (self.target_rank, rank) {
            // Events of the job as a whole (a log without ranks) count for any target.
            (_, None) => true,
            (Some(wanted), Some(rank)) => wanted == rank,
            (None, Some(_)) => true,
        }
    }

    pub(super) fn completed(&self) -> u64 {
        match self.aim {
            Aim::Unit {
                unit: Unit::Epoch, ..
            } => self.high_epoch,
            _ => self.high_step,
        }
    }

    /// Why no aim is ahead when the method reaches this rule, and what to do about it.
    pub(super) fn passed(&self) -> String {
        let (aim, unit) = (self.aim_text(), self.unit_word());
        let completed = match self.completed() {
            0 => String::new(),
            done => format!(": {unit} {done} was completed"),
        };
        if self.aim.is_single() {
            format!(
                "its aim ({aim}) had passed when the method reached it{completed}; aim later, or set a shorter `baseline:` (3s unless said)"
            )
        } else {
            format!(
                "none of its aims ({aim}) was left when the method reached it{completed}; let the job train longer, or aim more often"
            )
        }
    }

    fn unit_word(&self) -> &'static str {
        match self.aim {
            Aim::Unit {
                unit: Unit::Epoch, ..
            } => "epoch",
            _ => "step",
        }
    }

    pub(super) fn on_replay(&self) -> bool {
        self.keys.on_replay == Some(true)
    }

    pub(super) fn hold_id(&self) -> Option<String> {
        if self.done || self.started_ns.is_none() {
            return None;
        }
        match (&self.aim, self.next_unit) {
            (Aim::Unit { unit, .. }, Some(next)) => {
                Some(format!("r{}-{}{next}", self.rule, unit.letter()))
            }
            (Aim::Phase(_), _) => Some(format!("r{}-p{}", self.rule, self.fired)),
            _ => None,
        }
    }

    pub(super) fn hold_phase(&self) -> Option<String> {
        self.aim.hold_phase().map(str::to_owned)
    }

    pub(super) fn place(&self) -> Place {
        let (step, epoch) = self.aim.unit_fields(self.next_unit);
        Place {
            step,
            epoch,
            phase: self.hold_phase(),
            rank: self.target_rank,
        }
    }

    /// An aim whose hold never came: the first event that shows training went on takes it unheld.
    pub(super) fn overdue(&mut self, event: &TrainingEvent, now_ns: u64) -> Vec<Outcome> {
        let Some((place, until)) = self.waiting.clone() else {
            return Vec::new();
        };
        let same_unit = event.step == place.step || event.epoch == place.epoch;
        if same_unit && now_ns < until {
            return Vec::new();
        }
        self.waiting = None;
        self.take_unit(place, None)
    }

    pub(super) fn reached(&mut self, event: &TrainingEvent, now_ns: u64) -> Vec<Outcome> {
        let high = self.completed();
        if self.on_replay()
            && matches!(self.aim, Aim::Unit { .. })
            && let Some(unit) = self.aim.replayed(event)
        {
            self.next_unit = Some(unit);
        }
        let Some(unit) = self
            .aim
            .reached(event, self.next_unit, high, self.on_replay())
        else {
            return Vec::new();
        };
        if let Some(unit) = unit {
            // A gap in the events may have jumped over several aims: the newest one is taken.
            self.next_unit = Some(self.aim.latest_not_after(unit, self.next_unit));
        }
        let place = self.place();
        if self.hold_armed {
            self.waiting = Some((place, now_ns.saturating_add(HOLD_GRACE_NS)));
            return Vec::new();
        }
        self.take_unit(place, None)
    }

    pub(super) fn take_unit(&mut self, place: Place, hold: Option<String>) -> Vec<Outcome> {
        let unit = self
            .next_unit
            .unwrap_or(u64::from(self.fired))
            .to_le_bytes();
        let mut outcomes = self.take(place, hold, &[b"unit", &unit]);
        if !self.done {
            self.next_unit = self.aim.after(self.next_unit);
            self.hold_armed = false;
            if self.next_unit.is_none() && !self.on_replay() {
                outcomes.extend(self.finish("its last occasion has passed", false));
            }
        }
        outcomes
    }

    /// Takes or skips one occasion, as probability says; `key` names what is decided.
    pub(super) fn take(&mut self, aim: Place, hold: Option<String>, key: &[&[u8]]) -> Vec<Outcome> {
        if let Some(probability) = self.keys.probability {
            let rule = self.rule.0.to_le_bytes();
            let mut parts: Vec<&[u8]> = vec![b"probability", &rule];
            parts.extend_from_slice(key);
            if seed::unit(self.seed, &parts) >= probability.0 / 100.0 {
                let mut outcomes = vec![Outcome::Skip {
                    because: format!("its probability of {probability} did not take this occasion"),
                    hold,
                }];
                if self.aim.is_single() {
                    outcomes.extend(self.finish("its only occasion was not taken", false));
                }
                return outcomes;
            }
        }
        let occasion = Occasion {
            count: self.fired,
            aim,
            hold,
        };
        self.fired += 1;
        let mut outcomes = vec![Outcome::Fire(occasion)];
        let most = self
            .keys
            .times
            .or_else(|| self.aim.is_single().then_some(1));
        if most.is_some_and(|most| self.fired >= most) {
            let because = if self.aim.is_single() {
                "it acts once"
            } else {
                "it has acted as often as `times` allows"
            };
            outcomes.extend(self.finish(because, false));
        }
        outcomes
    }

    pub(super) fn schedule(&mut self, now_ns: u64) {
        if self.done {
            return;
        }
        let tick = self.ticks.to_le_bytes();
        let rule = self.rule.0.to_le_bytes();
        match self.aim {
            Aim::EveryTime(period) => {
                let started = self.started_ns.unwrap_or(now_ns);
                let passed = now_ns.saturating_sub(started) / period.max(1);
                self.next_ns = Some(started.saturating_add((passed + 1).saturating_mul(period)));
            }
            Aim::MeanTime(mean) => {
                let wait = seed::exponential(
                    self.seed,
                    &[b"mean-time-between", &rule, &tick],
                    mean as f64,
                );
                self.next_ns = Some(now_ns.saturating_add(wait as u64));
            }
            _ => return,
        }
        self.ticks += 1;
    }

    pub(super) fn finish(&mut self, because: &str, missed: bool) -> Vec<Outcome> {
        self.done = true;
        self.hold_armed = false;
        let because = because.to_owned();
        let mut outcomes = Vec::new();
        if missed {
            outcomes.push(Outcome::Skip {
                because: because.clone(),
                hold: None,
            });
        }
        outcomes.push(Outcome::Done { because });
        outcomes
    }
}
