//! The rules of good conduct, each a function over all calls.

use super::calls::Call;
use super::{Conduct, Finding, Known};
use squall_model::exchange::{Ended, Exchange};

/// Statuses that no second attempt changes.
const FINAL: [u16; 6] = [400, 401, 403, 404, 413, 422];
/// More attempts than this at one question are a storm.
const STORM: usize = 10;
/// Retries sooner than this after a failure are no back-off.
const AT_ONCE_NS: u64 = 50_000_000;
/// A client that has waited so long for nothing, and waits on, has no time-out to speak of.
const PATIENCE_NS: u64 = 60_000_000_000;
/// Lines of evidence.
const SHOWN: usize = 5;

/// What was seen of one rule.
#[derive(Default)]
struct Seen {
    tested: u64,
    broken: u64,
    evidence: Vec<String>,
    /// It may have been broken, but that cannot be told.
    open: u64,
}

impl Seen {
    fn case(&mut self, broken: bool, words: impl FnOnce() -> String) {
        self.tested += 1;
        if broken {
            self.broken += 1;
            if self.evidence.len() < SHOWN {
                self.evidence.push(words());
            }
        }
    }
}

fn finding(rule: &str, expects: &str, seen: Seen, never: &str, known: Known) -> Finding {
    let (conduct, because) = match () {
        () if seen.broken > 0 => (
            Conduct::Broken,
            format!("{} of {} times", seen.broken, seen.tested),
        ),
        () if seen.tested == 0 => (Conduct::Inconclusive, never.to_owned()),
        () if known.lost > 0 => (
            Conduct::Inconclusive,
            format!(
                "kept in all {} cases that are known, but {} records were lost",
                seen.tested, known.lost
            ),
        ),
        () if seen.open > 0 => (
            Conduct::Inconclusive,
            format!(
                "kept in {} cases; {} more do not tell",
                seen.tested, seen.open
            ),
        ),
        () => (Conduct::Held, format!("in all {} cases", seen.tested)),
    };
    Finding {
        rule: rule.to_owned(),
        expects: expects.to_owned(),
        conduct,
        because,
        tested: seen.tested,
        broken: seen.broken,
        evidence: seen.evidence,
    }
}

/// `12.345 s POST /v1/chat/completions (connection 3, request 1): 429`.
fn told(exchange: &Exchange, known: Known) -> String {
    let since = exchange.asked_ns.saturating_sub(known.from_ns) as f64 / 1e9;
    let came = match (exchange.status, exchange.ended) {
        (None, Some(Ended::Reset)) => "reset".to_owned(),
        (None, Some(Ended::Left)) => "the client left".to_owned(),
        (None, _) => "no answer".to_owned(),
        (Some(status), _) if exchange.is_cut_off() => {
            format!("{status}, cut off after {} tokens", exchange.tokens)
        }
        (Some(status), Some(Ended::Left)) => format!("{status}, the client left"),
        (Some(status), _) => status.to_string(),
    };
    format!("{since:.3} s {}: {came}", exchange.words())
}

fn pair(before: &Exchange, after: &Exchange, known: Known) -> String {
    let gap = after.asked_ns.saturating_sub(before.over_ns()) as f64 / 1e9;
    format!(
        "{}; again {gap:.3} s later, at {}",
        told(before, known),
        told(after, known)
    )
}

