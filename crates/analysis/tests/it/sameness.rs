//! Same result or not: what proves it, what proves the contrary, and what is not enough for either.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::expect::Judgement;
use squall_analysis::run::{Checkpoint, Run};
use squall_analysis::same_result::Sameness;
use squall_model::event::{Body, Precision};
use squall_model::exit::Exit;
use squall_model::experiment::{Expect, Reference, ResultKind, SameResult};

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

/// Four undisturbed runs and a disturbed one, each with its own noise on the loss, and other parameters at each end.
fn not_reproducible(bug: Bug) -> Run {
    noisy(bug, false)
}

/// With `sample_ids`, samples are told, and what the bug does to them does not show in the loss.
fn noisy(bug: Bug, sample_ids: bool) -> Run {
    let mut sim = Sim::new();
    sim.sample_ids = sample_ids;
    for _ in 0..4 {
        sim.reference();
    }
    sim.bug = bug;
    let mut run = three_kills(sim, Precision::Held).run();
    let mut work = 0u64;
    for event in &mut run.events {
        match &mut event.body {
            Body::WorkloadStarted { .. } => work += 1,
            Body::Training { event, .. } => {
                let step = event.step.unwrap_or(0);
                // Replayed steps have the noise of their step, like the replay of a real run has that of its data.
                let noise = (work * 7919 + step * 104_729) % 1000;
                if let Some(loss) = &mut event.loss {
                    if sample_ids {
                        *loss = 2.0 / (step as f64).sqrt();
                    }
                    *loss += noise as f64 * 1e-5;
                }
                if let Some(digest) = &mut event.digest {
                    *digest = format!("{work:064x}");
                }
            }
            _ => {}
        }
    }
    run.ask.expect.push(Expect::SameResult(SameResult {
        reference: Reference::Reference,
        by: ResultKind::Trajectory,
    }));
    run
}

#[test]
fn training_that_is_not_reproducible_is_judged_by_the_spread_of_its_repeats() {
    let clean = conclude(&not_reproducible(Bug::None));
    assert_eq!(
        clean.same_result.sameness,
        Sameness::Same,
        "{}",
        clean.same_result.sentence
    );
    assert_eq!(clean.same_result.decided_by.as_deref(), Some("trajectory"));
    assert_eq!(
        clean.same_result.rungs[0].sameness,
        Sameness::NotMeasured,
        "{}",
        clean.same_result.rungs[0].evidence
    );
    let judged = |report: &squall_analysis::report::Report| {
        let mut all = report.expectations.iter().rev();
        let one = all.find(|it| it.key == "same-result").unwrap();
        (one.judgement, one.measured.clone())
    };
    assert_eq!(judged(&clean).0, Judgement::Held, "{}", judged(&clean).1);
    let lost = conclude(&not_reproducible(Bug::Optimizer));
    assert_eq!(
        lost.same_result.decided_by.as_deref(),
        Some("trajectory"),
        "{}",
        lost.same_result.sentence
    );
    assert_eq!(lost.same_result.sameness, Sameness::Different);
    assert_eq!(judged(&lost).0, Judgement::Deviated, "{}", judged(&lost).1);
}

#[test]
fn noise_of_the_loss_is_no_excuse_for_skipped_samples() {
    let mut run = noisy(Bug::Samples, true);
    run.ask.expect.push(Expect::SameResult(SameResult {
        reference: Reference::Reference,
        by: ResultKind::Samples,
    }));
    let report = conclude(&run);
    let same = &report.same_result;
    let rungs: Vec<Sameness> = same.rungs.iter().map(|it| it.sameness).collect();
    assert_eq!(rungs[1..], [Sameness::Different, Sameness::Same]);
    assert_eq!(same.sameness, Sameness::Different, "{}", same.sentence);
    assert_eq!(same.decided_by.as_deref(), Some("samples"));
    let asked = report.expectations.last().unwrap();
    assert_eq!(asked.judgement, Judgement::Deviated, "{}", asked.measured);
}

/// The `trajectory` rung once the disturbed run tells the losses of some steps only.
fn trajectory_where_told(told: impl Fn(u64, u64) -> bool) -> (Sameness, String) {
    let mut run = not_reproducible(Bug::None);
    let injections = run.events.iter();
    let first = injections
        .filter(|it| matches!(it.body, Body::InjectionBegun { .. }))
        .map(|it| it.t_ns)
        .next()
        .unwrap();
    for event in &mut run.events {
        if let Body::Training {
            reference: false,
            event: told_of,
            ..
        } = &mut event.body
            && !told(told_of.step.unwrap_or(0), event.t_ns.saturating_sub(first))
        {
            told_of.loss = None;
        }
    }
    let rung = conclude(&run).same_result.rungs.remove(2);
    (rung.sameness, rung.evidence)
}

