//! What the conductor remembers of the events it wrote: live values, what is armed, how far training was when something landed.

use super::observer::{LOSS_HISTORY, Live};
use crate::board::Board;
use squall_model::event::{Body, Event, RunState};
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

#[derive(Debug, Default)]
pub(super) struct Tracker {
    rules: BTreeMap<RuleId, Life>,
    one_shots: BTreeSet<InjectionId>,
    /// Rules that were sent, in order, and not yet answered.
    sent: VecDeque<RuleId>,
    aims: BTreeMap<RuleId, String>,
    loss: VecDeque<f64>,
    speed: VecDeque<(Instant, u64)>,
    high_step: u64,
    /// The highest step when an injection last landed.
    landed_at: Option<u64>,
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
                self.landed_at = Some(self.high_step);
            }
            Body::WorkloadStarted { .. } => {
                self.high_step = 0;
                self.loss.clear();
                self.speed.clear();
            }
            Body::Training { event, .. } if event.kind == "step-end" => {
                let step = event.step.unwrap_or(0);
                if step > self.high_step {
                    self.high_step = step;
                    self.loss.extend(event.loss);
                    while self.loss.len() > LOSS_HISTORY {
                        self.loss.pop_front();
                    }
                }
            }
            _ => {}
        }
    }

    /// Training has passed the step it had reached when an injection last landed.
    pub(super) fn has_caught_up(&self) -> bool {
        self.landed_at.is_none_or(|high| self.high_step > high)
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
