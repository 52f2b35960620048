//! Injections that last: how long, and their undo when their time is over.

use super::containers::Watched;
use super::core::Agent;
use super::procs;
use super::rules::Lasting;
use super::{injection, shared};
use crate::fault::Injectable;
use squall_model::id::{InjectionId, RuleId};

impl<L: Injectable> Agent<L> {
    /// A lasting injection has landed: its time runs.
    pub(super) fn lasts(
        &mut self,
        rule: RuleId,
        injection: InjectionId,
        landed_ns: u64,
        until_ns: Option<u64>,
        watched: Option<Watched>,
    ) {
        let duration = self
            .rules
            .armed
            .get(&rule)
            .and_then(|armed| armed.duration_ns);
        let until_ns =
            until_ns.or_else(|| duration.map(|duration| landed_ns.saturating_add(duration)));
        self.rules.lasting.insert(
            injection.clone(),
            Lasting {
                rule,
                until_ns,
                undoing: false,
                watched,
            },
        );
        if let Some(because) = self.rules.lost_early.remove(&injection) {
            self.undo_one(&injection, &because);
        }
    }

    /// Nothing of an injection is left; rules that wait for its end hear of it.
    pub(super) fn over(&mut self, rule: RuleId, injection: &InjectionId) {
        self.rules.lasting.remove(injection);
        self.rules.lost_early.remove(injection);
        if self.rules.follow.contains_key(injection) {
            // The fault goes on: whoever waits for its end waits for that of the new injection.
            return self.follow(injection);
        }
        let name = self
            .rules
            .armed
            .get(&rule)
            .and_then(|armed| armed.name.clone());
        if let Some(name) = name {
            let now = procs::boot_ns();
            self.drive_all(|trigger| trigger.ended(&name, now));
        }
        self.tell_ended(rule);
    }

    /// Undoes one injection on a thread of its own.
    pub(super) fn undo_one(&mut self, injection: &InjectionId, because: &str) {
        if self.ending.is_some() {
            return;
        }
        let Some(lasting) = self
            .rules
            .lasting
            .get_mut(injection)
            .filter(|lasting| !lasting.undoing)
        else {
            return;
        };
        let rule = lasting.rule;
        let (shared, id, because) = (self.shared.clone(), injection.clone(), because.to_owned());
        let started = std::thread::Builder::new().spawn(move || {
            injection::undo(&id, &because, &shared);
            shared.tell(shared::FromJob::Over {
                rule,
                injection: id,
            });
            shared.tell(shared::FromJob::Freed);
        });
        // Without a thread it is tried again at the next turn.
        lasting.undoing = started.is_ok();
        self.undos += usize::from(started.is_ok());
    }
}
