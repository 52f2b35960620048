//! Where the ranks stood when nothing happened, and which of them gave up first: from the hook's `stack` and `exit` events.

use crate::log::{Seen, Work};
use crate::num;
use std::collections::BTreeSet;

/// Lines of a stack that a note quotes; the whole of it is in the event log.
const CALLS: usize = 4;

/// In words, what the stacks sent between two moments show and what ended the first process after them.
pub(crate) fn notes(work: &Work<'_>, from_ns: u64, to_ns: u64) -> Vec<String> {
    let within: Vec<&Seen<'_>> = work
        .training
        .iter()
        .filter(|seen| seen.t_ns >= from_ns.saturating_sub(HELD_BEFORE_NS) && seen.t_ns <= to_ns)
        .collect();
    let stacks = within.iter().filter(|seen| seen.event.kind == "stack");
    let silent = |seen: &Seen<'_>| {
        let because = seen.event.because.as_deref().unwrap_or_default();
        because.starts_with("nothing happened")
    };
    let mut notes = Vec::new();
    if stacks.clone().any(|seen| silent(seen)) {
        let mut told = BTreeSet::new();
        for seen in stacks {
            if told.insert((seen.pid, silent(seen))) {
                notes.extend(stood(seen));
            }
        }
    }
    if !notes.is_empty() {
        notes.extend(gave_up(&within, from_ns));
    }
    notes
}

/// A held process tells where it stands just before the fault acts.
const HELD_BEFORE_NS: u64 = 1_000_000_000;

fn stood(seen: &Seen<'_>) -> Option<String> {
    let text = seen.event.line.as_deref()?;
    let calls: Vec<&str> = text
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
        .collect();
    // The innermost calls, and from there on only the script's own.
    let (inner, outer) = calls.split_at(calls.len().min(1));
    let own = outer
        .iter()
        .filter(|call| !call.contains("site-packages") && !call.contains("/lib/python"));
    let quoted: Vec<&str> = inner.iter().chain(own).take(CALLS).copied().collect();
    let because = seen.event.because.as_deref().unwrap_or("asked");
    Some(format!(
        "{} ({because}) stood in {}",
        name(seen),
        quoted.join(" ← ")
    ))
}

fn gave_up(within: &[&Seen<'_>], from_ns: u64) -> Option<String> {
    let ends = within
        .iter()
        .filter(|seen| seen.event.kind == "exit" && seen.t_ns >= from_ns);
    let first = ends
        .filter(|seen| seen.event.because.is_some())
        .min_by_key(|seen| seen.t_ns)?;
    Some(format!(
        "{} gave up first, {} after the fault: {}",
        name(first),
        num::duration(first.t_ns - from_ns),
        first.event.because.as_deref().unwrap_or_default()
    ))
}

fn name(seen: &Seen<'_>) -> String {
    seen.rank
        .map_or("a process".into(), |rank| format!("rank {rank}"))
}

#[cfg(test)]
mod tests {
    use super::notes;
    use crate::log::{Seen, Work};
    use squall_model::hook::TrainingEvent;

    fn event(kind: &str, because: &str, line: Option<&str>) -> TrainingEvent {
        TrainingEvent {
            kind: kind.into(),
            because: Some(because.into()),
            line: line.map(str::to_owned),
            ..TrainingEvent::default()
        }
    }

    fn seen(t_ns: u64, rank: u32, event: &TrainingEvent) -> Seen<'_> {
        Seen {
            t_ns,
            rank: Some(rank),
            restart: 0,
            pid: Some(rank + 10),
            source: "hook",
            event,
        }
    }

    const STACK: &str = "thread MainThread:\n  wait (/v/site-packages/torch/x.py:9) work.wait()\n  call (/v/site-packages/torch/y.py:1)\n  step (/w/train.py:7) loss.backward()\nthread other:\n  run (/o.py:1)";

    #[test]
    fn every_rank_is_quoted_and_the_first_to_give_up_is_named() {
        let held = event("stack", "held in backward", Some(STACK));
        let silent = event("stack", "nothing happened for 5 s", Some(STACK));
        let end = event("exit", "RuntimeError: Timed out waiting 12000ms", None);
        let work = Work {
            training: vec![
                seen(9_900_000_000, 1, &held),
                seen(15_000_000_000, 0, &silent),
                seen(22_000_000_000, 0, &end),
            ],
            ..Work::default()
        };
        let said = notes(&work, 10_000_000_000, 60_000_000_000);
        assert_eq!(
            said,
            [
                "rank 1 (held in backward) stood in wait (/v/site-packages/torch/x.py:9) work.wait() ← step (/w/train.py:7) loss.backward()",
                "rank 0 (nothing happened for 5 s) stood in wait (/v/site-packages/torch/x.py:9) work.wait() ← step (/w/train.py:7) loss.backward()",
                "rank 0 gave up first, 12.0 s after the fault: RuntimeError: Timed out waiting 12000ms",
            ]
        );
    }

    #[test]
    fn a_kill_without_a_silence_quotes_no_stacks() {
        let held = event("stack", "held in backward", Some(STACK));
        let work = Work {
            training: vec![seen(9_900_000_000, 1, &held)],
            ..Work::default()
        };
        assert!(notes(&work, 10_000_000_000, 60_000_000_000).is_empty());
    }
}
