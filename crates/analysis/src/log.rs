//! The event log sorted by what the analysers ask for. Each event is looked at once; nothing is judged here.

use crate::run::Run;
use squall_model::event::{Body, Observation, Place, Precision, Stage};
use squall_model::exchange::Exchange;
use squall_model::exit::Exit;
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;
use std::collections::BTreeMap;

/// A training event with its sender. Times are nanoseconds since the run started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) t_ns: u64,
    pub(crate) rank: Option<u32>,
    pub(crate) restart: u32,
    pub(crate) pid: Option<u32>,
    pub(crate) source: &'a str,
    pub(crate) event: &'a TrainingEvent,
}

/// How an owned workload ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) t_ns: u64,
    pub(crate) exit: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) by_squall: bool,
}

/// Everything about one of the two runs of the workload: the disturbed one or its reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work<'a> {
    pub(crate) started_ns: Option<u64>,
    pub(crate) ended: Option<Ended>,
    pub(crate) training: Vec<Seen<'a>>,
}

/// What the log says about the landing of an injection.
#[derive(Debug, Clone)]
pub(crate) enum Landing<'a> {
    Landed {
        place: &'a Place,
        precision: Precision,
        held_ns: Option<u64>,
    },
    Not {
        because: &'a str,
    },
}

/// What the log says about the end of an injection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gone<'a> {
    Undone { by: &'a str },
    Stuck { because: &'a str, remedy: &'a str },
}

/// One injection, from its beginning to its end.
#[derive(Debug, Clone)]
pub(crate) struct Injected<'a> {
    pub(crate) id: &'a InjectionId,
    pub(crate) rule: RuleId,
    pub(crate) kind: &'a str,
    pub(crate) class: Class,
    pub(crate) target: &'a str,
    pub(crate) aim: &'a Place,
    pub(crate) mechanism: &'a str,
    pub(crate) begun_ns: u64,
    pub(crate) landing: Option<(u64, Landing<'a>, &'a [Observation])>,
    pub(crate) undo_begun_ns: Option<u64>,
    pub(crate) gone: Option<(u64, Gone<'a>, &'a [Observation])>,
}

/// A rule as it was armed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) aim: &'a str,
}

/// One probe that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    pub(crate) t_ns: u64,
    pub(crate) stage: Option<Stage>,
    pub(crate) check: &'a str,
    pub(crate) held: bool,
    pub(crate) measured: &'a str,
}

/// The first event of the log, as far as reports need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) started_utc: &'a str,
    pub(crate) squall: &'a str,
    pub(crate) experiment: &'a str,
    pub(crate) seed: u64,
    pub(crate) host: &'a BTreeMap<String, String>,
}

