//! Single facts that must be right: numbers whose truth the simulated trainer knows, and exit codes.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::expect::Judgement;
use squall_analysis::recovery::Outcome;
use squall_analysis::report::MarkKind;
use squall_model::event::{Body, Event, Stage};
use squall_model::exit::Exit;
use squall_model::experiment::{AtLeast, Expect, LostSteps, StepCount};
use squall_model::units::{Percent, Span};
use std::time::Duration;

#[test]
fn every_kind_of_run_ends_with_its_exit_code() {
    for (run, exit) in [
        (held(), Exit::Held),
        (log_only(), Exit::Held),
        (paused(Undo::Works), Exit::Held),
        (during_recovery(), Exit::Held),
        (while_down(), Exit::Held),
        (buggy(Bug::Samples), Exit::Deviated),
        (buggy(Bug::Optimizer), Exit::Deviated),
        (given_up(), Exit::Deviated),
        (not_steady(), Exit::NotSteady),
        (aborted(), Exit::Aborted),
        (interrupted(), Exit::Interrupted),
        (not_landed(), Exit::Inconclusive),
        (late(), Exit::Inconclusive),
        (no_reference(), Exit::Inconclusive),
        (nothing_injected(), Exit::Inconclusive),
        (dropped(), Exit::Inconclusive),
        (paused(Undo::Sticks), Exit::NotRolledBack),
        (paused(Undo::Missing), Exit::NotRolledBack),
    ] {
        let verdict = conclude(&run).verdict;
        assert_eq!(
            (verdict.exit, verdict.code),
            (exit, exit.code()),
            "{verdict:#?}"
        );
    }
}

#[test]
fn a_kill_before_the_checkpoint_costs_one_epoch_and_its_times_are_those_of_the_trainer() {
    let report = conclude(&held());
    for it in &report.recoveries {
        assert_eq!(it.outcome, Outcome::CaughtUp);
        assert_eq!(it.lost, Some(STEPS_PER_EPOCH));
        assert_eq!(
            it.last_completed.unwrap() - it.resumed.unwrap(),
            STEPS_PER_EPOCH
        );
        let after = |what: &str| {
            it.marks
                .iter()
                .find(|mark| mark.what == what)
                .unwrap()
                .after_ns
                / MS
        };
        assert_eq!(after("detected"), 160);
        assert_eq!(after("torn-down"), 200);
        assert_eq!(after("started"), 500);
        assert_eq!(after("loaded"), 600);
        assert_eq!(after("back-to-work"), 720);
    }
}

#[test]
fn of_two_kills_before_catching_up_each_answers_for_its_own_loss() {
    let report = conclude(&during_recovery());
    let [first, second] = report.recoveries.as_slice() else {
        panic!()
    };
    assert_eq!(
        (first.lost, first.last_completed, first.restarts),
        (Some(4), Some(8), 2)
    );
    assert_eq!(
        (second.lost, second.last_completed, second.restarts),
        (Some(2), Some(6), 1)
    );
    assert_eq!(first.overlapped_by, std::slice::from_ref(&second.injection));
    assert!(second.overlapped_by.is_empty());
    assert!(first.caught_up_ns > second.caught_up_ns);
}

#[test]
fn a_kill_while_the_job_is_down_loses_nothing_more() {
    let report = conclude(&while_down());
    let [first, second] = report.recoveries.as_slice() else {
        panic!()
    };
    assert_eq!((first.lost, second.lost), (Some(4), Some(0)));
    assert!(second.notes[0].contains("fell into the recovery"));
}

#[test]
fn what_is_not_measured_is_never_zero() {
    let mut run = held();
    run.events
        .retain(|event| !matches!(event.body, Body::Training { .. }));
    let report = conclude(&run);
    for it in &report.recoveries {
        assert_eq!(it.outcome, Outcome::NotMeasured);
        assert_eq!((it.lost, it.caught_up_ns, it.repeated), (None, None, None));
        assert!(it.because.is_some());
    }
    assert!(report.training.is_none());
    assert_eq!(report.verdict.exit, Exit::Inconclusive);
    for (judged, key) in
        report
            .expectations
            .iter()
            .zip(["recovered-within", "same-result", "lost-steps"])
    {
        assert_eq!(
            (judged.key.as_str(), judged.judgement),
            (key, Judgement::Inconclusive)
        );
    }
}

#[test]
fn a_second_recovery_mark_that_is_missing_joins_its_neighbours() {
    let mut run = held();
    run.events.retain(|event| !matches!(&event.body, Body::Training { event, .. } if event.stage.as_deref() == Some("torn-down")));
    let report = conclude(&run);
    let names: Vec<&str> = report.recoveries[0]
        .segments
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "detect",
            "tear down + start",
            "load",
            "first step",
            "replay"
        ]
    );
}

#[test]
fn a_job_that_gets_other_machines_tells_when_it_had_them() {
    let mut run = held();
    let torn = |event: &Event| matches!(&event.body, Body::Training { event, .. } if event.stage.as_deref() == Some("torn-down"));
    let at = run.events.iter().position(torn).unwrap();
    let mut placed = run.events[at].clone();
    placed.t_ns += 250 * MS;
    if let Body::Training { event, .. } = &mut placed.body {
        event.stage = Some("rescheduled".into());
    }
    run.events.insert(at + 1, placed);
    let report = conclude(&run);
    let parts: Vec<(&str, u64)> = report.recoveries[0]
        .segments
        .iter()
        .map(|part| (part.name.as_str(), part.duration_ns / MS))
        .collect();
    assert_eq!(
        parts[..4],
        [
            ("detect", 160),
            ("tear down", 40),
            ("reschedule", 250),
            ("start", 50)
        ]
    );
    // The second recovery tells of no such moment.
    assert_eq!(report.recoveries[1].segments[2].name, "start");
}

