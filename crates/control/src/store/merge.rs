//! What the journal knows and the event log does not: how the log catches up. Pure, but for reading the journal.

use squall_faults::journal::record::{Entry, Landing, Record};
use squall_faults::journal::state::{Phase, Tracked};
use squall_faults::journal::{self, JournalError};
use squall_model::event::{
    Body, InjectionState, Observation, Place, Precision, Presence, RunState,
};
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;
use std::path::Path;

/// The rule of what no rule asked for: the owned workload.
const NO_RULE: RuleId = RuleId(u32::MAX);

/// What the journal says of one injection.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Which one.
    pub injection: InjectionId,
    /// Its rule; `None` for the owned workload.
    pub rule: Option<RuleId>,
    /// Its fault.
    pub kind: String,
    /// What is left to undo.
    pub class: Class,
    /// On whom, in words.
    pub target: String,
    /// How it acts.
    pub mechanism: String,
    /// That it landed, with the read-back.
    pub landed: Option<(Option<Landing>, Vec<Observation>)>,
    /// How it ended.
    pub end: JournalEnd,
}

/// How an injection stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalEnd {
    /// Nothing of it is left in the world.
    Over,
    /// It may still be in the world.
    Outstanding,
    /// It was undone.
    Undone {
        /// `agent`, `guard`, `recovery`.
        by: String,
        /// The read-back.
        observations: Vec<Observation>,
    },
    /// It could not be undone.
    Stuck {
        /// Who tried.
        by: String,
        /// Why.
        because: String,
        /// What a person is to do.
        remedy: String,
    },
}

/// Reads the journal of a run without touching it. A run without one has nothing to tell.
pub fn journal_entries(run_dir: &Path) -> Result<Vec<JournalEntry>, JournalError> {
    let path = run_dir.join(journal::FILE_NAME);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let log = journal::read_all(&path)?;
    Ok(log
        .state
        .injections()
        .map(|tracked| entry(tracked, &log.records))
        .collect())
}

fn entry(tracked: &Tracked, records: &[Record]) -> JournalEntry {
    let own = || {
        records
            .iter()
            .filter(|record| record.entry.injection() == &tracked.id)
    };
    let by = own()
        .next_back()
        .map_or("recovery", |record| record.by.name())
        .to_owned();
    let landed = own().find_map(|record| match &record.entry {
        Entry::Active {
            landing,
            observations,
            ..
        } => Some((landing.as_deref().cloned(), observations.clone())),
        _ => None,
    });
    let end = match tracked.phase {
        Phase::Undone => JournalEnd::Undone {
            by,
            observations: tracked.observations.clone(),
        },
        Phase::Stuck => {
            let (because, remedy) = tracked.stuck.clone().unwrap_or_default();
            JournalEnd::Stuck {
                by,
                because,
                remedy,
            }
        }
        _ if tracked.is_outstanding() => JournalEnd::Outstanding,
        _ => JournalEnd::Over,
    };
    JournalEntry {
        injection: tracked.id.clone(),
        rule: tracked.about.rule,
        kind: tracked.about.kind.clone(),
        class: tracked.about.class,
        target: tracked.about.target.clone(),
        mechanism: tracked.about.mechanism.clone(),
        landed,
        end,
    }
}

/// The events that bring the log's view of one injection to the journal's, in order.
pub fn missing(state: &RunState, entry: &JournalEntry, because: &str) -> Vec<Body> {
    let known = state
        .injections
        .get(&entry.injection)
        .map(|injection| injection.state);
    let needs_a_person = matches!(
        entry.end,
        JournalEnd::Outstanding | JournalEnd::Stuck { .. }
    );
    if known.is_none() && entry.rule.is_none() && !needs_a_person {
        // The workload's end is told by its own event.
        return Vec::new();
    }
    let mut bodies = Vec::new();
    if known.is_none() {
        bodies.push(begun(entry));
    }
    let state = known.unwrap_or(InjectionState::Begun);
    if let (InjectionState::Begun, Some((landing, observations))) = (state, &entry.landed) {
        bodies.push(landed(entry, landing.as_ref(), observations));
    }
    if state == InjectionState::Undone {
        return bodies;
    }
    let undo = |by: &str| Body::UndoBegun {
        injection: entry.injection.clone(),
        because: because.to_owned(),
        by: by.to_owned(),
    };
    match &entry.end {
        JournalEnd::Over | JournalEnd::Outstanding => {}
        JournalEnd::Undone { by, observations } => {
            if state != InjectionState::Undoing {
                bodies.push(undo(by));
            }
            bodies.push(Body::Undone {
                injection: entry.injection.clone(),
                by: by.clone(),
                observations: observations.clone(),
            });
        }
        JournalEnd::Stuck { .. } if state == InjectionState::Stuck => {}
        JournalEnd::Stuck {
            by,
            because,
            remedy,
        } => {
            if state != InjectionState::Undoing {
                bodies.push(undo(by));
            }
            bodies.push(Body::Stuck {
                injection: entry.injection.clone(),
                by: by.clone(),
                because: because.clone(),
                remedy: remedy.clone(),
            });
        }
    }
    bodies
}

/// Whether the journal of a run is there and will not change any more: nobody holds it.
pub fn is_final(run_dir: &Path) -> bool {
    run_dir.join(journal::FILE_NAME).exists() && !journal::is_held(run_dir).unwrap_or(true)
}

/// Ends injections that the log has begun and a final journal never heard of. Their first undo was not made durable, so they did not act.
pub fn never_acted(state: &RunState, entries: &[JournalEntry]) -> Vec<Body> {
    const BECAUSE: &str = "it was cut off before its undo was recorded, so nothing was changed";
    let unheard = state.injections.values().filter(|injection| {
        injection.state == InjectionState::Begun
            && !entries.iter().any(|entry| entry.injection == injection.id)
    });
    let mut bodies = Vec::new();
    for injection in unheard {
        let id = || injection.id.clone();
        bodies.push(Body::NotLanded {
            injection: id(),
            because: BECAUSE.into(),
            observations: Vec::new(),
        });
        if injection.class != Class::OneShot {
            bodies.push(Body::UndoBegun {
                injection: id(),
                because: "its agent was lost".into(),
                by: "recovery".into(),
            });
            bodies.push(Body::Undone {
                injection: id(),
                by: "recovery".into(),
                observations: vec![Observation {
                    presence: Presence::Absent,
                    source: "journal".into(),
                    evidence: "no change of it was recorded, and nothing is changed unrecorded"
                        .into(),
                }],
            });
        }
    }
    bodies
}

fn begun(entry: &JournalEntry) -> Body {
    Body::InjectionBegun {
        injection: entry.injection.clone(),
        rule: entry.rule.unwrap_or(NO_RULE),
        kind: entry.kind.clone(),
        class: entry.class,
        target: entry.target.clone(),
        process: None,
        aim: Place::default(),
        mechanism: entry.mechanism.clone(),
    }
}

fn landed(entry: &JournalEntry, landing: Option<&Landing>, observations: &[Observation]) -> Body {
    Body::Landed {
        injection: entry.injection.clone(),
        place: landing
            .map(|landing| landing.place.clone())
            .unwrap_or_default(),
        precision: landing.map_or(Precision::Observed, |landing| landing.precision),
        held_ns: landing.and_then(|landing| landing.held_ns),
        observations: observations.to_vec(),
    }
}
