//! Judges each expectation of the file: held, deviated, or inconclusive, always with what was measured.

use crate::ettr::Effectiveness;
use crate::landing::InjectionReport;
use crate::lineage::{Lineage, median};
use crate::log::Log;
use crate::num;
use crate::recovery::{Outcome, Recovery};
use crate::run::Run;
use crate::same_result::{SameResult, Sameness};
use crate::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::Stage;
use squall_model::experiment::{Expect, ResultKind, StepCount};
use squall_model::units::Span;

/// What became of one expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// What was expected is what was measured.
    Held,
    /// It is not.
    Deviated,
    /// It could not be decided.
    Inconclusive,
}

/// One expectation with its judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// Key in the file, e.g. `recovered-within`.
    pub key: String,
    /// What was expected, in words.
    pub expected: String,
    /// The judgement.
    pub judgement: Judgement,
    /// What was measured, or why it could not be, in words.
    pub measured: String,
}

/// What the judges look at.
pub(crate) struct Findings<'a> {
    pub(crate) run: &'a Run,
    pub(crate) log: &'a Log<'a>,
    pub(crate) lineage: Option<&'a Lineage>,
    pub(crate) reference: Option<&'a Lineage>,
    pub(crate) injections: &'a [InjectionReport],
    pub(crate) recoveries: &'a [Recovery],
    pub(crate) same: &'a SameResult,
    pub(crate) effectiveness: Option<&'a Effectiveness>,
}

pub(crate) type Answer = (Judgement, String);

pub(crate) fn held(words: impl Into<String>) -> Answer {
    (Judgement::Held, words.into())
}
pub(crate) fn deviated(words: impl Into<String>) -> Answer {
    (Judgement::Deviated, words.into())
}
pub(crate) fn inconclusive(words: impl Into<String>) -> Answer {
    (Judgement::Inconclusive, words.into())
}

