//! The workload: its command line, environment and log patterns.

use super::super::problem::{At, Problem};
use super::super::words::{nearest, one_of, short};
use super::Meaning;
use super::text::is_variable;
use crate::experiment::{LogPattern, Training, Workload};
use std::collections::BTreeMap;

/// Kinds of events that Squall understands, each with the group without which it says nothing.
pub(crate) const EVENTS: &[(&str, Option<&str>)] = &[
    ("step-end", Some("step")),
    ("epoch-end", Some("epoch")),
    ("phase-begin", None),
    ("phase-end", None),
    ("checkpoint-begin", None),
    ("checkpoint-written", None),
    ("checkpoint-renamed", None),
    ("checkpoint-loaded", Some("step")),
    ("sample-ids", None),
    ("final-parameters", Some("digest")),
    ("log", None),
    ("recovery", None),
    ("exit", None),
];
pub(crate) const GROUPS: &[&str] = &[
    "step",
    "epoch",
    "loss",
    "rank",
    "restart",
    "path",
    "digest",
    "stage",
    "lr",
    "grad_norm",
];

impl Meaning<'_> {
    pub(super) fn check_workload(&mut self, workload: Option<&Workload>) {
        let root = At::ROOT;
        let at = root.key("workload");
        match workload {
            None => {}
            Some(Workload::Training(training)) => self.check_training(training, at.key("training")),
            Some(Workload::Process(process)) => {
                let at = at.key("process");
                self.command_line(&process.run, at.key("run"));
                self.check_env(&process.env, at.key("env"));
                self.check_directory(process.directory.as_deref(), at.key("directory"));
                if let Some(proxy) = &process.proxy {
                    let at = at.key("proxy");
                    self.check_env(&proxy.env, at.key("env"));
                    self.check_upstream(&proxy.upstream, at.key("upstream"));
                }
            }
        }
    }

    fn check_upstream(&mut self, upstream: &str, at: At<'_>) {
        let service = upstream.strip_prefix("http://").unwrap_or_default();
        let has_port = service
            .trim_end_matches('/')
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let secured = upstream.strip_prefix("https://").unwrap_or_default();
        let is_secured = !secured.is_empty() && !secured.contains(['/', ' ', '@']);
        if is_secured || upstream == "mock" || upstream.starts_with("mock:") || has_port {
            return;
        }
        self.value(
            at,
            Problem::new(
                "bad-upstream",
                format!("`{}` is no service", short(upstream)),
            )
            .label("cannot be asked")
            .help("write it like http://127.0.0.1:8000, https://example.org, or `mock`"),
        );
    }

    fn check_training(&mut self, training: &Training, at: At<'_>) {
        self.command_line(&training.run, at.key("run"));
        self.check_env(&training.env, at.key("env"));
        self.check_directory(training.directory.as_deref(), at.key("directory"));
        if training.epochs == Some(0) {
            self.zero(
                at.key("epochs"),
                "the number of epochs of the whole job, or leave it out",
            );
        }
        if training.checkpoint_interval == Some(0) {
            self.zero(
                at.key("checkpoint-interval"),
                "the steps between two checkpoints, or leave it out",
            );
        }
        let events = at.key("events");
        for (index, pattern) in training.events.iter().enumerate() {
            self.check_log_pattern(pattern, events.index(index));
        }
    }

    fn check_directory(&mut self, directory: Option<&str>, at: At<'_>) {
        if directory.is_some_and(|path| path.trim().is_empty()) {
            self.value(
                at,
                Problem::new("bad-path", "the working directory is empty")
                    .label("no path")
                    .help("write a path, or remove the line"),
            );
        }
    }

    fn check_env(&mut self, env: &BTreeMap<String, String>, at: At<'_>) {
        for name in env.keys() {
            let here = at.key(name);
            // Values may be secrets; nothing of them is repeated.
            if name.starts_with("SQUALL_") {
                let message = format!("`{}` is Squall's own", short(name));
                self.key(
                    here,
                    Problem::new("bad-environment", message)
                        .label("set by Squall for every workload")
                        .help("choose a name that does not start with `SQUALL_`"),
                );
            } else if !is_variable(name) {
                let message = format!("`{}` cannot be the name of a variable", short(name));
                self.key(
                    here,
                    Problem::new("bad-environment", message)
                        .label("letters, digits and `_` only, no digit first")
                        .help("correct the name"),
                );
            }
        }
    }

    fn check_log_pattern(&mut self, pattern: &LogPattern, at: At<'_>) {
        let at = at.key("pattern");
        let Some(regex) = self.pattern(&pattern.pattern, at) else {
            return;
        };
        let groups: Vec<&str> = regex.capture_names().flatten().collect();
        if let Some(odd) = groups.iter().find(|group| !GROUPS.contains(group)) {
            let label = nearest(odd, GROUPS.iter().copied()).map_or_else(
                || "would fill nothing".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            self.value(
                at,
                Problem::new(
                    "pattern-groups",
                    format!("the group `{}` fills no field of an event", short(odd)),
                )
                .label(label)
                .help(format!(
                    "groups are {}; write `(?:…)` for one without a name",
                    one_of(GROUPS.iter().copied())
                )),
            );
            return;
        }
        let known = EVENTS.iter().find(|(kind, _)| *kind == pattern.event);
        if let Some((kind, Some(needed))) =
            known.filter(|(_, needed)| needed.is_some_and(|needed| !groups.contains(&needed)))
        {
            self.value(
                at,
                Problem::new(
                    "pattern-groups",
                    format!("a pattern for `{kind}` needs a group named `{needed}`"),
                )
                .label("does not say which")
                .help(format!(
                    "put the number's pattern in a group: `(?P<{needed}>…)`"
                )),
            );
        }
    }
}
