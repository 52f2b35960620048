//! Undoing an injection: its changes newest first, past every failure, then the read-back, then the record.
//!
//! The same for agent, guard and recovery. An undo never waits for the journal: what cannot be recorded is still undone, and said.

use super::{Undo, UndoError, presence, revert};
use crate::crash::crash_point;
use crate::journal::Journal;
use crate::journal::record::Entry;
use crate::journal::state::Phase;
use squall_model::event::{Observation, Presence};
use squall_model::id::InjectionId;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How the undo of one injection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub injection: InjectionId,
    pub kind: String,
    /// What the world said after it, one per change, in the order they were made.
    pub observations: Vec<Observation>,
    /// Why something is still there, and what a person must do; `None`: all of it is gone.
    pub stuck: Option<Stuck>,
    /// Why the journal could not take the record, or the backup could not be removed, when that is so.
    pub unrecorded: Option<String>,
}

/// What a person must know about a change that could not be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    pub because: String,
    pub remedy: String,
}

/// The journal, whatever a thread that held it has done: an undo must not die of another thread's panic.
pub fn locked(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Undoes everything outstanding, newest first, past every failure.
pub fn undo_all(journal: &Mutex<Journal>, because: &str) -> Vec<Outcome> {
    let ids: Vec<InjectionId> = locked(journal)
        .state()
        .outstanding()
        .map(|one| one.id.clone())
        .collect();
    ids.iter()
        .filter_map(|id| undo_injection(journal, id, because))
        .collect()
}

/// Undoes one injection. `None` when the journal does not know it. Undoing again what is undone changes nothing.
pub fn undo_injection(
    journal: &Mutex<Journal>,
    id: &InjectionId,
    because: &str,
) -> Option<Outcome> {
    let _turn = Turn::take(id);
    let (tracked, by) = {
        let journal = locked(journal);
        (journal.state().get(id)?.clone(), journal.writer())
    };
    let kind = tracked.about.kind.clone();
    if !tracked.is_outstanding() {
        return Some(Outcome {
            injection: id.clone(),
            kind,
            observations: tracked.observations,
            stuck: None,
            unrecorded: None,
        });
    }
    crash_point("before-undoing", by, &kind, id);
    let mut unrecorded = None;
    record(
        journal,
        &mut unrecorded,
        Entry::Undoing {
            injection: id.clone(),
            because: because.to_owned(),
        },
    );
    crash_point("after-undoing", by, &kind, id);
    let (observations, stuck) =
        take_back(&tracked.undos, || crash_point("mid-undo", by, &kind, id));
    crash_point("before-undone", by, &kind, id);
    let entry = match &stuck {
        None => Entry::Undone {
            injection: id.clone(),
            observations: observations.clone(),
        },
        Some(stuck) => Entry::Stuck {
            injection: id.clone(),
            because: stuck.because.clone(),
            remedy: stuck.remedy.clone(),
            observations: observations.clone(),
        },
    };
    record(journal, &mut unrecorded, entry);
    crash_point("after-undone", by, &kind, id);
    if stuck.is_none() && unrecorded.is_none() {
        drop_backup(journal, id, &mut unrecorded);
    }
    Some(Outcome {
        injection: id.clone(),
        kind,
        observations,
        stuck,
        unrecorded,
    })
}

/// A backup is of no use once the undo is recorded; until then it is what a second try needs.
fn drop_backup(journal: &Mutex<Journal>, id: &InjectionId, unrecorded: &mut Option<String>) {
    let folder = locked(journal).run_dir().join("backups").join(&id.0);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            *unrecorded = Some(format!(
                "could not remove {}, because {error}",
                folder.display()
            ));
        }
        _ => {}
    }
}

/// Appends, unless the injection is there already: an interrupted undo goes on without a second `undoing`.
fn record(journal: &Mutex<Journal>, unrecorded: &mut Option<String>, entry: Entry) {
    let mut journal = locked(journal);
    let phase = journal.state().get(entry.injection()).map(|one| one.phase);
    if phase == Some(Phase::Undoing) && matches!(entry, Entry::Undoing { .. }) {
        return;
    }
    if let Err(error) = journal.append(entry) {
        unrecorded.get_or_insert(error.to_string());
    }
}

static UNDERWAY: Mutex<BTreeSet<InjectionId>> = Mutex::new(BTreeSet::new());
static ENDED: Condvar = Condvar::new();

/// The right to change the world for one injection, there or back. An undo waits for a change that is underway, and a second undo for the first;
/// then the journal says what is left to do. Other processes are kept out by the journal's lock.
pub(crate) struct Turn(InjectionId);

impl Turn {
    pub(crate) fn take(id: &InjectionId) -> Turn {
        let underway = UNDERWAY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut underway = ENDED
            .wait_while(underway, |underway| underway.contains(id))
            .unwrap_or_else(PoisonError::into_inner);
        underway.insert(id.clone());
        Turn(id.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        UNDERWAY
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.0);
        ENDED.notify_all();
    }
}

/// Reverts from the last change to the first and reads each back. `midway` is called once between the acts and after the first.
pub fn take_back(undos: &[Undo], midway: impl Fn()) -> (Vec<Observation>, Option<Stuck>) {
    let mut failures: Vec<UndoError> = Vec::new();
    for (count, undo) in undos.iter().rev().enumerate() {
        if let Err(error) = revert(undo) {
            failures.push(error);
        }
        if count == 0 {
            midway();
        }
    }
    let observations: Vec<Observation> = undos.iter().map(presence).collect();
    for (undo, observation) in undos.iter().zip(&observations) {
        let gone = matches!(
            observation.presence,
            Presence::Absent | Presence::Superseded
        );
        if !gone && failures.is_empty() {
            failures.push(UndoError::new(
                "show that the change is gone",
                format!("{} ({})", observation.evidence, observation.source),
                format!(
                    "squall undo   # again; if that does not help, take this back by hand: {undo:?}"
                ),
            ));
        }
    }
    if failures.is_empty() {
        return (observations, None);
    }
    let join = |texts: Vec<String>| texts.join("; ");
    let stuck = Stuck {
        because: join(failures.iter().map(UndoError::to_string).collect()),
        remedy: failures
            .iter()
            .map(|one| one.remedy.clone())
            .collect::<Vec<_>>()
            .join("\n"),
    };
    (observations, Some(stuck))
}
