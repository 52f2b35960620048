//! What the trainer does when nobody disturbs it.

use crate::bugs::BUGS;
use crate::job::{Job, undisturbed};

#[test]
fn the_held_out_loss_falls_by_at_least_half() {
    let ended = Job::new(&["--epochs", "40", "--steps-per-epoch", "16", "--batch", "16"]).run();
    let losses = ended.held_out();
    assert_eq!(losses.len(), 40);
    assert!(losses[39] < losses[0] / 2.0, "{losses:?}");
    ended.parameters();
}

#[test]
fn two_undisturbed_runs_are_bit_equal() {
    assert_eq!(undisturbed(&[]), undisturbed(&[]));
    assert_ne!(
        undisturbed(&[]),
        undisturbed(&["--seed", "2"]),
        "the seed matters"
    );
}

#[test]
fn other_world_sizes_train_too() {
    for world in ["1", "3"] {
        assert_eq!(
            undisturbed(&["--world", world]),
            undisturbed(&["--world", world])
        );
    }
}

#[test]
fn no_bug_shows_without_a_restart() {
    for seed in ["1", "2"] {
        let clean = undisturbed(&["--seed", seed]);
        for bug in BUGS {
            assert_eq!(
                undisturbed(&["--seed", seed, "--bug", bug]),
                clean,
                "{bug}, seed {seed}"
            );
        }
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(Job::new(&["--world", "0"]).run().code, Some(2));
}

#[test]
fn a_directory_of_another_seed_is_refused() {
    let first = Job::new(&[]).run();
    assert_eq!(first.code, Some(0));
    let second = Job::again(first.directory, &["--seed", "2"]).run();
    assert_eq!(second.code, Some(2), "{}", second.log);
    std::fs::remove_dir_all(second.directory).unwrap();
}
