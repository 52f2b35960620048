//! When a fault acts: one [`Trigger`] per fault step, a pure state machine fed with events, holds, lines and the time.
//!
//! Invariants: an aim is taken at most once (a replayed epoch never takes it again unless `on-replay` asks for it), and
//! every random choice depends on the seed and on what is decided, never on the order of arrival.

mod aim;
mod taking;
#[cfg(test)]
mod tests;

use crate::event::Place;
use crate::hook::{HoldReached, HoldSpec, TrainingEvent};
use crate::id::RuleId;
use crate::timing::StepKeys;
use aim::Aim;
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
                    return self.finish(&self.passed(), true);
                }
                Vec::new()
            }
            Aim::Line(_) | Aim::After { .. } | Aim::Phase(_) | Aim::Request => Vec::new(),
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

    /// What the end of the job took from it, in words that go on after `the workload ended`. Empty when it has acted.
    pub fn left_over(&self) -> String {
        match (self.fired, self.aim.is_single()) {
            (0, true) => format!(", before its aim ({})", self.aim_text()),
            (0, false) => format!(", before any of its aims ({}) was taken", self.aim_text()),
            _ => String::new(),
        }
    }

    /// When it acts, in words for plan and report.
    pub fn aim_text(&self) -> String {
        crate::plan::aim(&self.keys)
    }

    /// No further occasion will come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Where the next occasion is meant to land, when it aims at a place in training.
    pub fn next_place(&self) -> Option<Place> {
        self.hold_id().map(|_| self.place())
    }
}
