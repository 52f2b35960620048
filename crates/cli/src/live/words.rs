//! What events say to a person, in one line each; most say nothing. The same words at a terminal and in a log.

use super::probes::{Probes, Standing, name};
use crate::output::{Paint, Stream, style};
use squall_analysis::num;
use squall_model::event::{Body, Event, Place, Precision, Presence, Stage};
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;
use std::collections::BTreeMap;

/// What earlier events said, as far as later lines need it.
#[derive(Debug, Default)]
pub(super) struct Words {
    injections: BTreeMap<InjectionId, Injected>,
    /// What the armed rules wait for.
    aims: BTreeMap<RuleId, String>,
    pub(super) probes: Probes,
    stage: Option<Stage>,
    reference: bool,
    /// Highest step completed.
    step: Option<u64>,
    recovery: Option<Recovery>,
}

#[derive(Debug)]
struct Injected {
    name: String,
    rule: RuleId,
    /// Whether its change may still be in the world.
    active: bool,
    place: String,
}

/// A recovery that is under way.
#[derive(Debug)]
struct Recovery {
    begun_ns: u64,
    /// The last step completed before.
    goal: Option<u64>,
    resumed: Option<u64>,
    noticed: bool,
    started: bool,
}

impl Words {
    /// What the event says, with its time in front.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        self.remember(event);
        let at = format!(" {:<8.1} ", event.t_ns as f64 / 1e9);
        let text = match &event.body {
            Body::StageEntered { stage } => stage_words(*stage)?.to_owned(),
            Body::WorkloadStarted { reference, .. } if *reference => {
                "the undisturbed reference run starts".to_owned()
            }
            Body::WorkloadStarted { .. } => "the workload starts".to_owned(),
            Body::WorkloadEnded { exit, signal, .. } => match (exit, signal) {
                (Some(0), _) => "the workload ended by itself, exit status 0".to_owned(),
                (Some(code), _) => format!(
                    "{} the workload ended with exit status {code}",
                    mark(Paint::Warn, "▲")
                ),
                (_, Some(signal)) => format!("the workload ended by signal {signal}"),
                _ => "the workload ended".to_owned(),
            },
            Body::Probed {
                check,
                held,
                measured,
                ..
            } if !self.reference => self.probed(check, *held, measured)?,
            Body::Armed {
                kind, name, aim, ..
            } => {
                let name = name
                    .as_deref()
                    .map(|name| format!(" `{name}`"))
                    .unwrap_or_default();
                format!("armed    {kind}{name}, {aim}")
            }
            Body::Landed {
                injection,
                place,
                precision,
                observations,
                ..
            } => {
                let evidence = observations
                    .first()
                    .map_or("", |seen| seen.evidence.as_str());
                format!(
                    "{} {}   landed{}   {evidence}",
                    mark(Paint::Warn, "▼"),
                    self.name(injection),
                    place_words(place, *precision)
                )
            }
            Body::NotLanded {
                injection, because, ..
            } => {
                format!(
                    "{} {}   did not land: {because}",
                    mark(Paint::Error, "✗"),
                    self.name(injection)
                )
            }
            Body::Undone {
                injection,
                by,
                observations,
            } => {
                let gone = observations
                    .iter()
                    .all(|seen| matches!(seen.presence, Presence::Absent | Presence::Superseded));
                let mark = if gone {
                    mark(Paint::Good, "✓")
                } else {
                    mark(Paint::Warn, "▲")
                };
                let evidence = observations
                    .first()
                    .map_or("", |seen| seen.evidence.as_str());
                format!(
                    "{mark} {}   undone by {by}   {evidence}",
                    self.name(injection)
                )
            }
            Body::Stuck {
                injection,
                because,
                remedy,
                ..
            } => format!(
                "{} {}   could not be undone: {because}\n          type: {remedy}",
                mark(Paint::Error, "✗"),
                self.name(injection)
            ),
            Body::Training {
                event: training,
                reference: false,
                ..
            } => self.trained(event.t_ns, training)?,
            Body::Skipped { because, .. } => format!("  an occasion was not taken: {because}"),
            Body::AbortFired { check, measured } => {
                format!("{} abort: {check}: {measured}", mark(Paint::Error, "✗"))
            }
            Body::Interrupted { signal } => {
                format!("{} {signal}: undoing everything", mark(Paint::Warn, "▲"))
            }
            Body::Lost { what, because } => {
                format!("{} lost {what}: {because}", mark(Paint::Error, "✗"))
            }
            Body::Dropped { what, count } => {
                format!("{} {count} records lost: {what}", mark(Paint::Warn, "▲"))
            }
            Body::Note { text } => format!("  {text}"),
            _ => return None,
        };
        Some(format!("{at}{text}"))
    }

    /// Injections that act, with where they landed.
    pub(super) fn active(&self) -> Vec<String> {
        let active = self.injections.values().filter(|it| it.active);
        active
            .map(|it| format!("{}{}", it.name, it.place))
            .collect()
    }

    /// What the armed rules wait for, in one line. A rule whose injection acts waits for nothing until that is undone.
    pub(super) fn next(&self) -> String {
        let acts = |rule: &RuleId| {
            let mut of = self.injections.values();
            of.any(|it| it.active && it.rule == *rule)
        };
        let waiting = self.aims.iter().filter(|(rule, _)| !acts(rule));
        let aims: Vec<&str> = waiting.map(|(_, aim)| aim.as_str()).collect();
        aims.join(" · ")
    }

    fn name(&self, id: &InjectionId) -> String {
        let known = self.injections.get(id);
        known.map_or_else(|| id.to_string(), |it| it.name.clone())
    }

    fn remember(&mut self, event: &Event) {
        match &event.body {
            Body::StageEntered { stage } => {
                self.stage = Some(*stage);
                self.reference = *stage == Stage::Reference;
            }
            Body::Armed {
                rule, kind, aim, ..
            } => {
                self.aims.insert(*rule, format!("{kind} {aim}"));
            }
            Body::RuleEnded { rule, .. } => {
                self.aims.remove(rule);
            }
            Body::InjectionBegun {
                injection,
                rule,
                kind,
                target,
                class,
                ..
            } => {
                // What stands in brackets is the command line; the report has it.
                let target = target.split(" (").next().unwrap_or(target);
                let injected = Injected {
                    name: format!("{kind}   {target}"),
                    rule: *rule,
                    active: *class != Class::OneShot,
                    place: String::new(),
                };
                self.injections.insert(injection.clone(), injected);
                self.recovery = Some(Recovery {
                    begun_ns: event.t_ns,
                    goal: self.step,
                    resumed: None,
                    noticed: false,
                    started: false,
                });
            }
            Body::Landed {
                injection,
                place,
                precision,
                ..
            } => {
                if let Some(it) = self.injections.get_mut(injection) {
                    it.place = place_words(place, *precision);
                }
            }
            Body::NotLanded { injection, .. } | Body::Undone { injection, .. } => {
                if let Some(it) = self.injections.get_mut(injection) {
                    it.active = false;
                }
            }
            _ => {}
        }
    }

    fn probed(&mut self, check: &str, held: bool, measured: &str) -> Option<String> {
        let standing = self.probes.take(check, held, self.stage)?;
        let check = name(check);
        Some(match standing {
            Standing::Waiting => format!("  waiting for the {check}: {measured}"),
            Standing::Holds => format!("{} {check}: {measured}", mark(Paint::Good, "✓")),
            Standing::Fails => format!("{} {check}: {measured}", mark(Paint::Error, "✗")),
        })
    }

    /// What training says of a recovery: noticed, restarted, caught up.
    fn trained(&mut self, t_ns: u64, event: &TrainingEvent) -> Option<String> {
        let before = self.step;
        if event.kind == "step-end" {
            self.step = self.step.max(event.step);
        }
        let it = self.recovery.as_mut()?;
        let after = num::duration(t_ns.saturating_sub(it.begun_ns));
        match (event.kind.as_str(), event.stage.as_deref()) {
            ("recovery", Some("detected")) if !it.noticed => {
                it.noticed = true;
                let because = event.because.as_deref();
                let because = because.map_or(String::new(), |because| format!(": {because}"));
                Some(format!("  noticed after {after}{because}"))
            }
            ("recovery", Some("started")) if !it.started => {
                it.started = true;
                Some(format!("  restarted after {after}"))
            }
            ("checkpoint-loaded", _) => {
                it.resumed = it.resumed.or(event.step);
                None
            }
            ("step-end", _) => {
                // A step that was made before the injection may be told after it.
                if it.resumed.is_none() {
                    it.goal = it.goal.max(event.step);
                }
                let (goal, resumed) = (it.goal.or(before)?, it.resumed?);
                if event.step? <= goal {
                    return None;
                }
                let lost = num::plural(goal.saturating_sub(resumed) as usize, "step", "steps");
                let mark = mark(Paint::Good, "▲");
                self.recovery = None;
                Some(format!("{mark} caught up after {after} · {lost} lost"))
            }
            _ => None,
        }
    }
}

