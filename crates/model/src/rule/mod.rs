//! When a fault acts: one [`Trigger`] per fault step, a pure state machine fed with events, holds, lines and the time.
//!
//! Invariants: an aim is taken at most once (a replayed epoch never takes it again unless `on-replay` asks for it), and
//! every random choice depends on the seed and on what is decided, never on the order of arrival.

mod aim;
#[cfg(test)]
mod tests;

use crate::event::Place;
use crate::hook::{HoldReached, HoldSpec, TrainingEvent};
use crate::id::RuleId;
use crate::seed;
use crate::timing::StepKeys;
use aim::{Aim, Unit};
use regex::Regex;

/// How long a trigger waits for an armed hold after the event that says its place was reached, in nanoseconds.
/// Longer than a message takes; short enough that an unheld injection lands near its aim.
const HOLD_GRACE_NS: u64 = 100_000_000;

/// What a trigger decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Inject now.
    Fire(Occasion),
    /// The occasion came and was not taken.
    Skip {
        /// Why, for the report.
        because: String,
        /// The hold that waits for an answer, to be released.
        hold: Option<String>,
    },
    /// No further occasion will come.
    Done {
        /// Why, for the report.
        because: String,
    },
}

/// One occasion that is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Occasion {
    /// Which injection of this rule it is, from 0.
    pub count: u32,
    /// Where it was meant to land.
    pub aim: Place,
    /// The hold that blocks the aimed process until the injection has landed.
    pub hold: Option<String>,
}

/// The trigger of one rule.
#[derive(Debug, Clone)]
pub struct Trigger {
    seed: u64,
    rule: RuleId,
    keys: StepKeys,
    target_rank: Option<u32>,
    aim: Aim,
    log: Option<Regex>,
    started_ns: Option<u64>,
    /// Completed units, the most ever seen.
    high_step: u64,
    high_epoch: u64,
    /// The unit aimed at next, when the aim counts units.
    next_unit: Option<u64>,
    /// The moment of the next timed occasion.
    next_ns: Option<u64>,
    /// Timed occasions so far.
    ticks: u64,
    fired: u32,
    /// An aim whose event was seen and whose hold is still expected: the moment to go on without it.
    waiting: Option<(Place, u64)>,
    hold_armed: bool,
    done: bool,
}

impl Trigger {
    /// Builds the trigger of a rule whose target is `target_rank` (when it is a rank), in a job of `last_epoch` epochs (when known).
    ///
    /// # Errors
    /// The keys contradict each other or hold an unreadable pattern; words for a person.
    pub fn new(
        seed: u64,
        rule: RuleId,
        keys: &StepKeys,
        target_rank: Option<u32>,
        last_epoch: Option<u64>,
    ) -> Result<Trigger, String> {
        let aim = Aim::from_keys(keys, last_epoch)?;
        let log = match &aim {
            Aim::Line(pattern) => Some(
                Regex::new(pattern)
                    .map_err(|error| format!("the pattern cannot be read: {error}"))?,
            ),
            _ => None,
        };
        Ok(Trigger {
            seed,
            rule,
            keys: keys.clone(),
            target_rank,
            aim,
            log,
            started_ns: None,
            high_step: 0,
            high_epoch: 0,
            next_unit: None,
            next_ns: None,
            ticks: 0,
            fired: 0,
            waiting: None,
            hold_armed: false,
            done: false,
        })
    }

    /// Tells what the job had completed before this trigger was armed. To be called before [`Trigger::start`].
    pub fn set_high_water(&mut self, step: u64, epoch: u64) {
        self.high_step = step;
        self.high_epoch = epoch;
    }

    /// The method has reached this step.
    pub fn start(&mut self, now_ns: u64) -> Vec<Outcome> {
        self.started_ns = Some(now_ns);
        match &self.aim {
            Aim::Now => self.take(Place::default(), None, &[b"now"]),
            Aim::Time(after) => {
                self.next_ns = Some(now_ns.saturating_add(*after));
                Vec::new()
            }
            Aim::EveryTime(_) | Aim::MeanTime(_) => {
                self.schedule(now_ns);
                Vec::new()
            }
            Aim::Unit { .. } => {
                self.next_unit = self.aim.first(self.completed());
                if self.next_unit.is_none() {
                    return self.finish(
                        "what it aims at had passed when this step was reached",
                        true,
                    );
                }
                Vec::new()
            }
            Aim::Line(_) | Aim::After { .. } | Aim::Phase(_) => Vec::new(),
        }
    }

    /// A training event of some rank, or of the job as a whole (`rank` is none).
    pub fn training(
        &mut self,
        rank: Option<u32>,
        event: &TrainingEvent,
        now_ns: u64,
    ) -> Vec<Outcome> {
        if !self.watches(rank) {
            return Vec::new();
        }
        let mut outcomes = self.overdue(event, now_ns);
        if self.started_ns.is_some() && !self.done && self.waiting.is_none() {
            outcomes.extend(self.reached(event, now_ns));
        }
        match event.kind.as_str() {
            "step-end" => self.high_step = self.high_step.max(event.step.unwrap_or(0)),
            "epoch-end" => self.high_epoch = self.high_epoch.max(event.epoch.unwrap_or(0)),
            _ => {}
        }
        outcomes
    }

