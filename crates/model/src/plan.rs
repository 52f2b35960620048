//! What a run is going to do, written down before anything happens: rules in the order of the file, targets resolved to
//! selectors, and the most that can be touched. Pure; control adds what the host says (mechanisms, eligible targets).

use crate::event::default_time_limit;
use crate::experiment::{Experiment, FaultStep, Step, Workload};
use crate::id::RuleId;
use crate::syntax::{Class, FaultList};
use crate::timing::{Selector, StepKeys};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The version of the plan's format.
pub const VERSION: &str = "squall.plan/1";
/// How long the steady state is watched when the file does not say.
pub const BASELINE: Span = Span(Duration::from_secs(3));

/// A run before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// `squall.plan/1`.
    pub version: String,
    /// The experiment's title.
    pub title: String,
    /// The seed of every random choice, drawn if the file gave none.
    pub seed: u64,
    /// Every fault step of the method, numbered in file order.
    pub rules: Vec<PlannedRule>,
    /// What happens in which order.
    pub method: Vec<PlanStep>,
    /// How long the steady state is watched first.
    pub baseline: Span,
    /// The longest the whole run may take.
    pub time_limit: Span,
    /// Epochs of the whole job, when the file says so: `every: {epochs}` does not fire at the last.
    pub last_epoch: Option<u64>,
    /// How the owned workload is kept apart from the host, and why; filled by preflight. Absent: it shares the host's namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// One step of the method, faults by their rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanStep {
    /// Nothing happens for this long.
    Wait(Span),
    /// Steps one after the other.
    Sequence(Vec<PlanStep>),
    /// Steps side by side.
    Parallel(Vec<PlanStep>),
    /// The rule is armed, and the step ends with it.
    Rule(RuleId),
}

/// One fault step, ready to be armed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedRule {
    /// Its number in file order.
    pub id: RuleId,
    /// Its `name:`, if it has one.
    pub name: Option<String>,
    /// The fault's key.
    pub kind: String,
    /// The fault's own config.
    pub config: serde_json::Value,
    /// What kind of undo it has.
    pub class: Class,
    /// The layer that really sees it.
    pub layer: String,
    /// What removes it after kill -9 of everything.
    pub after_kill: String,
    /// Whom it acts on: names replaced, `at-most` filled in, `{out}` kept. Empty for a fault without a target.
    pub target: Selector,
    /// The name of the target under `targets:`, if it was given by one.
    pub target_name: Option<String>,
    /// When it acts.
    pub keys: StepKeys,
    /// When it acts, in words.
    pub aim: String,
    /// The most it can touch.
    pub blast_radius: BlastRadius,
    /// How it will be done on this host; filled by preflight.
    pub mechanism: Option<String>,
    /// What the host lacks; filled by preflight. Anything here means that the run is refused.
    pub unmet: Vec<Unmet>,
}

/// What a host lacks for a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmet {
    /// What is missing.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// The most that one rule can touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlastRadius {
    /// Targets per injection.
    pub targets_max: u32,
    /// Targets that the selector matches now; filled by preflight, unknown before the workload runs.
    pub eligible: Option<u64>,
    /// Injections over the whole run, when that can be known beforehand.
    pub injections_max: Option<u64>,
}

/// Builds the plan of a valid experiment.
pub fn build<F: FaultList>(experiment: &Experiment<F>, seed: u64) -> Plan {
    let time_limit = experiment.time_limit.unwrap_or_else(default_time_limit);
    let last_epoch = match &experiment.workload {
        Some(Workload::Training(training)) => training.epochs,
        _ => None,
    };
    let mut builder = Builder {
        targets: &experiment.targets,
        time_limit,
        last_epoch,
        rules: Vec::new(),
    };
    let method = builder.steps(&experiment.method);
    Plan {
        version: VERSION.to_owned(),
        title: experiment.title.clone(),
        seed,
        rules: builder.rules,
        method,
        baseline: experiment.baseline.unwrap_or(BASELINE),
        time_limit,
        last_epoch,
        isolation: None,
    }
}

struct Builder<'a> {
    targets: &'a BTreeMap<String, Selector>,
    time_limit: Span,
    last_epoch: Option<u64>,
    rules: Vec<PlannedRule>,
}

impl Builder<'_> {
    fn steps<F: FaultList>(&mut self, steps: &[Step<F>]) -> Vec<PlanStep> {
        steps
            .iter()
            .map(|step| match step {
                Step::Wait(span) => PlanStep::Wait(*span),
                Step::Sequence(steps) => PlanStep::Sequence(self.steps(steps)),
                Step::Parallel(steps) => PlanStep::Parallel(self.steps(steps)),
                Step::Fault(step) => PlanStep::Rule(self.rule(step)),
            })
            .collect()
    }

    fn rule<F: FaultList>(&mut self, step: &FaultStep<F>) -> RuleId {
        let id = RuleId(u32::try_from(self.rules.len()).unwrap_or(u32::MAX));
        let kind = step.fault.kind();
        let info = F::kinds().iter().find(|info| info.kind == kind);
        let given = step.keys.target.clone().unwrap_or_default();
        let target = resolve(&given, self.targets);
        let blast_radius = BlastRadius {
            targets_max: target.at_most.unwrap_or(1),
            eligible: None,
            injections_max: injections_max(&step.keys, self.time_limit, self.last_epoch),
        };
        self.rules.push(PlannedRule {
            id,
            name: step.keys.name.clone(),
            kind: kind.to_owned(),
            config: step.fault.config(),
            class: info.map_or(Class::Lasting, |info| info.class),
            layer: info.map_or("", |info| info.layer).to_owned(),
            after_kill: info.map_or("", |info| info.after_kill).to_owned(),
            aim: aim(&step.keys),
            target,
            target_name: given.name,
            keys: step.keys.clone(),
            blast_radius,
            mechanism: None,
            unmet: Vec::new(),
        });
        id
    }
}

