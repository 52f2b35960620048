mod aims;
mod moments;

use super::*;
use crate::timing::{After, Every, Moment};
use crate::units::{Percent, Span};
use proptest::prelude::*;
use std::time::Duration;

const RULE: RuleId = RuleId(0);

fn trigger(keys: &StepKeys, last_epoch: Option<u64>) -> Trigger {
    let mut trigger = Trigger::new(7, RULE, keys, Some(1), last_epoch).unwrap();
    trigger.start(0);
    trigger
}

fn every_epochs(n: u64) -> StepKeys {
    StepKeys {
        every: Some(Every {
            epochs: Some(n),
            ..Every::default()
        }),
        ..StepKeys::default()
    }
}

fn epoch_end(epoch: u64) -> TrainingEvent {
    TrainingEvent {
        kind: "epoch-end".into(),
        epoch: Some(epoch),
        step: Some(epoch * 16),
        ..TrainingEvent::default()
    }
}

fn fires(outcomes: &[Outcome]) -> Vec<Place> {
    outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Fire(occasion) => Some(occasion.aim.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_ten_epochs_fires_at_each_multiple_once_and_never_at_the_last_epoch() {
    let mut trigger = trigger(&every_epochs(10), Some(40));
    let mut fired = Vec::new();
    // Each kill sends training back by three epochs.
    let (mut epoch, mut turns) = (1, 0);
    while epoch <= 40 {
        turns += 1;
        assert!(turns < 100, "it fires at a replayed epoch again and again");
        let places = fires(&trigger.training(Some(1), &epoch_end(epoch), epoch));
        epoch = if places.is_empty() {
            epoch + 1
        } else {
            epoch - 2
        };
        fired.extend(places.into_iter().filter_map(|place| place.epoch));
    }
    assert_eq!(fired, [10, 20, 30]);
    assert!(trigger.is_done());
}

#[test]
fn a_replayed_epoch_fires_again_only_when_asked() {
    let mut keys = every_epochs(2);
    keys.on_replay = Some(true);
    let mut trigger = trigger(&keys, None);
    let fired: Vec<u64> = [1, 2, 1, 2, 3, 4]
        .into_iter()
        .flat_map(|epoch| fires(&trigger.training(Some(1), &epoch_end(epoch), 0)))
        .filter_map(|place| place.epoch)
        .collect();
    assert_eq!(fired, [2, 2, 4]);
}

#[test]
fn what_acts_on_request_never_acts_by_itself_and_is_never_over() {
    let keys = StepKeys {
        on_request: Some(true),
        ..StepKeys::default()
    };
    let mut trigger = trigger(&keys, None);
    for epoch in 1..50 {
        assert!(
            trigger
                .training(Some(1), &epoch_end(epoch), epoch)
                .is_empty()
        );
        assert!(trigger.tick(epoch * 1_000_000_000).is_empty());
        assert!(trigger.line("epoch").is_empty());
    }
    assert!(trigger.holds(&|_| vec!["epoch-end".into()]).is_empty());
    assert!(!trigger.is_done());
    let both = StepKeys {
        on_request: Some(true),
        ..every_epochs(2)
    };
    assert!(Trigger::new(7, RuleId(0), &both, None, None).is_err());
}

#[test]
fn events_of_other_ranks_do_not_count() {
    let mut trigger = trigger(&every_epochs(1), None);
    assert!(trigger.training(Some(0), &epoch_end(1), 0).is_empty());
    assert_eq!(fires(&trigger.training(Some(1), &epoch_end(1), 0)).len(), 1);
}

#[test]
fn an_armed_hold_takes_the_aim_and_the_event_before_it_does_not() {
    let mut trigger = trigger(&every_epochs(10), None);
    let holds = trigger.holds(&|_| vec!["epoch-end".into()]);
    assert_eq!(holds.len(), 1);
    assert_eq!((holds[0].epoch, holds[0].rank), (Some(10), Some(1)));
    assert!(trigger.training(Some(1), &epoch_end(10), 5).is_empty());
    let reached = HoldReached {
        id: holds[0].id.clone(),
        step: Some(160),
        epoch: Some(10),
        phase: "epoch-end".into(),
    };
    let outcomes = trigger.held(Some(1), &reached);
    assert!(matches!(&outcomes[0], Outcome::Fire(occasion) if occasion.hold.is_some()));
    // The same hold again (a replay) is let go.
    assert!(matches!(
        &trigger.held(Some(1), &reached)[0],
        Outcome::Skip { hold: Some(_), .. }
    ));
    assert_eq!(
        trigger.holds(&|_| vec!["epoch-end".into()])[0].epoch,
        Some(20)
    );
}

#[test]
fn a_hold_that_never_comes_is_given_up_after_a_grace_and_the_fault_lands_unheld() {
    let mut trigger = trigger(&every_epochs(10), None);
    trigger.holds(&|_| vec!["epoch-end".into()]);
    assert!(trigger.training(Some(1), &epoch_end(10), 5).is_empty());
    let deadline = trigger.next_deadline_ns().unwrap();
    assert!(trigger.tick(deadline - 1).is_empty());
    assert!(matches!(
        &trigger.tick(deadline)[0],
        Outcome::Fire(Occasion { hold: None, .. })
    ));
}

#[test]
fn a_phase_that_no_hook_offers_is_not_armed() {
    let keys = StepKeys {
        at: Some(Moment {
            step: Some(5),
            phase: Some("forward".into()),
            ..Moment::default()
        }),
        ..StepKeys::default()
    };
    let mut trigger = trigger(&keys, None);
    assert!(trigger.holds(&|_| vec!["step-end".into()]).is_empty());
    assert_eq!(trigger.phase(), Some("forward"));
    let begin = TrainingEvent {
        kind: "phase-begin".into(),
        phase: Some("forward".into()),
        step: Some(5),
        ..TrainingEvent::default()
    };
    let outcomes = trigger.training(Some(1), &begin, 0);
    assert_eq!(fires(&outcomes)[0].step, Some(5));
    assert!(matches!(outcomes[1], Outcome::Done { .. }));
}

#[test]
fn an_aim_that_had_passed_when_the_step_was_reached_is_skipped_with_words() {
    let keys = StepKeys {
        at: Some(Moment {
            epoch: Some(10),
            ..Moment::default()
        }),
        ..StepKeys::default()
    };
    let mut trigger = Trigger::new(7, RULE, &keys, None, None).unwrap();
    trigger.set_high_water(200, 12);
    let outcomes = trigger.start(0);
    assert!(matches!(
        outcomes[..],
        [Outcome::Skip { .. }, Outcome::Done { .. }]
    ));
}

#[test]
fn after_another_injection_waits_its_time_and_acts_once() {
    let keys = StepKeys {
        after: Some(After {
            injection: "first".into(),
            plus: Some(Span(Duration::from_nanos(50))),
        }),
        ..StepKeys::default()
    };
    let mut trigger = trigger(&keys, None);
    assert!(trigger.ended("other", 10).is_empty());
    assert!(trigger.ended("first", 10).is_empty());
    assert!(trigger.tick(59).is_empty());
    assert_eq!(fires(&trigger.tick(60)).len(), 1);
    assert!(trigger.is_done());
}

#[test]
fn a_line_fires_once() {
    let keys = StepKeys {
        at: Some(Moment {
            log: Some("saved .*pt".into()),
            ..Moment::default()
        }),
        ..StepKeys::default()
    };
    let mut trigger = trigger(&keys, None);
    assert!(trigger.line("loading").is_empty());
    assert_eq!(fires(&trigger.line("saved model.pt")).len(), 1);
    assert!(trigger.line("saved model.pt").is_empty());
}

#[test]
fn mean_time_between_has_the_mean_it_names_and_replays_from_the_seed() {
    let keys = StepKeys {
        mean_time_between: Some(Span(Duration::from_secs(10))),
        ..StepKeys::default()
    };
    let moments = |seed| {
        let mut trigger = Trigger::new(seed, RULE, &keys, None, None).unwrap();
        trigger.start(0);
        let mut moments = Vec::new();
        for _ in 0..2000 {
            let due = trigger.next_deadline_ns().unwrap();
            assert_eq!(fires(&trigger.tick(due)).len(), 1);
            moments.push(due);
        }
        moments
    };
    let first = moments(1);
    assert_eq!(first, moments(1));
    assert_ne!(first, moments(2));
    let mean = *first.last().unwrap() as f64 / first.len() as f64 / 1e9;
    // The mean of 2,000 exponential draws lies within 10 ± 1 (4.5 standard errors).
    assert!((9.0..11.0).contains(&mean), "mean {mean} s");
}

proptest! {
    #[test]
    fn every_aim_is_taken_at_most_once_whatever_the_order_of_events(
        n in 1u64..6, epochs in prop::collection::vec(1u64..40, 1..200), held in any::<bool>()
    ) {
        let mut trigger = trigger(&every_epochs(n), Some(40));
        let mut taken = Vec::new();
        for (now, epoch) in epochs.into_iter().enumerate() {
            if held { trigger.holds(&|_| vec!["epoch-end".into()]); }
            let now = now as u64 * 1_000_000_000;
            for outcome in trigger.training(Some(1), &epoch_end(epoch), now).into_iter().chain(trigger.tick(now + 500_000_000)) {
                if let Outcome::Fire(occasion) = outcome { taken.push(occasion.aim.epoch.unwrap()); }
            }
        }
        let mut unique = taken.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(&unique, &taken, "in order and without repeats");
        prop_assert!(taken.iter().all(|epoch| epoch % n == 0 && *epoch < 40));
    }

    #[test]
    fn probability_decides_by_unit_not_by_arrival(seed in any::<u64>(), percent in 0.0f64..100.0) {
        let mut keys = every_epochs(1);
        keys.probability = Some(Percent(percent));
        let run = |noise: u64| {
            let mut trigger = Trigger::new(seed, RULE, &keys, Some(1), None).unwrap();
            trigger.start(0);
            let mut taken = Vec::new();
            for epoch in 1..30 {
                for _ in 0..noise { trigger.training(Some(0), &epoch_end(epoch), 0); }
                taken.extend(fires(&trigger.training(Some(1), &epoch_end(epoch), 0)));
            }
            taken
        };
        prop_assert_eq!(run(0), run(3));
    }
}