#[test]
fn lost_steps_are_judged_against_the_bound() {
    for (most, judgement) in [
        (StepCount::Steps(4), Judgement::Held),
        (StepCount::Steps(3), Judgement::Deviated),
        (StepCount::CheckpointIntervals(1), Judgement::Held),
    ] {
        let mut run = held();
        run.ask.expect = vec![Expect::LostSteps(LostSteps { at_most: most })];
        assert_eq!(
            conclude(&run).expectations[0].judgement,
            judgement,
            "{most}"
        );
    }
    // No checkpoint seen: the file's own number serves; without one it cannot be said.
    let blind = |interval| {
        let mut run = held();
        run.events.retain(|event| !matches!(&event.body, Body::Training { event, .. } if event.kind == "checkpoint-renamed"));
        run.ask.checkpoint_interval = interval;
        conclude(&run).expectations[2].judgement
    };
    assert_eq!(blind(Some(4)), Judgement::Held);
    assert_eq!(blind(Some(3)), Judgement::Deviated);
    assert_eq!(blind(None), Judgement::Inconclusive);
}

#[test]
fn records_that_were_dropped_may_have_been_lost_steps() {
    let judged = |what: &str, count, most| {
        let mut run = held();
        let last = run.events.len() - 1;
        run.events[last - 1].body = Body::Dropped {
            what: what.into(),
            count,
        };
        run.ask.expect = vec![Expect::LostSteps(LostSteps {
            at_most: StepCount::Steps(most),
        })];
        conclude(&run).expectations[0].judgement
    };
    assert_eq!(judged("training events", 2, 5), Judgement::Inconclusive);
    assert_eq!(judged("training events", 2, 6), Judgement::Held);
    assert_eq!(judged("training events", 2, 3), Judgement::Deviated);
    assert_eq!(
        judged("samples that the store could not take", 9, 4),
        Judgement::Held
    );
}

#[test]
fn a_job_that_squall_ended_before_the_limit_was_over_is_not_said_to_have_failed() {
    let mut run = given_up();
    let ended = run
        .events
        .iter()
        .position(|it| {
            matches!(
                it.body,
                Body::WorkloadEnded {
                    reference: false,
                    ..
                }
            )
        })
        .unwrap();
    let undo = run
        .events
        .iter()
        .position(|it| it.body == Body::StageEntered { stage: Stage::Undo })
        .unwrap();
    run.ask.expect.truncate(1);
    assert_eq!(
        conclude(&run).expectations[0].judgement,
        Judgement::Deviated
    );
    let t_ns = run.events[ended].t_ns;
    let bodies = (
        run.events[ended].body.clone(),
        run.events[undo].body.clone(),
    );
    (run.events[undo].body, run.events[ended].body) = bodies;
    run.events[ended].t_ns = t_ns - 1;
    assert_eq!(
        conclude(&run).expectations[0].judgement,
        Judgement::Inconclusive
    );
}

#[test]
fn effective_training_time_counts_kept_steps_only() {
    let report = conclude(&held());
    let time = report
        .training
        .as_ref()
        .unwrap()
        .effectiveness
        .as_ref()
        .unwrap();
    let share = |name: &str| {
        time.shares
            .iter()
            .find(|it| it.name == name)
            .map_or(0, |it| it.duration_ns / MS)
    };
    // A step takes 100 ms, and the 1 ms after each of 7 saves counts to the next step: 4 of those are kept, 3 rolled back.
    assert_eq!(share("productive"), 32 * 100 + 4);
    assert_eq!(share("wasted"), 12 * 100 + 3);
    assert_eq!(share("checkpoints"), 7 * 15);
    for (least, judgement) in [(46.0, Judgement::Held), (47.0, Judgement::Deviated)] {
        let mut run = held();
        run.ask.expect = vec![Expect::Ettr(AtLeast {
            at_least: Percent(least),
        })];
        assert_eq!(conclude(&run).expectations[0].judgement, judgement);
    }
}

#[test]
fn a_pause_is_a_stall_and_not_a_restart() {
    let report = conclude(&paused(Undo::Works));
    let it = &report.recoveries[0];
    assert_eq!(
        (it.outcome, it.restarts, it.lost),
        (Outcome::WentOn, 0, Some(0))
    );
    assert!(it.stall_ns.unwrap() > 2_000 * MS && it.stall_ns.unwrap() < 2_200 * MS);
    assert_eq!(report.training.unwrap().attempts, 1);
    let marks = &report.timeline.marks;
    let back = marks.iter().find(|it| it.kind == MarkKind::Recovered);
    let back = back.map(|it| (it.t_ns, it.words.starts_with("went on ")));
    assert_eq!(
        back,
        Some((it.start_ns + it.back_to_work_ns.unwrap(), true))
    );
}

#[test]
fn a_recovery_is_judged_against_its_limit_from_the_injection_on() {
    let judged = |limit_ms| {
        let mut run = held();
        run.ask.expect = vec![Expect::RecoveredWithin(Span(Duration::from_millis(
            limit_ms,
        )))];
        conclude(&run).expectations.remove(0).judgement
    };
    // Loaded after 600 ms, first step 20 ms later; then four steps of 100 ms and a save of 16 ms before the last.
    let took = conclude(&held()).recoveries[0].caught_up_ns.unwrap() / MS;
    assert_eq!(took, 600 + 120 + 3 * 100 + 116);
    assert_eq!(judged(took), Judgement::Held);
    assert_eq!(judged(took - 1), Judgement::Deviated);
}
