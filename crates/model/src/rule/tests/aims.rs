//! Which occasions each kind of aim has: the first, the next, the missed and the last one.

use super::*;

pub(super) fn at(moment: Moment) -> StepKeys {
    StepKeys {
        at: Some(moment),
        ..StepKeys::default()
    }
}

pub(super) fn every(every: Every) -> StepKeys {
    StepKeys {
        every: Some(every),
        ..StepKeys::default()
    }
}

pub(super) fn every_steps(n: u64) -> StepKeys {
    every(Every {
        steps: Some(n),
        ..Every::default()
    })
}

pub(super) fn step_end(step: u64) -> TrainingEvent {
    TrainingEvent {
        kind: "step-end".into(),
        step: Some(step),
        ..TrainingEvent::default()
    }
}

fn phase_begin(phase: &str, step: u64) -> TrainingEvent {
    TrainingEvent {
        kind: "phase-begin".into(),
        phase: Some(phase.into()),
        step: Some(step),
        ..TrainingEvent::default()
    }
}

/// The steps at which it fires when these steps end one after the other.
pub(super) fn steps_fired(trigger: &mut Trigger, steps: impl IntoIterator<Item = u64>) -> Vec<u64> {
    steps
        .into_iter()
        .flat_map(|step| fires(&trigger.training(Some(1), &step_end(step), step)))
        .filter_map(|place| place.step)
        .collect()
}

pub(super) fn because(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Skip { because, .. } | Outcome::Done { because } => because,
        Outcome::Fire(_) => panic!("it fired"),
    }
}