/// Replaces the name of a target by what it stands for and fills in the bound. The nearer bound counts.
pub fn resolve(selector: &Selector, targets: &BTreeMap<String, Selector>) -> Selector {
    let named = selector.name.as_ref().and_then(|name| targets.get(name));
    let mut resolved = named.unwrap_or(selector).clone();
    resolved.at_most = Some(selector.at_most.or(resolved.at_most).unwrap_or(1));
    resolved
}

/// The most injections that the keys allow, when the file alone tells.
fn injections_max(keys: &StepKeys, limit: Span, last_epoch: Option<u64>) -> Option<u64> {
    let times = keys.times.map(u64::from);
    let Some(every) = &keys.every else {
        // A replayed step or epoch can be hit again when that is asked for.
        let repeats = keys.mean_time_between.is_some()
            || keys.on_replay == Some(true)
            || keys.follow_restarts == Some(true)
            || keys.on_request == Some(true);
        return if repeats { times } else { Some(1) };
    };
    let counted = match (every.epochs, every.time, last_epoch) {
        (Some(epochs), _, Some(last)) if keys.on_replay != Some(true) => {
            last.saturating_sub(1).checked_div(epochs)
        }
        (_, Some(time), _) => limit.as_nanos().checked_div(time.as_nanos()),
        _ => None,
    };
    match (counted, times) {
        (Some(counted), Some(times)) => Some(counted.min(times)),
        (counted, times) => counted.or(times),
    }
}

/// When a step acts, in words.
pub fn aim(keys: &StepKeys) -> String {
    let mut words = moment(keys);
    let phase = keys
        .at
        .as_ref()
        .and_then(|at| at.phase.as_ref())
        .or(keys.every.as_ref().and_then(|every| every.phase.as_ref()));
    if let Some(phase) = phase {
        words.push_str(&format!(", in phase {phase}"));
    }
    if let Some(probability) = keys.probability {
        words.push_str(&format!(", each with a chance of {probability}"));
    }
    if let Some(times) = keys.times {
        words.push_str(&format!(", at most {}", count(u64::from(times), "time")));
    }
    if keys.follow_restarts == Some(true) {
        words.push_str(", again when the container restarts");
    }
    if keys.on_replay == Some(true) {
        words.push_str(", also when replayed");
    }
    words
}

fn moment(keys: &StepKeys) -> String {
    if let Some(every) = &keys.every {
        return match (every.epochs, every.steps, every.time) {
            (Some(1), ..) => "after every epoch but the last".to_owned(),
            (Some(epochs), ..) => format!("after every {epochs} epochs, not after the last"),
            (_, Some(steps), _) => format!("after every {}", count(steps, "step")),
            (.., Some(time)) => format!("every {time}"),
            _ => "never".to_owned(),
        };
    }
    if keys.on_request == Some(true) {
        return "when the script asks for it".to_owned();
    }
    if let Some(mean) = keys.mean_time_between {
        return format!("at random moments, {mean} apart on average");
    }
    if let Some(after) = &keys.after {
        let plus = after
            .plus
            .map(|plus| format!("{plus} "))
            .unwrap_or_default();
        return format!("{plus}after `{}` has ended", after.injection);
    }
    let Some(at) = &keys.at else {
        return "at once".to_owned();
    };
    match (at.time, at.step, at.epoch, &at.log) {
        (Some(time), ..) => format!("after {time}"),
        (_, Some(step), ..) if at.phase.is_some() => format!("in step {step}"),
        (_, Some(step), ..) => format!("after step {step}"),
        (_, _, Some(epoch), _) if at.phase.is_some() => format!("in epoch {epoch}"),
        (_, _, Some(epoch), _) => format!("after epoch {epoch}"),
        (.., Some(log)) => format!("at the first line that matches `{log}`"),
        _ => "the first time".to_owned(),
    }
}

fn count(number: u64, unit: &str) -> String {
    if number == 1 {
        format!("1 {unit}")
    } else {
        format!("{number} {unit}s")
    }
}

impl PlannedRule {
    /// The target with `{out}` replaced by the workload's folder.
    pub fn target_in(&self, out: &str) -> Selector {
        let replace = |text: &Option<String>| text.as_ref().map(|text| text.replace("{out}", out));
        Selector {
            pid_file: replace(&self.target.pid_file),
            file: replace(&self.target.file),
            ..self.target.clone()
        }
    }
}

impl fmt::Display for BlastRadius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.eligible {
            Some(eligible) => write!(
                f,
                "{} of {}",
                u64::from(self.targets_max).min(eligible),
                count(eligible, "target")
            )?,
            None => write!(
                f,
                "at most {}",
                count(u64::from(self.targets_max), "target")
            )?,
        }
        match self.injections_max {
            Some(1) => f.write_str(", once"),
            Some(injections) => write!(f, ", at most {injections} times"),
            None => f.write_str(", again and again until the workload ends"),
        }
    }
}
