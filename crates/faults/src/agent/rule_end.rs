//! The end of a rule: told once, after its last injection has ended. Whoever plays a sequence goes on from there.

use super::core::Agent;
use crate::fault::Injectable;
use squall_model::event::Body;
use squall_model::id::RuleId;

impl<L: Injectable> Agent<L> {
    /// The workload is over: no rule that was armed takes an occasion any more, and each says what became of its aim.
    pub(super) fn workload_over(&mut self) {
        let reached = [
            ("step", self.rules.high_step),
            ("epoch", self.rules.high_epoch),
        ];
        let reached: Vec<String> = reached
            .iter()
            .filter(|(_, done)| *done > 0)
            .map(|(unit, done)| format!("{unit} {done}"))
            .collect();
        let after = match reached.is_empty() {
            true => String::new(),
            false => format!(" after {}", reached.join(", ")),
        };
        let begun = self.rules.armed.iter().filter(|(_, armed)| armed.begun);
        let begun: Vec<(RuleId, String)> = begun
            .map(|(rule, armed)| (*rule, armed.trigger.left_over()))
            .collect();
        for (rule, left) in begun {
            self.disarm(rule, &format!("the workload ended{after}{left}"));
        }
    }

    /// Takes no further occasion. An injection that is on its way still comes to its end first.
    pub(super) fn disarm(&mut self, rule: RuleId, because: &str) {
        let Some(armed) = self.rules.armed.get_mut(&rule) else {
            return;
        };
        armed.disarmed = true;
        armed.spent.get_or_insert_with(|| because.to_owned());
        for job in std::mem::take(&mut armed.queue) {
            if let Some(hold) = job.hold {
                self.let_go(&hold, false);
            }
        }
        self.tell_ended(rule);
    }

    /// Says that a rule has ended, once: when no occasion will come, none waits or runs, and (unless it was disarmed) nothing of it is in the world.
    pub(super) fn tell_ended(&mut self, rule: RuleId) {
        let lasts = self.rules.lasting.values().any(|one| one.rule == rule);
        let Some(armed) = self.rules.armed.get_mut(&rule) else {
            return;
        };
        if !armed.begun && !armed.disarmed {
            return;
        }
        if armed.running || !armed.queue.is_empty() || (lasts && !armed.disarmed) {
            return;
        }
        let Some(because) = armed.spent.clone() else {
            return;
        };
        let (told, disarmed) = (std::mem::replace(&mut armed.told, true), armed.disarmed);
        if disarmed {
            self.rules.armed.remove(&rule);
        }
        if !told {
            self.event(Body::RuleEnded { rule, because });
        }
    }
}
