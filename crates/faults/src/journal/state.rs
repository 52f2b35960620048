//! What a journal's records mean. [`State::apply`] is the only place that knows which moves are legal.

use super::codec::FRAME_LEN;
use super::record::{About, ENDING_MAX, Entry, Record, UNDOING_MAX};
use crate::undo::Undo;
use squall_model::event::Observation;
use squall_model::id::InjectionId;
use squall_model::syntax::Class;
use std::collections::BTreeMap;

/// Where an injection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Some of its changes may have been made.
    Intent,
    /// All of them were made and read back.
    Active,
    /// They are being taken back.
    Undoing,
    /// They are taken back.
    Undone,
    /// They could not all be taken back.
    Stuck,
}

/// One injection as the journal tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracked {
    pub id: InjectionId,
    pub about: About,
    pub phase: Phase,
    /// In the order of the changes; taken back from the end.
    pub undos: Vec<Undo>,
    /// What the last read-back said.
    pub observations: Vec<Observation>,
    /// For a stuck one: why, and what a person must do.
    pub stuck: Option<(String, String)>,
    /// Sequence number of the last intent: newer injections are undone first.
    pub last_intent: u64,
}

const ENDING: u64 = (ENDING_MAX + FRAME_LEN) as u64;
const UNDOING: u64 = (UNDOING_MAX + FRAME_LEN) as u64;
/// The most that one injection keeps free.
pub(super) const RESERVED_MOST: u64 = 3 * ENDING + 2 * UNDOING;

impl Tracked {
    /// Whether something of it may still be in the world.
    pub fn is_outstanding(&self) -> bool {
        match self.phase {
            Phase::Undone => false,
            Phase::Active => self.about.class != Class::OneShot,
            Phase::Intent | Phase::Undoing | Phase::Stuck => true,
        }
    }

    /// Bytes to keep free for the records it may still need: active, undoing, an end, and one more try after being stuck.
    fn reserved(&self) -> u64 {
        match self.phase {
            Phase::Intent => RESERVED_MOST,
            Phase::Active => 2 * (ENDING + UNDOING),
            Phase::Undoing => 2 * ENDING + UNDOING,
            Phase::Stuck => ENDING + UNDOING,
            Phase::Undone => 0,
        }
    }
}

/// A record that cannot follow what the journal says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not record `{entry}` for injection {injection}, because {because}")]
pub struct IllegalMove {
    pub injection: InjectionId,
    pub entry: &'static str,
    pub because: String,
}

/// The fold of a journal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    seq: u64,
    injections: BTreeMap<InjectionId, Tracked>,
}

impl State {
    /// Folds records that were read back. A record that is illegal where it stands can only make more be undone, never less.
    pub fn fold(records: &[Record]) -> State {
        let mut state = State::default();
        for record in records {
            if state.apply(record).is_ok() {
                continue;
            }
            state.seq = record.seq;
            if let (Entry::Intent { undo, .. }, Some(tracked)) = (
                &record.entry,
                state.injections.get_mut(record.entry.injection()),
            ) {
                tracked.undos.push(undo.clone());
                tracked.phase = Phase::Undoing;
                tracked.last_intent = record.seq;
            }
        }
        state
    }

    /// Applies one record, or says why it cannot follow.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalMove> {
        let phase = self.check(record)?;
        self.take(record, phase);
        Ok(())
    }

    /// Where the record would move its injection, or why it cannot follow.
    pub(super) fn check(&self, record: &Record) -> Result<Phase, IllegalMove> {
        let id = record.entry.injection();
        let before = self.injections.get(id).map(|tracked| tracked.phase);
        let illegal = |because: String| IllegalMove {
            injection: id.clone(),
            entry: record.entry.name(),
            because,
        };
        if record.seq != self.seq + 1 {
            return Err(illegal(format!(
                "record {} does not follow {}",
                record.seq, self.seq
            )));
        }
        next(before, &record.entry).ok_or_else(|| {
            illegal(match before {
                None => "it never began".to_owned(),
                Some(phase) => format!("it is {phase:?} already"),
            })
        })
    }

    pub(super) fn take(&mut self, record: &Record, phase: Phase) {
        self.seq = record.seq;
        if let Entry::Intent {
            injection, about, ..
        } = &record.entry
        {
            self.injections
                .entry(injection.clone())
                .or_insert_with(|| Tracked {
                    id: injection.clone(),
                    about: (**about).clone(),
                    phase,
                    undos: Vec::new(),
                    observations: Vec::new(),
                    stuck: None,
                    last_intent: record.seq,
                });
        }
        let Some(tracked) = self.injections.get_mut(record.entry.injection()) else {
            return;
        };
        tracked.phase = phase;
        match &record.entry {
            Entry::Intent { undo, .. } => {
                tracked.undos.push(undo.clone());
                tracked.last_intent = record.seq;
            }
            Entry::Active { observations, .. } | Entry::Undone { observations, .. } => {
                tracked.observations.clone_from(observations);
                tracked.stuck = None;
            }
            Entry::Stuck {
                because,
                remedy,
                observations,
                ..
            } => {
                tracked.observations.clone_from(observations);
                tracked.stuck = Some((because.clone(), remedy.clone()));
            }
            Entry::Undoing { .. } => {}
        }
    }

    /// Number of the last record.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// One injection.
    pub fn get(&self, id: &InjectionId) -> Option<&Tracked> {
        self.injections.get(id)
    }

    /// All injections, by id.
    pub fn injections(&self) -> impl Iterator<Item = &Tracked> {
        self.injections.values()
    }

    /// Injections that may have left something in the world, newest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &Tracked> {
        let mut open: Vec<&Tracked> = self
            .injections
            .values()
            .filter(|one| one.is_outstanding())
            .collect();
        open.sort_by_key(|one| std::cmp::Reverse(one.last_intent));
        open.into_iter()
    }

    /// Bytes to keep free behind the last record.
    pub fn reserved(&self) -> u64 {
        self.injections.values().map(Tracked::reserved).sum()
    }
}

/// The legal moves: intent* → active → undoing → undone | stuck; a half-made injection is undone too, a stuck one may be tried again.
fn next(before: Option<Phase>, entry: &Entry) -> Option<Phase> {
    match (before, entry) {
        (None | Some(Phase::Intent), Entry::Intent { .. }) => Some(Phase::Intent),
        (Some(Phase::Intent), Entry::Active { .. }) => Some(Phase::Active),
        (Some(Phase::Intent | Phase::Active | Phase::Stuck), Entry::Undoing { .. }) => {
            Some(Phase::Undoing)
        }
        (Some(Phase::Undoing), Entry::Undone { .. }) => Some(Phase::Undone),
        (Some(Phase::Undoing), Entry::Stuck { .. }) => Some(Phase::Stuck),
        _ => None,
    }
}
