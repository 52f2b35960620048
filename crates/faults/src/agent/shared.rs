//! What the main loop and the threads of injections share.

use super::procs;
use super::targets::Scope;
use crate::host::Spawner;
use crate::journal::Journal;
use crate::kind::HostFacts;
use squall_model::event::{Body, Place};
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::process::ProcessIdentity;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// Ranks whose place is remembered. More is a log pattern gone wrong, or a hostile trainer.
const RANKS_MAX: usize = 65_536;

/// From a thread to the main loop.
#[derive(Debug)]
pub(super) enum FromJob {
    Event {
        boot_ns: u64,
        body: Box<Body>,
    },
    /// The held process may go on.
    LetGo {
        hold: Hold,
        landed: bool,
    },
    /// A lasting injection has landed: from now on its time runs.
    Lasts {
        rule: RuleId,
        injection: InjectionId,
        landed_ns: u64,
        /// When it is to end, where that is not its rule's time from now on.
        until_ns: Option<u64>,
        /// The container it acts on.
        watched: Option<super::containers::Watched>,
    },
    /// Nothing of this injection is left to undo.
    Over {
        rule: RuleId,
        injection: InjectionId,
    },
    /// The job of a rule is done; its next one may start.
    Idle {
        rule: RuleId,
    },
    Started {
        started: Result<ProcessIdentity, String>,
    },
    /// The workload's tree was ended. `job`: by a thread of its own, not by the end of the run.
    WorkloadEnded {
        evidence: String,
        job: bool,
    },
    /// A thread without a rule of its own is done.
    Freed,
    AllUndone,
}

/// A process that waits at a hold point.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) id: String,
    pub(super) client: u64,
    pub(super) place: Place,
    pub(super) since_ns: u64,
    /// Its deadline passed and it went on.
    pub(super) expired: Arc<AtomicBool>,
}

/// Where training is, by rank; None: events that name no rank.
#[derive(Debug, Default)]
pub(super) struct Positions(BTreeMap<Option<u32>, Place>);

impl Positions {
    /// Takes an event into account.
    pub(super) fn saw(&mut self, rank: Option<u32>, event: &TrainingEvent) {
        if event.step.is_none() && event.epoch.is_none() && event.phase.is_none() {
            return;
        }
        if self.0.len() >= RANKS_MAX && !self.0.contains_key(&rank) {
            return;
        }
        let place = self.0.entry(rank).or_default();
        place.rank = rank;
        place.step = event.step.or(place.step);
        place.epoch = event.epoch.or(place.epoch);
        place.phase = match event.kind.as_str() {
            "phase-begin" => event.phase.clone(),
            "phase-end" => None,
            kind => Some(kind.to_owned()),
        };
    }

    /// Where the rank is; without a rank, or where its own events are unknown, where the furthest is.
    pub(super) fn of(&self, rank: Option<u32>) -> Place {
        let own = rank.and_then(|rank| self.0.get(&Some(rank)));
        let furthest = || {
            self.0
                .values()
                .max_by_key(|place| (place.step, place.epoch))
        };
        own.or_else(furthest).cloned().unwrap_or_default()
    }
}

/// Shared by all threads.
pub(super) struct Shared {
    pub(super) run: RunId,
    pub(super) seed: u64,
    pub(super) facts: HostFacts,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) spawner: Arc<dyn Spawner>,
    pub(super) positions: Mutex<Positions>,
    pub(super) scope: Mutex<Scope>,
    pub(super) out: Sender<FromJob>,
    /// Wakes the main loop.
    pub(super) wake: OwnedFd,
}

impl Shared {
    /// Tells the main loop something.
    pub(super) fn tell(&self, word: FromJob) {
        // The loop outlives its threads; when it does not, the process is ending.
        self.out.send(word).unwrap_or_default();
        // A counter that is full wakes just as well.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).unwrap_or_default();
    }

    /// Reports what happened just now.
    pub(super) fn event(&self, body: Body) {
        self.tell(FromJob::Event {
            boot_ns: procs::boot_ns(),
            body: Box::new(body),
        });
    }

    /// Where a rank is now.
    pub(super) fn position(&self, rank: Option<u32>) -> Place {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(rank)
    }
}
