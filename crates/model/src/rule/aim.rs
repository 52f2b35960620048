//! What a trigger waits for, read from the shared keys of a step.

use crate::hook::TrainingEvent;
use crate::timing::StepKeys;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Step,
    Epoch,
}

impl Unit {
    pub(super) fn letter(self) -> char {
        match self {
            Unit::Step => 's',
            Unit::Epoch => 'e',
        }
    }

    fn end_kind(self) -> &'static str {
        match self {
            Unit::Step => "step-end",
            Unit::Epoch => "epoch-end",
        }
    }

    fn of(self, event: &TrainingEvent) -> Option<u64> {
        match self {
            Unit::Step => event.step,
            Unit::Epoch => event.epoch,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Aim {
    /// As soon as the method reaches the step.
    Now,
    /// This many nanoseconds after that.
    Time(u64),
    EveryTime(u64),
    /// Exponentially spaced with this mean, in nanoseconds.
    MeanTime(u64),
    /// A completed unit, or a phase of a unit in progress.
    Unit {
        unit: Unit,
        /// First aimed unit, and the distance to the next ones.
        first: u64,
        every: Option<u64>,
        /// Aims at or beyond this one do not count (the last epoch).
        before: Option<u64>,
        phase: Option<String>,
    },
    /// The next time that this phase begins.
    Phase(String),
    /// The first line that matches.
    Line(String),
    After {
        name: String,
        plus: u64,
    },
    /// Never by itself.
    Request,
}

impl Aim {
    pub(super) fn from_keys(keys: &StepKeys, last_epoch: Option<u64>) -> Result<Aim, String> {
        let given = [
            keys.at.is_some(),
            keys.every.is_some(),
            keys.after.is_some(),
            keys.mean_time_between.is_some(),
            keys.on_request == Some(true),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(
                "give only one of `at`, `every`, `after`, `mean-time-between` and `on-request`"
                    .into(),
            );
        }
        if keys.on_request == Some(true) {
            return Ok(Aim::Request);
        }
        if let Some(every) = &keys.every {
            let repeated = |unit, n: u64, before| {
                (n > 0)
                    .then(|| Aim::Unit {
                        unit,
                        first: n,
                        every: Some(n),
                        before,
                        phase: every.phase.clone(),
                    })
                    .ok_or_else(|| "`every` counts from 1".to_owned())
            };
            return match (every.epochs, every.steps, every.time) {
                (Some(n), None, None) => repeated(Unit::Epoch, n, last_epoch),
                (None, Some(n), None) => repeated(Unit::Step, n, None),
                (None, None, Some(time)) => Ok(Aim::EveryTime(time.as_nanos())),
                _ => Err("`every` takes exactly one of epochs, steps and time".into()),
            };
        }
        if let Some(mean) = keys.mean_time_between {
            return Ok(Aim::MeanTime(mean.as_nanos()));
        }
        if let Some(after) = &keys.after {
            let plus = after.plus.map_or(0, crate::units::Span::as_nanos);
            return Ok(Aim::After {
                name: after.injection.clone(),
                plus,
            });
        }
        let Some(at) = &keys.at else {
            return Ok(Aim::Now);
        };
        let single = |unit, n: u64| {
            (n > 0)
                .then(|| Aim::Unit {
                    unit,
                    first: n,
                    every: None,
                    before: None,
                    phase: at.phase.clone(),
                })
                .ok_or_else(|| "steps and epochs count from 1".to_owned())
        };
        match (at.time, at.step, at.epoch, &at.log, &at.phase) {
            (Some(time), None, None, None, None) => Ok(Aim::Time(time.as_nanos())),
            (None, Some(step), None, None, _) => single(Unit::Step, step),
            (None, None, Some(epoch), None, _) => single(Unit::Epoch, epoch),
            (None, None, None, Some(log), None) => Ok(Aim::Line(log.clone())),
            (None, None, None, None, Some(phase)) => Ok(Aim::Phase(phase.clone())),
            _ => Err(
                "`at` takes one of time, step, epoch, phase and log; a phase may stand with a step or an epoch"
                    .into(),
            ),
        }
    }

    /// Whether it has one occasion only.
    pub(super) fn is_single(&self) -> bool {
        !matches!(
            self,
            Aim::EveryTime(_) | Aim::MeanTime(_) | Aim::Unit { every: Some(_), .. }
        )
    }

    pub(super) fn phase(&self) -> Option<&str> {
        match self {
            Aim::Unit { phase, .. } => phase.as_deref(),
            Aim::Phase(phase) => Some(phase),
            _ => None,
        }
    }

    /// The phase to hold in: the one asked for, or the end of the unit.
    pub(super) fn hold_phase(&self) -> Option<&str> {
        match self {
            Aim::Unit { phase, unit, .. } => Some(phase.as_deref().unwrap_or(unit.end_kind())),
            Aim::Phase(phase) => Some(phase),
            _ => None,
        }
    }

    /// Step and epoch fields of a place or hold at `unit`.
    pub(super) fn unit_fields(&self, next: Option<u64>) -> (Option<u64>, Option<u64>) {
        match self {
            Aim::Unit {
                unit: Unit::Step, ..
            } => (next, None),
            Aim::Unit {
                unit: Unit::Epoch, ..
            } => (None, next),
            _ => (None, None),
        }
    }

    fn allowed(&self, unit: u64) -> Option<u64> {
        match self {
            Aim::Unit { before, .. } => before.is_none_or(|before| unit < before).then_some(unit),
            _ => Some(unit),
        }
    }

    /// The first aim that is still ahead when `completed` units are done.
    pub(super) fn first(&self, completed: u64) -> Option<u64> {
        match self {
            Aim::Unit {
                first,
                every: Some(every),
                ..
            } => self.allowed((*first).max((completed / every + 1) * every)),
            Aim::Unit {
                first, every: None, ..
            } => (*first > completed).then_some(*first),
            _ => None,
        }
    }

    /// The aim after `unit`.
    pub(super) fn after(&self, unit: Option<u64>) -> Option<u64> {
        match self {
            Aim::Unit {
                every: Some(every), ..
            } => self.allowed(unit? + every),
            _ => None,
        }
    }

    /// The newest aim that is not after `unit`, and not before `next`.
    pub(super) fn latest_not_after(&self, unit: u64, next: Option<u64>) -> u64 {
        let next = next.unwrap_or(unit);
        match self {
            Aim::Unit {
                every: Some(every), ..
            } => (unit / every * every).max(next),
            _ => next,
        }
    }

    /// With `on-replay`: the aim that this event is at, even when it was passed before.
    pub(super) fn replayed(&self, event: &TrainingEvent) -> Option<u64> {
        let Aim::Unit {
            unit, first, every, ..
        } = self
        else {
            return None;
        };
        let at = unit.of(event)?;
        let hit = match every {
            Some(every) => at > 0 && at.is_multiple_of(*every),
            None => at == *first,
        };
        (hit && self.is_place(event))
            .then_some(at)
            .and_then(|at| self.allowed(at))
    }

    fn is_place(&self, event: &TrainingEvent) -> bool {
        match self {
            Aim::Unit {
                phase: Some(phase), ..
            }
            | Aim::Phase(phase) => {
                (event.kind == "phase-begin" && event.phase.as_deref() == Some(phase))
                    || event.kind == *phase
            }
            Aim::Unit { unit, .. } => event.kind == unit.end_kind(),
            _ => false,
        }
    }

    /// Whether this event says that the aim `next` is reached: `Some(Some(unit))` with the unit the event is at,
    /// `Some(None)` for aims without a unit. Units at or below `high` were completed before and count only with `replay`.
    pub(super) fn reached(
        &self,
        event: &TrainingEvent,
        next: Option<u64>,
        high: u64,
        replay: bool,
    ) -> Option<Option<u64>> {
        if !self.is_place(event) {
            return None;
        }
        match self {
            Aim::Phase(_) => Some(None),
            Aim::Unit { unit, .. } => {
                let at = unit.of(event)?;
                let fresh = replay || at > high || self.phase().is_some();
                (at >= next? && fresh).then_some(Some(at))
            }
            _ => None,
        }
    }
}
