//! Every bug changes the result under the disturbance that provokes it.

use crate::agent::{Action, Agent};
use crate::job::{Job, undisturbed};

pub(crate) const BUGS: [&str; 6] = [
    "torn-checkpoint",
    "optimizer-state",
    "samples",
    "learning-rate",
    "rank0-state",
    "save-handler",
];

/// Steps are 8 to an epoch; a checkpoint follows every epoch.
fn provoke(bug: &str, (rank, phase, step, action): (u32, &'static str, u64, Action)) {
    for seed in ["1", "2"] {
        let clean = undisturbed(&["--seed", seed]);
        for (options, is_equal) in [
            (vec!["--seed", seed], true),
            (vec!["--seed", seed, "--bug", bug], false),
        ] {
            let agent = Agent::striking(rank, phase, step, action);
            let ended = Job::new(&options).with(&agent).run();
            assert_eq!(
                agent.holds().len(),
                1,
                "{options:?} was not disturbed:\n{}",
                ended.log
            );
            assert!(
                ended.log.contains("restarting all ranks, attempt 1"),
                "{}",
                ended.log
            );
            assert!(!ended.log.contains(bug), "the log tells of the bug");
            assert_eq!(ended.parameters() == clean, is_equal, "{options:?}");
        }
    }
}

#[test]
fn torn_checkpoint_shows_when_the_writer_is_killed_before_the_rename() {
    provoke(
        "torn-checkpoint",
        (0, "checkpoint-written", 24, Action::Kill),
    );
}

#[test]
fn optimizer_state_shows_after_a_kill() {
    provoke("optimizer-state", (1, "forward", 19, Action::Kill));
}

#[test]
fn samples_shows_after_a_kill_at_the_start_of_an_epoch() {
    provoke("samples", (1, "data-wait", 17, Action::Kill));
}

#[test]
fn learning_rate_shows_after_a_kill() {
    provoke("learning-rate", (1, "backward", 20, Action::Kill));
}

#[test]
fn rank0_state_shows_after_a_kill() {
    provoke("rank0-state", (0, "all-reduce", 21, Action::Kill));
}

#[test]
fn save_handler_shows_after_sigterm_within_an_epoch() {
    provoke("save-handler", (1, "forward", 20, Action::Terminate));
}

#[test]
fn save_handler_does_not_show_after_a_kill() {
    let agent = Agent::striking(1, "forward", 20, Action::Kill);
    let ended = Job::new(&["--bug", "save-handler"]).with(&agent).run();
    assert_eq!(ended.parameters(), undisturbed(&[]));
}