impl Findings<'_> {
    /// Judges everything the file expects, and that the steady state, where it was looked at again, is back.
    pub(crate) fn judge(&self) -> Vec<Judged> {
        let mut all: Vec<Judged> = self.run.ask.expect.iter().map(|it| self.one(it)).collect();
        let explicit = all.iter().any(|it| it.key == "steady-again-within");
        if !explicit && let Some(answer) = self.steady_at_the_end() {
            all.push(judged(
                "steady-state",
                "the steady state holds again at the end".into(),
                answer,
            ));
        }
        all
    }

    fn one(&self, expect: &Expect) -> Judged {
        match expect {
            Expect::RecoveredWithin(limit) => judged(
                "recovered-within",
                format!("caught up within {limit} of each injection"),
                self.recovered(*limit),
            ),
            Expect::SameResult(same) => {
                let by = match same.by {
                    ResultKind::FinalParameters => {
                        "the same parameters at the end as the reference run"
                    }
                    ResultKind::Samples => "each sample used as often as in the reference run",
                    ResultKind::Trajectory => "losses within the spread of undisturbed repeats",
                };
                judged("same-result", by.into(), self.same(same.by))
            }
            Expect::LostSteps(lost) => judged(
                "lost-steps",
                format!("at most {} lost by each injection", lost.at_most),
                self.lost(lost.at_most),
            ),
            Expect::Completes(completes) => judged(
                "completes",
                format!(
                    "the workload ends by itself with exit status {}",
                    completes.exit
                ),
                self.completes(completes.exit),
            ),
            Expect::Ettr(bound) => judged(
                "ettr",
                format!(
                    "effective training time at least {}",
                    num::percent(bound.at_least.0 / 100.0)
                ),
                self.ettr(bound.at_least.0 / 100.0),
            ),
            Expect::SteadyAgainWithin(limit) => judged(
                "steady-again-within",
                format!("the steady state holds again within {limit} of the last undo"),
                self.steady_within(*limit),
            ),
        }
    }

    fn recovered(&self, limit: Span) -> Answer {
        let limit = limit.as_nanos();
        if self.recoveries.is_empty() {
            return inconclusive("no injection landed");
        }
        let late = self.recoveries.iter().filter_map(|it| {
            let ns = it.caught_up_ns?;
            (ns > limit).then_some((ns, it))
        });
        if let Some((ns, it)) = late.max_by_key(|(ns, _)| *ns) {
            return deviated(format!(
                "caught up {} after injection {}",
                num::duration(ns),
                it.injection
            ));
        }
        let mut open = self.recoveries.iter();
        if let Some(it) = open.find(|it| it.outcome == Outcome::NotCaughtUp) {
            let why = it.because.clone().unwrap_or_default();
            let words = format!("after injection {}: {why}", it.injection);
            let watched = self.watched_until().saturating_sub(it.start_ns);
            // A workload that ended by itself in between will not catch up any more.
            let ended = self.log.work.ended.is_some_and(|ended| {
                let ours = self.log.entered(Stage::Undo);
                ended.t_ns >= it.start_ns && ours.is_none_or(|undo| ended.t_ns <= undo)
            });
            return if (ended && !self.cut_short()) || watched > limit {
                deviated(words)
            } else {
                inconclusive(words)
            };
        }
        if let Some(it) = self
            .recoveries
            .iter()
            .find(|it| it.outcome == Outcome::NotMeasured)
        {
            let why = it.because.clone().unwrap_or_default();
            return inconclusive(format!(
                "not measured for injection {}: {why}",
                it.injection
            ));
        }
        let times: Vec<u64> = self
            .recoveries
            .iter()
            .filter_map(|it| it.caught_up_ns)
            .collect();
        held(format!("caught up {}", spread(&times)))
    }

    fn same(&self, by: ResultKind) -> Answer {
        let name = match by {
            ResultKind::FinalParameters => "bit-equal",
            ResultKind::Samples => "samples",
            ResultKind::Trajectory => "trajectory",
        };
        let Some(rung) = self.same.rungs.iter().find(|it| it.name == name) else {
            return inconclusive(self.same.sentence.clone());
        };
        // Training that is not reproducible: what decided, if anything, is the spread of its repeats.
        let overruled = self.same.sameness != Sameness::Different;
        if overruled && rung.sameness == Sameness::Different {
            return inconclusive(self.same.sentence.clone());
        }
        match rung.sameness {
            Sameness::Same => held(rung.evidence.clone()),
            Sameness::Different => deviated(rung.evidence.clone()),
            // What a weaker rung asks a proof of equal bits covers; the reverse it does not.
            Sameness::NotMeasured
                if by != ResultKind::FinalParameters
                    && self.same.decided_by.as_deref() == Some("bit-equal")
                    && self.same.sameness == Sameness::Same =>
            {
                held(self.same.sentence.clone())
            }
            Sameness::NotMeasured => match self.failed_for_good() {
                Some(ending) => deviated(format!(
                    "there is no result: the workload ended with {ending}"
                )),
                None => inconclusive(format!("not measured: {}", rung.evidence)),
            },
        }
    }

    fn lost(&self, most: StepCount) -> Answer {
        let measured: Vec<(u64, &Recovery)> = self
            .recoveries
            .iter()
            .filter_map(|it| it.lost.map(|lost| (lost, it)))
            .collect();
        let Some((worst, recovery)) = measured.iter().max_by_key(|(lost, _)| *lost).copied() else {
            return inconclusive(
                match self.recoveries.first().and_then(|it| it.because.clone()) {
                    Some(why) => format!("not measured: {why}"),
                    None => "no injection landed".into(),
                },
            );
        };
        let unit = recovery.unit;
        let lost = format!(
            "{} lost at worst, after injection {}",
            unit.count(worst),
            recovery.injection
        );
        let (limit, bound) = match most {
            StepCount::Steps(_) if unit == crate::lives::Unit::Epoch => {
                return inconclusive(format!("{lost}, but no event tells of steps"));
            }
            StepCount::Steps(n) => (n, String::new()),
            StepCount::CheckpointIntervals(_) if worst == 0 => (0, String::new()),
            StepCount::CheckpointIntervals(n) => match self.checkpoint_interval() {
                Some((interval, source)) => (
                    n.saturating_mul(interval),
                    format!("; a checkpoint every {} ({source})", unit.count(interval)),
                ),
                None => {
                    return inconclusive(format!("{lost}, but {}", self.no_interval()));
                }
            },
        };
        let words = format!("{lost}{bound}");
        if worst > limit {
            return deviated(words);
        }
        // Each record that was dropped may have been the end of one more step.
        let dropped = crate::same_result::dropped_in_run(self.log);
        if worst.saturating_add(dropped) > limit {
            return inconclusive(format!(
                "{words}, but {} training records were dropped and may have been more steps",
                num::thousands(dropped)
            ));
        }
        match self.recoveries.iter().find(|it| it.lost.is_none()) {
            Some(it) => inconclusive(format!(
                "{words}; not measured for injection {}",
                it.injection
            )),
            None => held(words),
        }
    }

    /// Steps between checkpoints, with where the number is from.
    pub(crate) fn checkpoint_interval(&self) -> Option<(u64, &'static str)> {
        let gaps = |lineage: Option<&Lineage>| lineage.and_then(|it| median(&it.checkpoint_gaps()));
        let seen = gaps(self.reference).map(|n| (n, "measured in the reference run"));
        let seen = seen.or(gaps(self.lineage).map(|n| (n, "measured")));
        seen.or(self
            .run
            .ask
            .checkpoint_interval
            .map(|n| (n, "from the file")))
    }

    /// Why the steps between checkpoints are not known, and what to do about it.
    fn no_interval(&self) -> String {
        let events = self.log.work.training.iter();
        let finished = events.filter(|seen| seen.event.kind == "checkpoint-renamed");
        let seen = match finished.count() {
            0 => "no completed checkpoint was seen".to_owned(),
            n => format!(
                "{} seen without {} step",
                num::plural(n, "completed checkpoint was", "completed checkpoints were"),
                if n == 1 { "its" } else { "their" }
            ),
        };
        format!(
            "{seen} and the file gives no interval; say how many steps lie between two, e.g. `checkpoint-interval: 10` under `training:`"
        )
    }

    fn completes(&self, exit: i32) -> Answer {
        match self.log.work.ended {
            Some(_) if self.cut_short() => inconclusive("the run was cut short"),
            Some(ended) if ended.exit == Some(exit) && ended.signal.is_none() => {
                held(format!("exit status {exit}"))
            }
            Some(ended) => deviated(words::ending(ended.exit, ended.signal)),
            None => inconclusive("the record ends before the workload does"),
        }
    }

    fn ettr(&self, least: f64) -> Answer {
        let Some(it) = self.effectiveness else {
            return inconclusive("not measured: no completed steps or no wall time");
        };
        let words = format!("{} ({})", num::percent(it.ettr), it.definition);
        match it.ettr >= least {
            _ if self.cut_short() => inconclusive(format!("{words}, but the run was cut short")),
            true => held(words),
            false => deviated(words),
        }
    }

    /// Whether Squall ended the run before its time.
    pub(crate) fn cut_short(&self) -> bool {
        self.log.abort.is_some() || self.log.interrupted.is_some() || !self.log.lost.is_empty()
    }

    fn failed_for_good(&self) -> Option<String> {
        let ended = self.log.work.ended.filter(|_| !self.cut_short())?;
        (ended.exit != Some(0)).then(|| words::ending(ended.exit, ended.signal))
    }

    fn watched_until(&self) -> u64 {
        let cut = self
            .log
            .abort
            .map(|it| it.0)
            .or(self.log.interrupted.map(|it| it.0));
        cut.unwrap_or(self.log.end_ns)
    }
}

fn judged(key: &str, expected: String, (judgement, measured): Answer) -> Judged {
    Judged {
        key: key.into(),
        expected,
        judgement,
        measured,
    }
}

/// `6.2 s after it`, or `5.9 s to 6.6 s after it, middle 6.2 s (3 injections)`.
fn spread(times: &[u64]) -> String {
    match times {
        [one] => format!("{} after it", num::duration(*one)),
        [first, rest @ ..] if rest.iter().all(|it| it == first) => {
            format!(
                "{} after each of {} injections",
                num::duration(*first),
                times.len()
            )
        }
        _ => format!(
            "{} to {} after it, middle {} ({} injections)",
            num::duration(times.iter().copied().min().unwrap_or(0)),
            num::duration(times.iter().copied().max().unwrap_or(0)),
            num::duration(median(times).unwrap_or(0)),
            times.len()
        ),
    }
}
