//! Which events of a long log analysis has to hold: nearly all acts of Squall and of the trainer, but few of its phases.
//!
//! Seven of eight events of a hooked trainer are begins and ends of phases. Analysers ask them two things only: that a process lives, and
//! when a step began. So of each rank the first phase event is kept after any other event, or when process, restart, kind or step change;
//! the rest passes through, one by one, and memory grows with steps instead of phases. [`crate::conclude`] finds the same in both.

use squall_model::event::{Body, Event};
use std::collections::BTreeMap;

/// Who told of a phase: the run (reference or not), its rank, its source and the event's kind.
type Teller = (bool, Option<u32>, String, String);
/// What a phase event tells: restart, process, step, epoch.
type Told = (u32, Option<u32>, Option<u64>, Option<u64>);

/// Takes a log event by event and keeps what analysis needs.
#[derive(Debug, Default)]
pub struct Sieve {
    kept: Vec<Event>,
    last: BTreeMap<Teller, Told>,
    /// The latest event that was left out: the log reaches as far.
    latest: Option<Event>,
}

impl Sieve {
    /// Takes the next event of the log.
    pub fn take(&mut self, event: Event) {
        if self.is_new(&event.body) {
            self.kept.push(event);
        } else if self
            .latest
            .as_ref()
            .is_none_or(|latest| latest.t_ns <= event.t_ns)
        {
            self.latest = Some(event);
        }
    }

    /// What was kept, in the order of the log, and the log's latest event.
    pub fn finish(mut self) -> Vec<Event> {
        let reaches = self.kept.iter().map(|event| event.t_ns).max();
        if let Some(latest) = self.latest
            && reaches.is_none_or(|reaches| reaches < latest.t_ns)
        {
            let at = self.kept.partition_point(|event| event.seq < latest.seq);
            self.kept.insert(at, latest);
        }
        self.kept
    }

    fn is_new(&mut self, body: &Body) -> bool {
        let Body::Training {
            reference,
            rank,
            restart,
            pid,
            source,
            event,
        } = body
        else {
            return true;
        };
        let is_phase = matches!(event.kind.as_str(), "phase-begin" | "phase-end");
        if !is_phase {
            // After anything else the next phase may be the first of a life.
            self.last
                .retain(|(of, by, ..), _| (of, by) != (reference, rank));
            return true;
        }
        let teller = (*reference, *rank, source.clone(), event.kind.clone());
        let told = (*restart, *pid, event.step, event.epoch);
        let known = self.last.insert(teller, told) == Some(told);
        !known || event.dropped.is_some()
    }
}
