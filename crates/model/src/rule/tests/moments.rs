//! Occasions that are moments: of the clock, of chance, of a line, of another injection's end.

use super::aims::{at, because, every, every_steps, step_end, steps_fired};
use super::*;

#[test]
fn a_moment_in_time_comes_once_and_a_period_again_and_again_without_a_burst() {
    let nanos = |nanos| Some(Span(Duration::from_nanos(nanos)));
    let mut once = Trigger::new(
        7,
        RULE,
        &at(Moment {
            time: nanos(50),
            ..Moment::default()
        }),
        None,
        None,
    )
    .unwrap();
    assert!(once.tick(500).is_empty(), "it has not started");
    once.start(100);
    assert_eq!(once.next_deadline_ns(), Some(150));
    assert!(once.tick(149).is_empty());
    let outcomes = once.tick(150);
    assert_eq!(fires(&outcomes), [Place::default()]);
    assert!(matches!(outcomes[1], Outcome::Done { .. }));
    assert_eq!(once.next_deadline_ns(), None);
    assert!(once.tick(999).is_empty());

    let keys = every(Every {
        time: nanos(10),
        ..Every::default()
    });
    let mut again = Trigger::new(7, RULE, &keys, None, None).unwrap();
    again.start(100);
    for due in [110, 120, 130] {
        assert_eq!(again.next_deadline_ns(), Some(due));
        assert!(again.tick(due - 1).is_empty());
        assert_eq!(fires(&again.tick(due)).len(), 1);
    }
    // Stopped from 131 to 175: one occasion, and then in step again.
    assert_eq!(fires(&again.tick(175)).len(), 1);
    assert!(again.tick(176).is_empty());
    assert_eq!(again.next_deadline_ns(), Some(180));
    assert_eq!(again.aim_text(), crate::plan::aim(&keys));
    assert!(!again.aim_text().is_empty());
}

#[test]
fn an_occasion_without_a_place_happens_at_once_or_not_at_all() {
    let mut now = Trigger::new(7, RULE, &StepKeys::default(), None, None).unwrap();
    assert!(now.line("x").is_empty());
    assert_eq!(fires(&now.start(5)).len(), 1);
    assert!(now.is_done());

    let mut keys = StepKeys {
        probability: Some(Percent(0.0)),
        ..StepKeys::default()
    };
    let mut never = Trigger::new(7, RULE, &keys, None, None).unwrap();
    let outcomes = never.start(5);
    assert!(because(&outcomes[0]).contains("probability"));
    assert!(because(&outcomes[1]).contains("only occasion was not taken"));
    assert!(never.is_done());

    keys.probability = Some(Percent(100.0));
    let mut always = Trigger::new(7, RULE, &keys, None, None).unwrap();
    assert_eq!(fires(&always.start(5)).len(), 1);
}

#[test]
fn a_chance_takes_about_its_share_of_the_occasions() {
    let mut keys = every_steps(1);
    keys.probability = Some(Percent(25.0));
    let mut trigger = trigger(&keys, None);
    let taken = steps_fired(&mut trigger, 1..=2000).len();
    // 500 ± 5 standard errors of 19.4.
    assert!((403..598).contains(&taken), "{taken} of 2000");
}

#[test]
fn an_end_before_the_start_or_after_the_end_starts_no_clock() {
    let keys = StepKeys {
        after: Some(After {
            injection: "first".into(),
            plus: None,
        }),
        ..StepKeys::default()
    };
    let mut trigger = Trigger::new(7, RULE, &keys, None, None).unwrap();
    assert!(trigger.ended("first", 10).is_empty());
    trigger.start(20);
    assert!(trigger.tick(30).is_empty());
    assert_eq!(fires(&trigger.ended("first", 40)).len(), 1);
    assert!(trigger.ended("first", 50).is_empty());
}

#[test]
fn a_line_before_the_start_is_not_heard_and_each_rule_of_a_job_hears_events_without_a_rank() {
    let keys = at(Moment {
        log: Some("saved".into()),
        ..Moment::default()
    });
    let mut line = Trigger::new(7, RULE, &keys, None, None).unwrap();
    assert!(line.line("saved").is_empty());
    line.start(0);
    assert_eq!(fires(&line.line("saved")).len(), 1);

    let mut ranked = trigger(&every_steps(1), None);
    assert_eq!(fires(&ranked.training(None, &step_end(1), 0)).len(), 1);
    let mut any = Trigger::new(7, RULE, &every_steps(1), None, None).unwrap();
    any.start(0);
    assert_eq!(fires(&any.training(Some(3), &step_end(1), 0)).len(), 1);
}
