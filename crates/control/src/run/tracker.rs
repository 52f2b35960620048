//! What the conductor remembers of the events it wrote: live values, what is armed, how far training was when something landed.

use super::observer::{LOSS_HISTORY, Live};
use crate::board::Board;
use squall_model::event::{Body, Event, RunState};
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Steps a second are taken over this long.
const SPEED_OVER: Duration = Duration::from_secs(5);

/// A rule as its events tell it. The agent says that it has ended after its last injection has.
#[derive(Debug, Default)]
struct Life {
    ended: bool,
    /// Injections that are neither over nor stuck.
    open: BTreeSet<InjectionId>,
}

impl Life {
    /// It has ended, and so has every injection of it.
    fn is_done(&self) -> bool {
        self.ended && self.open.is_empty()
    }
}

/// How far training is: the highest step and epoch, and the number of finished checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reached {
    step: u64,
    epoch: u64,
    checkpoints: u64,
}

impl Reached {
    fn take(&mut self, event: &TrainingEvent) {
        match event.kind.as_str() {
            "step-end" => self.step = self.step.max(event.step.unwrap_or(0)),
            "epoch-end" => self.epoch = self.epoch.max(event.epoch.unwrap_or(0)),
            "checkpoint-renamed" => self.checkpoints += 1,
            _ => {}
        }
    }

    /// Farther than `then`, in the smallest unit that the job tells of.
    fn is_past(self, then: Reached) -> bool {
        match (self.step, self.epoch) {
            (0, 0) => self.checkpoints > then.checkpoints,
            (0, epoch) => epoch > then.epoch,
            (step, _) => step > then.step,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tracker {
    rules: BTreeMap<RuleId, Life>,
    one_shots: BTreeSet<InjectionId>,
    /// Rules that were sent, in order, and not yet answered.
    sent: VecDeque<RuleId>,
    aims: BTreeMap<RuleId, String>,
    loss: VecDeque<f64>,
    speed: VecDeque<(Instant, u64)>,
    reached: Reached,
    /// How far training was when an injection last landed.
    landed_at: Option<Reached>,
    /// Injections that landed.
    pub(super) landings: u64,
}

impl Tracker {
    /// A rule goes to the agent.
    pub(super) fn sent(&mut self, rule: RuleId) {
        self.sent.push_back(rule);
    }

    /// The first rule that was sent and not yet answered.
    pub(super) fn unanswered(&mut self) -> Option<RuleId> {
        self.sent.pop_front()
    }

    /// The agent has said that it is armed, and not yet that it has ended.
    pub(super) fn is_armed(&self, rule: RuleId) -> bool {
        self.aims.contains_key(&rule)
    }

    /// Every rule that was sent has been answered and has ended.
    pub(super) fn nothing_is_armed(&self) -> bool {
        self.sent.is_empty() && self.aims.is_empty()
    }

    /// Rules that have ended together with all their injections.
    pub(super) fn done_rules(&self) -> BTreeSet<RuleId> {
        let done = self.rules.iter().filter(|(_, life)| life.is_done());
        done.map(|(rule, _)| *rule).collect()
    }

    fn note_rules(&mut self, body: &Body) {
        match body {
            Body::RuleEnded { rule, .. } => self.rules.entry(*rule).or_default().ended = true,
            Body::InjectionBegun {
                injection,
                rule,
                class,
                ..
            } => {
                let life = self.rules.entry(*rule).or_default();
                life.open.insert(injection.clone());
                if *class == Class::OneShot {
                    self.one_shots.insert(injection.clone());
                }
            }
            Body::Landed { injection, .. } | Body::NotLanded { injection, .. }
                if self.one_shots.contains(injection) =>
            {
                self.close(injection);
            }
            Body::Undone { injection, .. } | Body::Stuck { injection, .. } => self.close(injection),
            _ => {}
        }
    }

    fn close(&mut self, injection: &InjectionId) {
        for life in self.rules.values_mut() {
            life.open.remove(injection);
        }
    }

    pub(super) fn note(&mut self, event: &Event) {
        self.note_rules(&event.body);
        match &event.body {
            Body::Armed { rule, aim, .. } => {
                self.sent.retain(|sent| sent != rule);
                self.aims.insert(*rule, aim.clone());
            }
            Body::RuleEnded { rule, .. } => {
                self.aims.remove(rule);
            }
            Body::Landed { .. } => {
                self.landings += 1;
                self.landed_at = Some(self.reached);
            }
            Body::WorkloadStarted { .. } => {
                self.reached = Reached::default();
                self.loss.clear();
                self.speed.clear();
            }
            Body::Training { event, .. } => {
                let before = self.reached.step;
                self.reached.take(event);
                if self.reached.step > before {
                    self.loss.extend(event.loss);
                    while self.loss.len() > LOSS_HISTORY {
                        self.loss.pop_front();
                    }
                }
            }
            _ => {}
        }
    }

    /// Training has passed the place it had reached when an injection last landed.
    pub(super) fn has_caught_up(&self) -> bool {
        self.landed_at.is_none_or(|then| self.reached.is_past(then))
    }

    pub(super) fn live(&mut self, board: &Board, state: &RunState, lease_left: Duration) -> Live {
        let (step, epoch) = board
            .of_workload(|workload| (workload.steps.highest, workload.epochs.highest))
            .unwrap_or_default();
        let now = Instant::now();
        self.speed.push_back((now, step));
        while self
            .speed
            .front()
            .is_some_and(|(at, _)| now - *at > SPEED_OVER)
        {
            self.speed.pop_front();
        }
        let speed = self
            .speed
            .front()
            .filter(|(at, _)| now - *at > Duration::from_millis(500));
        Live {
            elapsed: board.clock.elapsed(),
            stage: state.stage,
            step,
            epoch,
            steps_per_second: speed
                .filter(|_| step > 0)
                .map(|(at, from)| step.saturating_sub(*from) as f64 / (now - *at).as_secs_f64()),
            loss: self.loss.iter().copied().collect(),
            lease_left,
            next: self.aims.values().cloned().collect(),
            outstanding: state.outstanding().count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(events: &[(&str, u64)]) -> Reached {
        let mut reached = Reached::default();
        for (kind, n) in events {
            let number = Some(*n).filter(|n| *n > 0);
            reached.take(&TrainingEvent {
                kind: (*kind).into(),
                step: number.filter(|_| *kind == "step-end"),
                epoch: number.filter(|_| *kind == "epoch-end"),
                ..TrainingEvent::default()
            });
        }
        reached
    }

    #[test]
    fn training_is_farther_in_the_smallest_unit_that_it_tells_of() {
        let saved = ("checkpoint-renamed", 0);
        let past = |then: &[_], now: &[_]| reached(now).is_past(reached(then));
        assert!(past(&[saved], &[saved, saved]));
        assert!(!past(&[saved], &[saved]));
        assert!(past(&[("epoch-end", 3)], &[("epoch-end", 4)]));
        assert!(!past(&[("epoch-end", 3)], &[("epoch-end", 3), saved]));
        // A checkpoint alone does not make up for steps that were lost.
        assert!(!past(
            &[("step-end", 9)],
            &[("step-end", 9), saved, ("epoch-end", 1)]
        ));
        assert!(past(&[("step-end", 9), saved], &[("step-end", 10)]));
    }
}
