//! What each phase of an injection allows, keeps room for and remembers.

use super::super::codec::FRAME_LEN;
use super::super::record::{ENDING_MAX, Entry, UNDOING_MAX};
use super::super::state::{Phase, State};
use super::{about, active, id, intent, observed, record, stuck, undoing, undone};
use squall_model::syntax::Class;

#[test]
fn each_phase_keeps_room_for_exactly_the_records_that_may_follow() {
    let ending = (ENDING_MAX + FRAME_LEN) as u64;
    let begin = (UNDOING_MAX + FRAME_LEN) as u64;
    let mut state = State::default();
    assert_eq!(state.reserved(), 0);
    let moves = [
        // Active, undoing, stuck, undoing, an end.
        (intent(0, 0), 3 * ending + 2 * begin),
        (intent(0, 1), 3 * ending + 2 * begin),
        (active(0), 2 * ending + 2 * begin),
        (undoing(0), 2 * ending + begin),
        (stuck(0, "x"), ending + begin),
        (undoing(0), 2 * ending + begin),
        (undone(0), 0),
    ];
    for (entry, room) in moves {
        state.apply(&record(state.seq() + 1, entry)).unwrap();
        assert_eq!(state.reserved(), room, "{:?}", state.get(&id(0)));
    }
    for number in [1, 2] {
        state
            .apply(&record(state.seq() + 1, intent(number, 0)))
            .unwrap();
    }
    assert_eq!(state.reserved(), 2 * (3 * ending + 2 * begin));
}

#[test]
fn every_phase_takes_exactly_the_records_that_may_follow() {
    let ways: [(Option<Phase>, &[Entry], [bool; 5]); 6] = [
        (None, &[], [true, false, false, false, false]),
        (
            Some(Phase::Intent),
            &[intent(0, 0)],
            [true, true, true, false, false],
        ),
        (
            Some(Phase::Active),
            &[intent(0, 0), active(0)],
            [false, false, true, false, false],
        ),
        (
            Some(Phase::Undoing),
            &[intent(0, 0), undoing(0)],
            [false, false, false, true, true],
        ),
        (
            Some(Phase::Undone),
            &[intent(0, 0), undoing(0), undone(0)],
            [false; 5],
        ),
        (
            Some(Phase::Stuck),
            &[intent(0, 0), undoing(0), stuck(0, "x")],
            [false, false, true, false, false],
        ),
    ];
    for (phase, way, legal) in ways {
        let mut state = State::default();
        for entry in way {
            state
                .apply(&record(state.seq() + 1, entry.clone()))
                .unwrap();
        }
        assert_eq!(state.get(&id(0)).map(|one| one.phase), phase);
        let next = [
            intent(0, 1),
            active(0),
            undoing(0),
            undone(0),
            stuck(0, "x"),
        ];
        for (entry, legal) in next.into_iter().zip(legal) {
            let applied = state.clone().apply(&record(state.seq() + 1, entry.clone()));
            assert_eq!(applied.is_ok(), legal, "{phase:?}: {applied:?}");
            if let Err(error) = applied {
                let words = if phase.is_none() {
                    "never began"
                } else {
                    "already"
                };
                assert!(error.to_string().contains(words), "{error}");
                assert_eq!(error.entry, entry.name());
            }
            for seq in [state.seq(), state.seq() + 2] {
                let error = state
                    .clone()
                    .apply(&record(seq, entry.clone()))
                    .unwrap_err();
                assert!(error.to_string().contains("does not follow"), "{error}");
            }
        }
    }
}

#[test]
fn what_the_records_say_about_an_injection_is_kept() {
    let mut state = State::default();
    let mut apply = |entry: Entry| {
        state.apply(&record(state.seq() + 1, entry)).unwrap();
        state.get(&id(0)).unwrap().clone()
    };
    apply(intent(0, 0));
    assert_eq!(apply(intent(0, 1)).last_intent, 2);
    let seen = observed("s".into(), "landed".into());
    let landed = apply(Entry::Active {
        injection: id(0),
        landing: None,
        observations: seen.clone(),
    });
    assert_eq!((landed.undos.len(), &landed.observations), (2, &seen));
    assert_eq!(apply(undoing(0)).observations, seen);
    let left = apply(stuck(0, "because"));
    assert_eq!(left.stuck, Some(("because".into(), "because".into())));
    assert_eq!(left.observations.len(), 4);
    apply(undoing(0));
    let gone = apply(undone(0));
    assert_eq!((gone.stuck, gone.observations.len()), (None, 0));
    assert_eq!(state.injections().count(), 1);
}

#[test]
fn a_one_shot_fault_is_outstanding_until_it_has_landed_and_a_lasting_one_after() {
    for (class, open) in [
        (Class::OneShot, false),
        (Class::Lasting, true),
        (Class::Served, true),
    ] {
        let mut entry = intent(0, 0);
        if let Entry::Intent { about: told, .. } = &mut entry {
            *told = about(class);
        }
        let mut state = State::default();
        state.apply(&record(1, entry)).unwrap();
        assert_eq!(state.outstanding().count(), 1, "{class:?}");
        state.apply(&record(2, active(0))).unwrap();
        assert_eq!(state.outstanding().count() == 1, open, "{class:?}");
    }
}

#[test]
fn newer_injections_are_outstanding_before_older_ones() {
    let mut state = State::default();
    // The injection of the greatest id is neither the first nor the last to change something.
    for (seq, number) in (1..).zip([1, 2, 0]) {
        state.apply(&record(seq, intent(number, 0))).unwrap();
    }
    let order: Vec<_> = state.outstanding().map(|one| one.id.clone()).collect();
    assert_eq!(order, [id(0), id(2), id(1)]);
}
