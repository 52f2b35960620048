//! Which events may follow which: the whole table, spelled out a second time.

use super::*;
use InjectionState::{Begun, Landed, NotLanded, Stuck, Undoing, Undone};

const STATES: [InjectionState; 6] = [Begun, Landed, NotLanded, Undoing, Undone, Stuck];

fn id() -> InjectionId {
    InjectionId("aaaaaaaa".into())
}

fn started() -> Body {
    Body::RunStarted {
        version: VERSION,
        run: RunId("r".into()),
        title: "t".into(),
        seed: 1,
        started_utc: "2026-01-01T00:00:00Z".into(),
        boot_ns: 0,
        boot_id: "b".into(),
        squall: "0".into(),
        experiment: "e".into(),
        host: BTreeMap::new(),
    }
}

fn begun(class: Class) -> Body {
    Body::InjectionBegun {
        injection: id(),
        rule: RuleId(3),
        kind: "process-kill".into(),
        class,
        target: "process 1".into(),
        process: None,
        aim: Place::default(),
        mechanism: "SIGKILL by pidfd".into(),
    }
}

/// The event that moves the injection to this state.
fn to(state: InjectionState) -> Body {
    let injection = id();
    let (by, because) = ("agent".to_owned(), "end".to_owned());
    let observations = Vec::new();
    match state {
        Begun => begun(Class::Lasting),
        Landed => Body::Landed {
            injection,
            place: Place::default(),
            precision: Precision::NotAimed,
            held_ns: None,
            observations,
        },
        NotLanded => Body::NotLanded {
            injection,
            because,
            observations,
        },
        Undoing => Body::UndoBegun {
            injection,
            because,
            by,
        },
        Undone => Body::Undone {
            injection,
            by,
            observations,
        },
        Stuck => Body::Stuck {
            injection,
            by,
            because,
            remedy: "type".into(),
        },
    }
}

fn ended(exit: Exit) -> Body {
    Body::RunEnded {
        exit,
        by: "controller".into(),
    }
}

fn next(state: &RunState, body: Body) -> Result<RunState, String> {
    let event = Event {
        seq: state.seq + 1,
        t_ns: 0,
        body,
    };
    state.clone().apply(&event).map_err(|error| error.because)
}

/// A run in which the injection has come to this state by the shortest way.
fn at(class: Class, state: InjectionState) -> RunState {
    let way: &[InjectionState] = match state {
        Begun => &[],
        Landed => &[Landed],
        NotLanded => &[NotLanded],
        Undoing => &[Undoing],
        Undone => &[Undoing, Undone],
        Stuck => &[Undoing, Stuck],
    };
    let run = next(&RunState::default(), started()).unwrap();
    let run = next(&run, begun(class)).unwrap();
    way.iter()
        .fold(run, |run, step| next(&run, to(*step)).unwrap())
}

#[test]
fn an_injection_makes_exactly_the_legal_moves() {
    let legal = [
        (Begun, Landed),
        (Begun, NotLanded),
        (Begun, Undoing),
        (Landed, Undoing),
        (NotLanded, Undoing),
        (Stuck, Undoing),
        // Agent and guard may both say that they begin.
        (Undoing, Undoing),
        (Undoing, Undone),
        (Undoing, Stuck),
    ];
    for from in STATES {
        let run = at(Class::Lasting, from);
        assert_eq!(run.injections[&id()].state, from);
        for wanted in STATES {
            match next(&run, to(wanted)) {
                Ok(moved) => {
                    assert!(legal.contains(&(from, wanted)), "{from:?} → {wanted:?}");
                    assert_eq!(moved.injections[&id()].state, wanted);
                    assert_eq!(moved.seq, run.seq + 1);
                }
                Err(because) => {
                    assert!(!legal.contains(&(from, wanted)), "{because}");
                    let words = if wanted == Begun {
                        "begun already"
                    } else {
                        "cannot go from"
                    };
                    assert!(because.contains(words), "{because}");
                }
            }
        }
    }
}

#[test]
fn an_injection_that_never_began_moves_nowhere() {
    let run = next(&RunState::default(), started()).unwrap();
    for state in STATES.into_iter().filter(|state| *state != Begun) {
        let because = next(&run, to(state)).unwrap_err();
        assert!(because.contains("never began"), "{because}");
    }
}

#[test]
fn a_log_is_numbered_without_gaps_begins_once_and_ends_once() {
    let empty = RunState::default();
    let note = || Body::Note { text: "n".into() };
    assert_eq!(next(&empty, note()).unwrap_err(), "the run has not started");
    let run = next(&empty, started()).unwrap();
    assert!(run.started);
    assert_eq!(
        next(&run, started()).unwrap_err(),
        "the run has started already"
    );
    for seq in [0, 1, 3] {
        let event = Event {
            seq,
            t_ns: 0,
            body: note(),
        };
        let error = run.clone().apply(&event).unwrap_err();
        assert_eq!(error.seq, seq);
        assert!(error.because.contains("does not follow"), "{error}");
    }
    let over = next(&run, ended(Exit::Held)).unwrap();
    assert_eq!(over.ended, Some(Exit::Held));
    assert_eq!(next(&over, note()).unwrap_err(), "the run has ended");
}

#[test]
fn time_is_that_of_the_latest_event_and_never_goes_back() {
    let mut run = RunState::default();
    for (seq, t_ns, latest) in [(1, 5, 5), (2, 9, 9), (3, 7, 9)] {
        let body = if seq == 1 {
            started()
        } else {
            Body::Note { text: "n".into() }
        };
        run = run.apply(&Event { seq, t_ns, body }).unwrap();
        assert_eq!((run.seq, run.t_ns), (seq, latest));
    }
}

#[test]
fn stages_only_go_forward() {
    let enter = |run: &RunState, stage| next(run, Body::StageEntered { stage });
    let run = next(&RunState::default(), started()).unwrap();
    let run = enter(&run, Stage::Plan).unwrap();
    let run = enter(&run, Stage::Method).unwrap();
    assert_eq!(run.stage, Some(Stage::Method));
    for stage in [Stage::Plan, Stage::Method] {
        assert_eq!(enter(&run, stage).unwrap_err(), "stages only go forward");
    }
    assert_eq!(enter(&run, Stage::Undo).unwrap().stage, Some(Stage::Undo));
}

#[test]
fn what_may_still_be_in_the_world_keeps_a_run_from_ending_as_if_it_were_not() {
    for class in [Class::Lasting, Class::Served, Class::OneShot] {
        for state in STATES {
            let run = at(class, state);
            // A kill has nothing to take back, once it is known whether it landed.
            let done =
                state == Undone || (class == Class::OneShot && matches!(state, Landed | NotLanded));
            let open: Vec<_> = run.outstanding().map(|one| one.id.clone()).collect();
            assert_eq!(open.is_empty(), done, "{class:?} {state:?}");
            let end = next(&run, ended(Exit::Held));
            assert_eq!(end.is_ok(), done, "{class:?} {state:?}");
            if let Err(because) = end {
                assert_eq!(open, [id()]);
                assert_eq!(because, "an injection is still outstanding");
            }
            let end = next(&run, ended(Exit::NotRolledBack)).unwrap();
            assert_eq!(end.ended, Some(Exit::NotRolledBack));
        }
    }
}
