//! What a run does with a job that tells little of its training, or nothing, or ends too early.

use super::*;

/// A well-behaved agent whose workload tells no steps.
fn silent(mut also: impl FnMut(&ToAgent, &mut Stage0) + Send + 'static) -> Play {
    let mut rest = well_behaved(|_, _| {});
    Box::new(move |word, stage| {
        match word {
            ToAgent::StartWorkload(spec) => stage.event(Body::WorkloadStarted {
                reference: spec.reference,
                command: spec.argv.join(" "),
                process: None,
                out: spec.out.to_string_lossy().into_owned(),
            }),
            _ => rest(word, stage),
        }
        also(word, stage);
    })
}

/// As a plain script's hook tells of it: nobody knows its step.
fn saved() -> Body {
    Body::Training {
        reference: false,
        rank: None,
        restart: 0,
        pid: Some(7),
        source: "hook".into(),
        event: TrainingEvent {
            kind: "checkpoint-renamed".into(),
            path: Some("/out/state.json".into()),
            ..TrainingEvent::default()
        },
    }
}

fn notes(outcome: &Outcome) -> Vec<&str> {
    let events = outcome.events.iter();
    events
        .filter_map(|event| match &event.body {
            Body::Note { text } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_checkpoint_is_the_first_training_event_and_shows_that_training_went_on() {
    let mut script = script();
    script.expect = vec![Expect::RecoveredWithin(Span(Duration::from_secs(10)))];
    let play_ = silent(|word, stage| {
        kills(word, stage);
        match word {
            ToAgent::StartWorkload(_) => stage.event_after(50, saved()),
            ToAgent::Arm(_) => stage.event_after(200, saved()),
            _ => {}
        }
    });
    let outcome = play(script, play_);
    assert_eq!(notes(&outcome), Vec::<&str>::new());
    assert_eq!(outcome.armed().len(), 1);
    // How far training was is not known, and the verdict says what was seen instead.
    assert_eq!(outcome.exit(), Exit::Inconclusive);
    let report = outcome.conclusion.report.as_ref().expect("a report");
    assert!(
        report
            .verdict
            .sentence
            .contains("no step was seen, only checkpoints (2 in all, the next one "),
        "{}",
        report.verdict.sentence
    );
}

#[test]
fn an_aim_at_steps_of_a_job_that_tells_none_is_not_steady() {
    let mut script = script();
    script.warm_up = Duration::from_millis(300);
    script.rules[0].keys = serde_json::from_str(r#"{"at": {"step": 3}}"#).expect("keys");
    let outcome = play(script, silent(|_, _| {}));
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty());
    assert_eq!(
        notes(&outcome),
        [
            "no training event came within 0.3 s (`warm-up:`), and process-kill aims at one (after step 3); set a longer `warm-up:`, or let the job tell its steps (`events:`)"
        ]
    );
}

#[test]
fn a_probe_of_a_job_that_tells_nothing_is_not_steady() {
    let mut script = script();
    script.warm_up = Duration::from_millis(300);
    script.steady = vec![(
        "steady-state/0".into(),
        check(r#"{"probe":{"training-event":{"every":"step","within":"9s"}},"interval":"20ms"}"#),
    )];
    let outcome = play(script, silent(|_, _| {}));
    assert_eq!(outcome.exit(), Exit::NotSteady);
    assert!(outcome.armed().is_empty());
    assert!(
        notes(&outcome)
            .iter()
            .any(|note| note.contains("and steady-state/0 asks for one; set a longer `warm-up:`")),
        "{:?}",
        notes(&outcome)
    );
}

#[test]
fn a_job_that_tells_nothing_and_is_not_asked_is_tested_all_the_same() {
    let mut script = script();
    script.warm_up = Duration::from_millis(300);
    let play_ = silent(|word, stage| {
        kills(word, stage);
        if matches!(word, ToAgent::Arm(_)) {
            stage.event_after(300, ended(0));
        }
    });
    let outcome = play(script, play_);
    assert_eq!(outcome.exit(), Exit::Held);
    assert_eq!(
        notes(&outcome),
        ["no training event came within 0.3 s (`warm-up:`); the run goes on without"]
    );
}

#[test]
fn what_lasts_when_the_workload_ends_is_undone_at_once() {
    let later = "3 s after the workload's end";
    let play_ = well_behaved(move |word, stage| {
        pauses(word, stage);
        match word {
            ToAgent::Arm(_) => {
                stage.event_after(300, ended(0));
                stage.event_after(301, rule_ended());
                stage.event_after(3_300, Body::Note { text: later.into() });
            }
            ToAgent::Undo { .. } => {
                stage.event(undo_begun());
                stage.event(undone());
            }
            _ => {}
        }
    });
    let outcome = play(script(), play_);
    assert_eq!(outcome.exit(), Exit::Held);
    assert!(
        !outcome.has(|body| matches!(body, Body::Note { text } if text == later)),
        "the run waited for what lasts"
    );
}
