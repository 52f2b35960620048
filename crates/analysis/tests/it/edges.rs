//! Logs that are unusual but real: two voices, missing voices, restarts from older state, probes that flap.

use crate::kills::ask;
use crate::runs::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::expect::Judgement;
use squall_analysis::recovery::{Outcome, Recovery};
use squall_analysis::run::Run;
use squall_analysis::same_result::Sameness;
use squall_model::event::{Body, Event, Precision, Stage};
use squall_model::experiment::{Expect, LostSteps, StepCount};
use squall_model::units::Span;
use std::time::Duration;

/// The pause, undone, then steady-state probes at these seconds after the undo.
fn probed(probes: &[(u64, bool)], limit: u64) -> (Judgement, String) {
    let mut run = paused(Undo::Works);
    let undone = run
        .events
        .iter()
        .position(|it| matches!(it.body, Body::Undone { .. }))
        .unwrap();
    let from = run.events[undone].t_ns;
    run.events.truncate(undone + 1);
    let mut push = |t_ns, body| {
        let seq = run.events.len() as u64 + 1;
        run.events.push(Event { seq, t_ns, body });
    };
    push(
        from,
        Body::StageEntered {
            stage: Stage::Recovery,
        },
    );
    for (second, held) in probes {
        let body = Body::Probed {
            check: "steady-state/0".into(),
            held: *held,
            measured: "a step".into(),
            value: None,
        };
        push(from + second * 1_000 * MS, body);
    }
    run.ask.expect = match limit {
        0 => Vec::new(),
        _ => vec![Expect::SteadyAgainWithin(Span(Duration::from_secs(limit)))],
    };
    let judged = conclude(&run).expectations.remove(0);
    (judged.judgement, judged.measured)
}

#[test]
fn the_steady_state_is_back_with_the_first_probe_after_the_last_failure() {
    let flapping = [(1, false), (2, true), (3, false), (4, true), (5, true)];
    assert_eq!(
        probed(&flapping, 4),
        (Judgement::Held, "steady again after 4.00 s".into())
    );
    assert_eq!(probed(&flapping, 3).0, Judgement::Deviated);
    assert_eq!(probed(&[(1, true), (6, false)], 5).0, Judgement::Deviated);
    assert_eq!(
        probed(&[(1, true), (2, false)], 5).0,
        Judgement::Inconclusive
    );
    assert_eq!(probed(&[], 5).0, Judgement::Inconclusive);
}

#[test]
fn a_steady_state_that_is_not_back_at_the_end_deviates_though_the_file_expects_nothing() {
    assert_eq!(probed(&[(1, false), (2, true)], 0).0, Judgement::Held);
    assert_eq!(probed(&[(1, true), (2, false)], 0).0, Judgement::Deviated);
}

#[test]
fn a_step_that_hook_and_log_both_report_counts_once() {
    let run = held();
    let mut both = run.clone();
    both.events = run
        .events
        .iter()
        .flat_map(|event| {
            let mut copy = event.clone();
            let log = match &mut copy.body {
                Body::Training {
                    rank,
                    pid,
                    restart,
                    source,
                    event,
                    ..
                } if event.kind == "step-end" && *rank == Some(0) => {
                    (*rank, *pid, *restart, *source) = (None, None, 0, "log".into());
                    copy.t_ns += 3 * MS;
                    true
                }
                _ => false,
            };
            [Some(event.clone()), log.then_some(copy)]
        })
        .flatten()
        .collect();
    let (a, b) = (conclude(&run), conclude(&both));
    assert_eq!(a.recoveries, b.recoveries);
    assert_eq!(a.training, b.training);
}

/// Rank 0's checkpoints as the hook of a plain script tells of them, without step and epoch; the log may tell the steps.
fn hooked_without_steps(log_tells: bool) -> Run {
    let mut run = held();
    run.events = run
        .events
        .iter()
        .flat_map(|event| {
            let mut hook = event.clone();
            let mut log = event.clone();
            let mut is_checkpoint = false;
            if let (
                Body::Training { event: bare, .. },
                Body::Training {
                    rank, pid, source, ..
                },
            ) = (&mut hook.body, &mut log.body)
                && bare.kind == "checkpoint-renamed"
            {
                (bare.step, bare.epoch) = (None, None);
                (*rank, *pid, *source) = (None, None, "log".into());
                log.t_ns += 2 * MS;
                is_checkpoint = true;
            }
            [Some(hook), (is_checkpoint && log_tells).then_some(log)]
        })
        .flatten()
        .collect();
    run
}

