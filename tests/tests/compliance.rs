//! Every fault of the catalogue, held to everything that a fault must show. See `squall_tests::compliance`.

use std::time::Duration;

use squall_model::syntax::KindInfo;
use squall_tests::compliance::{
    Way, assert_fault_compliance, crashes, documents, in_every_way, lifecycle, refusal,
};
use squall_tests::sandbox::{Sandbox, tmpfs};

fn inside(test: &str, demand: impl Fn(&KindInfo) -> anyhow::Result<()>) {
    let sandbox = Sandbox::new()
        .with_own_pids()
        .limit(Duration::from_secs(120));
    sandbox.run(test, || {
        // Others' runs have their sockets there.
        tmpfs("/run", "16m")?;
        assert_fault_compliance(demand)
    });
}

fn inside_in_every_way(test: &str, demand: fn(&Way) -> anyhow::Result<()>) {
    inside(test, |info| in_every_way(info, demand));
}

#[test]
fn every_fault_is_documented() {
    assert_fault_compliance(documents::is_documented).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn the_example_of_every_fault_is_without_a_problem() {
    assert_fault_compliance(documents::example_parses).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_target_of_the_wrong_kind_is_refused_untouched() {
    inside_in_every_way(
        "a_target_of_the_wrong_kind_is_refused_untouched",
        refusal::wrong_target_is_refused,
    );
}

#[test]
fn a_target_that_is_gone_is_refused() {
    inside_in_every_way(
        "a_target_that_is_gone_is_refused",
        refusal::missing_target_is_refused,
    );
}

#[test]
fn a_missing_right_is_refused_untouched() {
    inside_in_every_way(
        "a_missing_right_is_refused_untouched",
        refusal::missing_right_is_refused,
    );
}

#[test]
fn every_fault_is_seen_by_an_independent_reader_and_then_by_nobody() {
    inside_in_every_way(
        "every_fault_is_seen_by_an_independent_reader_and_then_by_nobody",
        lifecycle::is_seen_and_gone,
    );
}

#[test]
fn every_fault_can_be_undone_again_and_again() {
    inside_in_every_way(
        "every_fault_can_be_undone_again_and_again",
        lifecycle::is_undone_twice,
    );
}

#[test]
fn every_fault_can_be_undone_by_several_at_once() {
    inside_in_every_way(
        "every_fault_can_be_undone_by_several_at_once",
        lifecycle::is_undone_by_two_at_once,
    );
}

#[test]
fn every_fault_is_undone_by_the_next_command_after_death_at_any_boundary() {
    inside(
        "every_fault_is_undone_by_the_next_command_after_death_at_any_boundary",
        crashes::is_undone_after_death,
    );
}

#[test]
fn every_fault_is_undone_by_the_next_command_after_death_while_undoing() {
    inside(
        "every_fault_is_undone_by_the_next_command_after_death_while_undoing",
        crashes::is_undone_after_death_while_undoing,
    );
}
