//! Whether a plan may run under the policies of a host.

use super::{AllowedTarget, Policies, Policy, PolicyFile, Source, matches};
use crate::id::RuleId;
use crate::plan::Plan;
use crate::timing::{OWN_PROXY, Selector};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of the targets that a rule's selector matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Eligible {
    /// How many match.
    pub count: u64,
    /// Each as policies name it: the whole command line of a process, the canonical path of a file, the name of a namespace or a container.
    pub texts: Vec<String>,
}

/// One thing that a policy forbids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The policy file.
    pub policy: Source,
    /// Which of its keys.
    pub key: String,
    /// The rule of the plan.
    pub rule: RuleId,
    /// What is refused and why.
    pub what: String,
    /// What would be allowed.
    pub remedy: String,
}

/// The verdict on a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Everything that is refused. Anything here means that the run is refused.
    pub refusals: Vec<Refusal>,
    /// Rules that can only be judged when their targets are known; they are judged again when they are armed.
    /// What may change after that is judged at each injection: see [`judge_now`].
    pub undecided: Vec<RuleId>,
}

/// Judges every rule of a plan by every policy. `eligible` holds what is known of the rules' targets by now.
pub fn judge(plan: &Plan, policies: &Policies, eligible: &BTreeMap<RuleId, Eligible>) -> Decision {
    let mut decision = Decision::default();
    for rule in &plan.rules {
        let known = eligible.get(&rule.id);
        let mut undecided = false;
        for file in &policies.files {
            let mut judge = Judge {
                file,
                id: rule.id,
                kind: &rule.kind,
                selector: &rule.target,
                most: rule.blast_radius.targets_max,
                known,
                refusals: &mut decision.refusals,
                undecided: &mut undecided,
            };
            judge.fault(&file.policy);
            judge.duration(&file.policy, rule.keys.duration);
            judge.share(&file.policy);
            judge.target(&file.policy);
        }
        if undecided {
            decision.undecided.push(rule.id);
        }
    }
    decision
}

/// What an injection is about to act on, by its rule's words.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// The rule.
    pub rule: RuleId,
    /// The fault's key.
    pub kind: &'a str,
    /// Its selector, with its bound.
    pub target: &'a Selector,
}

/// Judges the targets that a selector matches at the moment of an injection: allowed targets and share. A plan is judged whole, and
/// so is this: one target that no policy allows refuses the injection, whichever would be chosen. It is named.
pub fn judge_now(act: Act<'_>, files: &[PolicyFile], now: &Eligible) -> Vec<Refusal> {
    let by = |file: &PolicyFile, eligible: &Eligible| {
        let (mut refusals, mut undecided) = (Vec::new(), false);
        let mut judge = Judge {
            file,
            id: act.rule,
            kind: act.kind,
            selector: act.target,
            most: act.target.at_most.unwrap_or(1),
            known: Some(eligible),
            refusals: &mut refusals,
            undecided: &mut undecided,
        };
        judge.target(&file.policy);
        let targets = judge.refusals.len();
        judge.share(&file.policy);
        (refusals, targets)
    };
    let mut all = Vec::new();
    for file in files {
        let (mut refusals, targets) = by(file, now);
        let alone = |text: &&String| {
            let one = Eligible {
                count: 1,
                texts: vec![(*text).clone()],
            };
            by(file, &one).1 > 0
        };
        for refusal in &mut refusals[..targets] {
            if let Some(text) = now.texts.iter().find(alone) {
                let text: String = text.chars().take(NAME_MAX).collect();
                refusal
                    .what
                    .push_str(&format!(": `{text}` is among them now"));
            }
        }
        all.extend(refusals);
    }
    all
}

/// Letters of a target's name in a refusal.
const NAME_MAX: usize = 120;