#[test]
fn a_checkpoint_whose_step_only_the_log_tells_counts_once_and_with_its_step() {
    let plain = conclude(&held());
    let both = conclude(&hooked_without_steps(true));
    assert_eq!(
        plain.training.and_then(|it| it.checkpoint_interval),
        Some(4)
    );
    assert_eq!(both.training.and_then(|it| it.checkpoint_interval), Some(4));
    assert_eq!(plain.recoveries, both.recoveries);
    assert_eq!(plain.expectations, both.expectations);
}

#[test]
fn an_interval_that_nothing_tells_is_asked_for_by_its_key() {
    let mut run = hooked_without_steps(false);
    run.ask.expect = vec![Expect::LostSteps(LostSteps {
        at_most: StepCount::CheckpointIntervals(1),
    })];
    let judged = |run: &Run| {
        let judged = conclude(run).expectations.remove(0);
        (judged.judgement, judged.measured)
    };
    let (judgement, measured) = judged(&run);
    assert_eq!(judgement, Judgement::Inconclusive);
    assert!(
        measured.contains("completed checkpoints were seen without their step"),
        "{measured}"
    );
    assert!(
        measured.ends_with("e.g. `checkpoint-interval: 10` under `training:`"),
        "{measured}"
    );
    run.ask.checkpoint_interval = Some(4);
    assert_eq!(judged(&run).0, Judgement::Held);
}

#[test]
fn a_supervisor_that_speaks_late_makes_no_stretch_negative() {
    let mut run = held();
    for event in &mut run.events {
        if matches!(&event.body, Body::Training { event, .. } if event.stage.as_deref() == Some("torn-down"))
        {
            event.t_ns += 350 * MS;
        }
    }
    for it in conclude(&run).recoveries {
        assert_eq!(
            it.segments.iter().map(|part| part.duration_ns).sum::<u64>(),
            it.total_ns
        );
        assert!(it.marks.windows(2).all(|pair| pair[0].t_ns <= pair[1].t_ns));
    }
}

#[test]
fn what_a_fallback_to_older_state_rolled_back_is_not_in_the_ledger() {
    let mut sim = Sim::new();
    sim.reference();
    sim.begin();
    sim.train(6);
    sim.kill(6, Precision::Observed);
    // Its checkpoint of step 4 is lost: the next attempt starts from scratch and writes it again.
    sim.checkpoint = 0;
    sim.recover();
    sim.train(5);
    sim.kill(5, Precision::Observed);
    sim.recover();
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    let mut run = sim.run();
    // What the first attempt consumed was rolled back, so it may be anything.
    let first = run
        .events
        .iter_mut()
        .find_map(|event| match &mut event.body {
            Body::Training {
                reference: false,
                event,
                ..
            } => event.ids.as_mut(),
            _ => None,
        });
    first.unwrap().push(15);
    let report = conclude(&run);
    assert_eq!(
        report.same_result.rungs[1].sameness,
        Sameness::Same,
        "{}",
        report.same_result.rungs[1].evidence
    );
    let lost: Vec<_> = report.recoveries.iter().map(|it| it.lost).collect();
    assert_eq!(lost, [Some(6), Some(1)]);
}

/// One kill right after a checkpoint: nothing is lost.
fn killed_after_save(hook: bool) -> Run {
    let mut sim = Sim::new();
    sim.hook = hook;
    sim.begin();
    sim.train(8);
    sim.save(8);
    sim.kill(8, Precision::Observed);
    sim.recover();
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.run()
}

fn only(run: &Run) -> Recovery {
    conclude(run).recoveries.remove(0)
}

#[test]
fn a_restart_that_loses_nothing_is_still_a_restart() {
    for hook in [true, false] {
        let it = only(&killed_after_save(hook));
        assert_eq!(
            (it.outcome, it.lost, it.restarts),
            (Outcome::CaughtUp, Some(0), 1)
        );
        assert_eq!(it.caught_up_ns, it.back_to_work_ns);
    }
}

