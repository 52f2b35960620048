//! Logs recorded from real runs of `examples/toy-trainer`: two ranks, six epochs of four steps, a checkpoint each epoch, rank 1 killed
//! while it was held at the end of epochs 2 and 4. One run is clean, the others carry a seeded bug.

use crate::kills::ask;
use crate::sim::MS;
use squall_analysis::conclude;
use squall_analysis::recovery::Outcome;
use squall_analysis::report::Report;
use squall_analysis::run::Run;
use squall_analysis::same_result::Sameness;
use squall_model::exit::Exit;
use squall_model::id::RunId;
use std::collections::BTreeMap;

fn recorded(events: &str) -> Report {
    conclude(&Run {
        id: RunId("0198f2aa-0000-7000-8000-000000000002".into()),
        ask: ask(),
        events: serde_json::from_str(events).unwrap(),
        series: Vec::new(),
        checkpoints: Vec::new(),
        policies: BTreeMap::new(),
    })
}

#[test]
fn a_clean_trainer_recovers_with_the_same_parameters_and_samples() {
    let report = recorded(include_str!("recorded/clean.json"));
    assert_eq!(report.verdict.exit, Exit::Held, "{:#?}", report.verdict);
    assert_eq!(report.recoveries.len(), 2);
    for it in &report.recoveries {
        assert_eq!(
            (it.outcome, it.lost, it.restarts),
            (Outcome::CaughtUp, Some(4), 1)
        );
        let names: Vec<&str> = it.segments.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "detect",
                "tear down",
                "start",
                "load",
                "first step",
                "replay"
            ]
        );
        assert!(it.total_ns > 10 * MS);
    }
    let rungs: Vec<Sameness> = report
        .same_result
        .rungs
        .iter()
        .map(|rung| rung.sameness)
        .collect();
    assert_eq!(
        rungs,
        [Sameness::Same, Sameness::Same, Sameness::NotMeasured]
    );
    let training = report.training.unwrap();
    assert_eq!(
        (training.kept, training.wasted, training.attempts),
        (24, 8, 3)
    );
    assert_eq!(training.checkpoint_interval, Some(4));
}

#[test]
fn repeated_samples_are_found_in_the_ledger() {
    let report = recorded(include_str!("recorded/samples.json"));
    assert_eq!(report.verdict.exit, Exit::Deviated);
    assert_eq!(report.same_result.rungs[1].sameness, Sameness::Different);
}

#[test]
fn a_forgotten_optimiser_changes_the_parameters_but_no_sample() {
    let report = recorded(include_str!("recorded/optimizer-state.json"));
    assert_eq!(report.verdict.exit, Exit::Deviated);
    let rungs: Vec<Sameness> = report
        .same_result
        .rungs
        .iter()
        .map(|rung| rung.sameness)
        .collect();
    assert_eq!(
        rungs,
        [Sameness::Different, Sameness::Same, Sameness::NotMeasured]
    );
}