/// The sorted log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log<'a> {
    pub(crate) start: Option<Start<'a>>,
    pub(crate) end_ns: u64,
    pub(crate) work: Work<'a>,
    pub(crate) reference: Work<'a>,
    /// Further undisturbed runs, in order.
    pub(crate) repeats: Vec<Work<'a>>,
    pub(crate) injections: Vec<Injected<'a>>,
    pub(crate) rules: BTreeMap<RuleId, Rule<'a>>,
    pub(crate) stages: Vec<(u64, Stage)>,
    pub(crate) probes: Vec<Probe<'a>>,
    pub(crate) holds: Vec<(u64, RuleId, &'a Place)>,
    pub(crate) skipped: Vec<(RuleId, &'a str)>,
    pub(crate) rule_ends: Vec<(RuleId, &'a str)>,
    pub(crate) abort: Option<(u64, &'a str, &'a str)>,
    pub(crate) interrupted: Option<(u64, &'a str)>,
    pub(crate) lost: Vec<(u64, &'a str, &'a str)>,
    pub(crate) dropped: Vec<(&'a str, u64)>,
    pub(crate) notes: Vec<(u64, &'a str)>,
    pub(crate) ended: Option<(Exit, &'a str)>,
    /// What went through the run's proxy.
    pub(crate) exchanges: Vec<(u64, &'a Exchange)>,
}

impl<'a> Log<'a> {
    /// The last word of the run itself before it began to undo: where it gave up, the reason.
    pub(crate) fn told_before_its_end(&self) -> Option<&'a str> {
        let undo = self.stages.iter().find(|(_, stage)| *stage == Stage::Undo);
        let until = undo.map_or(u64::MAX, |(t_ns, _)| *t_ns);
        let mut before = self.notes.iter().filter(|(t_ns, _)| *t_ns <= until);
        before.next_back().map(|(_, text)| *text)
    }

    pub(crate) fn of(run: &'a Run) -> Log<'a> {
        let mut log = Log::default();
        for event in &run.events {
            log.end_ns = log.end_ns.max(event.t_ns);
            log.take(event.t_ns, &event.body);
        }
        log.work.keep_one_source();
        log.reference.keep_one_source();
        log.repeats.iter_mut().for_each(Work::keep_one_source);
        log
    }

    /// Whether the method was begun.
    pub(crate) fn reached(&self, stage: Stage) -> bool {
        self.stages.iter().any(|(_, entered)| *entered >= stage)
    }

    /// When a stage was entered.
    pub(crate) fn entered(&self, stage: Stage) -> Option<u64> {
        let mut found = self.stages.iter().filter(|(_, entered)| *entered == stage);
        found.next().map(|(t_ns, _)| *t_ns)
    }

    fn take(&mut self, t_ns: u64, body: &'a Body) {
        match body {
            Body::RunStarted {
                seed,
                started_utc,
                squall,
                experiment,
                host,
                ..
            } => {
                self.start = Some(Start {
                    started_utc,
                    squall,
                    experiment,
                    seed: *seed,
                    host,
                });
            }
            Body::StageEntered { stage } => self.stages.push((t_ns, *stage)),
            Body::Armed {
                rule,
                kind,
                name,
                aim,
            } => {
                let name = name.as_deref();
                self.rules.insert(*rule, Rule { kind, name, aim });
            }
            Body::Held { rule, place } => self.holds.push((t_ns, *rule, place)),
            Body::Probed {
                check,
                held,
                measured,
                ..
            } => self.probes.push(Probe {
                t_ns,
                stage: self.stages.last().map(|(_, stage)| *stage),
                check,
                held: *held,
                measured,
            }),
            Body::Skipped { rule, because } => self.skipped.push((*rule, because)),
            Body::RuleEnded { rule, because } => self.rule_ends.push((*rule, because)),
            Body::AbortFired { check, measured } => {
                self.abort.get_or_insert((t_ns, check, measured));
            }
            Body::Interrupted { signal } => {
                self.interrupted.get_or_insert((t_ns, signal));
            }
            Body::Lost { what, because } => self.lost.push((t_ns, what, because)),
            Body::Dropped { what, count } => self.dropped.push((what, *count)),
            Body::Exchanged { exchange } => self.exchanges.push((t_ns, exchange)),
            Body::Note { text } => self.notes.push((t_ns, text)),
            Body::RunEnded { exit, by } => self.ended = Some((*exit, by)),
            Body::WorkloadStarted { .. } | Body::WorkloadEnded { .. } | Body::Training { .. } => {
                self.take_work(t_ns, body)
            }
            _ => self.take_injection(t_ns, body),
        }
    }

    fn take_work(&mut self, t_ns: u64, body: &'a Body) {
        match body {
            Body::WorkloadStarted { reference, .. } => {
                // Undisturbed runs come one after the other, and all that is told of one belongs to the last that began.
                if *reference && self.reference.started_ns.is_some() {
                    self.repeats.push(Work::default());
                }
                self.work_of(*reference).started_ns.get_or_insert(t_ns);
            }
            Body::WorkloadEnded {
                reference,
                exit,
                signal,
                by_squall,
                ..
            } => {
                self.work_of(*reference).ended = Some(Ended {
                    t_ns,
                    exit: *exit,
                    signal: *signal,
                    by_squall: *by_squall,
                });
            }
            Body::Training {
                reference,
                rank,
                restart,
                pid,
                source,
                event,
            } => self.work_of(*reference).training.push(Seen {
                t_ns,
                rank: *rank,
                restart: *restart,
                pid: *pid,
                source,
                event,
            }),
            _ => {}
        }
    }

    fn take_injection(&mut self, t_ns: u64, body: &'a Body) {
        match body {
            Body::InjectionBegun {
                injection,
                rule,
                kind,
                class,
                target,
                aim,
                mechanism,
                ..
            } => self.injections.push(Injected {
                id: injection,
                rule: *rule,
                kind,
                class: *class,
                target,
                aim,
                mechanism,
                begun_ns: t_ns,
                landing: None,
                undo_begun_ns: None,
                gone: None,
            }),
            Body::Landed {
                injection,
                place,
                precision,
                held_ns,
                observations,
            } => {
                let landing = Landing::Landed {
                    place,
                    precision: *precision,
                    held_ns: *held_ns,
                };
                self.update(injection, |it| {
                    it.landing = Some((t_ns, landing, observations))
                });
            }
            Body::NotLanded {
                injection,
                because,
                observations,
            } => self.update(injection, |it| {
                it.landing = Some((t_ns, Landing::Not { because }, observations));
            }),
            Body::UndoBegun { injection, .. } => self.update(injection, |it| {
                it.undo_begun_ns.get_or_insert(t_ns);
                // A stuck undo that is tried again is open until the log says how it went.
                it.gone = None;
            }),
            Body::Undone {
                injection,
                by,
                observations,
            } => self.update(injection, |it| {
                it.gone = Some((t_ns, Gone::Undone { by }, observations));
            }),
            Body::Stuck {
                injection,
                because,
                remedy,
                ..
            } => self.update(injection, |it| {
                it.gone = Some((t_ns, Gone::Stuck { because, remedy }, &[]));
            }),
            _ => {}
        }
    }

    fn work_of(&mut self, reference: bool) -> &mut Work<'a> {
        match self.repeats.last_mut() {
            Some(repeat) if reference => repeat,
            None if reference => &mut self.reference,
            _ => &mut self.work,
        }
    }

    fn update(&mut self, id: &InjectionId, change: impl FnOnce(&mut Injected<'a>)) {
        if let Some(injection) = self.injections.iter_mut().rev().find(|it| it.id == id) {
            change(injection);
        }
    }
}

/// Whether an event that belongs to a place in training says its step, and its epoch.
fn place_said(event: &TrainingEvent) -> (bool, bool) {
    let has_place = event.kind.starts_with("checkpoint-")
        || event.kind == "step-end"
        || event.kind == "epoch-end";
    (
        has_place && event.step.is_some(),
        has_place && event.epoch.is_some(),
    )
}

impl Work<'_> {
    /// Where hook and log patterns both report a kind of event, one of them counts: the same step must not be seen twice. It is
    /// the one that says where training was: the hook sees a plain script rename its checkpoints, and only its log knows
    /// their steps. Where both say as much, it is the hook.
    fn keep_one_source(&mut self) {
        // The most that the hook, and the log, say with any event of a kind.
        let mut said: BTreeMap<&str, [Option<(bool, bool)>; 2]> = BTreeMap::new();
        for seen in &self.training {
            let [hook, log] = said.entry(seen.event.kind.as_str()).or_default();
            let slot = if seen.source == "hook" { hook } else { log };
            *slot = (*slot).max(Some(place_said(seen.event)));
        }
        self.training.retain(|seen| {
            let [hook, log] = said
                .get(seen.event.kind.as_str())
                .copied()
                .unwrap_or_default();
            (seen.source == "hook") == (hook >= log)
        });
    }

    /// Training events that senders say were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.training
            .iter()
            .filter_map(|seen| seen.event.dropped)
            .sum()
    }
}
