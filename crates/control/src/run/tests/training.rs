//! What a run does with a job that tells little of its training, or nothing, or ends too early.

use super::*;

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