    /// A process has reached an armed hold point and blocks.
    pub fn held(&mut self, rank: Option<u32>, hold: &HoldReached) -> Vec<Outcome> {
        let skip = |because: &str| {
            vec![Outcome::Skip {
                because: because.to_owned(),
                hold: Some(hold.id.clone()),
            }]
        };
        if self.done || !self.watches(rank) {
            return skip("this hold is no longer wanted");
        }
        let waited = self.waiting.take();
        let Some(expected) = self.hold_id() else {
            return skip("this hold is no longer wanted");
        };
        if expected != hold.id {
            self.waiting = waited;
            return skip("this hold is no longer wanted");
        }
        let place = waited.map_or_else(
            || Place {
                step: hold.step,
                epoch: hold.epoch,
                phase: Some(hold.phase.clone()),
                rank,
            },
            |(place, _)| place,
        );
        self.take_unit(place, Some(hold.id.clone()))
    }

    /// A line of the workload's output.
    pub fn line(&mut self, text: &str) -> Vec<Outcome> {
        let matches = self.log.as_ref().is_some_and(|log| log.is_match(text));
        if !matches || self.done || self.started_ns.is_none() {
            return Vec::new();
        }
        self.take(Place::default(), None, &[b"line"])
    }

    /// An injection of the step named `name` has ended.
    pub fn ended(&mut self, name: &str, now_ns: u64) -> Vec<Outcome> {
        if let Aim::After { name: wanted, plus } = &self.aim
            && wanted == name
            && !self.done
            && self.started_ns.is_some()
        {
            self.next_ns = Some(now_ns.saturating_add(*plus));
        }
        self.tick(now_ns)
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ns: u64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if let Some((place, until)) = self.waiting.clone()
            && now_ns >= until
        {
            self.waiting = None;
            outcomes.extend(self.take_unit(place, None));
        }
        // One occasion a call: after a long stop, missed occasions are not made up for in a burst.
        if let Some(due) = self.next_ns
            && now_ns >= due
            && !self.done
        {
            self.next_ns = None;
            let tick = self.ticks.to_le_bytes();
            outcomes.extend(self.take(Place::default(), None, &[b"tick", &tick]));
            self.schedule(now_ns);
        }
        outcomes
    }

    /// The moment at which [`Trigger::tick`] has something to do.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if self.done {
            return None;
        }
        let waiting = self.waiting.as_ref().map(|(_, until)| *until);
        [self.next_ns, waiting].into_iter().flatten().min()
    }

    /// The holds to arm now; empty when the aim has no place, or no process offers its phase.
    /// `offered` gives the phases that the hook of a rank (none: of any process) can hold.
    pub fn holds(&mut self, offered: &dyn Fn(Option<u32>) -> Vec<String>) -> Vec<HoldSpec> {
        self.hold_armed = false;
        let (Some(id), Some(phase)) = (self.hold_id(), self.hold_phase()) else {
            return Vec::new();
        };
        if !offered(self.target_rank).contains(&phase) {
            return Vec::new();
        }
        self.hold_armed = true;
        let (step, epoch) = self.aim.unit_fields(self.next_unit);
        vec![HoldSpec {
            id,
            phase,
            rank: self.target_rank,
            step,
            epoch,
        }]
    }

    /// The phase that the file asks for by name. A hook that cannot offer it makes the rule refused.
    pub fn phase(&self) -> Option<&str> {
        self.aim.phase()
    }

    /// When it acts, in words for plan and report.
    pub fn aim_text(&self) -> String {
        aim::text(&self.keys)
    }

    /// No further occasion will come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Where the next occasion is meant to land, when it aims at a place in training.
    pub fn next_place(&self) -> Option<Place> {
        self.hold_id().map(|_| self.place())
    }

    fn watches(&self, rank: Option<u32>) -> bool {
        match (self.target_rank, rank) {
            // Events of the job as a whole (a log without ranks) count for any target.
            (_, None) => true,
            (Some(wanted), Some(rank)) => wanted == rank,
            (None, Some(_)) => true,
        }
    }

    fn completed(&self) -> u64 {
        match self.aim {
            Aim::Unit {
                unit: Unit::Epoch, ..
            } => self.high_epoch,
            _ => self.high_step,
        }
    }

    fn on_replay(&self) -> bool {
        self.keys.on_replay == Some(true)
    }

    fn hold_id(&self) -> Option<String> {
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

    fn hold_phase(&self) -> Option<String> {
        self.aim.hold_phase().map(str::to_owned)
    }

    fn place(&self) -> Place {
        let (step, epoch) = self.aim.unit_fields(self.next_unit);
        Place {
            step,
            epoch,
            phase: self.hold_phase(),
            rank: self.target_rank,
        }
    }

    /// An aim whose hold never came: the first event that shows training went on takes it unheld.
    fn overdue(&mut self, event: &TrainingEvent, now_ns: u64) -> Vec<Outcome> {
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

    fn reached(&mut self, event: &TrainingEvent, now_ns: u64) -> Vec<Outcome> {
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

    fn take_unit(&mut self, place: Place, hold: Option<String>) -> Vec<Outcome> {
        let unit = self
            .next_unit
            .unwrap_or(u64::from(self.fired))
            .to_le_bytes();
        let mut outcomes = self.take(place, hold, &[b"unit", &unit]);
        if !self.done && matches!(self.aim, Aim::Unit { .. }) {
            self.next_unit = self.aim.after(self.next_unit);
            self.hold_armed = false;
            if self.next_unit.is_none() && !self.on_replay() {
                outcomes.extend(self.finish("its last occasion has passed", false));
            }
        }
        outcomes
    }

    /// Takes or skips one occasion, as probability says; `key` names what is decided.
    fn take(&mut self, aim: Place, hold: Option<String>, key: &[&[u8]]) -> Vec<Outcome> {
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

    fn schedule(&mut self, now_ns: u64) {
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

    fn finish(&mut self, because: &str, missed: bool) -> Vec<Outcome> {
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
