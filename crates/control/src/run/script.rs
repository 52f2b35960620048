//! An experiment as its conductor plays it: names resolved, steps numbered, folders known.

use squall_faults::protocol::{ProxySpec, Rule};
use squall_model::experiment::{
    Check, Expect, Experiment, LogPattern, Probe, Requirement, Workload,
};
use squall_model::id::RuleId;
use squall_model::plan::{Plan, PlanStep, PlannedRule, aim, resolve};
use squall_model::policy::Policies;
use squall_model::timing::Selector;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the conductor plays.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// One line for people.
    pub title: String,
    /// The file's own name.
    pub file: String,
    /// Its text, kept in the run folder.
    pub text: String,
    /// SHA-256 of the text.
    pub sha256: String,
    /// The folder of the file: relative paths start there.
    pub directory: PathBuf,
    /// Seed of every random choice.
    pub seed: u64,
    /// What is asked.
    pub requirement: Option<Requirement>,
    /// What must be true at the end.
    pub expect: Vec<Expect>,
    /// What Squall starts and owns.
    pub workload: Option<Owned>,
    /// Name and check.
    pub steady: Vec<(String, Check)>,
    /// Name and check.
    pub abort: Vec<(String, Check)>,
    /// How long the steady state is watched.
    pub baseline: Duration,
    /// How long a started workload may take until its first training event, and then until its steady state.
    pub warm_up: Duration,
    /// Fault steps, by number.
    pub rules: Vec<Rule>,
    /// What is done, in order.
    pub method: Node,
    /// Samples a second.
    pub rate: u32,
    /// The longest the whole run may take.
    pub time_limit: Duration,
    /// Targets the plan found eligible.
    pub eligible: u64,
    /// The most the plan allows at once.
    pub at_most: u64,
    /// The plan, kept in the run folder.
    pub plan: serde_json::Value,
    /// Name and SHA-256 of each policy file that applied.
    pub policies: BTreeMap<String, String>,
    /// Processes to monitor that already run.
    pub attached: Vec<u32>,
    /// What a policy could not judge before the workload runs.
    pub undecided: Option<Undecided>,
}

/// Rules that are judged when they are armed, because their targets are known only then.
#[derive(Debug, Clone, PartialEq)]
pub struct Undecided {
    /// Which.
    pub rules: Vec<RuleId>,
    /// The plan they stand in.
    pub plan: Plan,
    /// The policies of the host.
    pub policies: Policies,
}

/// A workload that Squall starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Owned {
    /// The command line as it was written.
    pub run: String,
    /// Variables beside the inherited ones.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// It is a training job.
    pub training: bool,
    /// How often it is run undisturbed, first.
    pub references: u32,
    /// The proxy that stands between it and a service.
    pub proxy: Option<ProxySpec>,
    /// Log patterns that become training events.
    pub patterns: Vec<LogPattern>,
    /// Epochs of the whole job, when the file tells.
    pub epochs: Option<u64>,
    /// Steps between two checkpoints, when the file tells.
    pub checkpoint_interval: Option<u64>,
    /// It starts in network and mount namespaces of its own, as the plan says.
    pub private: bool,
}

/// The method as a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Nothing happens for this long.
    Wait(Duration),
    /// One after the other.
    Sequence(Vec<Node>),
    /// Side by side.
    Parallel(Vec<Node>),
    /// A fault step.
    Rule(RuleId),
}

/// What a script needs beside the experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The file's own name.
    pub file: String,
    /// Its text.
    pub text: String,
    /// SHA-256 of the text.
    pub sha256: String,
    /// Its folder.
    pub directory: PathBuf,
}

/// The warm-up when the file gives none.
const WARM_UP: Duration = Duration::from_secs(60);

impl Script {
    /// Prepares an experiment that was checked, with its plan.
    pub fn new<F>(experiment: &Experiment<F>, plan: &Plan, source: Source) -> Script {
        let rules: Vec<Rule> = plan.rules.iter().map(rule).collect();
        let eligible = plan
            .rules
            .iter()
            .filter_map(|rule| rule.blast_radius.eligible)
            .max();
        let most = plan
            .rules
            .iter()
            .map(|rule| u64::from(rule.blast_radius.targets_max))
            .max();
        let targets = &experiment.targets;
        Script {
            title: experiment.title.clone(),
            requirement: experiment.requirement.clone(),
            expect: experiment.expect.clone(),
            seed: plan.seed,
            steady: named("steady-state", &experiment.steady_state, targets),
            abort: named("abort-when", &experiment.abort_when, targets),
            baseline: plan.baseline.0,
            warm_up: experiment.warm_up.map_or(WARM_UP, |span| span.0),
            rate: experiment
                .monitor
                .as_ref()
                .and_then(|monitor| monitor.rate)
                .unwrap_or(crate::monitor::RATE),
            time_limit: plan.time_limit.0,
            eligible: eligible.unwrap_or(0),
            at_most: most.unwrap_or(0),
            plan: serde_json::to_value(plan).unwrap_or_default(),
            policies: BTreeMap::new(),
            undecided: None,
            attached: rules.iter().filter_map(|rule| rule.target.pid).collect(),
            method: Node::Sequence(plan.method.iter().map(node).collect()),
            workload: experiment.workload.as_ref().map(|workload| Owned {
                private: plan.isolation.is_some(),
                ..owned(workload, &source.directory)
            }),
            rules,
            file: source.file,
            text: source.text,
            sha256: source.sha256,
            directory: source.directory,
        }
    }

