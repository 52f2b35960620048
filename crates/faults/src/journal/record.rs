//! What one record says. With these, the event log of a run that was cut off can be completed.

use crate::undo::Undo;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Place, Precision};
use squall_model::id::{InjectionId, RuleId};
use squall_model::process::ProcessIdentity;
use squall_model::syntax::Class;

/// Who wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    Agent,
    Guard,
    Recovery,
}

impl Writer {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Writer::Agent => "agent",
            Writer::Guard => "guard",
            Writer::Recovery => "recovery",
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// Boot-time clock when it was written.
    pub boot_ns: u64,
    pub by: Writer,
    pub entry: Entry,
}

/// What an injection is, as its first intent tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// `None` for the owned workload.
    pub rule: Option<RuleId>,
    /// The fault's key, or `workload`.
    pub kind: String,
    pub class: Class,
    /// Whom it acts on, in words.
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessIdentity>,
    /// Where it was meant to land.
    #[serde(default)]
    pub aim: Place,
    /// How it acts.
    pub mechanism: String,
}

/// Where an injection really landed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Landing {
    pub place: Place,
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ns: Option<u64>,
}

/// A move of one injection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The world is about to be changed in this one way.
    Intent {
        injection: InjectionId,
        about: Box<About>,
        /// What is done, in words.
        action: String,
        undo: Undo,
    },
    /// All changes are made and were read back.
    Active {
        injection: InjectionId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        landing: Option<Box<Landing>>,
        observations: Vec<Observation>,
    },
    /// The changes are about to be taken back.
    Undoing {
        injection: InjectionId,
        because: String,
    },
    /// The changes are taken back, and the world was read to prove it.
    Undone {
        injection: InjectionId,
        observations: Vec<Observation>,
    },
    /// Something could not be taken back; a person is needed.
    Stuck {
        injection: InjectionId,
        because: String,
        remedy: String,
        observations: Vec<Observation>,
    },
}

/// The longest JSON of an `active`, an `undone` and a `stuck` record, and of an `undoing` one. Reserved ahead, so they must hold.
pub const ENDING_MAX: usize = 8 * 1024;
pub const UNDOING_MAX: usize = 2 * 1024;

impl Entry {
    /// The injection that moves.
    pub fn injection(&self) -> &InjectionId {
        match self {
            Entry::Intent { injection, .. }
            | Entry::Active { injection, .. }
            | Entry::Undoing { injection, .. }
            | Entry::Undone { injection, .. }
            | Entry::Stuck { injection, .. } => injection,
        }
    }

    /// The move's name.
    pub fn name(&self) -> &'static str {
        match self {
            Entry::Intent { .. } => "intent",
            Entry::Active { .. } => "active",
            Entry::Undoing { .. } => "undoing",
            Entry::Undone { .. } => "undone",
            Entry::Stuck { .. } => "stuck",
        }
    }

    /// The same entry, its words cut where it would not fit into the room reserved for it. Intents are never cut.
    #[must_use]
    pub fn fitted(self) -> Entry {
        let most = match self {
            Entry::Intent { .. } => return self,
            Entry::Undoing { .. } => UNDOING_MAX,
            _ => ENDING_MAX,
        };
        // The rest of a record (sequence, clock, writer) takes less than 256 bytes.
        let fits =
            |entry: &Entry| serde_json::to_vec(entry).is_ok_and(|json| json.len() + 256 <= most);
        let mut entry = self;
        let mut letters = most;
        while !fits(&entry) && letters > 8 {
            letters /= 2;
            entry.cut(letters);
        }
        entry
    }

    fn cut(&mut self, letters: usize) {
        let shorten = |text: &mut String| {
            if text.chars().count() > letters {
                *text = text
                    .chars()
                    .take(letters.saturating_sub(1))
                    .collect::<String>()
                    + "…";
            }
        };
        let observations = match self {
            Entry::Intent { .. } => return,
            Entry::Undoing { because, .. } => return shorten(because),
            Entry::Active {
                landing,
                observations,
                ..
            } => {
                if let Some(phase) = landing.as_mut().and_then(|one| one.place.phase.as_mut()) {
                    shorten(phase);
                }
                observations
            }
            Entry::Undone { observations, .. } => observations,
            Entry::Stuck {
                because,
                remedy,
                observations,
                ..
            } => {
                shorten(because);
                // What a person must type is the last thing to be cut.
                if letters <= 1024 {
                    shorten(remedy);
                }
                observations
            }
        };
        observations.truncate(letters.max(1));
        for observation in observations {
            shorten(&mut observation.source);
            shorten(&mut observation.evidence);
        }
    }
}
