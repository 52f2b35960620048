//! Same result or not: what proves it, what proves the contrary, and what is not enough for either.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::run::{Checkpoint, Run};
use squall_analysis::same_result::Sameness;
use squall_model::event::Body;
use squall_model::exit::Exit;

#[test]
fn without_a_reference_the_result_is_never_the_same() {
    let report = conclude(&no_reference());
    assert_eq!(report.same_result.sameness, Sameness::NotMeasured);
    assert!(report.same_result.sentence.contains("no reference"));
}

#[test]
fn dropped_events_make_the_ledger_inconclusive_even_where_it_looks_wrong() {
    let mut run = buggy(Bug::Samples);
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body {
            event.digest = None;
        }
    }
    assert_eq!(
        conclude(&run).same_result.decided_by.as_deref(),
        Some("samples")
    );
    let last = run.events.len() - 1;
    run.events[last - 1].body = Body::Dropped {
        what: "hook events".into(),
        count: 2,
    };
    let report = conclude(&run);
    assert_eq!(report.same_result.sameness, Sameness::NotMeasured);
    assert_eq!(report.data_quality.dropped["hook events"], 2);
}

#[test]
fn a_run_that_was_cut_short_is_not_called_different() {
    let mut run = held();
    let cut = run.events.iter().rposition(|event| matches!(&event.body, Body::Training { event, .. } if event.kind == "checkpoint-renamed")).unwrap();
    run.events.truncate(cut);
    let report = conclude(&run);
    assert_eq!(
        report.same_result.sameness,
        Sameness::NotMeasured,
        "{}",
        report.same_result.sentence
    );
}

#[test]
fn training_that_is_not_reproducible_is_not_blamed_on_the_fault() {
    let mut run = buggy(Bug::Optimizer);
    let first = run
        .events
        .iter_mut()
        .find_map(|event| match &mut event.body {
            Body::Training {
                reference: false,
                event,
                ..
            } if event.kind == "step-end" => event.loss.as_mut(),
            _ => None,
        });
    *first.unwrap() += 1e-12;
    let report = conclude(&run);
    assert_eq!(report.same_result.sameness, Sameness::NotMeasured);
    assert!(report.same_result.sentence.contains("not reproducible"));
    assert_eq!(report.verdict.exit, Exit::Inconclusive);
}

fn with_files(mine: (&str, Option<&str>), theirs: (&str, Option<&str>)) -> Run {
    let mut run = held();
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body {
            event.digest = None;
            event.ids = None;
        }
    }
    for (reference, (file, parameters)) in [(false, mine), (true, theirs)] {
        run.checkpoints.push(Checkpoint {
            path: "final.bin".into(),
            reference,
            step: Some(STEPS),
            parameters: parameters.map(str::to_owned),
            file_sha256: file.into(),
        });
    }
    run
}

#[test]
fn files_prove_equality_but_never_a_difference() {
    let same = conclude(&with_files(("aa", None), ("aa", None))).same_result;
    assert_eq!(same.sameness, Sameness::Same);
    assert!(same.sentence.contains("file, not parameters"));
    let other = conclude(&with_files(("aa", None), ("bb", None))).same_result;
    assert_eq!(other.sameness, Sameness::NotMeasured);
    let parameters = conclude(&with_files(("aa", Some("11")), ("bb", Some("11")))).same_result;
    assert_eq!(parameters.sameness, Sameness::Same);
    let different = conclude(&with_files(("aa", Some("11")), ("aa", Some("22")))).same_result;
    assert_eq!(different.sameness, Sameness::Different);
}

#[test]
fn ranks_that_end_with_different_parameters_are_different() {
    let mut run = held();
    let at = run.events.iter().rposition(|event| matches!(&event.body, Body::Training { event, .. } if event.kind == "final-parameters")).unwrap();
    let mut other = run.events[at].clone();
    if let Body::Training { rank, event, .. } = &mut other.body {
        (*rank, event.digest) = (Some(1), Some("f".repeat(64)));
    }
    run.events.insert(at, other);
    let report = conclude(&run);
    assert!(
        report.same_result.sentence.contains("rank 0 and rank 1"),
        "{}",
        report.same_result.sentence
    );
    assert_eq!(report.verdict.exit, Exit::Deviated);
}
