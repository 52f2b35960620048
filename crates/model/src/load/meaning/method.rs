//! The method: names, durations that fit the kind of fault, targets a fault can act on, and what waits for what.

use super::super::problem::{At, Problem};
use super::super::tree::{Entry, Node, NodeValue, PathSegment};
use super::super::words::{listed, nearest, one_of, short};
use super::Meaning;
use crate::experiment::{FaultStep, Step};
use crate::syntax::{Class, FaultList, KindInfo};
use std::collections::BTreeMap;

/// A fault step as other steps see it.
pub(super) struct Known {
    pub(super) path: Vec<PathSegment>,
    /// The step it waits for.
    pub(super) after: Option<String>,
}

/// Steps by name.
pub(super) type Names = BTreeMap<String, Known>;

impl Meaning<'_> {
    pub(super) fn check_method<F: FaultList>(&mut self, method: &[Step<F>]) {
        let root = At::ROOT;
        let at = root.key("method");
        if method.is_empty() {
            self.key(
                at,
                Problem::new("empty-method", "the method is empty")
                    .label("nothing is done")
                    .help(
                        "add a fault, e.g. `- process-kill: {target: {rank: 1}, at: {time: 10s}}`",
                    ),
            );
        }
        let mut names = Names::new();
        self.collect_names(method, at, &mut names);
        self.check_steps(method, at, &names);
        self.check_waits(method, at);
        self.check_cycles(&names);
    }

    fn collect_names<F: FaultList>(&mut self, steps: &[Step<F>], at: At<'_>, names: &mut Names) {
        for (index, step) in steps.iter().enumerate() {
            let here = at.index(index);
            match step {
                Step::Wait(_) => {}
                Step::Sequence(steps) => self.collect_names(steps, here.key("sequence"), names),
                Step::Parallel(steps) => self.collect_names(steps, here.key("parallel"), names),
                Step::Fault(step) => {
                    let Some(name) = &step.keys.name else {
                        continue;
                    };
                    let body = here.key(step.fault.kind());
                    if let Some(first) = names.get(name) {
                        let line = self.tree.place(&first.path).focus().line;
                        let problem = Problem::new(
                            "duplicate-name",
                            format!("two steps are named `{}`", short(name)),
                        );
                        self.value(
                            body.key("name"),
                            problem
                                .label(format!("the first is on line {line}"))
                                .help("give each step a name of its own"),
                        );
                        continue;
                    }
                    let after = step
                        .keys
                        .after
                        .as_ref()
                        .map(|after| after.injection.clone());
                    names.insert(
                        name.clone(),
                        Known {
                            path: body.key("name").path(),
                            after,
                        },
                    );
                }
            }
        }
    }

    fn check_steps<F: FaultList>(&mut self, steps: &[Step<F>], at: At<'_>, names: &Names) {
        for (index, step) in steps.iter().enumerate() {
            let here = at.index(index);
            match step {
                Step::Wait(span) => {
                    self.not_zero(Some(*span), here.key("wait"));
                    self.fits_limit(Some(*span), here.key("wait"));
                }
                Step::Sequence(steps) => self.check_group(steps, here.key("sequence"), names),
                Step::Parallel(steps) => self.check_group(steps, here.key("parallel"), names),
                Step::Fault(step) => self.check_fault(step, here.key(step.fault.kind()), names),
            }
        }
    }

    fn check_group<F: FaultList>(&mut self, steps: &[Step<F>], at: At<'_>, names: &Names) {
        if steps.is_empty() {
            let message = format!("this `{}` holds no steps", at.last_key().unwrap_or("group"));
            self.key(
                at,
                Problem::new("empty-method", message)
                    .label("nothing is done")
                    .help("add steps below it, or remove it"),
            );
        }
        self.check_steps(steps, at, names);
    }

    fn check_fault<F: FaultList>(&mut self, step: &FaultStep<F>, at: At<'_>, names: &Names) {
        let kind = step.fault.kind();
        if let Some(info) = F::kinds().iter().find(|info| info.kind == kind) {
            self.check_duration(step, info, at);
            self.check_target(step, info, at);
        }
        self.check_timing(&step.keys, at);
        self.check_request(step.fault.kind(), &step.keys, at);
        self.check_after(step, at, names);
        for problem in step.fault.problems() {
            self.value(
                at.key(problem.key),
                Problem::new("fault-config", problem.message)
                    .label("cannot work")
                    .help(problem.help),
            );
        }
    }

    fn check_duration<F>(&mut self, step: &FaultStep<F>, info: &KindInfo, at: At<'_>) {
        let here = at.key("for");
        match (info.class, step.keys.duration) {
            (Class::OneShot, Some(_)) => self.problems.add(
                self.tree,
                here,
                super::Focus::Key,
                Problem::new(
                    "duration-forbidden",
                    format!("`{}` happens once and cannot last", info.kind),
                )
                .label("has no meaning here")
                .help("remove `for:`; use `every:` to repeat it"),
            ),
            (Class::Lasting | Class::Served, None) => self.key(
                at,
                Problem::new(
                    "duration-missing",
                    format!(
                        "`{}` lasts until it is undone, and nothing says how long",
                        info.kind
                    ),
                )
                .label("how long?")
                .help("add `for:` with a duration, e.g. `for: 30s`"),
            ),
            (Class::Lasting | Class::Served, Some(_)) => {
                self.not_zero(step.keys.duration, here);
                self.fits_limit(step.keys.duration, here);
            }
            (Class::OneShot, None) => {}
        }
    }

    fn check_target<F>(&mut self, step: &FaultStep<F>, info: &KindInfo, at: At<'_>) {
        let here = at.key("target");
        let Some(selector) = &step.keys.target else {
            if !info.targets.is_empty() {
                self.key(
                    at,
                    Problem::new(
                        "target-missing",
                        format!("`{}` acts on a target, and none is given", info.kind),
                    )
                    .label("on what?")
                    .help(format!(
                        "add `target:` with one of {}, or the `name` of a target",
                        one_of(info.targets.iter().copied())
                    )),
                );
            }
            return;
        };
        if info.targets.is_empty() {
            self.key(
                here,
                Problem::new("target-kind", format!("`{}` acts on no target", info.kind))
                    .label("has no meaning here")
                    .help("remove `target:`"),
            );
            return;
        }
        let Some(way) = self.selector(selector, here) else {
            return;
        };
        let of_container = way.starts_with("container") && info.class != Class::OneShot;
        if step.keys.follow_restarts.is_some() && !of_container {
            self.key(
                at.key("follow-restarts"),
                Problem::new(
                    "nothing-followed",
                    "`follow-restarts` speaks of a fault that lasts on a container, and this is none",
                )
                .label("has no effect")
                .help("remove it, or aim at a `container`"),
            );
        }
        if !info.targets.contains(&way) {
            let problem = Problem::new(
                "target-kind",
                format!("`{}` cannot act on a target given by `{way}`", info.kind),
            );
            let place = if selector.name.is_some() {
                here.key("name")
            } else {
                here.key(way)
            };
            let label = if selector.name.is_some() {
                format!("defined by `{way}`")
            } else {
                "not for this fault".to_owned()
            };
            self.report(
                place,
                super::Focus::Value,
                problem.label(label).help(format!(
                    "it acts on {}",
                    one_of(info.targets.iter().copied())
                )),
            );
        }
    }

    fn check_after<F>(&mut self, step: &FaultStep<F>, at: At<'_>, names: &Names) {
        let Some(after) = &step.keys.after else {
            return;
        };
        let here = at.key("after");
        self.fits_limit(after.plus, here.key("plus"));
        let here = here.key("injection");
        if step.keys.name.as_deref() == Some(after.injection.as_str()) {
            self.value(
                here,
                Problem::new("cycle", "the step waits for itself")
                    .label("its own name")
                    .help("name another step"),
            );
            return;
        }
        let Some(awaited) = names.get(&after.injection) else {
            self.unknown_injection(&after.injection, here, names);
            return;
        };
        if waits_for_later(&at.path(), &awaited.path) {
            self.value(
                here,
                Problem::new(
                    "never-acts",
                    format!(
                        "the step waits for `{}`, which comes later in order",
                        short(&after.injection)
                    ),
                )
                .label("has not begun by then")
                .help("move this step behind it, or put both below `parallel:`"),
            );
        }
    }

    fn unknown_injection(&mut self, name: &str, at: At<'_>, names: &Names) {
        // A step that was not understood may carry the name.
        if self
            .tree
            .get("method")
            .is_some_and(|method| is_written(method, name))
        {
            return;
        }
        let problem = Problem::new(
            "unknown-injection",
            format!("no step is named `{}`", short(name)),
        );
        let known = || names.keys().map(String::as_str);
        let problem = match nearest(name, known()) {
            Some(meant) => problem
                .label(format!("did you mean `{}`?", short(meant)))
                .help(format!("named steps are {}", listed(known()))),
            None if names.is_empty() => problem.label("no step has a name").help(format!(
                "add `name: {}` to the step that is meant",
                short(name)
            )),
            None => problem
                .label("not defined")
                .help(format!("named steps are {}", listed(known()))),
        };
        self.value(at, problem);
    }
}

/// Whether the first list that both paths go through is one in order, and `waiting` stands before `awaited` in it.
fn waits_for_later(waiting: &[PathSegment], awaited: &[PathSegment]) -> bool {
    let common = waiting
        .iter()
        .zip(awaited)
        .take_while(|(left, right)| left == right)
        .count();
    let in_order = common > 0
        && !matches!(waiting.get(common - 1), Some(PathSegment::Key(key)) if key == "parallel");
    match (waiting.get(common), awaited.get(common)) {
        (Some(PathSegment::Index(waiting)), Some(PathSegment::Index(awaited))) => {
            in_order && waiting < awaited
        }
        _ => false,
    }
}

/// Whether a step of that name stands in the file, understood or not.
fn is_written(node: &Node, name: &str) -> bool {
    let named = |entry: &Entry| {
        entry.key == "name"
            && matches!(&entry.value.value, NodeValue::Scalar { text, .. } if text == name)
    };
    node.items().iter().any(|item| is_written(item, name))
        || node
            .entries()
            .iter()
            .any(|entry| named(entry) || (entry.key != "target" && is_written(&entry.value, name)))
}
