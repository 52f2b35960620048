//! Log patterns at work: lines of a job's output become training events. And the file that holds them for logs of past jobs.

use crate::diagnostic::{Diagnostic, Location};
use crate::experiment::LogPattern;
use crate::hook::TrainingEvent;
use crate::load::{self, LOG_EVENTS, LOG_GROUPS, Node, Reporter};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of the pattern file's schema.
pub const PATTERNS_ID: &str = "squall.patterns/1";

/// What lines of a past job's log mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PatternFile {
    /// Version of this file format: 1.
    pub version: u32,
    /// Where a line says when it was written. Without it only counts are measured, no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<LineTime>,
    /// Patterns that become training events.
    pub events: Vec<LogPattern>,
}

/// Where and how a line says when it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LineTime {
    /// A regular expression with a group named `time`.
    pub pattern: String,
    /// `rfc3339`, `seconds` (since any moment), or a format such as `%Y-%m-%d %H:%M:%S,%f`. A time without a zone is taken as UTC, one without a year as of one year.
    #[serde(default = "rfc3339")]
    pub format: String,
}

fn rfc3339() -> String {
    "rfc3339".into()
}

/// A training event read from a line, with what a line can tell about its sender.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEvent {
    /// Rank, if the line names it.
    pub rank: Option<u32>,
    /// Restart number, 0 if the line names none.
    pub restart: u32,
    /// The event.
    pub event: TrainingEvent,
}

/// Patterns, ready to be matched.
#[derive(Debug, Clone)]
pub struct Matcher {
    patterns: Vec<(String, Regex)>,
    time: Option<Regex>,
}

impl Matcher {
    /// Compiles patterns.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn new(patterns: &[LogPattern]) -> Result<Matcher, regex::Error> {
        let compiled = patterns
            .iter()
            .map(|it| Ok((it.event.clone(), Regex::new(&it.pattern)?)));
        Ok(Matcher {
            patterns: compiled.collect::<Result<_, regex::Error>>()?,
            time: None,
        })
    }

    /// Compiles the patterns of a file, that of the time included.
    ///
    /// # Errors
    /// When one is no regular expression.
    pub fn of(file: &PatternFile) -> Result<Matcher, regex::Error> {
        let time = file.time.as_ref().map(|time| Regex::new(&time.pattern));
        Ok(Matcher {
            time: time.transpose()?,
            ..Matcher::new(&file.events)?
        })
    }

    /// The part of a line that says when it was written.
    pub fn time<'l>(&self, line: &'l str) -> Option<&'l str> {
        let found = self.time.as_ref()?.captures(line)?;
        Some(found.name("time")?.as_str())
    }

    /// The training events that a line is.
    pub fn events(&self, line: &str) -> Vec<LogEvent> {
        let events = self.patterns.iter();
        events
            .filter_map(|(kind, regex)| event(kind, regex, line))
            .collect()
    }
}

fn event(kind: &str, regex: &Regex, line: &str) -> Option<LogEvent> {
    let found = regex.captures(line)?;
    let text = |name: &str| found.name(name).map(|group| group.as_str().to_owned());
    fn number<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
        text.and_then(|text| text.parse().ok())
    }
    Some(LogEvent {
        rank: number(text("rank")),
        restart: number(text("restart")).unwrap_or(0),
        event: TrainingEvent {
            kind: kind.to_owned(),
            step: number(text("step")),
            epoch: number(text("epoch")),
            loss: number(text("loss")),
            lr: number(text("lr")),
            grad_norm: number(text("grad_norm")),
            path: text("path"),
            digest: text("digest"),
            stage: text("stage"),
            phase: text("phase"),
            ..TrainingEvent::default()
        },
    })
}

/// Reads a pattern file.
///
/// # Errors
/// All problems of the file.
pub fn read(text: &str) -> Result<PatternFile, Vec<Diagnostic>> {
    load::read_other(text, PATTERNS_ID, check)
}

/// The schema of the pattern file: JSON Schema, draft 2020-12.
pub fn schema() -> serde_json::Value {
    load::schema_of::<PatternFile>(PATTERNS_ID)
}

fn check(file: &PatternFile, tree: &Node, report: &mut Reporter<'_>) {
    let events = tree.get("events").map(Node::items).unwrap_or_default();
    for (pattern, node) in file.events.iter().zip(events) {
        let place = |key: &str| node.get(key).unwrap_or(node).span;
        // Kinds that are none were refused with the file's structure.
        let known = LOG_EVENTS.iter().find(|(kind, _)| *kind == pattern.event);
        let Some((kind, needed)) = known else {
            continue;
        };
        let groups = compiled(&pattern.pattern, place("pattern"), report);
        if let Some(odd) = groups
            .iter()
            .find(|group| !LOG_GROUPS.contains(&group.as_str()))
        {
            report.problem(
                place("pattern"),
                "pattern-groups",
                &format!("the group `{odd}` fills no field of an event"),
                &format!("groups are {}", LOG_GROUPS.join(", ")),
            );
        } else if let Some(needed) = needed
            && !groups.is_empty()
            && !groups.iter().any(|group| group == needed)
        {
            let message = format!("a pattern for `{kind}` needs a group named `{needed}`");
            report.problem(
                place("pattern"),
                "pattern-groups",
                &message,
                &format!("write `(?P<{needed}>…)`"),
            );
        }
    }
    if let Some(time) = &file.time
        && let Some(node) = tree.get("time")
    {
        let place = node.get("pattern").unwrap_or(node).span;
        let groups = compiled(&time.pattern, place, report);
        if !groups.is_empty() && groups != ["time"] {
            report.problem(
                place,
                "pattern-groups",
                "the pattern of a time has one group, named `time`",
                "write `(?P<time>…)`",
            );
        }
    }
}

/// Names of the groups of a pattern; one without groups, or that is wrong, is reported and has none.
fn compiled(pattern: &str, place: Location, report: &mut Reporter<'_>) -> Vec<String> {
    match Regex::new(pattern) {
        Ok(regex) => {
            let names: Vec<String> = regex.capture_names().flatten().map(str::to_owned).collect();
            if names.is_empty() {
                // Some events need no group: a line alone tells of them.
                return vec!["stage".into()];
            }
            names
        }
        Err(error) => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default().to_owned();
            report.problem(
                place,
                "bad-pattern",
                &format!("this is no regular expression: {last}"),
                "correct the pattern",
            );
            Vec::new()
        }
    }
}
