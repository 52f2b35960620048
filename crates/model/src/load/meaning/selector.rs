//! Selectors: exactly one way to name a target, and one that can name something.

use super::super::problem::{At, Problem};
use super::super::words::{listed, nearest, one_of, short};
use super::Meaning;
use crate::timing::Selector;
use std::collections::BTreeMap;

impl Meaning<'_> {
    pub(super) fn check_targets(&mut self, targets: &BTreeMap<String, Selector>) {
        let root = At::ROOT;
        let at = root.key("targets");
        for (name, selector) in targets {
            let here = at.key(name);
            if selector.name.is_some() {
                self.value(
                    here.key("name"),
                    Problem::new(
                        "target-chain",
                        format!("the target `{}` is only another target's name", short(name)),
                    )
                    .label("a name for a name")
                    .help("say here what it is: `rank`, `pid`, `command`, …"),
                );
            }
            self.selector(selector, here);
        }
    }

    /// Reports what is wrong with a selector. Gives the way it names its target, names resolved, when there is exactly one.
    pub(super) fn selector(&mut self, selector: &Selector, at: At<'_>) -> Option<&'static str> {
        let ways = ways(selector);
        if selector.at_most == Some(0) {
            self.value(
                at.key("at-most"),
                Problem::new("at-most-zero", "at most 0 targets can never be hit")
                    .label("nothing could be touched")
                    .help("write 1 or more, or leave it out for 1"),
            );
        }
        let of_engine = |way: &&str| matches!(*way, "name" | "container" | "container-label");
        if selector.engine.is_some() && !ways.is_empty() && !ways.iter().any(of_engine) {
            self.key(
                at.key("engine"),
                Problem::new(
                    "engine-unused",
                    "`engine` says where containers are looked up, and none is named",
                )
                .label("has no effect")
                .help("remove it, or name a target by `container` or `container-label`"),
            );
        }
        match ways.as_slice() {
            [] => {
                self.value(
                    at,
                    Problem::new("selector-none", "the selector names no target")
                        .label("which one?")
                        .help(format!("give one of {}", one_of(WAYS.iter().copied()))),
                );
                None
            }
            [way] => {
                self.check_way(selector, way, at);
                self.resolved_way(selector, way)
            }
            [first, second, ..] => {
                let problem = Problem::new(
                    "selector-many",
                    format!("the selector names its target in {} ways", ways.len()),
                );
                self.key(
                    at.key(second),
                    problem
                        .label(format!("`{first}` is given too"))
                        .help("keep one of them"),
                );
                None
            }
        }
    }

    fn resolved_way(&self, selector: &Selector, way: &'static str) -> Option<&'static str> {
        if way != "name" {
            return Some(way);
        }
        let named = self.targets.get(selector.name.as_deref()?)?;
        match ways(named).as_slice() {
            [only] if *only != "name" => Some(only),
            _ => None,
        }
    }

    fn check_way(&mut self, selector: &Selector, way: &'static str, at: At<'_>) {
        let here = at.key(way);
        match way {
            "name" => self.check_name(selector.name.as_deref().unwrap_or_default(), here),
            "rank" => self.needs_workload(here, "a rank"),
            "workload" | "host"
                if selector.workload == Some(false) || selector.host == Some(false) =>
            {
                self.value(
                    here,
                    Problem::new("selector-none", "`false` names no target")
                        .label("which one, then?")
                        .help(format!("write `{way}: true`, or another way to name it")),
                );
            }
            "workload" => self.needs_workload(here, "the target `workload`"),
            "pid" if selector.pid == Some(0) => self.zero(here, "the pid of a process"),
            "pid-file" => self.path(selector.pid_file.as_deref().unwrap_or_default(), here),
            "file" => self.path(selector.file.as_deref().unwrap_or_default(), here),
            "command" => self.check_command(selector.command.as_deref().unwrap_or_default(), here),
            "container" | "container-label"
                if [&selector.container, &selector.container_label]
                    .into_iter()
                    .flatten()
                    .any(|text| text.trim().is_empty() || text.contains(char::is_whitespace)) =>
            {
                self.value(
                    here,
                    Problem::new(
                        "bad-container",
                        format!("the {way} is empty or holds a blank"),
                    )
                    .label("which one?")
                    .help("write a name that `docker ps` shows, or a label as `app=web`"),
                );
            }
            "namespace"
                if selector
                    .namespace
                    .as_deref()
                    .is_some_and(|name| name.trim().is_empty()) =>
            {
                self.value(
                    here,
                    Problem::new("bad-path", "the namespace is empty")
                        .label("which one?")
                        .help("write a name that `ip netns` shows, or a path"),
                );
            }
            _ => {}
        }
    }

    fn check_name(&mut self, name: &str, at: At<'_>) {
        let written = self
            .tree
            .get("targets")
            .map(|targets| targets.entries())
            .unwrap_or_default();
        if written.iter().any(|entry| entry.key == name) {
            return;
        }
        if self.targets.is_empty()
            && self.problems.touches(&[])
            && self.tree.get("targets").is_none()
            && self.has_key_like("targets")
        {
            return;
        }
        let problem = Problem::new(
            "unknown-target",
            format!("`{}` is not a target of this experiment", short(name)),
        );
        let names = || written.iter().map(|entry| entry.key.as_str());
        let problem = match nearest(name, names()) {
            Some(meant) => problem
                .label(format!("did you mean `{}`?", short(meant)))
                .help(format!("defined are {}", listed(names()))),
            None if written.is_empty() => problem.label("no targets are defined").help(format!(
                "add `targets: {{{}: {{rank: 0}}}}`, or name it here by rank, pid, …",
                short(name)
            )),
            None => problem.label("not defined").help(format!(
                "defined are {}; define others under `targets:`",
                listed(names())
            )),
        };
        self.value(at, problem);
    }

    /// A misspelt top-level key that probably was meant to be `key`.
    pub(super) fn has_key_like(&self, key: &str) -> bool {
        self.tree
            .entries()
            .iter()
            .any(|entry| nearest(&entry.key, [key]).is_some())
    }

    fn check_command(&mut self, pattern: &str, at: At<'_>) {
        let Some(regex) = self.pattern(pattern, at) else {
            return;
        };
        if regex.is_match("") {
            self.value(
                at,
                Problem::new(
                    "too-broad",
                    format!("`{}` matches every process", short(pattern)),
                )
                .label("matches even nothing")
                .help("write a part of the command line that no other process has"),
            );
        }
    }
}

/// Ways to name a target, as they are written.
pub(super) const WAYS: &[&str] = &[
    "name",
    "rank",
    "workload",
    "pid",
    "pid-file",
    "command",
    "file",
    "namespace",
    "container",
    "container-label",
    "host",
];

/// The ways that a selector uses.
pub(super) fn ways(selector: &Selector) -> Vec<&'static str> {
    let given = [
        selector.name.is_some(),
        selector.rank.is_some(),
        selector.workload.is_some(),
        selector.pid.is_some(),
        selector.pid_file.is_some(),
        selector.command.is_some(),
        selector.file.is_some(),
        selector.namespace.is_some(),
        selector.container.is_some(),
        selector.container_label.is_some(),
        selector.host.is_some(),
    ];
    WAYS.iter()
        .zip(given)
        .filter(|(_, given)| *given)
        .map(|(way, _)| *way)
        .collect()
}