#[test]
fn a_trajectory_without_the_losses_after_the_fault_proves_nothing() {
    type Told = fn(u64, u64) -> bool;
    let (sameness, evidence) = trajectory_where_told(|_, _| true);
    assert_eq!(sameness, Sameness::Same, "{evidence}");
    let told: [(Told, &str); 3] = [
        (|_, after| after == 0, "loss of step 32, the last"),
        (
            |step, after| after == 0 || step > STEPS - 4,
            "losses of 4 of 28 steps",
        ),
        (|step, _| step < STEPS, "loss of step 32, the last"),
    ];
    for (told, why) in told {
        let (sameness, evidence) = trajectory_where_told(told);
        assert_eq!(sameness, Sameness::NotMeasured, "{evidence}");
        assert!(evidence.contains(why), "{evidence}");
    }
}

#[test]
fn a_fault_after_the_last_step_leaves_no_trajectory() {
    let mut run = not_reproducible(Bug::None);
    let end = run.events.last().unwrap().t_ns;
    for event in &mut run.events {
        if matches!(event.body, Body::InjectionBegun { .. }) {
            event.t_ns = end;
        }
    }
    let rung = conclude(&run).same_result.rungs.remove(2);
    assert_eq!(rung.sameness, Sameness::NotMeasured, "{}", rung.evidence);
    assert!(
        rung.evidence.contains("losses of 0 of 0 steps"),
        "{}",
        rung.evidence
    );
}

#[test]
fn repeats_that_tell_no_losses_near_the_end_prove_nothing() {
    let mut run = not_reproducible(Bug::None);
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body
            && event.step > Some(STEPS - 4)
        {
            event.loss = None;
        }
    }
    let rung = conclude(&run).same_result.rungs.remove(2);
    assert_eq!(rung.sameness, Sameness::NotMeasured, "{}", rung.evidence);
    assert!(
        rung.evidence.contains("up to step 28 of 32"),
        "{}",
        rung.evidence
    );
}

#[test]
fn losses_told_every_third_step_are_a_trajectory_and_lost_records_are_none() {
    let mut run = not_reproducible(Bug::None);
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body
            && event.step.is_some_and(|step| step % 3 != 1)
        {
            event.loss = None;
        }
    }
    let rung = |run: &Run| conclude(run).same_result.rungs.remove(2);
    let sparse = rung(&run);
    assert_eq!(sparse.sameness, Sameness::Same, "{}", sparse.evidence);
    // One of the repeats says that it had to drop events.
    let mut starts = 0;
    for event in &mut run.events {
        match &mut event.body {
            Body::WorkloadStarted { .. } => starts += 1,
            Body::Training { event, .. } if starts == 3 && event.kind == "exit" => {
                event.dropped = Some(2);
            }
            _ => {}
        }
    }
    let holed = rung(&run);
    assert_eq!(holed.sameness, Sameness::NotMeasured, "{}", holed.evidence);
    assert!(holed.evidence.contains("dropped"), "{}", holed.evidence);
}

#[test]
fn two_repeats_are_too_few_for_a_spread() {
    let mut run = not_reproducible(Bug::Optimizer);
    let starts = run.events.iter().enumerate().filter(|(_, event)| {
        matches!(
            event.body,
            Body::WorkloadStarted {
                reference: true,
                ..
            }
        )
    });
    let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    run.events.drain(starts[1]..starts[3]);
    let report = conclude(&run);
    assert_eq!(report.same_result.sameness, Sameness::NotMeasured);
    let evidence = &report.same_result.rungs[2].evidence;
    assert!(evidence.contains("at least 3"), "{evidence}");
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

/// As `held`, with what rank 1 told at the end of the disturbed run and of the reference.
fn with_rank_1(mine: Option<&str>, theirs: Option<&str>) -> Run {
    let mut run = held();
    for (of_reference, digest) in [(false, mine), (true, theirs)] {
        let at = run.events.iter().rposition(|event| matches!(&event.body, Body::Training { event, reference, .. } if event.kind == "final-parameters" && *reference == of_reference)).unwrap();
        let mut other = run.events[at].clone();
        if let (Body::Training { rank, event, .. }, Some(digest)) = (&mut other.body, digest) {
            (*rank, event.digest) = (Some(1), Some(digest.repeat(64)));
            run.events.insert(at, other);
        }
    }
    run
}

#[test]
fn ranks_that_end_with_different_parameters_are_different() {
    let report = conclude(&with_rank_1(Some("f"), Some("a")));
    assert!(
        report.same_result.sentence.contains("rank 0 and rank 1"),
        "{}",
        report.same_result.sentence
    );
    assert_eq!(report.verdict.exit, Exit::Deviated);
}

#[test]
fn ranks_with_parameters_of_their_own_are_compared_one_by_one() {
    for (mine, theirs, sameness, word) in [
        (Some("f"), Some("f"), Sameness::Same, "each of 2 ranks"),
        (Some("e"), Some("f"), Sameness::Different, "rank 1"),
        (None, Some("f"), Sameness::NotMeasured, "rank 1"),
        (Some("f"), None, Sameness::NotMeasured, "does not tell"),
    ] {
        let report = conclude(&with_rank_1(mine, theirs)).same_result;
        let rung = &report.rungs[0];
        assert_eq!(
            rung.sameness, sameness,
            "{mine:?} {theirs:?}: {}",
            rung.evidence
        );
        assert!(rung.evidence.contains(word), "{}", rung.evidence);
    }
}
