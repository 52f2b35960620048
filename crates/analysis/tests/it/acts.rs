//! Squall's own acts: what landed where, what is gone, and which word wins.

use crate::runs::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::expect::Judgement;
use squall_analysis::landing::{Gone, Landed};
use squall_model::event::{Body, Place, Precision, Presence};
use squall_model::exit::Exit;

#[test]
fn a_change_that_is_found_after_its_undo_is_not_gone() {
    let with = |presences: &[Presence]| {
        let mut run = paused(Undo::Works);
        for event in &mut run.events {
            if let Body::Undone { observations, .. } = &mut event.body {
                *observations = presences.iter().map(|it| seen(*it, "read")).collect();
            }
        }
        let report = conclude(&run);
        (report.injections[0].gone, report.verdict.exit)
    };
    assert_eq!(with(&[Presence::Absent]), (Gone::Gone, Exit::Held));
    assert_eq!(
        with(&[Presence::Superseded]),
        (Gone::Superseded, Exit::Held)
    );
    assert_eq!(with(&[]), (Gone::Unknown, Exit::Inconclusive));
    assert_eq!(
        with(&[Presence::Absent, Presence::Unknown]),
        (Gone::Unknown, Exit::Inconclusive)
    );
    assert_eq!(
        with(&[Presence::Absent, Presence::Present]),
        (Gone::StillPresent, Exit::NotRolledBack)
    );
}

fn landing(change: impl Fn(&mut Place, &mut Precision)) -> (Landed, Exit) {
    let mut run = held();
    for event in &mut run.events {
        if let Body::Landed {
            place, precision, ..
        } = &mut event.body
        {
            change(place, precision);
        }
    }
    let report = conclude(&run);
    (report.injections[0].landed, report.verdict.exit)
}

#[test]
fn an_injection_that_misses_its_aim_makes_the_run_inconclusive() {
    assert_eq!(landing(|_, _| {}), (Landed::OnAim, Exit::Held));
    assert_eq!(
        landing(|place, _| place.rank = Some(0)),
        (Landed::Missed, Exit::Inconclusive)
    );
    assert_eq!(
        landing(|place, _| place.epoch = place.epoch.map(|n| n + 1)),
        (Landed::Missed, Exit::Inconclusive)
    );
    assert_eq!(
        landing(|place, _| place.epoch = None),
        (Landed::Missed, Exit::Inconclusive)
    );
    // Without a hold the next epoch may have begun; two epochs on, another question was asked.
    let later = |by: u64| {
        move |place: &mut Place, precision: &mut Precision| {
            (place.epoch, *precision) = (place.epoch.map(|n| n + by), Precision::Observed);
        }
    };
    assert_eq!(landing(later(1)), (Landed::Near, Exit::Held));
    assert_eq!(landing(later(2)), (Landed::Missed, Exit::Inconclusive));
}

#[test]
fn without_a_hold_what_has_ended_is_met_by_whatever_comes_next() {
    let mut run = held();
    for event in &mut run.events {
        match &mut event.body {
            Body::InjectionBegun { aim, .. } => {
                (aim.step, aim.phase) = (None, Some("epoch-end".into()));
            }
            Body::Landed {
                place, precision, ..
            } => {
                (place.phase, *precision) = (Some("step-end".into()), Precision::Observed);
            }
            _ => {}
        }
    }
    let report = conclude(&run);
    assert_eq!(
        (report.injections[0].landed, report.verdict.exit),
        (Landed::Near, Exit::Held)
    );
}

#[test]
fn a_landing_that_no_reading_saw_is_not_proven() {
    let mut run = held();
    for event in &mut run.events {
        if let Body::Landed { observations, .. } = &mut event.body {
            observations.clear();
        }
    }
    let report = conclude(&run);
    assert!(
        report
            .injections
            .iter()
            .all(|it| it.landed == Landed::NotProven)
    );
    assert_eq!(report.verdict.exit, Exit::Inconclusive);
}

#[test]
fn the_rollback_outranks_everything_and_a_bug_everything_else() {
    let mut run = paused(Undo::Sticks);
    let last = run.events.len() - 1;
    run.events[last].body = Body::RunEnded {
        exit: Exit::Bug,
        by: "controller".into(),
    };
    assert_eq!(conclude(&run).verdict.exit, Exit::NotRolledBack);
    let mut run = buggy(Bug::Optimizer);
    let last = run.events.len() - 1;
    run.events[last].body = Body::RunEnded {
        exit: Exit::Bug,
        by: "controller".into(),
    };
    let verdict = conclude(&run).verdict;
    assert_eq!(verdict.exit, Exit::Bug);
    assert_eq!(verdict.experiment, Some(Judgement::Deviated));
}
