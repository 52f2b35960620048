//! Whether the system was steady, and what ends a run by what was measured.

use super::*;

#[test]
fn an_expectation_that_is_not_met_is_a_deviation() {
    let mut script = script();
    script.expect = vec![Expect::Completes(Completes { exit: 0 })];
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                stage.event_after(300, ended(1));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Deviated);
}

#[test]
fn the_workload_s_own_end_is_waited_for_when_it_is_asked_about() {
    let mut script = script();
    script.expect = vec![Expect::Completes(Completes { exit: 0 })];
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            kills(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                stage.event_after(1_500, ended(0));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Held);
}

#[test]
fn a_system_that_is_not_steady_is_left_alone() {
    let mut script = script();
    script.workload = None;
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"file":{"path":"/no/such/file"}},"interval":"50ms"}"#),
    )];
    let outcome = play(script, well_behaved(kills));
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty() && outcome.finished());
    assert!(outcome.has(|body| matches!(body, Body::Probed { held: false, .. })));
}

#[test]
fn a_workload_that_ends_before_it_is_steady_is_not_steady() {
    let mut script = script();
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"training-event":{"every":"step","within":"1s"}},"interval":"20ms"}"#),
    )];
    script.baseline = Duration::from_secs(10);
    let outcome = play(
        script,
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::StartWorkload(_)) {
                stage.event_after(400, ended(3));
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty());
}

#[test]
fn a_workload_that_never_becomes_steady_is_given_up_after_its_warm_up() {
    let mut script = script();
    script.workload = Some(Owned {
        run: "serve".into(),
        ..Owned::default()
    });
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"file":{"path":"/no/such/file"}},"interval":"20ms"}"#),
    )];
    script.warm_up = Duration::from_millis(300);
    // With the usual warm-up the run would reach this first.
    script.time_limit = Duration::from_secs(15);
    let outcome = play(script, well_behaved(kills));
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty());
}

#[test]
fn an_abort_condition_ends_the_run_at_once_and_undoes() {
    let mut script = script();
    let scratch = Scratch::new("abort");
    let file = scratch.path().join("alive");
    std::fs::write(&file, "").expect("written");
    let text = format!(
        r#"{{"probe":{{"file":{{"path":"{}"}}}},"interval":"20ms","failures":3}}"#,
        file.display()
    );
    script.abort = vec![("abort-when/0".into(), check(&text))];
    let outcome = play(
        script,
        well_behaved(move |word, stage| {
            pauses(word, stage);
            if matches!(word, ToAgent::Arm(_)) {
                std::fs::remove_file(&file).expect("removed");
            }
            if matches!(word, ToAgent::Finish { .. }) {
                stage.event(undo_begun());
                stage.event(undone());
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Aborted);
    assert!(
        outcome
            .has(|body| matches!(body, Body::AbortFired { check, .. } if check == "abort-when/0"))
    );
    assert!(
        !outcome.watcher.stages.contains(&Stage::Recovery),
        "nothing is waited for"
    );
}

#[test]
fn too_little_free_disk_aborts() {
    let mut script = script();
    script.abort = vec![(
        "abort-when/0".into(),
        check(r#"{"probe":{"disk-free":{"path":"/","below":"1000000TiB"}}}"#),
    )];
    script.baseline = Duration::from_secs(5);
    assert_eq!(play(script, well_behaved(kills)).exit(), Exit::Aborted);
}

#[test]
fn a_rule_that_never_fires_makes_the_run_inconclusive() {
    let outcome = play(
        script(),
        well_behaved(|word, stage| {
            if matches!(word, ToAgent::Arm(_)) {
                stage.event(Body::Skipped {
                    rule: RuleId(0),
                    because: "no target".into(),
                });
                stage.event(rule_ended());
            }
        }),
    );
    assert_eq!(outcome.exit(), Exit::Inconclusive);
}

#[test]
fn the_time_limit_ends_a_method_that_would_go_on() {
    let mut script = script();
    script.time_limit = Duration::from_secs(1);
    script.method = Node::Wait(Duration::from_secs(600));
    let started = Instant::now();
    let outcome = play(script, well_behaved(kills));
    assert!(outcome.finished() && started.elapsed() < Duration::from_secs(15));
    assert_eq!(outcome.exit(), Exit::Inconclusive);
}

#[test]
fn the_steady_state_is_looked_at_again_after_the_undo() {
    let mut script = script();
    script.expect = vec![Expect::SteadyAgainWithin(Span(Duration::from_secs(5)))];
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"disk-free":{"path":"/","below":"1B"}},"interval":"50ms"}"#),
    )];
    let outcome = play(script, well_behaved(kills));
    assert_eq!(outcome.exit(), Exit::Held);
    let recovery = outcome
        .events
        .iter()
        .position(|e| {
            matches!(
                e.body,
                Body::StageEntered {
                    stage: Stage::Recovery
                }
            )
        })
        .expect("recovery");
    assert!(outcome.events[recovery..].iter().any(
        |e| matches!(&e.body, Body::Probed { check, held: true, .. } if check == "steady-state/0")
    ));
}