/// The policies that can refuse at an injection what they allowed in the plan: those that speak of targets or shares, where the
/// selector finds what the run did not bring. A file of the workload's own folder, which no policy knows by its path, is not among it.
pub fn at_injection(files: &[PolicyFile], target: &Selector) -> Vec<PolicyFile> {
    let changes = match way(target) {
        Way::Host | Way::Workload => false,
        Way::File(path) => !path.contains("{out}"),
        Way::Process | Way::Namespace(_) | Way::Container => true,
    };
    let speaks = |file: &&PolicyFile| {
        let policy = &file.policy;
        policy.allowed_targets.is_some() || policy.maximum_share.is_some()
    };
    let files = files.iter().filter(speaks).cloned();
    if changes { files.collect() } else { Vec::new() }
}

struct Judge<'a> {
    file: &'a PolicyFile,
    id: RuleId,
    kind: &'a str,
    selector: &'a Selector,
    /// The most targets of one injection.
    most: u32,
    known: Option<&'a Eligible>,
    refusals: &'a mut Vec<Refusal>,
    undecided: &'a mut bool,
}

impl Judge<'_> {
    fn refuse(&mut self, key: &str, what: String, remedy: String) {
        let (policy, rule, key) = (self.file.source.clone(), self.id, key.to_owned());
        self.refusals.push(Refusal {
            policy,
            key,
            rule,
            what,
            remedy,
        });
    }

    fn fault(&mut self, policy: &Policy) {
        let kind = self.kind;
        let forbidding = policy
            .forbidden_faults
            .iter()
            .find(|pattern| matches(pattern, kind, None));
        if let Some(pattern) = forbidding {
            let because = if pattern == kind {
                String::new()
            } else {
                format!(" by `{pattern}`")
            };
            self.refuse(
                "forbidden-faults",
                format!("`{kind}` is forbidden{because}"),
                "use another fault, or ask the owner of the policy".to_owned(),
            );
        }
    }

    fn duration(&mut self, policy: &Policy, lasts: Option<Span>) {
        let (Some(most), Some(lasts)) = (policy.maximum_duration, lasts) else {
            return;
        };
        if lasts > most {
            let what = format!(
                "`{}` would stay for {lasts}, and at most {most} is allowed",
                self.kind
            );
            self.refuse(
                "maximum-duration",
                what,
                format!("write `for: {most}` or less"),
            );
        }
    }

    fn share(&mut self, policy: &Policy) {
        // A fault on nothing in particular, or on the host, has no share.
        if way(self.selector) == Way::Host {
            return;
        }
        let Some(most) = policy.maximum_share else {
            return;
        };
        let Some(eligible) = self.known.map(|known| known.count) else {
            *self.undecided = true;
            return;
        };
        let touched = u64::from(self.most).min(eligible);
        let share = touched as f64 * 100.0;
        if eligible > 0 && share > most.0 * eligible as f64 {
            let kind = self.kind;
            let what = format!(
                "`{kind}` would touch {touched} of {eligible} targets, and at most {most} is allowed"
            );
            let fits = (most.0 * eligible as f64 / 100.0).floor();
            let remedy = if fits >= 1.0 {
                format!("write `at-most: {fits}` or less")
            } else {
                "choose among more targets, or ask the owner of the policy".to_owned()
            };
            self.refuse("maximum-share", what, remedy);
        }
    }

    fn target(&mut self, policy: &Policy) {
        let Some(allowed) = &policy.allowed_targets else {
            return;
        };
        let target = self.selector;
        let fits = match way(target) {
            Way::Host => Some(allowed.contains(&AllowedTarget::Host)),
            Way::Workload => Some(allowed.contains(&AllowedTarget::Workload)),
            Way::Process => self.process(allowed),
            Way::File(path) => Some(self.all_fit(path, &|text| allowed.iter().any(|one| file_fits(one, text)))),
            Way::Namespace(name) => Some(self.all_fit(name, &|text| allowed.iter().any(|one| matches!(one, AllowedTarget::Namespace(pattern) if matches(pattern, text, None))))),
            Way::Container => self.container(allowed),
        };
        match fits {
            Some(true) => {}
            None => *self.undecided = true,
            Some(false) => {
                let kind = self.kind;
                let what = format!(
                    "`{kind}` on {} is not among the allowed targets",
                    words(target)
                );
                self.refuse(
                    "allowed-targets",
                    what,
                    "name a target that the policy allows, or ask its owner".to_owned(),
                );
            }
        }
    }

    /// A process that already runs is judged by its command line, which only the host knows.
    fn process(&self, allowed: &[AllowedTarget]) -> Option<bool> {
        if allowed.contains(&AllowedTarget::Processes) {
            return Some(true);
        }
        let commands = || {
            allowed.iter().filter_map(|one| match one {
                AllowedTarget::Command(pattern) => Some(pattern),
                _ => None,
            })
        };
        if commands().next().is_none() {
            return Some(false);
        }
        let known = self.known?;
        Some(
            known.texts.len() as u64 >= known.count
                && known
                    .texts
                    .iter()
                    .all(|text| commands().any(|pattern| matches(pattern, text, None))),
        )
    }

    /// A container is judged by its name, which the engine knows where the experiment tells an id or a label.
    fn container(&self, allowed: &[AllowedTarget]) -> Option<bool> {
        let fits = |text: &str| {
            allowed.iter().any(|one| matches!(one, AllowedTarget::Container(pattern) if matches(pattern, text, None)))
        };
        let known = self.known?;
        Some(known.texts.len() as u64 >= known.count && known.texts.iter().all(|text| fits(text)))
    }

    /// The targets themselves are judged where they are known, and what the experiment wrote in any case.
    fn all_fit(&self, written: &str, fits: &dyn Fn(&str) -> bool) -> bool {
        fits(written)
            && self
                .known
                .is_none_or(|known| known.texts.iter().all(|text| fits(text)))
    }
}

