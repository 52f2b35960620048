//! Small counts of what `cargo xtask prove` does at large.

use squall_tests::prove::{Proof, aim, bugs, clean, naming, unheld};

/// Runs at a time in each test; the tests themselves run side by side.
const JOBS: usize = 1;

fn holds(proof: &Proof) {
    assert!(proof.holds(), "\n{}", proof.text());
}

#[test]
fn kills_with_hold_points_land_in_the_aimed_step_and_phase() {
    holds(&aim::prove(16, JOBS));
}

#[test]
fn a_kill_before_the_checkpoint_of_epoch_ten_fires_exactly_once() {
    holds(&aim::prove_once());
}

#[test]
fn the_distance_of_kills_without_hold_points_is_known() {
    holds(&unheld::prove(5, JOBS));
}

#[test]
fn every_seeded_bug_gives_the_verdict_different() {
    holds(&bugs::prove(1, JOBS));
}

#[test]
fn clean_kills_never_give_the_verdict_different() {
    holds(&clean::prove(12, 2 * JOBS));
}

#[test]
fn every_seeded_bug_is_named_and_clean_runs_name_none() {
    holds(&naming::prove(1, 2, naming::FIRST_SEED, JOBS));
}
