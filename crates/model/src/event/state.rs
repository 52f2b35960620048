//! The state of a run as a fold over its events, and the moves that are legal.

use super::{Body, Event, Stage};
use crate::exit::Exit;
use crate::id::{InjectionId, RuleId};
use crate::syntax::Class;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where an injection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InjectionState {
    Begun,
    Landed,
    NotLanded,
    Undoing,
    Undone,
    Stuck,
}

/// One injection as the log tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    pub id: InjectionId,
    pub rule: RuleId,
    pub kind: String,
    pub class: Class,
    pub state: InjectionState,
}

/// The state of a run: a fold over its events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunState {
    /// Sequence number of the last event applied.
    pub seq: u64,
    pub started: bool,
    pub stage: Option<Stage>,
    pub injections: BTreeMap<InjectionId, Injection>,
    pub ended: Option<Exit>,
    /// Time of the last event.
    pub t_ns: u64,
}

/// An event that cannot follow what the log already says.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("event {seq} is illegal here, because {because}")]
pub struct IllegalEvent {
    /// The event's number.
    pub seq: u64,
    /// Why it cannot stand there.
    pub because: String,
}

impl RunState {
    /// Applies one event, or says why it cannot follow. The only place that knows which moves are legal.
    pub fn apply(mut self, event: &Event) -> Result<RunState, IllegalEvent> {
        let illegal = |because: &str| IllegalEvent {
            seq: event.seq,
            because: because.to_owned(),
        };
        if event.seq != self.seq + 1 {
            return Err(illegal("its number does not follow the last one"));
        }
        if self.ended.is_some() {
            return Err(illegal("the run has ended"));
        }
        let first = matches!(event.body, Body::RunStarted { .. });
        if first == self.started {
            return Err(illegal(if first {
                "the run has started already"
            } else {
                "the run has not started"
            }));
        }
        match &event.body {
            Body::RunStarted { .. } => self.started = true,
            Body::StageEntered { stage } => {
                if self.stage.is_some_and(|now| now >= *stage) {
                    return Err(illegal("stages only go forward"));
                }
                self.stage = Some(*stage);
            }
            Body::InjectionBegun {
                injection,
                rule,
                kind,
                class,
                ..
            } => {
                let entry = Injection {
                    id: injection.clone(),
                    rule: *rule,
                    kind: kind.clone(),
                    class: *class,
                    state: InjectionState::Begun,
                };
                if self.injections.insert(injection.clone(), entry).is_some() {
                    return Err(illegal("this injection has begun already"));
                }
            }
            Body::Landed { injection, .. } => {
                self.step(event, injection, InjectionState::Landed)?
            }
            Body::NotLanded { injection, .. } => {
                self.step(event, injection, InjectionState::NotLanded)?;
            }
            Body::UndoBegun { injection, .. } => {
                self.step(event, injection, InjectionState::Undoing)?;
            }
            Body::Undone { injection, .. } => {
                self.step(event, injection, InjectionState::Undone)?
            }
            Body::Stuck { injection, .. } => self.step(event, injection, InjectionState::Stuck)?,
            Body::RunEnded { exit, .. } => {
                if *exit != Exit::NotRolledBack && self.outstanding().next().is_some() {
                    return Err(illegal("an injection is still outstanding"));
                }
                self.ended = Some(*exit);
            }
            _ => {}
        }
        self.seq = event.seq;
        self.t_ns = self.t_ns.max(event.t_ns);
        Ok(self)
    }

    fn step(
        &mut self,
        event: &Event,
        id: &InjectionId,
        to: InjectionState,
    ) -> Result<(), IllegalEvent> {
        let illegal = |because: String| IllegalEvent {
            seq: event.seq,
            because,
        };
        let Some(injection) = self.injections.get_mut(id) else {
            return Err(illegal(format!("injection {id} never began")));
        };
        use InjectionState::{Begun, Landed, NotLanded, Stuck, Undoing, Undone};
        let legal = match (injection.state, to) {
            (Begun, Landed | NotLanded) => true,
            // An injection that failed half-way is undone too; a stuck one may be tried again.
            (Begun | Landed | NotLanded | Stuck | Undoing, Undoing) => true,
            (Undoing, Undone | Stuck) => true,
            _ => false,
        };
        if !legal {
            return Err(illegal(format!(
                "injection {id} cannot go from {:?} to {to:?}",
                injection.state
            )));
        }
        injection.state = to;
        Ok(())
    }

    /// Injections whose change may still be in the world. One-shot faults have no undo and end when they have landed or not.
    pub fn outstanding(&self) -> impl Iterator<Item = &Injection> {
        self.injections.values().filter(|injection| {
            !matches!(
                (injection.class, injection.state),
                (_, InjectionState::Undone)
                    | (
                        Class::OneShot,
                        InjectionState::Landed | InjectionState::NotLanded
                    )
            )
        })
    }
}
