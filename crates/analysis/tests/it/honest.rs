//! Figures and words that must not flatter anyone, nor blame.

use crate::runs::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::recovery::Outcome;
use squall_analysis::run::Run;
use squall_model::event::{Body, Event, Precision};
use squall_model::exit::Exit;

/// The supervisor is killed; its ranks complete three steps more before the job is taken down.
fn wrapper_killed(exit: Option<i32>, signal: Option<i32>, wait_ms: u64) -> Run {
    let mut sim = Sim::new();
    sim.begin();
    sim.train(8);
    sim.kill(8, Precision::Observed);
    for step in 9..=11 {
        sim.step(step);
    }
    sim.wait(wait_ms);
    sim.end_workload(exit, signal);
    sim.close(Exit::Deviated);
    sim.run()
}

#[test]
fn steps_of_a_job_whose_supervisor_was_killed_are_no_recovery() {
    let report = conclude(&wrapper_killed(None, Some(9), 0));
    let recovery = &report.recoveries[0];
    assert_eq!(recovery.outcome, Outcome::NotCaughtUp);
    assert_eq!((recovery.caught_up_ns, recovery.stall_ns), (None, None));
    let because = recovery.because.as_deref().unwrap_or_default();
    assert!(
        because.contains("3 steps more, but the workload ended (signal 9)"),
        "{because}"
    );
    let slowest = report
        .figures
        .iter()
        .find(|it| it.label == "slowest recovery")
        .unwrap();
    assert_eq!(slowest.value, None);
    // A job that ends as it should has gone on, and one that fails long after had.
    for run in [
        wrapper_killed(Some(0), None, 0),
        wrapper_killed(Some(1), None, 61_000),
    ] {
        assert_eq!(conclude(&run).recoveries[0].outcome, Outcome::WentOn);
    }
    // Nor is one that Squall ended, as it does with a workload that would never end.
    let mut run = wrapper_killed(None, Some(15), 0);
    for event in &mut run.events {
        if let Body::WorkloadEnded { by_squall, .. } = &mut event.body {
            *by_squall = true;
        }
    }
    assert_eq!(conclude(&run).recoveries[0].outcome, Outcome::WentOn);
}

#[test]
fn a_stall_inside_a_step_is_in_ettr_and_not_in_the_goodput_beside_it() {
    let report = conclude(&paused(Undo::Works));
    let it = report
        .training
        .as_ref()
        .unwrap()
        .effectiveness
        .as_ref()
        .unwrap();
    let goodput = it.goodput.unwrap();
    assert!(goodput < it.ettr - 0.1, "{goodput} {}", it.ettr);
    let ending = squall_analysis::render::text::ending(&report, None);
    assert!(ending.contains(" · goodput "), "{ending}");
    let figure = report
        .figures
        .iter()
        .find(|it| it.label.contains("ETTR"))
        .unwrap();
    assert!(
        figure.definition.contains("a stall inside a step counts")
            && figure.definition.contains("Goodput")
    );
}

#[test]
fn a_run_whose_controller_was_killed_is_interrupted_and_no_bug() {
    for exit in [Exit::Interrupted, Exit::Bug] {
        let mut run = held();
        run.events.truncate(60);
        let (seq, t_ns) = (run.events.len() as u64, run.events[59].t_ns);
        let lost = Body::Lost {
            what: "controller".into(),
            because: "the run was cut off; a later command closed it".into(),
        };
        let ended = Body::RunEnded {
            exit,
            by: "recovery".into(),
        };
        for (at, body) in [lost, ended].into_iter().enumerate() {
            run.events.push(Event {
                seq: seq + at as u64 + 1,
                t_ns,
                body,
            });
        }
        let verdict = conclude(&run).verdict;
        assert_eq!(verdict.exit, Exit::Interrupted);
        assert!(
            verdict
                .sentence
                .starts_with("The controller was lost after "),
            "{}",
            verdict.sentence
        );
    }
}

#[test]
fn targets_that_were_not_counted_are_not_called_none() {
    let mut report = conclude(&held());
    for (eligible, words) in [
        (
            0,
            "at most 1 target at once, of targets not counted beforehand",
        ),
        (2, "at most 1 of 2 targets at once"),
    ] {
        report.blast_radius.eligible = eligible;
        for page in [
            squall_analysis::render::html::html(&report).unwrap(),
            squall_analysis::render::markdown::markdown(&report),
        ] {
            assert!(page.contains(words), "{eligible}");
        }
    }
}
