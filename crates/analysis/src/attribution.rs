//! Which injection a restart of the job is put down to.
//!
//! A restart is the border between two attempts. Injections that began during the earlier attempt, or while the job
//! was down after it, are its candidates. With several, the first after which training made at most one more step
//! (a step in flight may still end) is the cause; those before it were survived, those after it fell into its
//! recovery. A restart without a candidate belongs to the recovery in which it happens, or to nobody.

use crate::lineage::{Attempt, Lineage};
use crate::log::{Injected, Landing, Log};

/// What a restart is put down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An injection, by its index among the injections of the log.
    Injection(usize),
    /// A further restart before the job had caught up after that injection.
    During(usize),
    /// No injection of ours explains it.
    Unknown,
}

/// The border after `attempts[index]`, with its cause and the steps that were lost at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restart {
    /// Index of the attempt that ended.
    pub(crate) after: usize,
    pub(crate) cause: Cause,
    /// Last completed step less the step resumed from; `None` when one of them is not known.
    pub(crate) lost: Option<u64>,
}

/// Injections that landed, as indices into the log's injections, with the moment they began to act.
pub(crate) fn landed(log: &Log<'_>) -> Vec<(usize, u64)> {
    let landed = |it: &Injected<'_>| matches!(it.landing, Some((_, Landing::Landed { .. }, _)));
    let injections = log.injections.iter().enumerate();
    injections
        .filter(|(_, it)| landed(it))
        .map(|(index, it)| (index, it.begun_ns))
        .collect()
}

/// Every restart of the job with its cause.
pub(crate) fn restarts(log: &Log<'_>, lineage: &Lineage) -> Vec<Restart> {
    let landed = landed(log);
    let mut restarts: Vec<Restart> = Vec::new();
    // The injection whose recovery is under way, and the step that it has to pass.
    let mut open: Option<(usize, u64)> = None;
    for after in 0..lineage.attempts.len().saturating_sub(1) {
        let (before, next) = (&lineage.attempts[after], &lineage.attempts[after + 1]);
        let from = if after == 0 { 0 } else { before.start_ns };
        let candidates: Vec<(usize, u64)> = landed
            .iter()
            .copied()
            .filter(|(_, t_ns)| (from..next.start_ns).contains(t_ns))
            .collect();
        if let Some((_, goal)) = open
            && before.steps.iter().any(|end| end.step > goal)
        {
            open = None;
        }
        let cause = match (choose(&candidates, before), open) {
            (Some(index), _) => Cause::Injection(index),
            (None, Some((index, _))) => Cause::During(index),
            (None, None) => Cause::Unknown,
        };
        if let Cause::Injection(index) = cause {
            open = before.completed().map(|goal| (index, goal));
        }
        let lost = lost(&lineage.attempts, after);
        restarts.push(Restart { after, cause, lost });
    }
    restarts
}

fn choose(candidates: &[(usize, u64)], attempt: &Attempt) -> Option<usize> {
    let stopped = candidates
        .iter()
        .find(|(_, t_ns)| steps_after(attempt, *t_ns) <= 1);
    stopped.or(candidates.last()).map(|(index, _)| *index)
}

/// Steps that the job completed in this attempt after a moment.
pub(crate) fn steps_after(attempt: &Attempt, t_ns: u64) -> u64 {
    let Some(last) = attempt.steps.last() else {
        return 0;
    };
    let before = attempt.steps.iter().rev().find(|end| end.t_ns <= t_ns);
    let before = before.map(|end| end.step).or(attempt.resumed());
    last.step.saturating_sub(before.unwrap_or(last.step))
}

/// Steps lost at the border after an attempt. An attempt that neither loaded nor made a step has nothing to lose: the
/// loss of the one before it shows at the next attempt that did.
fn lost(attempts: &[Attempt], after: usize) -> Option<u64> {
    let Some(completed) = attempts[after].completed() else {
        return Some(0);
    };
    let resumed = attempts[after + 1..].iter().find_map(Attempt::resumed)?;
    Some(completed.saturating_sub(resumed))
}
