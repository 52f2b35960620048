//! Where the ranks stood when nothing happened, and which of them first told of an error: from the hook's `stack` and `exit` events.

use crate::log::{Seen, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Calls of a stack that are quoted in a line; the whole of it stands beside them.
const CALLS: usize = 4;
/// A held process tells where it stands just before the fault acts.
const HELD_BEFORE_NS: u64 = 1_000_000_000;

/// What a hang showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hang {
    /// Where each process stood, in the order in which they told.
    pub stood: Vec<Stood>,
    /// The first process that told of an error before it ended; absent when none did: one that is killed tells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<GaveUp>,
}

/// Where a process stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stood {
    /// Its rank, if it has one.
    pub rank: Option<u32>,
    /// Nanoseconds after the injection began to act; 0 when it told before.
    pub after_ns: u64,
    /// Why it told: `nothing happened for 5 s`, `held in backward`.
    pub because: String,
    /// The innermost call of its main thread, and from there on only the script's own.
    pub calls: Vec<String>,
    /// All that it sent: every thread, innermost call first.
    pub stack: String,
}

/// A process that told of an error before it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GaveUp {
    /// Its rank, if it has one.
    pub rank: Option<u32>,
    /// Nanoseconds after the injection began to act.
    pub after_ns: u64,
    /// The error that it left with.
    pub because: String,
}

impl Stood {
    /// `rank 1`, or `a process`.
    pub fn who(&self) -> String {
        who(self.rank)
    }
}

impl GaveUp {
    /// `rank 0 was the first to tell of a time-out, 12.0 s after the fault: RuntimeError: …`
    pub fn words(&self) -> String {
        format!(
            "{} was the first to tell of {}, {} after the fault: {}",
            who(self.rank),
            if timed_out(&self.because) {
                "a time-out"
            } else {
                "an error"
            },
            crate::num::duration(self.after_ns),
            self.because
        )
    }
}

/// Whether an error is a time-out, and not one that only names a setting: `'timeout'`, `Timeout(ms)=600000`.
fn timed_out(because: &str) -> bool {
    let text = because.to_lowercase();
    let alone = |(at, word): (usize, &str)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let of_a_name = |next: Option<char>| next.is_some_and(|it| "'\"`_=(".contains(it));
        !of_a_name(before) && !of_a_name(after)
    };
    text.contains("timed out") || text.match_indices("timeout").any(alone)
}

fn who(rank: Option<u32>) -> String {
    rank.map_or("a process".into(), |rank| format!("rank {rank}"))
}

/// What the stacks sent between two moments show and the first error told after them; `None` without a silence.
pub(crate) fn between(work: &Work<'_>, from_ns: u64, to_ns: u64) -> Option<Hang> {
    let within: Vec<&Seen<'_>> = work
        .training
        .iter()
        .filter(|seen| seen.t_ns >= from_ns.saturating_sub(HELD_BEFORE_NS) && seen.t_ns <= to_ns)
        .collect();
    let stacks = within.iter().filter(|seen| seen.event.kind == "stack");
    if !stacks.clone().any(|seen| silent(seen)) {
        return None;
    }
    let mut told = BTreeSet::new();
    let stood: Vec<Stood> = stacks
        .filter(|seen| told.insert((seen.pid, silent(seen))))
        .filter_map(|seen| stood(seen, from_ns))
        .collect();
    (!stood.is_empty()).then(|| Hang {
        stood,
        gave_up: gave_up(&within, from_ns),
    })
}

fn silent(seen: &Seen<'_>) -> bool {
    let because = seen.event.because.as_deref().unwrap_or_default();
    because.starts_with("nothing happened")
}

fn stood(seen: &Seen<'_>, from_ns: u64) -> Option<Stood> {
    let stack = seen.event.line.as_deref()?;
    let calls: Vec<&str> = stack
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(str::trim)
        .collect();
    let (inner, outer) = calls.split_at(calls.len().min(1));
    let own = outer
        .iter()
        .filter(|call| !call.contains("site-packages") && !call.contains("/lib/python"));
    Some(Stood {
        rank: seen.rank,
        after_ns: seen.t_ns.saturating_sub(from_ns),
        because: seen.event.because.clone().unwrap_or("asked".into()),
        calls: inner
            .iter()
            .chain(own)
            .take(CALLS)
            .map(|call| short(call))
            .collect(),
        stack: stack.to_owned(),
    })
}

