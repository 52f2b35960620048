//! Rules with which the method begins, watched from the start of the workload.
//!
//! A quick job may reach what a rule aims at while its steady state is still being established. Who reaches it is held there
//! until the rule is armed, as long as a hold may last at all; after that the aim has passed, as it has where nobody can be held.

use super::core::Agent;
use super::procs;
use super::shared::Hold;
use crate::fault::Injectable;
use crate::protocol::Rule;
use squall_model::event::Body;
use squall_model::hook::HOLD_DEADLINE_MS;
use squall_model::id::RuleId;
use std::sync::atomic::Ordering;

impl<L: Injectable> Agent<L> {
    /// Watches rules for which nothing is injected before they are armed. One that cannot be read is refused when it is armed.
    pub(super) fn expect(&mut self, rules: Vec<Rule>) {
        for rule in rules {
            let id = rule.id;
            if let Ok(armed) = self.read(rule) {
                self.rules.armed.insert(id, armed);
                self.drive(id, None, |trigger| trigger.start(procs::boot_ns()));
            }
        }
    }

    /// Goes on with a rule that was expected: whoever is held for it is now acted upon. `false` when there is none, or when
    /// its aim was passed or let go: then it is to be armed like any other.
    pub(super) fn go_on(&mut self, rule: &Rule) -> Result<bool, (String, String)> {
        let expected = self.rules.armed.get(&rule.id);
        let Some(armed) = expected.filter(|armed| !armed.begun) else {
            return Ok(false);
        };
        let holds: Vec<Hold> = armed
            .queue
            .iter()
            .filter_map(|job| job.hold.clone())
            .collect();
        let aim = armed.trigger.aim_text();
        let offered = self.check_phase(&armed.trigger, rule.target.rank);
        if armed.missed || offered.is_err() || !holds.iter().all(|hold| self.still_waits(hold)) {
            self.forget(rule.id, &holds);
            return offered.map(|()| false);
        }
        if let Some(armed) = self.rules.armed.get_mut(&rule.id) {
            armed.begun = true;
        }
        self.event(Body::Armed {
            rule: rule.id,
            kind: rule.kind.clone(),
            name: rule.keys.name.clone(),
            aim,
        });
        for hold in holds {
            self.event(Body::Note { text: early(&hold) });
        }
        self.next_job(rule.id);
        self.tell_ended(rule.id);
        Ok(true)
    }

    fn still_waits(&self, hold: &Hold) -> bool {
        let mut waiting = self.waiting.iter();
        let known = waiting.any(|one| (one.client, &one.id) == (hold.client, &hold.id));
        let held_ns = procs::boot_ns().saturating_sub(hold.since_ns);
        known
            && !hold.expired.load(Ordering::SeqCst)
            && held_ns < HOLD_DEADLINE_MS.saturating_mul(1_000_000)
    }

    fn forget(&mut self, rule: RuleId, holds: &[Hold]) {
        self.rules.armed.remove(&rule);
        for hold in holds {
            self.let_go(hold, false);
        }
    }
}

/// `rank 1 reached step 36, phase forward, before the method began: held for 0.310 s`.
fn early(hold: &Hold) -> String {
    let place = &hold.place;
    let who = place
        .rank
        .map_or("the trainer".to_owned(), |rank| format!("rank {rank}"));
    let unit = [("epoch", place.epoch), ("step", place.step)];
    let unit = unit
        .into_iter()
        .filter_map(|(name, number)| Some(format!("{name} {}", number?)));
    let phase = place.phase.iter().map(|phase| format!("phase {phase}"));
    let place: Vec<String> = unit.chain(phase).collect();
    let held = procs::boot_ns().saturating_sub(hold.since_ns) as f64 / 1e9;
    format!(
        "{who} reached its aim ({}) before the method began and was held for {held:.3} s",
        place.join(", ")
    )
}
