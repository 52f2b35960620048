//! The course of a run that comes to its end.

use super::*;

#[test]
fn a_run_that_holds_goes_through_every_stage_and_leaves_its_folder_complete() {
    let mut script = script();
    script.baseline = Duration::from_millis(600);
    let outcome = play(script, well_behaved(kills));
    assert_eq!(
        outcome.exit(),
        Exit::Held,
        "{:?}",
        outcome.conclusion.problems
    );
    use Stage::{Analyse, Method, Plan, Recovery, Start, SteadyState, Undo};
    assert_eq!(
        outcome.watcher.stages,
        [Plan, Start, SteadyState, Method, Undo, Recovery, Analyse]
    );
    let dir = &outcome.conclusion.run_dir;
    for name in [
        "experiment.yaml",
        "plan.json",
        "run.db",
        "report.json",
        "report.txt",
        "report.xml",
        "report.html",
        "out",
        "logs",
        "reference",
    ] {
        let meta =
            std::fs::metadata(dir.join(name)).unwrap_or_else(|_| panic!("{name} is missing"));
        let mode = std::os::unix::fs::MetadataExt::mode(&meta);
        assert_eq!(mode & 0o077, 0, "{name} is closed to others");
    }
    assert_eq!(
        outcome.conclusion.report_path,
        Some(dir.join("report.html"))
    );
    let report = outcome.conclusion.report.as_ref().expect("a report");
    assert_eq!(report.verdict.exit, Exit::Held);
    let out = dir.join("out").to_string_lossy().into_owned();
    assert_eq!(outcome.armed()[0].target.file, Some(format!("{out}/x")));
    assert!(outcome.heard.words.iter().any(|w| matches!(w, ToAgent::StartWorkload(spec) if spec.argv == ["train", "--out", &out] && spec.hook)));
    let last = outcome.watcher.ticks.last().expect("it ticked");
    assert!(
        last.step > 0 && !last.loss.is_empty() && last.lease_left <= Duration::from_millis(500)
    );
    assert_eq!(report.policies.len(), 1);
}

#[test]
fn a_step_lasts_as_long_as_its_injection() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.event_after(200, begun(Class::Lasting));
                stage.event_after(220, landed());
                stage.event_after(900, undo_begun());
                stage.event_after(910, undone());
                stage.event_after(911, rule_ended());
            }
            assert!(!matches!(word, ToAgent::Undo { .. }), "it was cut short");
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
    let at =
        |wanted: fn(&Body) -> bool| outcome.events.iter().position(|event| wanted(&event.body));
    let undone = at(|body| matches!(body, Body::Undone { .. }));
    let undo_stage = at(|body| matches!(body, Body::StageEntered { stage: Stage::Undo }));
    assert!(undone.is_some() && undone < undo_stage);
}

#[test]
fn what_lasts_when_the_workload_ends_is_undone_before_the_recovery() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            pauses(word, stage);
            match word {
                ToAgent::Arm(_) => {
                    stage.event(rule_ended());
                    stage.event_after(300, ended(0));
                }
                ToAgent::Undo { injection } => {
                    assert_eq!(*injection, id());
                    stage.event(undo_begun());
                    stage.event_after(50, undone());
                }
                _ => {}
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
    let at =
        |wanted: fn(&Body) -> bool| outcome.events.iter().position(|event| wanted(&event.body));
    let undone = at(|body| matches!(body, Body::Undone { .. }));
    let recovery = at(|body| {
        matches!(
            body,
            Body::StageEntered {
                stage: Stage::Recovery
            }
        )
    });
    assert!(undone.is_some() && undone < recovery);
}

#[test]
fn the_reference_run_comes_first_and_teaches_the_last_epoch() {
    let mut script = script();
    if let Some(owned) = &mut script.workload {
        owned.references = 1;
    }
    let outcome = play(script, well_behaved(kills));
    assert_eq!(
        outcome.watcher.stages[..3],
        [Stage::Plan, Stage::Reference, Stage::Start]
    );
    assert_eq!(outcome.armed()[0].last_epoch, Some(10));
    let specs: Vec<_> = outcome
        .heard
        .words
        .iter()
        .filter_map(|w| match w {
            ToAgent::StartWorkload(s) => Some((s.reference, s.out.clone())),
            _ => None,
        })
        .collect();
    assert!(specs[0].0 && !specs[1].0 && specs[0].1 != specs[1].1);
}

#[test]
fn only_the_disturbed_run_is_told_of_aims_that_may_come_before_the_method() {
    let mut script = script();
    let training = |id| {
        let mut rule = script.rules[0].clone();
        rule.id = RuleId(id);
        rule.keys = serde_json::from_str(r#"{"at": {"step": 3}}"#).expect("keys");
        rule
    };
    // Rule 0 acts at once: it cannot come too early. Rule 2 waits for both.
    let (with_0, after) = (training(1), training(2));
    script.rules.extend([with_0, after]);
    let both = vec![Node::Rule(RuleId(0)), Node::Rule(RuleId(1))];
    script.method = Node::Sequence(vec![Node::Parallel(both), Node::Rule(RuleId(2))]);
    script.workload.as_mut().expect("a workload").references = 1;
    let outcome = play(script, well_behaved(kills));
    let first = outcome.heard.words.iter().filter_map(|word| match word {
        ToAgent::StartWorkload(spec) => Some((
            spec.reference,
            spec.first.iter().map(|rule| rule.id.0).collect::<Vec<_>>(),
        )),
        _ => None,
    });
    assert_eq!(
        first.collect::<Vec<_>>(),
        [(true, vec![]), (false, vec![1])]
    );
}

#[test]
fn several_reference_runs_come_one_after_the_other_in_folders_of_their_own() {
    let mut script = script();
    if let Some(owned) = &mut script.workload {
        owned.references = 3;
    }
    let outcome = play(script, well_behaved(kills));
    let names: Vec<_> = outcome
        .heard
        .words
        .iter()
        .filter_map(|word| match word {
            ToAgent::StartWorkload(spec) => {
                let name = |path: &std::path::Path| {
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned()
                };
                Some((spec.reference, name(&spec.out), name(&spec.log)))
            }
            _ => None,
        })
        .collect();
    let expected = [
        (true, "reference", "reference.log"),
        (true, "reference-2", "reference-2.log"),
        (true, "reference-3", "reference-3.log"),
        (false, "out", "workload.log"),
    ];
    assert_eq!(
        names,
        expected.map(|(reference, out, log)| (reference, out.to_owned(), log.to_owned()))
    );
    let ends = outcome.events.iter().filter(|event| {
        matches!(
            event.body,
            Body::WorkloadEnded {
                reference: true,
                ..
            }
        )
    });
    assert_eq!(ends.count(), 3);
}

#[test]
fn the_lease_is_renewed_through_a_flood_of_events() {
    let mut script = script();
    script.baseline = Duration::from_secs(1);
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::StartWorkload(_)) {
                for step in 0..20_000u64 {
                    stage.step(0, false, "phase-begin", step, 1);
                }
            }
        }),
    );
    assert!(outcome.heard.renewals > 2);
    // A lease is 500 ms here, renewed every 100: a pause below it means that guard and agent never had a reason to undo.
    assert!(
        outcome.heard.longest_pause < Duration::from_millis(500),
        "{:?}",
        outcome.heard.longest_pause
    );
}
