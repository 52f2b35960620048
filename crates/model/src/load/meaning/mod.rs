//! The meaning pass: what a well-formed experiment says that cannot be. All problems at once, each where it stands.

mod expect;
mod method;
mod order;
mod probe;
mod selector;
mod text;
mod timing;
mod workload;

pub(crate) use workload::{EVENTS, GROUPS};

use super::problem::{At, Focus, Problem, Problems};
use super::scalar::{Plain, plain};
use super::tree::{Node, NodeValue};
use crate::event::default_time_limit;
use crate::experiment::{Experiment, Training, VERSION, Workload};
use crate::syntax::FaultList;
use crate::units::Span;

/// Refuses files of another version before anything else in them is judged.
pub(super) fn version_is_read(tree: &Node, problems: &mut Problems) -> bool {
    let Some(NodeValue::Scalar { text, plain: true }) = tree.get("version").map(|node| &node.value)
    else {
        return true;
    };
    let Plain::Whole(version) = plain(text) else {
        return true;
    };
    if version == i128::from(VERSION) {
        return true;
    }
    let (label, help) = if version > i128::from(VERSION) {
        (
            "written for a newer squall",
            format!("use a newer squall, or write the file for version {VERSION}"),
        )
    } else {
        ("never existed", format!("write `version: {VERSION}`"))
    };
    let message = format!(
        "version {} of the file format is not read; this squall reads version {VERSION}",
        super::words::short(text)
    );
    let at = At::ROOT;
    problems.add(
        tree,
        at.key("version"),
        Focus::Value,
        Problem::new("unsupported-version", message)
            .label(label)
            .help(help),
    );
    false
}

/// Reports everything that cannot be meant.
pub(super) fn check<F: FaultList>(
    experiment: &Experiment<F>,
    tree: &Node,
    problems: &mut Problems,
) {
    let mut meaning = Meaning::new(experiment, tree, problems);
    meaning.check_head(experiment);
    meaning.check_workload(experiment.workload.as_ref());
    meaning.check_targets(&experiment.targets);
    meaning.check_probes(experiment);
    meaning.check_method(&experiment.method);
    meaning.check_expectations(experiment);
}

/// What the checks share.
struct Meaning<'a> {
    tree: &'a Node,
    problems: &'a mut Problems,
    has_workload: bool,
    training: Option<&'a Training>,
    /// The workload was not understood, so nothing is said about what needs one.
    workload_doubtful: bool,
    targets: &'a std::collections::BTreeMap<String, crate::timing::Selector>,
    limit: Span,
}

impl<'a> Meaning<'a> {
    fn new<F: FaultList>(
        experiment: &'a Experiment<F>,
        tree: &'a Node,
        problems: &'a mut Problems,
    ) -> Self {
        let misspelt = experiment.workload.is_none()
            && tree
                .entries()
                .iter()
                .any(|entry| super::words::nearest(&entry.key, ["workload"]).is_some());
        Meaning {
            workload_doubtful: misspelt || problems.touches(&["workload"]),
            tree,
            problems,
            has_workload: experiment.workload.is_some(),
            training: match &experiment.workload {
                Some(Workload::Training(training)) => Some(training),
                _ => None,
            },
            targets: &experiment.targets,
            limit: experiment.time_limit.unwrap_or_else(default_time_limit),
        }
    }

    fn value(&mut self, at: At<'_>, problem: Problem) {
        self.report(at, Focus::Value, problem);
    }

    fn key(&mut self, at: At<'_>, problem: Problem) {
        self.report(at, Focus::Key, problem);
    }

    fn report(&mut self, at: At<'_>, focus: Focus, problem: Problem) {
        if !self.problems.is_doubtful(at) {
            self.problems.add(self.tree, at, focus, problem);
        }
    }

    fn check_head<F: FaultList>(&mut self, experiment: &Experiment<F>) {
        let root = At::ROOT;
        if experiment.title.trim().is_empty() {
            self.key(
                root.key("title"),
                Problem::new("empty-text", "the title is empty")
                    .label("nothing is said")
                    .help("say in one line what the system is expected to survive"),
            );
        }
        self.not_zero(experiment.time_limit, root.key("time-limit"));
        self.not_zero(experiment.baseline, root.key("baseline"));
        self.fits_limit(experiment.baseline, root.key("baseline"));
        self.not_zero(experiment.warm_up, root.key("warm-up"));
        self.fits_limit(experiment.warm_up, root.key("warm-up"));
    }

    /// Epochs of the whole job, when the file says so.
    fn last_epoch(&self) -> Option<u64> {
        let epochs = self.training.and_then(|training| training.epochs);
        epochs.filter(|epochs| *epochs > 0 && !self.workload_doubtful)
    }

    /// A time of zero where it would mean never or at once.
    fn not_zero(&mut self, span: Option<Span>, at: At<'_>) {
        if span.is_some_and(|span| span.as_nanos() == 0) {
            self.zero(at, "a time above 0s, or leave it out");
        }
    }

    fn zero(&mut self, at: At<'_>, instead: &str) {
        let message = format!("`{}` is zero", at.last_key().unwrap_or("it"));
        self.value(
            at,
            Problem::new("zero-value", message)
                .label("nothing could happen")
                .help(format!("write {instead}")),
        );
    }

    /// A time that cannot pass before the whole run is over.
    fn fits_limit(&mut self, span: Option<Span>, at: At<'_>) {
        let root = At::ROOT;
        let Some(span) = span.filter(|span| *span >= self.limit) else {
            return;
        };
        if self.problems.is_doubtful(root.key("time-limit")) {
            return;
        }
        let message = format!(
            "`{}` reaches beyond the end of the run",
            at.last_key().unwrap_or("it")
        );
        let (given, limit) = (self.tree.get("time-limit").is_some(), self.limit);
        let label = format!(
            "{span}, but the run is over after {limit}{}",
            if given { "" } else { " unless said otherwise" }
        );
        let help = if given {
            "shorten it or raise `time-limit`"
        } else {
            "shorten it, or set a longer `time-limit:`"
        };
        self.value(
            at,
            Problem::new("impossible-window", message)
                .label(label)
                .help(help),
        );
    }

    /// Something that only a training workload can give.
    fn needs_training(&mut self, at: At<'_>, what: &str) {
        if self.training.is_none() && !self.workload_doubtful {
            let label = if self.has_workload {
                "the workload is no training job"
            } else {
                "there is no workload"
            };
            self.key(
                at,
                Problem::new(
                    "needs-training",
                    format!("{what} needs a training workload"),
                )
                .label(label)
                .help("add `workload: {training: {run: \"…\"}}`"),
            );
        }
    }

    /// Something that only a workload of this run can give.
    fn needs_workload(&mut self, at: At<'_>, what: &str) {
        if !self.has_workload && !self.workload_doubtful {
            self.key(
                at,
                Problem::new("needs-workload", format!("{what} needs a workload"))
                    .label("there is no workload")
                    .help("add `workload: {process: {run: \"…\"}}`"),
            );
        }
    }
}