pub(super) fn all(calls: &[Call<'_>], known: Known) -> Vec<Finding> {
    // Rules about what is done under a fault need a fault that fired, and a service that was well without one.
    let undisturbed = || {
        calls
            .iter()
            .flat_map(|call| &call.attempts)
            .filter(|one| one.fired.is_empty())
    };
    let is_well = undisturbed().count() == 0 || undisturbed().any(|one| one.succeeded());
    let has_fired = calls
        .iter()
        .flat_map(|call| &call.attempts)
        .any(|one| !one.fired.is_empty());
    let mut found = vec![
        retry_after(calls, known),
        non_retryable(calls, known),
        storm(calls, known),
        back_off(calls, known),
        truncated(calls, known),
        time_out(calls, known),
        fallback(calls, known),
        repeated(calls, known),
        cost(calls, known),
    ];
    for one in &mut found {
        if !has_fired && one.conduct != Conduct::Broken {
            one.conduct = Conduct::Inconclusive;
            one.because = "no fault has fired".to_owned();
        } else if !is_well {
            one.conduct = Conduct::Inconclusive;
            one.because =
                "the service failed without any fault too: there is no baseline".to_owned();
        }
    }
    found
}

fn retry_after(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for (before, after) in calls.iter().flat_map(Call::retries) {
        let Some(asked) = before.retry_after_ms else {
            continue;
        };
        let gap_ms = after.asked_ns.saturating_sub(before.over_ns()) / 1_000_000;
        // Clocks and schedulers: a twentieth, and 50 ms.
        let broken = gap_ms + 50 + asked / 20 < asked;
        seen.case(broken, || {
            format!("{} asked to wait {asked} ms", pair(before, after, known))
        });
    }
    let never = "no retry followed an answer that told how long to wait";
    finding(
        "retry-after",
        "waits as long as the service asks",
        seen,
        never,
        known,
    )
}

fn non_retryable(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for call in calls {
        for (index, one) in call.attempts.iter().enumerate() {
            let is_final = one.status.is_some_and(|status| FINAL.contains(&status));
            if !is_final || one.should_retry == Some(true) {
                continue;
            }
            let next = call.attempts.get(index + 1);
            seen.case(next.is_some(), || {
                next.map_or(String::new(), |next| pair(one, next, known))
            });
        }
    }
    let never = "no answer said that asking again is in vain (400, 401, 403, 404, 413, 422)";
    finding(
        "final-errors",
        "does not retry what no retry changes",
        seen,
        never,
        known,
    )
}

fn storm(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for call in calls
        .iter()
        .filter(|call| call.attempts.iter().any(|one| !one.succeeded()))
    {
        seen.case(call.attempts.len() > STORM, || {
            let first = call.attempts[0];
            format!(
                "{} attempts, the first at {}",
                call.attempts.len(),
                told(first, known)
            )
        });
    }
    finding(
        "retry-storm",
        "gives up after at most ten attempts",
        seen,
        "nothing failed",
        known,
    )
}

fn back_off(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for (before, after) in calls.iter().flat_map(Call::retries) {
        if before.retry_after_ms.is_some() || before.is_cut_off() {
            continue;
        }
        let gap = after.asked_ns.saturating_sub(before.over_ns());
        seen.case(gap < AT_ONCE_NS, || pair(before, after, known));
    }
    let never = "no retry followed a failure that left the wait to the client";
    finding(
        "back-off",
        "waits before it tries again",
        seen,
        never,
        known,
    )
}

/// That the user was shown half an answer as a whole one cannot be seen; that nobody asked again can.
fn truncated(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for call in calls {
        for (index, one) in call.attempts.iter().enumerate() {
            if !one.is_cut_off() || one.error_event || one.finished != Some(false) {
                continue;
            }
            let is_silent = one.ended == Some(Ended::Whole);
            match call.attempts.get(index + 1) {
                Some(_) => seen.case(false, String::new),
                None if is_silent => seen.case(true, || {
                    format!("{}, ended in order, and not asked again", told(one, known))
                }),
                // A broken connection is an error to every client; whether it was told to the user stays open.
                None => seen.open += 1,
            }
        }
    }
    let never = if seen.open > 0 {
        "streams broke off with an error and were not asked again; what users were told is not to be seen here"
    } else {
        "no stream was cut off"
    };
    finding(
        "truncated-stream",
        "does not take a cut-off stream for a whole answer",
        seen,
        never,
        known,
    )
}

fn time_out(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for one in calls.iter().flat_map(|call| &call.attempts) {
        let stands = |name: &str| one.fired.iter().any(|rule| rule.fault == name);
        if !(stands("http-hang") || stands("llm-stall") || stands("llm-keep-alive-only")) {
            continue;
        }
        let silent = one
            .ended_ns
            .saturating_sub(one.last_token_ns.or(one.first_byte_ns).unwrap_or(0));
        match one.ended {
            Some(Ended::Left) => seen.case(silent > PATIENCE_NS, || {
                format!(
                    "{} after {:.1} s of silence",
                    told(one, known),
                    silent as f64 / 1e9
                )
            }),
            // It went on, or we ended it: how long the client would have waited is unknown, unless it was long already.
            _ if silent > PATIENCE_NS => seen.case(true, || {
                format!(
                    "{}, and was still waited for after {:.1} s of silence",
                    told(one, known),
                    silent as f64 / 1e9
                )
            }),
            _ if !one.succeeded() => seen.open += 1,
            _ => {}
        }
    }
    let never = if seen.open > 0 {
        "what stood still ended before a minute was over: how long clients would have waited is unknown"
    } else {
        "nothing stood still"
    };
    finding(
        "read-time-out",
        "leaves when nothing comes for a minute",
        seen,
        never,
        known,
    )
}

fn fallback(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    let models: std::collections::BTreeSet<&str> = calls
        .iter()
        .flat_map(|call| &call.attempts)
        .filter_map(|one| one.model.as_deref())
        .collect();
    // With one model there is nothing to fall back on, as far as the wire shows.
    if models.len() > 1 {
        for call in calls {
            let Some(last) = call
                .last()
                .filter(|last| !last.succeeded() && !last.fired.is_empty())
            else {
                continue;
            };
            let saved = calls
                .iter()
                .filter_map(|other| other.attempts.first())
                .any(|other| {
                    let soon = other
                        .asked_ns
                        .checked_sub(last.over_ns())
                        .is_some_and(|gap| gap < PATIENCE_NS);
                    soon && other.model != last.model
                        && other.asked_bytes.abs_diff(last.asked_bytes) < 64
                });
            seen.case(!saved, || {
                format!("{}, and no other model was asked", told(last, known))
            });
        }
    }
    let never = "only one model was ever asked, or nothing failed for good";
    finding(
        "fallback",
        "asks another model when one fails for good",
        seen,
        never,
        known,
    )
}

/// What had reached the service and may have been done there, asked again without a key that tells it is the same.
fn repeated(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for (before, after) in calls.iter().flat_map(Call::retries) {
        let committed = before.method == "POST"
            && before.status.is_some_and(|status| status < 300)
            && before.tokens > 0;
        if !committed {
            continue;
        }
        let same = before.idempotency.is_some() && before.idempotency == after.idempotency;
        seen.case(!same, || {
            format!("{}, without an idempotency key", pair(before, after, known))
        });
    }
    let never = "no answer that had begun was asked for again";
    finding(
        "repeated-after-commit",
        "repeats what may be done already only under the same idempotency key",
        seen,
        never,
        known,
    )
}

/// What attempts cost beside the one that was of use.
fn cost(calls: &[Call<'_>], known: Known) -> Finding {
    let mut seen = Seen::default();
    for call in calls
        .iter()
        .filter(|call| call.attempts.iter().any(|one| !one.fired.is_empty()))
    {
        let begun = call.attempts.iter().filter(|one| one.tokens > 0).count();
        let tokens: u64 = call.attempts.iter().map(|one| one.tokens).sum();
        let used = call
            .last()
            .filter(|last| last.succeeded())
            .map_or(0, |last| last.tokens);
        // Twice the tokens of the answer that was used.
        let broken = begun > 1 && used > 0 && tokens > 2 * used;
        seen.case(broken, || {
            format!(
                "{tokens} tokens were generated for an answer of {used}, the first attempt at {}",
                told(call.attempts[0], known)
            )
        });
    }
    finding(
        "cost",
        "a fault does not double what an answer costs",
        seen,
        "no call met a fault",
        known,
    )
}
