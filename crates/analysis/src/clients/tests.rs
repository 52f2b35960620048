use super::*;
use proptest::prelude::*;
use squall_model::exchange::{Ended, Fired};

const MS: u64 = 1_000_000;

fn asked(at_ms: u64, question: &str, status: u16) -> Exchange {
    Exchange {
        asked_ns: at_ms * MS,
        request: 1,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        model: Some("m".into()),
        streaming: true,
        question: question.into(),
        status: Some(status),
        first_byte_ns: Some(MS),
        ended_ns: 10 * MS,
        ended: Some(Ended::Whole),
        ..Exchange::default()
    }
}

fn good(at_ms: u64, question: &str) -> Exchange {
    Exchange {
        finished: Some(true),
        tokens: 5,
        first_token_ns: Some(2 * MS),
        longest_gap_ns: Some(MS),
        ..asked(at_ms, question, 200)
    }
}

fn hit(exchange: Exchange, fault: &str) -> Exchange {
    let fired = Fired {
        rule: "r".into(),
        fault: fault.into(),
        place: 1,
        unit: "requests".into(),
    };
    Exchange {
        fired: vec![fired],
        ..exchange
    }
}

fn refused(at_ms: u64, question: &str, status: u16, wait_ms: Option<u64>) -> Exchange {
    let one = Exchange {
        retry_after_ms: wait_ms,
        ..asked(at_ms, question, status)
    };
    hit(one, "http-status")
}

fn cut(at_ms: u64, question: &str, how: Ended) -> Exchange {
    let one = Exchange {
        finished: Some(false),
        ended: Some(how),
        tokens: 3,
        ..good(at_ms, question)
    };
    hit(one, "llm-cut")
}

fn of(exchanges: &[Exchange], rule: &str) -> Finding {
    let found = judge(exchanges, Known::default());
    found
        .into_iter()
        .find(|one| one.rule == rule)
        .expect("a rule")
}

fn conduct(exchanges: &[Exchange], rule: &str) -> Conduct {
    of(exchanges, rule).conduct
}

#[test]
fn a_wait_that_was_asked_for_is_kept_or_not() {
    let kept = [
        good(0, "a"),
        refused(100, "b", 429, Some(1000)),
        good(1110, "b"),
    ];
    let early = [
        good(0, "a"),
        refused(100, "b", 429, Some(1000)),
        good(600, "b"),
    ];
    assert_eq!(conduct(&kept, "retry-after"), Conduct::Held);
    let found = of(&early, "retry-after");
    assert_eq!(
        (found.conduct, found.tested, found.broken),
        (Conduct::Broken, 1, 1)
    );
    assert!(
        found.evidence[0].contains("again 0.490 s later") && found.evidence[0].contains("1000 ms"),
        "{found:?}"
    );
}

#[test]
fn what_no_retry_changes_is_not_retried() {
    for status in [400, 401, 403, 404, 413, 422] {
        let left = [good(0, "a"), refused(100, "b", status, None)];
        let again = [
            good(0, "a"),
            refused(100, "b", status, None),
            refused(700, "b", status, None),
        ];
        assert_eq!(conduct(&left, "final-errors"), Conduct::Held, "{status}");
        assert_eq!(conduct(&again, "final-errors"), Conduct::Broken, "{status}");
    }
    let allowed = Exchange {
        should_retry: Some(true),
        ..refused(100, "b", 400, None)
    };
    assert_eq!(
        conduct(&[good(0, "a"), allowed, good(700, "b")], "final-errors"),
        Conduct::Inconclusive
    );
}

#[test]
fn more_than_ten_attempts_are_a_storm() {
    let many = |count: u64| {
        let mut all: Vec<Exchange> = (0..count)
            .map(|at| refused(at * 500, "b", 503, None))
            .collect();
        all.push(good(0, "a"));
        all
    };
    assert_eq!(conduct(&many(10), "retry-storm"), Conduct::Held);
    assert_eq!(conduct(&many(11), "retry-storm"), Conduct::Broken);
}