#[test]
fn keys_that_contradict_each_other_or_count_from_zero_are_refused_with_words() {
    let span = Some(Span(Duration::from_secs(1)));
    let mut two = every_steps(2);
    two.mean_time_between = span;
    let cases = [
        (two, "only one of"),
        (every_steps(0), "counts from 1"),
        (every_epochs(0), "counts from 1"),
        (every(Every::default()), "exactly one of"),
        (
            every(Every {
                steps: Some(1),
                time: span,
                ..Every::default()
            }),
            "exactly one of",
        ),
        (
            at(Moment {
                step: Some(0),
                ..Moment::default()
            }),
            "count from 1",
        ),
        (
            at(Moment {
                epoch: Some(0),
                ..Moment::default()
            }),
            "count from 1",
        ),
        (
            at(Moment {
                time: span,
                step: Some(1),
                ..Moment::default()
            }),
            "takes one of",
        ),
        (
            at(Moment {
                log: Some("(".into()),
                ..Moment::default()
            }),
            "pattern cannot be read",
        ),
    ];
    for (keys, words) in cases {
        let error = Trigger::new(7, RULE, &keys, None, None).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    // From 1 is fine.
    for keys in [every_steps(1), every_epochs(1)] {
        assert!(Trigger::new(7, RULE, &keys, None, None).is_ok());
    }
}

#[test]
fn a_step_fires_when_it_has_ended_and_only_then() {
    let mut trigger = trigger(
        &at(Moment {
            step: Some(3),
            ..Moment::default()
        }),
        None,
    );
    let place = Place {
        step: Some(3),
        phase: Some("step-end".into()),
        rank: Some(1),
        ..Place::default()
    };
    assert_eq!(trigger.next_place(), Some(place));
    assert_eq!(trigger.phase(), None);
    assert!(trigger.training(Some(1), &epoch_end(3), 0).is_empty());
    assert!(
        trigger
            .training(Some(1), &phase_begin("step-end", 2), 0)
            .is_empty()
    );
    assert_eq!(steps_fired(&mut trigger, 1..6), [3]);
    assert!(trigger.is_done());
    assert_eq!(trigger.next_place(), None);
}

#[test]
fn repeated_steps_fire_at_each_multiple_and_after_a_gap_at_the_newest() {
    let mut regular = trigger(&every_steps(5), None);
    assert_eq!(steps_fired(&mut regular, 1..=16), [5, 10, 15]);
    // Events of steps 6 to 22 were lost: aims 10 and 15 are passed over for 20, and the next one is 25.
    let mut gap = trigger(&every_steps(5), None);
    let steps = [4, 5, 23, 24, 25, 26];
    assert_eq!(steps_fired(&mut gap, steps), [5, 20, 25]);
    assert_eq!(gap.next_place().and_then(|place| place.step), Some(30));
}

#[test]
fn a_step_reached_late_aims_at_the_next_multiple_that_is_still_ahead() {
    for (done, first) in [(0, 5), (4, 5), (5, 10), (9, 10), (10, 15)] {
        let mut trigger = Trigger::new(7, RULE, &every_steps(5), Some(1), None).unwrap();
        trigger.set_high_water(done, 99);
        assert!(trigger.start(0).is_empty());
        let next = trigger.next_place().and_then(|place| place.step);
        assert_eq!(next, Some(first), "after {done} steps");
    }
    // The same by epochs, and the last epoch is none to aim at.
    for (done, first) in [(0, Some(10)), (19, Some(20)), (20, Some(30)), (30, None)] {
        let mut trigger = Trigger::new(7, RULE, &every_epochs(10), Some(1), Some(40)).unwrap();
        trigger.set_high_water(9999, done);
        let outcomes = trigger.start(0);
        let next = trigger.next_place().and_then(|place| place.epoch);
        assert_eq!(next, first, "after {done} epochs");
        assert_eq!(trigger.is_done(), first.is_none());
        if first.is_none() {
            assert!(because(&outcomes[0]).contains("was left"));
        }
    }
}

#[test]
fn a_single_step_is_ahead_until_it_is_completed() {
    for (done, ahead) in [(2, true), (3, false), (4, false)] {
        let keys = at(Moment {
            step: Some(3),
            ..Moment::default()
        });
        let mut trigger = Trigger::new(7, RULE, &keys, Some(1), None).unwrap();
        trigger.set_high_water(done, 0);
        trigger.start(0);
        assert_eq!(trigger.is_done(), !ahead, "after {done} steps");
    }
}

#[test]
fn what_was_completed_before_counts_also_when_it_was_heard_before_the_start() {
    let mut trigger = Trigger::new(7, RULE, &every_steps(5), Some(1), None).unwrap();
    assert!(steps_fired(&mut trigger, [5, 6, 4]).is_empty());
    trigger.start(0);
    assert_eq!(steps_fired(&mut trigger, [5, 7, 10]), [10]);
}

#[test]
fn a_repeated_step_goes_on_until_times_and_says_why_it_ends() {
    let mut keys = every_steps(1);
    keys.times = Some(2);
    let mut trigger = trigger(&keys, None);
    assert_eq!(fires(&trigger.training(Some(1), &step_end(1), 0)).len(), 1);
    let outcomes = trigger.training(Some(1), &step_end(2), 0);
    assert!(matches!(
        outcomes[0],
        Outcome::Fire(Occasion { count: 1, .. })
    ));
    assert!(because(&outcomes[1]).contains("as often as `times` allows"));
    assert!(steps_fired(&mut trigger, 3..6).is_empty());
}

#[test]
fn the_last_occasion_ends_the_rule_unless_it_may_be_replayed() {
    for replay in [false, true] {
        let mut keys = every_epochs(10);
        keys.on_replay = Some(replay);
        let mut trigger = trigger(&keys, Some(20));
        let outcomes = trigger.training(Some(1), &epoch_end(10), 0);
        assert_eq!(fires(&outcomes).len(), 1);
        assert_eq!(trigger.is_done(), !replay);
        if !replay {
            assert!(because(&outcomes[1]).contains("last occasion has passed"));
        }
        let again = fires(&trigger.training(Some(1), &epoch_end(10), 1));
        assert_eq!(again.len(), usize::from(replay));
        // The last epoch is no aim, replayed or not.
        assert!(fires(&trigger.training(Some(1), &epoch_end(20), 2)).is_empty());
    }
}

#[test]
fn a_single_aim_on_replay_is_taken_where_it_is_and_nowhere_else() {
    let mut keys = at(Moment {
        step: Some(3),
        ..Moment::default()
    });
    keys.on_replay = Some(true);
    keys.probability = Some(Percent(100.0));
    let mut trigger = trigger(&keys, None);
    assert_eq!(steps_fired(&mut trigger, [1, 2, 3, 4, 3]), [3]);
}

#[test]
fn a_phase_of_a_step_and_a_phase_alone_fire_where_they_begin() {
    let mut step = trigger(
        &every(Every {
            steps: Some(2),
            phase: Some("forward".into()),
            ..Every::default()
        }),
        None,
    );
    assert_eq!(step.phase(), Some("forward"));
    assert!(
        step.training(Some(1), &phase_begin("backward", 2), 0)
            .is_empty()
    );
    assert!(
        step.training(Some(1), &phase_begin("forward", 1), 0)
            .is_empty()
    );
    assert_eq!(
        fires(&step.training(Some(1), &phase_begin("forward", 2), 0))[0].step,
        Some(2)
    );
    // Some phases are events of their own kind.
    let keys = at(Moment {
        phase: Some("checkpoint-begin".into()),
        ..Moment::default()
    });
    let mut alone = trigger(&keys, None);
    assert_eq!(alone.phase(), Some("checkpoint-begin"));
    assert!(
        alone
            .training(Some(1), &phase_begin("forward", 2), 0)
            .is_empty()
    );
    let holds = alone.holds(&|_| vec!["checkpoint-begin".into()]);
    assert_eq!(
        (holds[0].id.as_str(), holds[0].step, holds[0].epoch),
        ("r0-p0", None, None)
    );
    alone.holds(&|_| vec![]);
    let event = TrainingEvent {
        kind: "checkpoint-begin".into(),
        ..TrainingEvent::default()
    };
    let outcomes = alone.training(Some(1), &event, 0);
    assert_eq!(
        fires(&outcomes)[0].phase.as_deref(),
        Some("checkpoint-begin")
    );
    assert!(because(&outcomes[1]).contains("it acts once"));
}

#[test]
fn holds_are_named_after_rule_unit_and_number() {
    let mut steps = trigger(&every_steps(5), None);
    let offered = |_| vec!["step-end".to_owned(), "epoch-end".to_owned()];
    let hold = steps.holds(&offered).remove(0);
    assert_eq!(hold.id, "r0-s5");
    assert_eq!((hold.step, hold.epoch), (Some(5), None));
    assert_eq!(hold.phase, "step-end");
    let mut epochs = trigger(&every_epochs(5), None);
    assert_eq!(epochs.holds(&offered)[0].id, "r0-e5");
    // Nothing to hold before the start, after the end, or for a moment in time.
    let mut unstarted = Trigger::new(7, RULE, &every_steps(5), None, None).unwrap();
    assert!(unstarted.holds(&offered).is_empty());
    let keys = at(Moment {
        time: Some(Span(Duration::from_secs(1))),
        ..Moment::default()
    });
    let mut timed = trigger(&keys, None);
    assert!(timed.holds(&offered).is_empty());
    assert_eq!(timed.next_place(), None);
}

#[test]
fn a_hold_of_another_rank_or_another_aim_is_let_go_and_the_right_one_still_counts() {
    let mut trigger = trigger(&every_steps(5), None);
    let offered = |_| vec!["step-end".to_owned()];
    let id = trigger.holds(&offered).remove(0).id;
    assert!(trigger.training(Some(1), &step_end(5), 5).is_empty());
    let reached = |id: &str| HoldReached {
        id: id.into(),
        step: Some(5),
        epoch: None,
        phase: "step-end".into(),
    };
    for (rank, id) in [(Some(0), id.as_str()), (Some(1), "r0-s4")] {
        let outcomes = trigger.held(rank, &reached(id));
        assert!(because(&outcomes[0]).contains("no longer wanted"));
        assert!(matches!(&outcomes[0], Outcome::Skip { hold: Some(_), .. }));
    }
    let outcomes = trigger.held(Some(1), &reached(&id));
    assert_eq!(fires(&outcomes)[0].step, Some(5));
}

#[test]
fn an_aim_whose_hold_never_comes_is_taken_when_training_goes_on() {
    let mut waiting = trigger(&every_steps(5), None);
    let offered = |_| vec!["step-end".to_owned()];
    waiting.holds(&offered);
    assert!(waiting.training(Some(1), &step_end(5), 0).is_empty());
    // The same step again is no sign of it, until the grace is over.
    assert!(
        waiting
            .training(Some(1), &step_end(5), HOLD_GRACE_NS - 1)
            .is_empty()
    );
    let mut late = waiting.clone();
    let fired = fires(&late.training(Some(1), &step_end(5), HOLD_GRACE_NS));
    assert_eq!(fired[0].step, Some(5));
    let mut next = TrainingEvent {
        epoch: Some(9),
        ..step_end(6)
    };
    let fired = fires(&waiting.clone().training(Some(1), &next, 1));
    assert_eq!(fired[0].step, Some(5));
    // Events of a hook that does not know epochs tell by the step.
    next.epoch = None;
    assert_eq!(waiting.next_deadline_ns(), Some(HOLD_GRACE_NS));
}

#[test]
fn epochs_that_ended_before_the_step_was_reached_are_behind_it() {
    let epoch = |epoch| Moment {
        epoch: Some(epoch),
        ..Moment::default()
    };
    let mut trigger = Trigger::new(7, RULE, &at(epoch(3)), Some(1), None).unwrap();
    trigger.training(Some(1), &epoch_end(3), 0);
    let outcomes = trigger.start(1);
    assert!(
        matches!(outcomes[..], [Outcome::Skip { .. }, Outcome::Done { .. }]),
        "{outcomes:?}"
    );
}

#[test]
fn what_comes_before_the_first_epoch_is_no_multiple_even_on_replay() {
    let mut keys = every_epochs(2);
    keys.on_replay = Some(true);
    let mut trigger = trigger(&keys, None);
    assert!(trigger.training(Some(1), &epoch_end(0), 0).is_empty());
    assert_eq!(fires(&trigger.training(Some(1), &epoch_end(2), 0)).len(), 1);
}

#[test]
fn a_step_inside_the_aimed_epoch_does_not_give_up_its_hold() {
    let mut trigger = trigger(&every_epochs(10), None);
    trigger.holds(&|_| vec!["epoch-end".into()]);
    assert!(trigger.training(Some(1), &epoch_end(10), 5).is_empty());
    let mut step = step_end(160);
    step.epoch = Some(10);
    assert!(trigger.training(Some(1), &step, 6).is_empty());
    step.epoch = Some(11);
    step.step = Some(161);
    assert_eq!(fires(&trigger.training(Some(1), &step, 7)).len(), 1);
}

#[test]
fn an_aim_that_has_passed_says_which_by_how_much_and_what_to_do() {
    let passed = |keys: StepKeys, last_epoch, step, epoch| {
        let mut trigger = Trigger::new(7, RULE, &keys, None, last_epoch).unwrap();
        trigger.set_high_water(step, epoch);
        match trigger.start(0).as_slice() {
            [Outcome::Skip { .. }, Outcome::Done { because }] => because.clone(),
            other => panic!("{other:?}"),
        }
    };
    let at_step = StepKeys {
        at: Some(Moment {
            step: Some(25),
            ..Moment::default()
        }),
        ..StepKeys::default()
    };
    assert_eq!(
        passed(at_step, None, 33, 0),
        "its aim (after step 25) had passed when the method reached it: step 33 was completed; aim later, or set a shorter `baseline:` (3s unless said)"
    );
    assert_eq!(
        passed(every_epochs(4), Some(8), 0, 5),
        "none of its aims (after every 4 epochs, not after the last) was left when the method reached it: epoch 5 was completed; let the job train longer, or aim more often"
    );
}

#[test]
fn what_the_end_of_the_job_took_from_an_aim_is_told_only_where_nothing_was_injected() {
    let mut trigger = trigger(&every_epochs(2), None);
    assert_eq!(
        trigger.left_over(),
        ", before any of its aims (after every 2 epochs, not after the last) was taken"
    );
    assert_eq!(fires(&trigger.training(Some(1), &epoch_end(2), 0)).len(), 1);
    assert_eq!(trigger.left_over(), "");
}
