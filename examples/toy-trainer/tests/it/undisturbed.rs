//! What the trainer does when nobody disturbs it.

use std::path::Path;

use serde_json::Value;

use crate::agent::Agent;
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

/// What an outsider sees of a run: its log and events without times and paths, and the names of its files.
fn outside_view(options: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let agent = Agent::new(&[]);
    let ended = Job::new(options).with(&agent).run();
    let anonymous = |text: &str| text.replace(&*ended.directory.to_string_lossy(), "");
    let log = ended.log.lines().map(anonymous).collect();
    let mut events: Vec<String> = agent
        .told()
        .into_iter()
        .map(|mut told| {
            told.message["event"]["t_mono_ns"] = Value::Null;
            told.hello["pid"] = Value::Null;
            anonymous(&format!("{} {}", told.hello, told.message))
        })
        .collect();
    events.sort();
    let mut names = file_names(&ended.directory.join("out"));
    names.sort();
    ended.parameters();
    (log, events, names)
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn no_bug_can_be_told_from_the_log_the_events_or_the_files() {
    let clean = outside_view(&[]);
    for bug in BUGS {
        assert!(
            outside_view(&["--bug", bug]) == clean,
            "{bug} can be told from outside"
        );
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let ended = Job::new(&["--world", "0"]).run();
    assert_eq!(ended.code, Some(2));
    std::fs::remove_dir_all(ended.directory).unwrap();
}

#[test]
fn a_directory_of_another_seed_is_refused() {
    let first = Job::new(&[]).run();
    assert_eq!(first.code, Some(0));
    let second = Job::again(first.directory, &["--seed", "2"]).run();
    assert_eq!(second.code, Some(2), "{}", second.log);
    std::fs::remove_dir_all(second.directory).unwrap();
}
