//! Faults land where they are aimed at, in a real process tree.

mod run;

use run::Run;
use serde_json::json;

fn truth(run: &Run) -> Vec<String> {
    let text = std::fs::read_to_string(run.out().join("truth")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_held_rank_dies_in_the_aimed_step_and_phase_and_training_goes_on() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"at": {"step": 6, "phase": "backward"}}),
    );
    run.event("armed");
    run.train(json!({}));
    let landed = run.event("landed");
    assert_eq!(
        landed["place"],
        json!({"step": 6, "epoch": 2, "phase": "backward", "rank": 1})
    );
    assert_eq!(landed["precision"], "held");
    let ended = run.event("workload-ended");
    assert_eq!(ended["exit"], 0, "{ended}");
    let truth = truth(&run);
    let killed = truth
        .iter()
        .position(|line| line == "begin 2 6 backward")
        .unwrap();
    assert_eq!(
        truth[killed + 1],
        "begin 2 5 forward",
        "it died inside the phase and went on from its checkpoint"
    );
    assert_eq!(
        run.events("landed").len(),
        1,
        "the repeated step is not aimed at again"
    );
    run.send(json!({"finish": {"because": "the test is over"}}));
    assert_eq!(run.message("finished"), json!({"outstanding": []}));
    run.ends_with_nothing_left();
}
