//! Policies on targets that exist only once the workload runs: judged when a rule is armed. What cannot be judged then either is refused.

use super::conductor::Conductor;
use squall_model::id::RuleId;
use squall_model::plan::Plan;
use squall_model::policy::{Eligible, judge};
use std::collections::BTreeMap;

impl Conductor<'_> {
    /// Whether the policies allow a rule, now that its targets are known.
    pub(super) fn is_permitted(&mut self, id: RuleId) -> bool {
        let Some(undecided) = self
            .script
            .undecided
            .as_ref()
            .filter(|it| it.rules.contains(&id))
        else {
            return true;
        };
        let own = undecided.plan.rules.iter().filter(|rule| rule.id == id);
        let plan = Plan {
            rules: own.cloned().collect(),
            ..undecided.plan.clone()
        };
        let eligible = BTreeMap::from([(id, self.eligible())]);
        let decision = judge(&plan, &undecided.policies, &eligible);
        for refusal in &decision.refusals {
            self.note(format!(
                "refused by the policy {} ({}): {}; {}",
                refusal.policy.file, refusal.key, refusal.what, refusal.remedy
            ));
        }
        if !decision.undecided.is_empty() {
            self.note("refused: a policy speaks of targets that are not known even now");
        }
        decision.refusals.is_empty() && decision.undecided.is_empty()
    }

    /// The ranks that have announced themselves; a workload without ranks is one target.
    fn eligible(&self) -> Eligible {
        let ranks = self
            .board
            .of_workload(|workload| workload.ranks.len() as u64);
        Eligible {
            count: ranks.unwrap_or(0).max(1),
            texts: Vec::new(),
        }
    }
}