fn file_fits(allowed: &AllowedTarget, path: &str) -> bool {
    // A way up would leave the folder that the pattern speaks of.
    let climbs = path.split('/').any(|part| part == "..");
    matches!(allowed, AllowedTarget::File(pattern) if !climbs && matches(pattern, path, Some('/')))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way<'a> {
    Host,
    Workload,
    Process,
    File(&'a str),
    Namespace(&'a str),
    Container,
}

/// How policies see a selector. A fault without a target acts on the host.
fn way(target: &Selector) -> Way<'_> {
    match (&target.file, &target.namespace) {
        (Some(file), _) => Way::File(file),
        (_, Some(namespace)) => Way::Namespace(namespace),
        _ if target.container.is_some() || target.container_label.is_some() => Way::Container,
        _ if target.rank.is_some() || target.workload == Some(true) => Way::Workload,
        _ if target.proxy.as_deref() == Some(OWN_PROXY) => Way::Workload,
        _ if target.proxy.is_some() => Way::Process,
        _ if target.pid.is_some() || target.pid_file.is_some() || target.command.is_some() => {
            Way::Process
        }
        _ => Way::Host,
    }
}

fn words(target: &Selector) -> String {
    match (way(target), target.rank, target.pid) {
        (Way::File(path), ..) => format!("the files `{path}`"),
        (Way::Namespace(name), ..) => format!("the namespace `{name}`"),
        (Way::Container, ..) => match (&target.container, &target.container_label) {
            (Some(name), _) => format!("the container `{name}`"),
            (_, label) => format!(
                "containers labelled `{}`",
                label.as_deref().unwrap_or_default()
            ),
        },
        (Way::Workload, Some(rank), _) => format!("rank {rank}"),
        (Way::Workload, ..) => "the workload".to_owned(),
        (Way::Process, _, Some(pid)) => format!("process {pid}"),
        (Way::Process, ..) => "processes that already run".to_owned(),
        (Way::Host, ..) => "this machine".to_owned(),
    }
}
