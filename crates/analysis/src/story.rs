//! Tells each recovery from the attempts of the job, the restarts between them and what supervisor and ranks said.

use crate::attribution::{Cause, Restart, landed, restarts, steps_after};
use crate::hang;
use crate::lineage::{Attempt, Lineage, StepEnd};
use crate::lives::Unit;
use crate::log::{Injected, Log};
use crate::num;
use crate::recovery::{Mark, Outcome, Recovery, finish};
use squall_model::id::InjectionId;

/// The recovery after each injection that landed, in the order in which they began.
pub(crate) fn recoveries(log: &Log<'_>, lineage: Option<&Lineage>) -> Vec<Recovery> {
    let landed = landed(log);
    let Some(lineage) = lineage else {
        return landed
            .iter()
            .map(|(index, _)| &log.injections[*index])
            .map(|it| not_measured(it, Unit::Step, &without_steps(log, it)))
            .collect();
    };
    let story = Story {
        log,
        lineage,
        landed: &landed,
        restarts: &restarts(log, lineage),
    };
    landed
        .iter()
        .map(|(index, _)| {
            let mut recovery = story.tell(*index);
            let from = recovery.start_ns;
            recovery.hang = hang::between(&log.work, from, from + recovery.total_ns);
            recovery
        })
        .collect()
}

/// What was seen of training that told neither steps nor epochs, before and after an injection.
fn without_steps(log: &Log<'_>, injection: &Injected<'_>) -> String {
    let events = log.work.training.iter();
    let saved: Vec<u64> = events
        .filter(|seen| seen.event.kind == "checkpoint-renamed")
        .map(|seen| seen.t_ns)
        .collect();
    if saved.is_empty() {
        return "no training event was seen, so what training did is not known".into();
    }
    let next = saved.iter().find(|t_ns| **t_ns > injection.begun_ns);
    let next = match next {
        Some(t_ns) => format!(
            "the next one {} after it began",
            num::duration(t_ns - injection.begun_ns)
        ),
        None => "none after it began".into(),
    };
    format!(
        "no step was seen, only checkpoints ({} in all, {next}); steps from the log (`events:`) would tell how far training was",
        saved.len()
    )
}

/// Restarts that no injection explains.
pub(crate) fn unexplained(log: &Log<'_>, lineage: Option<&Lineage>) -> usize {
    let restarts = lineage.map(|lineage| restarts(log, lineage));
    let restarts = restarts.unwrap_or_default();
    restarts
        .iter()
        .filter(|it| it.cause == Cause::Unknown)
        .count()
}

/// A workload that fails this soon after its last injection did not get over it, as far as anyone can say. In nanoseconds.
const SOON_NS: u64 = 60_000_000_000;

struct Story<'a> {
    log: &'a Log<'a>,
    lineage: &'a Lineage,
    landed: &'a [(usize, u64)],
    restarts: &'a [Restart],
}