fn mark(paint: Paint, mark: &str) -> String {
    style(paint, mark, Stream::Error)
}

fn stage_words(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::SteadyState => Some("watching the steady state"),
        Stage::Method => Some("method"),
        Stage::Undo => Some("undoing"),
        Stage::Recovery => Some("watching the recovery"),
        Stage::Plan | Stage::Reference | Stage::Start | Stage::Analyse => None,
    }
}

fn place_words(place: &Place, precision: Precision) -> String {
    let mut parts = Vec::new();
    if let Some(step) = place.step {
        parts.push(format!("step {step}"));
    }
    if let Some(epoch) = place.epoch {
        parts.push(format!("epoch {epoch}"));
    }
    if let Some(phase) = &place.phase {
        parts.push(format!("phase {phase}"));
    }
    let how = match precision {
        Precision::Held => ", held",
        Precision::Late => ", LATE",
        Precision::Observed => ", not held",
        Precision::NotAimed => "",
    };
    if parts.is_empty() {
        String::new()
    } else {
        format!(" in {}{how}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line of a recorded run, as a log shows it.
    #[test]
    fn a_recorded_run_reads_like_this() {
        let recorded = include_str!("../../../analysis/tests/it/recorded/clean.json");
        let events: Vec<Event> = serde_json::from_str(recorded).unwrap();
        let mut words = Words::default();
        let lines: Vec<String> = events.iter().filter_map(|it| words.line(it)).collect();
        let expected = include_str!("recorded.txt");
        assert_eq!(
            lines.join("\n"),
            expected.trim_end_matches('\n'),
            "{}",
            lines.join("\n")
        );
        assert!(lines.iter().all(|line| !line.contains('\x1b')));
    }

    #[test]
    fn a_landing_says_where_and_whether_the_process_was_held() {
        let place = Place {
            step: Some(640),
            epoch: Some(10),
            phase: Some("epoch-end".into()),
            rank: Some(1),
        };
        assert_eq!(
            place_words(&place, Precision::Held),
            " in step 640, epoch 10, phase epoch-end, held"
        );
        assert_eq!(place_words(&Place::default(), Precision::NotAimed), "");
    }
}
