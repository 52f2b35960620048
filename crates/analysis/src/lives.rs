//! Sorts the training events of each rank into lives, and lives of all ranks into attempts of the whole job.
//!
//! A life of a rank is one stretch of training without a rewind. It ends when the rank comes back with another
//! restart number or pid, when a step number comes again, or when a checkpoint is loaded after steps were made.
//! Lives that begin together are one attempt: a life joins the current attempt unless its rank already has one there
//! or it carries another restart number. The result does not depend on how simultaneous events of ranks interleave.

use crate::log::Seen;
use std::collections::{BTreeMap, BTreeSet};

/// What progress is counted in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Optimiser steps.
    Step,
    /// Passes over the data: the log tells of nothing smaller.
    Epoch,
}

impl Unit {
    /// The unit that a run's events allow; `None` when they tell of no progress.
    pub(crate) fn of(events: &[Seen<'_>]) -> Option<Unit> {
        let has = |kind: &str| events.iter().any(|seen| seen.event.kind == kind);
        if has("step-end") {
            Some(Unit::Step)
        } else if has("epoch-end") {
            Some(Unit::Epoch)
        } else {
            None
        }
    }

    /// The completed unit that an event reports.
    pub(crate) fn completed(self, seen: &Seen<'_>) -> Option<u64> {
        match self {
            Unit::Step if seen.event.kind == "step-end" => seen.event.step,
            Unit::Epoch if seen.event.kind == "epoch-end" => seen.event.epoch,
            _ => None,
        }
    }

    /// The position, in this unit, that a checkpoint event carries.
    pub(crate) fn position(self, seen: &Seen<'_>) -> Option<u64> {
        match self {
            Unit::Step => seen.event.step,
            Unit::Epoch => seen.event.epoch,
        }
    }

    /// `640 steps`, `1 epoch`.
    pub fn count(self, n: u64) -> String {
        let word = self.word();
        if n == 1 {
            format!("1 {word}")
        } else {
            format!("{} {word}s", crate::num::thousands(n))
        }
    }

    /// `step` or `epoch`.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Step => "step",
            Unit::Epoch => "epoch",
        }
    }
}

/// One life: its rank, restart number and the indices of its events.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) rank: Option<u32>,
    pub(crate) restart: u32,
    pub(crate) start_ns: u64,
    pub(crate) events: Vec<usize>,
    last: Option<u64>,
    last_epoch: Option<u64>,
    pid: Option<u32>,
}

/// The lives of a job, grouped into attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lives {
    /// Each attempt: its lives, at most one a rank.
    pub(crate) attempts: Vec<Vec<Life>>,
    /// Steps start again with each epoch, so their numbers do not say where training was.
    pub(crate) counted_within_epochs: bool,
}

impl Lives {
    pub(crate) fn of(events: &[Seen<'_>], unit: Unit) -> Lives {
        let reporters: BTreeSet<Option<u32>> = events
            .iter()
            .filter(|seen| unit.completed(seen).is_some())
            .map(|seen| seen.rank)
            .collect();
        let mut by_rank: BTreeMap<Option<u32>, Vec<Life>> = BTreeMap::new();
        let mut counted_within_epochs = false;
        for (index, seen) in events.iter().enumerate() {
            if !reporters.contains(&seen.rank) || seen.event.kind == "recovery" {
                continue;
            }
            let lives = by_rank.entry(seen.rank).or_default();
            let rewound = lives.last().map(|life| life.ended_by(seen, unit));
            counted_within_epochs |= rewound == Some(Cut::NewEpoch);
            match lives.last_mut() {
                Some(life) if matches!(rewound, Some(Cut::None | Cut::NewEpoch)) => {
                    life.push(index, seen, unit);
                }
                _ => lives.push(Life::begin(index, seen, unit)),
            }
        }
        Lives {
            attempts: group(by_rank.into_values().flatten().collect()),
            counted_within_epochs,
        }
    }
}

/// Whether an event still belongs to a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    None,
    /// The step number fell because an epoch began: no rewind, but numbers that cannot be used.
    NewEpoch,
    Rewound,
}

impl Life {
    fn begin(index: usize, seen: &Seen<'_>, unit: Unit) -> Life {
        let mut life = Life {
            rank: seen.rank,
            restart: seen.restart,
            start_ns: seen.t_ns,
            events: Vec::new(),
            last: None,
            last_epoch: None,
            pid: seen.pid,
        };
        life.push(index, seen, unit);
        life
    }

    fn push(&mut self, index: usize, seen: &Seen<'_>, unit: Unit) {
        self.events.push(index);
        self.pid = self.pid.or(seen.pid);
        if let Some(done) = unit.completed(seen) {
            self.last = Some(done);
            self.last_epoch = seen.event.epoch.or(self.last_epoch);
        }
    }

    fn ended_by(&self, seen: &Seen<'_>, unit: Unit) -> Cut {
        let other_process = matches!((self.pid, seen.pid), (Some(a), Some(b)) if a != b);
        if other_process || seen.restart != self.restart {
            return Cut::Rewound;
        }
        let Some(last) = self.last else {
            return Cut::None;
        };
        if seen.event.kind == "checkpoint-loaded" {
            return Cut::Rewound;
        }
        match unit.completed(seen) {
            Some(done) if done <= last => match (self.last_epoch, seen.event.epoch) {
                (Some(before), Some(now)) if unit == Unit::Step && now > before => Cut::NewEpoch,
                _ => Cut::Rewound,
            },
            _ => Cut::None,
        }
    }
}

fn group(mut lives: Vec<Life>) -> Vec<Vec<Life>> {
    lives.sort_by_key(|life| (life.start_ns, life.restart, life.rank));
    let mut attempts: Vec<Vec<Life>> = Vec::new();
    for life in lives {
        let joins = attempts.last().is_some_and(|attempt| {
            attempt
                .iter()
                .all(|other| other.rank != life.rank && other.restart == life.restart)
        });
        match attempts.last_mut() {
            Some(attempt) if joins => attempt.push(life),
            _ => attempts.push(vec![life]),
        }
    }
    attempts
}