impl Story<'_> {
    fn tell(&self, index: usize) -> Recovery {
        let injection = &self.log.injections[index];
        let unit = self.lineage.unit;
        if let Some(problem) = &self.lineage.problem {
            return not_measured(injection, unit, problem);
        }
        let t0 = injection.begun_ns;
        let Some(hit) = self.attempts().iter().rposition(|it| it.start_ns <= t0) else {
            return not_measured(injection, unit, "training had not begun when it acted");
        };
        let own = self
            .restarts
            .iter()
            .find(|it| it.cause == Cause::Injection(index));
        if let Some(restart) = own {
            return self.restarted(index, restart.after, true);
        }
        // Candidates that are not the cause but came after it fell into its recovery.
        let shared = self.restarts.iter().find(|it| it.after == hit).filter(|it| {
            matches!(it.cause, Cause::Injection(cause) if self.log.injections[cause].begun_ns <= t0)
        });
        match shared {
            Some(restart) => self.restarted(index, restart.after, false),
            None => self.went_on(index, hit),
        }
    }

    fn attempts(&self) -> &[Attempt] {
        &self.lineage.attempts
    }

    fn restarted(&self, index: usize, after: usize, own: bool) -> Recovery {
        let injection = &self.log.injections[index];
        let t0 = injection.begun_ns;
        let ended = &self.attempts()[after];
        let later = &self.attempts()[after + 1..];
        let mut recovery = empty(injection, self.lineage.unit, Outcome::NotCaughtUp);
        recovery.last_completed = ended.completed();
        recovery.resumed = later.iter().find_map(Attempt::resumed);
        let goal = recovery.last_completed.unwrap_or(0);
        let mut ends = later.iter().flat_map(|it| it.steps.iter());
        let back = ends.clone().next().copied();
        let caught = ends.find(|end| end.step > goal).copied();
        let caught = caught.or_else(|| self.caught_up_at_the_end(later, goal));
        recovery.marks = self.marks(t0, after, back, caught);
        let until = caught.map_or(u64::MAX, |end| end.t_ns);
        recovery.restarts = later.iter().filter(|it| it.start_ns <= until).count() as u32;
        recovery.overlapped_by = self.overlapping(t0, until);
        recovery.back_to_work_ns = back.map(|end| end.t_ns.saturating_sub(t0));
        recovery.caught_up_ns = caught.map(|end| end.t_ns.saturating_sub(t0));
        if caught.is_some() {
            recovery.outcome = Outcome::CaughtUp;
        } else {
            recovery.because = Some(self.censored(t0, back));
        }
        if own {
            self.count_losses(&mut recovery, index);
        } else {
            (recovery.lost, recovery.repeated) = (Some(0), Some(0));
            recovery.notes.push(
                "it fell into the recovery of an earlier injection, to which the restart and its losses are put down".into(),
            );
        }
        let further = steps_after(ended, t0);
        if own && further > 1 {
            recovery.notes.push(format!(
                "training completed {} more before it stopped: that the injection stopped it is assumed, not measured",
                self.lineage.unit.count(further)
            ));
        }
        if let Some((loaded, first)) = later.iter().find_map(Attempt::contradiction) {
            recovery.notes.push(format!(
                "training says that it loaded step {loaded} but its first step was {first}"
            ));
        }
        finish(recovery, t0)
    }

    /// Where there is no step beyond the last completed one because it was the job's last, reaching that one again is
    /// enough, or loading a state that holds it; the workload's clean end vouches for it.
    fn caught_up_at_the_end(&self, later: &[Attempt], goal: u64) -> Option<StepEnd> {
        self.log.work.ended.filter(|ended| ended.exit == Some(0))?;
        let again = later.iter().flat_map(|it| it.steps.iter());
        let again = again.copied().find(|end| end.step == goal);
        let loaded = later.iter().filter_map(|it| it.loaded);
        let loaded = loaded
            .map(|(step, t_ns)| StepEnd { step, t_ns })
            .find(|state| state.step == goal);
        again.or(loaded)
    }

    fn count_losses(&self, recovery: &mut Recovery, index: usize) {
        let mine = |it: &&Restart| matches!(it.cause, Cause::Injection(i) | Cause::During(i) if i == index);
        let own = self
            .restarts
            .iter()
            .find(|it| it.cause == Cause::Injection(index));
        recovery.lost = own.and_then(|it| it.lost);
        recovery.repeated = self.restarts.iter().filter(mine).map(|it| it.lost).sum();
    }

    fn went_on(&self, index: usize, hit: usize) -> Recovery {
        let injection = &self.log.injections[index];
        let t0 = injection.begun_ns;
        let attempt = &self.attempts()[hit];
        let mut recovery = empty(injection, self.lineage.unit, Outcome::WentOn);
        let before = attempt.steps.iter().rev().find(|end| end.t_ns <= t0);
        recovery.last_completed = before.map(|end| end.step).or(attempt.resumed());
        let clean_end = self
            .log
            .work
            .ended
            .is_some_and(|ended| ended.exit == Some(0) && ended.t_ns >= t0);
        let further = steps_after(attempt, t0);
        if further == 0 && clean_end && hit + 1 == self.attempts().len() {
            let why = "training had already completed its last step";
            return not_measured(injection, self.lineage.unit, why);
        }
        if let Some(because) = self.broke_down(injection, hit, further) {
            recovery.outcome = Outcome::NotCaughtUp;
            recovery.because = Some(because);
            recovery.marks = self.detection(t0, self.log.end_ns).into_iter().collect();
        } else if further >= 2 || (further > 0 && (clean_end || hit + 1 < self.attempts().len())) {
            let (end, stall) = self.longest_gap(injection, attempt);
            recovery.marks = vec![mark("back-to-work", end, t0, "the next completed step")];
            recovery.back_to_work_ns = Some(end.saturating_sub(t0));
            recovery.caught_up_ns = recovery.back_to_work_ns;
            recovery.stall_ns = Some(stall);
            (recovery.lost, recovery.repeated) = (Some(0), Some(0));
            recovery.resumed = recovery.last_completed;
        } else {
            recovery.outcome = Outcome::NotCaughtUp;
            recovery.because = Some(self.censored(t0, None));
            recovery.marks = self.detection(t0, self.log.end_ns).into_iter().collect();
        }
        finish(recovery, t0)
    }

    /// That the workload broke down soon after its last injection, though some steps were still completed: ranks whose supervisor is gone
    /// go on for a moment. Steps of a job that is about to end are no recovery.
    fn broke_down(&self, injection: &Injected<'_>, hit: usize, further: u64) -> Option<String> {
        let t0 = injection.begun_ns;
        let log = self.log;
        let ended = log
            .work
            .ended
            .filter(|it| it.exit != Some(0) && !it.by_squall)?;
        let soon = ended.t_ns >= t0 && ended.t_ns - t0 <= SOON_NS;
        let last =
            hit + 1 == self.attempts().len() && self.landed.iter().all(|(_, other)| *other <= t0);
        (soon && last && further > 0).then(|| {
            format!(
                "training completed {} more, but the workload ended ({}) {} later",
                self.lineage.unit.count(further),
                crate::words::ending(ended.exit, ended.signal),
                num::duration(ended.t_ns - t0)
            )
        })
    }

    /// The end and the length of the longest time between two completed steps while the fault acted. For a one-shot
    /// fault only the step in flight and the one after it are looked at: later pauses have other reasons.
    fn longest_gap(&self, injection: &Injected<'_>, attempt: &Attempt) -> (u64, u64) {
        let t0 = injection.begun_ns;
        let until = injection.gone.map_or(u64::MAX, |(t_ns, ..)| t_ns);
        let one_shot = injection.class == squall_model::syntax::Class::OneShot;
        let mut before = attempt
            .steps
            .iter()
            .rev()
            .find(|end| end.t_ns <= t0)
            .map_or(t0, |end| end.t_ns);
        let (mut first, mut longest, mut seen) = (None, (t0, 0), 0);
        for end in attempt.steps.iter().filter(|end| end.t_ns > t0) {
            let gap = end.t_ns - before;
            first.get_or_insert((end.t_ns, gap));
            if gap > longest.1 {
                longest = (end.t_ns, gap);
            }
            before = end.t_ns;
            seen += 1;
            if before > until || (one_shot && seen == 2) {
                break;
            }
        }
        let times: Vec<u64> = self.lineage.step_times().iter().map(|(_, t)| *t).collect();
        let usual = crate::lineage::median(&times).unwrap_or(0);
        if longest.1 > usual.saturating_mul(2) {
            longest
        } else {
            first.unwrap_or(longest)
        }
    }

    fn marks(
        &self,
        t0: u64,
        after: usize,
        back: Option<StepEnd>,
        caught: Option<StepEnd>,
    ) -> Vec<Mark> {
        let until = back.map_or(self.log.end_ns, |end| end.t_ns);
        let mut marks: Vec<Mark> = self.detection(t0, until).into_iter().collect();
        if let Some(t_ns) = self.supervisor("torn-down", t0, until).next() {
            marks.push(mark("torn-down", t_ns, t0, "the supervisor"));
        }
        if let Some(t_ns) = self.supervisor("rescheduled", t0, until).last() {
            marks.push(mark("rescheduled", t_ns, t0, "the supervisor"));
        }
        if let Some(attempt) = self.attempts()[after + 1..]
            .iter()
            .find(|it| !it.steps.is_empty())
        {
            let told = self.supervisor("started", t0, attempt.start_ns).last();
            let seen = (Some(attempt.start_ns) < attempt.steps.first().map(|end| end.t_ns))
                .then_some(attempt.start_ns);
            let source = if told.is_some() {
                "the supervisor"
            } else {
                "a rank's first event"
            };
            if let Some(t_ns) = told.or(seen) {
                marks.push(mark("started", t_ns, t0, source));
            }
            if let Some((_, t_ns)) = attempt.loaded {
                marks.push(mark("loaded", t_ns, t0, "the trainer"));
            }
        }
        if let Some(end) = back {
            marks.push(mark("back-to-work", end.t_ns, t0, "the first new step"));
        }
        if let Some(end) = caught {
            marks.push(mark(
                "caught-up",
                end.t_ns,
                t0,
                "the first step beyond the last completed one",
            ));
        }
        // A moment told later than the one that follows it would make a stretch negative.
        let mut last = t0;
        marks.retain(|mark| {
            let in_order = mark.t_ns >= last;
            last = last.max(mark.t_ns);
            in_order
        });
        marks
    }

    /// The first sign that something was wrong: the supervisor's word, a rank that leaves, or the workload's end.
    fn detection(&self, t0: u64, until: u64) -> Option<Mark> {
        let told = self.supervisor("detected", t0, until).next();
        let told = told.map(|t_ns| (t_ns, "the supervisor"));
        let left = self.log.work.training.iter().find(|seen| {
            seen.event.kind == "exit"
                && seen.event.code != Some(0)
                && (t0..=until).contains(&seen.t_ns)
        });
        let left = left.map(|seen| (seen.t_ns, "a rank that left"));
        let ended = self
            .log
            .work
            .ended
            .filter(|it| (t0..=until).contains(&it.t_ns));
        let ended = ended.map(|it| (it.t_ns, "the workload's end"));
        let first = [told, left, ended]
            .into_iter()
            .flatten()
            .min_by_key(|(t_ns, _)| *t_ns)?;
        Some(mark("detected", first.0, t0, first.1))
    }

    fn supervisor<'s>(
        &'s self,
        stage: &'s str,
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = u64> + 's {
        let events = self.log.work.training.iter();
        events
            .filter(move |it| {
                it.event.kind == "recovery" && it.event.stage.as_deref() == Some(stage)
            })
            .map(|it| it.t_ns)
            .filter(move |t_ns| (from..=to).contains(t_ns))
    }

    fn overlapping(&self, t0: u64, until: u64) -> Vec<InjectionId> {
        self.landed
            .iter()
            .filter(|(_, t_ns)| *t_ns > t0 && *t_ns < until)
            .map(|(index, _)| self.log.injections[*index].id.clone())
            .collect()
    }

    fn censored(&self, t0: u64, back: Option<StepEnd>) -> String {
        let work = if back.is_some() {
            "it was back to work but had not caught up"
        } else {
            "no new step was completed"
        };
        match self.log.work.ended.filter(|ended| ended.t_ns >= t0) {
            Some(ended) => format!(
                "{work} when the workload ended ({}) {} later",
                crate::words::ending(ended.exit, ended.signal),
                num::duration(ended.t_ns - t0)
            ),
            None => format!(
                "{work} in the {} until the record ends",
                num::duration(self.log.end_ns.saturating_sub(t0))
            ),
        }
    }
}

fn mark(what: &str, t_ns: u64, t0: u64, source: &str) -> Mark {
    Mark {
        what: what.into(),
        t_ns,
        after_ns: t_ns.saturating_sub(t0),
        source: source.into(),
    }
}

fn empty(injection: &Injected<'_>, unit: Unit, outcome: Outcome) -> Recovery {
    Recovery {
        injection: injection.id.clone(),
        outcome,
        because: None,
        start_ns: injection.begun_ns,
        marks: Vec::new(),
        segments: Vec::new(),
        total_ns: 0,
        back_to_work_ns: None,
        caught_up_ns: None,
        stall_ns: None,
        unit,
        last_completed: None,
        resumed: None,
        lost: None,
        repeated: None,
        restarts: 0,
        overlapped_by: Vec::new(),
        hang: None,
        notes: Vec::new(),
    }
}

fn not_measured(injection: &Injected<'_>, unit: Unit, why: &str) -> Recovery {
    Recovery {
        because: Some(why.to_owned()),
        ..empty(injection, unit, Outcome::NotMeasured)
    }
}