#[test]
fn a_retry_at_once_is_no_back_off() {
    let later = [good(0, "a"), refused(100, "b", 503, None), good(600, "b")];
    let at_once = [good(0, "a"), refused(100, "b", 503, None), good(111, "b")];
    assert_eq!(conduct(&later, "back-off"), Conduct::Held);
    assert_eq!(conduct(&at_once, "back-off"), Conduct::Broken);
}

#[test]
fn half_an_answer_that_ended_in_order_and_was_not_asked_again_was_taken_for_whole() {
    let taken = [good(0, "a"), cut(100, "b", Ended::Whole)];
    let again = [good(0, "a"), cut(100, "b", Ended::Whole), good(700, "b")];
    let reset = [good(0, "a"), cut(100, "b", Ended::Reset)];
    assert_eq!(conduct(&taken, "truncated-stream"), Conduct::Broken);
    assert_eq!(conduct(&again, "truncated-stream"), Conduct::Held);
    assert_eq!(conduct(&reset, "truncated-stream"), Conduct::Inconclusive);
}

#[test]
fn whoever_waits_for_a_minute_has_no_time_out() {
    let hung = |seconds: u64, ended| {
        let one = Exchange {
            status: None,
            first_byte_ns: None,
            ended_ns: seconds * 1000 * MS,
            ended: Some(ended),
            ..asked(100, "b", 0)
        };
        [good(0, "a"), hit(one, "http-hang")]
    };
    assert_eq!(
        conduct(&hung(2, Ended::Left), "read-time-out"),
        Conduct::Held
    );
    assert_eq!(
        conduct(&hung(61, Ended::Left), "read-time-out"),
        Conduct::Broken
    );
    assert_eq!(
        conduct(&hung(61, Ended::Cut), "read-time-out"),
        Conduct::Broken
    );
    assert_eq!(
        conduct(&hung(5, Ended::Cut), "read-time-out"),
        Conduct::Inconclusive
    );
}

#[test]
fn a_fallback_asks_another_model() {
    let other = |at| Exchange {
        model: Some("other".into()),
        ..good(at, "c")
    };
    let saved = [good(0, "a"), refused(100, "b", 503, None), other(200)];
    let elsewhere = [other(0), good(1, "a"), refused(100, "b", 503, None)];
    assert_eq!(conduct(&saved, "fallback"), Conduct::Held);
    assert_eq!(conduct(&elsewhere, "fallback"), Conduct::Broken);
    assert_eq!(
        conduct(&[good(0, "a"), refused(100, "b", 503, None)], "fallback"),
        Conduct::Inconclusive
    );
}

#[test]
fn what_had_begun_is_repeated_under_the_same_key_only() {
    let bare = [good(0, "a"), cut(100, "b", Ended::Reset), good(700, "b")];
    let keyed = bare.clone().map(|one| Exchange {
        idempotency: Some("k".into()),
        ..one
    });
    assert_eq!(conduct(&bare, "repeated-after-commit"), Conduct::Broken);
    assert_eq!(conduct(&keyed, "repeated-after-commit"), Conduct::Held);
}

#[test]
fn attempts_that_were_paid_for_in_vain_are_counted() {
    let thrice = [
        good(0, "a"),
        cut(100, "b", Ended::Reset),
        cut(700, "b", Ended::Reset),
        good(1500, "b"),
    ];
    let once = [good(0, "a"), hit(good(100, "b"), "llm-token-delay")];
    assert_eq!(conduct(&thrice, "cost"), Conduct::Broken);
    assert_eq!(conduct(&once, "cost"), Conduct::Held);
}