/// A call without the folder that packages are installed in.
fn short(call: &str) -> String {
    match (call.find('('), call.find("site-packages/")) {
        (Some(open), Some(at)) if open < at => {
            call[..=open].to_owned() + &call[at + "site-packages/".len()..]
        }
        _ => call.to_owned(),
    }
}

fn gave_up(within: &[&Seen<'_>], from_ns: u64) -> Option<GaveUp> {
    let ends = within
        .iter()
        .filter(|seen| seen.event.kind == "exit" && seen.t_ns >= from_ns);
    let first = ends
        .filter(|seen| seen.event.because.is_some())
        .min_by_key(|seen| seen.t_ns)?;
    Some(GaveUp {
        rank: first.rank,
        after_ns: first.t_ns - from_ns,
        because: first.event.because.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Hang, between};
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

    fn seen_between(training: Vec<Seen<'_>>) -> Option<Hang> {
        let work = Work {
            training,
            ..Work::default()
        };
        between(&work, 10_000_000_000, 60_000_000_000)
    }

    const STACK: &str = "thread MainThread:\n  wait (/v/site-packages/torch/x.py:9) work.wait()\n  call (/v/site-packages/torch/y.py:1)\n  step (/w/train.py:7) loss.backward()\nthread other:\n  run (/o.py:1)";

    #[test]
    fn every_rank_is_quoted_and_the_first_to_give_up_is_named() {
        let held = event("stack", "held in backward", Some(STACK));
        let silent = event("stack", "nothing happened for 5 s", Some(STACK));
        let end = event("exit", "RuntimeError: Timed out waiting 12000ms", None);
        let hang = seen_between(vec![
            seen(9_900_000_000, 1, &held),
            seen(15_000_000_000, 0, &silent),
            seen(22_000_000_000, 0, &end),
        ])
        .unwrap();
        let stood: Vec<_> = hang
            .stood
            .iter()
            .map(|it| (it.who(), it.because.as_str(), it.after_ns, &it.calls))
            .collect();
        let calls = &vec![
            "wait (torch/x.py:9) work.wait()".to_owned(),
            "step (/w/train.py:7) loss.backward()".to_owned(),
        ];
        assert_eq!(
            stood,
            [
                ("rank 1".into(), "held in backward", 0, calls),
                (
                    "rank 0".into(),
                    "nothing happened for 5 s",
                    5_000_000_000,
                    calls
                ),
            ]
        );
        assert!(hang.stood.iter().all(|it| it.stack == STACK));
        assert_eq!(
            hang.gave_up.unwrap().words(),
            "rank 0 was the first to tell of a time-out, 12.0 s after the fault: RuntimeError: Timed out waiting 12000ms"
        );
    }

    #[test]
    fn only_an_error_that_is_a_time_out_is_called_one() {
        let told = |because: &str| {
            let silent = event("stack", "nothing happened for 5 s", Some(STACK));
            let end = event("exit", because, None);
            let hang = seen_between(vec![
                seen(15_000_000_000, 0, &silent),
                seen(22_000_000_000, 0, &end),
            ]);
            hang.unwrap().gave_up.unwrap().words()
        };
        for time_out in [
            "TimeoutError: 300 s",
            "torch.distributed.DistStoreError: Socket Timeout",
            "RuntimeError: Watchdog caught collective operation timeout: WorkNCCL(Timeout(ms)=600000)",
            "RuntimeError: [gloo] Timed out waiting 12000ms for recv operation to complete",
        ] {
            let words = told(time_out);
            assert!(words.contains("tell of a time-out, 12.0 s"), "{words}");
        }
        for other in [
            "ConnectionResetError: [Errno 104] Connection reset by peer",
            "TypeError: init() got an unexpected keyword argument 'timeout'",
            "RuntimeError: peer closed WorkNCCL(Timeout(ms)=600000)",
        ] {
            let words = told(other);
            assert!(words.contains("tell of an error, 12.0 s"), "{words}");
        }
    }

    #[test]
    fn a_kill_without_a_silence_quotes_no_stacks() {
        let held = event("stack", "held in backward", Some(STACK));
        assert_eq!(seen_between(vec![seen(9_900_000_000, 1, &held)]), None);
    }
}