#[test]
fn a_restart_number_alone_tells_a_restart() {
    let mut run = killed_after_save(true);
    run.events.retain(|event| !matches!(&event.body, Body::Training { event, .. } if event.kind == "checkpoint-loaded"));
    for event in &mut run.events {
        if let Body::Training { pid, .. } = &mut event.body {
            *pid = None;
        }
    }
    let it = only(&run);
    assert_eq!(
        (it.outcome, it.lost, it.resumed),
        (Outcome::CaughtUp, Some(0), Some(8))
    );
}

#[test]
fn a_restart_that_no_injection_explains_is_told_and_put_down_to_nobody() {
    let mut run = killed_after_save(true);
    run.events.retain(|event| {
        !matches!(
            event.body,
            Body::InjectionBegun { .. } | Body::Landed { .. }
        )
    });
    let report = conclude(&run);
    assert_eq!(report.training.unwrap().unexplained_restarts, 1);
    assert!(
        report
            .data_quality
            .notes
            .iter()
            .any(|line| line.contains("no injection explains"))
    );
}

#[test]
fn the_silence_of_one_rank_does_not_stop_the_count_of_steps() {
    let mut run = held();
    run.ask = ask();
    let mut seen = 0;
    run.events.retain(|event| match &event.body {
        Body::Training {
            reference: false,
            rank: Some(1),
            event,
            ..
        } if event.kind == "step-end" => {
            seen += 1;
            seen < 3
        }
        _ => true,
    });
    let report = conclude(&run);
    assert!(report.training.unwrap().high_water.unwrap() >= STEPS - 1);
}

#[test]
fn an_attempt_that_dies_before_it_loads_belongs_to_the_recovery_in_which_it_happens() {
    let mut sim = Sim::new();
    sim.begin();
    sim.train(8);
    sim.kill(8, Precision::Observed);
    sim.notice();
    sim.start_again();
    sim.training(Some(0), "exit", |it| it.code = Some(1));
    sim.notice();
    sim.start_again();
    sim.resume();
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    let report = conclude(&sim.run());
    let it = &report.recoveries[0];
    assert_eq!(
        (it.outcome, it.restarts, it.lost, it.repeated),
        (Outcome::CaughtUp, 2, Some(4), Some(4))
    );
    let training = report.training.unwrap();
    assert_eq!(
        (
            training.attempts,
            training.wasted,
            training.unexplained_restarts
        ),
        (3, 4, 0)
    );
}

#[test]
fn steps_counted_anew_in_each_epoch_are_refused_by_name() {
    let mut run = log_only();
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body
            && event.kind == "step-end"
        {
            event.step = event.step.map(|step| (step - 1) % STEPS_PER_EPOCH + 1);
        }
    }
    let report = conclude(&run);
    assert!(
        report
            .recoveries
            .iter()
            .all(|it| it.outcome == Outcome::NotMeasured && it.lost.is_none())
    );
    assert!(report.data_quality.not_concluded[0].contains("counted anew in each epoch"));
}

#[test]
fn a_kill_at_the_very_end_is_recovered_from_when_the_last_step_is_made_again_or_was_saved() {
    for (saved, lost) in [(false, STEPS_PER_EPOCH), (true, 0)] {
        let mut sim = Sim::new();
        sim.begin();
        sim.train(STEPS);
        if saved {
            sim.save(STEPS);
        }
        sim.kill(STEPS, Precision::Observed);
        sim.recover();
        sim.train(STEPS);
        sim.finish();
        sim.end_workload(Some(0), None);
        let run = sim.run();
        let report = conclude(&run);
        let it = &report.recoveries[0];
        assert_eq!(
            (it.outcome, it.lost),
            (Outcome::CaughtUp, Some(lost)),
            "{it:#?}"
        );
        assert_eq!(it.back_to_work_ns.is_some(), !saved);
        assert_eq!(
            it.segments.iter().map(|part| part.duration_ns).sum::<u64>(),
            it.caught_up_ns.unwrap()
        );
        assert_eq!(report.expectations[0].judgement, Judgement::Held);
    }
}