#[test]
fn without_a_fault_or_a_baseline_nothing_is_said() {
    let calm = [good(0, "a"), good(100, "b")];
    assert!(
        judge(&calm, Known::default())
            .iter()
            .all(|one| one.conduct == Conduct::Inconclusive)
    );
    let sick = [
        asked(0, "a", 500),
        refused(100, "b", 429, Some(1000)),
        good(200, "b"),
    ];
    // Its own success counts as well: the service was well once, but only under a fault.
    let sick: Vec<Exchange> = sick
        .into_iter()
        .map(|one| {
            if one.status == Some(200) {
                hit(one, "http-delay")
            } else {
                one
            }
        })
        .collect();
    let found = judge(&sick, Known::default());
    assert!(
        found.iter().all(|one| one.conduct == Conduct::Inconclusive),
        "{found:?}"
    );
}

#[test]
fn lost_records_leave_open_what_was_kept() {
    let kept = [
        good(0, "a"),
        refused(100, "b", 429, Some(1000)),
        good(1110, "b"),
    ];
    let known = Known {
        lost: 3,
        ..Known::default()
    };
    let found = judge(&kept, known);
    assert!(
        found.iter().all(|one| one.conduct == Conduct::Inconclusive),
        "{found:?}"
    );
}

#[test]
fn users_are_told_apart_by_what_they_met() {
    let all = [
        good(0, "a"),
        good(50, "a"),
        refused(100, "b", 503, None),
        good(600, "b"),
        cut(900, "c", Ended::Reset),
    ];
    let seen = users(&all, 0).seen;
    assert_eq!(
        seen.iter().map(|it| it.under.as_str()).collect::<Vec<_>>(),
        [users::NONE, "http-status", "llm-cut"]
    );
    assert_eq!(seen[0].failed, Share { of: 0, all: 2 });
    assert_eq!(
        (seen[1].failed, seen[1].retries),
        (Share { of: 0, all: 1 }, 1)
    );
    assert_eq!(
        seen[1].first_token_p50_ns,
        Some(502 * MS),
        "from the first attempt on"
    );
    assert_eq!(
        (seen[2].failed, seen[2].cut_off),
        (Share { of: 1, all: 1 }, 1)
    );
}

/// A client that does everything right, against a service that does anything.
fn well_behaved(fates: &[(u8, u16)]) -> Vec<Exchange> {
    let mut all = vec![good(0, "baseline")];
    let mut now = 1000;
    for (index, (fate, wait)) in fates.iter().enumerate() {
        let question = format!("q{index}");
        now += 1000;
        match fate % 4 {
            0 => all.push(hit(good(now, &question), "llm-token-delay")),
            1 => {
                all.push(refused(now, &question, 429, Some(u64::from(*wait))));
                now += 10 + u64::from(*wait) + 1;
                all.push(good(now, &question));
            }
            2 => all.push(refused(now, &question, 400, None)),
            _ => {
                all.push(refused(now, &question, 503, None));
                now += 510;
                all.push(good(now, &question));
            }
        }
        now += 10;
    }
    all
}

proptest! {
    #[test]
    fn nobody_is_blamed_for_what_was_injected(fates in proptest::collection::vec((any::<u8>(), 50u16..5000), 0..20)) {
        for found in judge(&well_behaved(&fates), Known::default()) {
            prop_assert_ne!(found.conduct, Conduct::Broken, "{:?}", found);
        }
    }

    #[test]
    fn the_order_of_records_changes_nothing(fates in proptest::collection::vec((any::<u8>(), 50u16..5000), 1..12), turn in any::<u64>()) {
        let sorted = well_behaved(&fates);
        let mut mixed = sorted.clone();
        mixed.sort_by_key(|one| one.asked_ns.wrapping_mul(turn | 1));
        prop_assert_eq!(judge(&sorted, Known::default()), judge(&mixed, Known::default()));
        prop_assert_eq!(users(&sorted, 0), users(&mixed, 0));
    }

    #[test]
    fn every_exchange_is_an_attempt_of_one_call(fates in proptest::collection::vec((any::<u8>(), 50u16..5000), 0..20)) {
        let all = well_behaved(&fates);
        let attempts: usize = calls(&all).iter().map(|call| call.attempts.len()).sum();
        prop_assert_eq!(attempts, all.len());
    }
}