    /// Whether an expectation can only be judged when the workload has ended by itself.
    pub(super) fn waits_for_the_end(&self) -> bool {
        let needs =
            |expect: &Expect| matches!(expect, Expect::SameResult(_) | Expect::Completes(_));
        self.workload.is_some() && self.expect.iter().any(needs)
    }

    /// What is in vain without training events, in words: a probe of the steady state, or an aim at steps or epochs.
    pub(super) fn counts_on_training(&self) -> Option<String> {
        let is_probe =
            |(_, check): &&(String, Check)| matches!(check.probe, Probe::TrainingEvent(_));
        let probe = self.steady.iter().find(is_probe);
        let counts = |rule: &&Rule| {
            let at = rule.keys.at.as_ref();
            let every = rule.keys.every.as_ref();
            at.is_some_and(|at| at.step.is_some() || at.epoch.is_some())
                || every.is_some_and(|every| every.steps.is_some() || every.epochs.is_some())
        };
        let rule = self.rules.iter().find(counts);
        let probe = probe.map(|(name, _)| format!("{name} asks for one"));
        probe.or(rule.map(|rule| format!("{} aims at one ({})", rule.kind, aim(&rule.keys))))
    }

    /// The longest that an expectation allows until things are well again.
    pub(super) fn recovery_limit(&self) -> Option<Duration> {
        let limits = self.expect.iter().filter_map(|expect| match expect {
            Expect::RecoveredWithin(span) | Expect::SteadyAgainWithin(span) => Some(span.0),
            _ => None,
        });
        limits.max()
    }
}

/// `steady-state/NAME`, or `steady-state/0` for one without a name; names of targets are replaced by what they stand for.
fn named(
    section: &str,
    checks: &[Check],
    targets: &BTreeMap<String, Selector>,
) -> Vec<(String, Check)> {
    let name = |(index, check): (usize, &Check)| {
        let mut check = check.clone();
        if let Probe::ProcessAlive(alive) = &mut check.probe {
            alive.target = resolve(&alive.target, targets);
        }
        let name = check.name.clone().unwrap_or_else(|| index.to_string());
        (format!("{section}/{name}"), check)
    };
    checks.iter().enumerate().map(name).collect()
}

fn owned(workload: &Workload, folder: &Path) -> Owned {
    let directory = |given: &Option<String>| match given {
        Some(given) => folder.join(given),
        None => folder.to_path_buf(),
    };
    match workload {
        Workload::Training(training) => Owned {
            run: training.run.clone(),
            env: training.env.clone(),
            directory: directory(&training.directory),
            training: true,
            references: training.undisturbed(),
            patterns: training.events.clone(),
            epochs: training.epochs,
            checkpoint_interval: training.checkpoint_interval,
            ..Owned::default()
        },
        Workload::Process(process) => Owned {
            run: process.run.clone(),
            env: process.env.clone(),
            directory: directory(&process.directory),
            proxy: process.proxy.as_ref().map(|proxy| ProxySpec {
                upstream: proxy.upstream.clone(),
                env: proxy.env.clone(),
            }),
            ..Owned::default()
        },
    }
}

fn rule(planned: &PlannedRule) -> Rule {
    Rule {
        id: planned.id,
        kind: planned.kind.clone(),
        config: planned.config.clone(),
        target: planned.target.clone(),
        keys: planned.keys.clone(),
        last_epoch: None,
        process: None,
        policies: Vec::new(),
    }
}

fn node(step: &PlanStep) -> Node {
    let all = |steps: &[PlanStep]| steps.iter().map(node).collect();
    match step {
        PlanStep::Wait(span) => Node::Wait(span.0),
        PlanStep::Sequence(steps) => Node::Sequence(all(steps)),
        PlanStep::Parallel(steps) => Node::Parallel(all(steps)),
        PlanStep::Rule(id) => Node::Rule(*id),
    }
}
