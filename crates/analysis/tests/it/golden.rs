//! What people and machines read about each kind of run, word for word.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::render::{html, json, junit, text};
use squall_analysis::run::Run;

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("held", held()),
        ("different", buggy(Bug::Samples)),
        ("other_losses", buggy(Bug::Optimizer)),
        ("log_only", log_only()),
        ("paused", paused(Undo::Works)),
        ("stuck", paused(Undo::Sticks)),
        ("no_undo_recorded", paused(Undo::Missing)),
        ("not_landed", not_landed()),
        ("aborted", aborted()),
        ("interrupted", interrupted()),
        ("no_reference", no_reference()),
        ("late", late()),
        ("during_recovery", during_recovery()),
        ("while_down", while_down()),
        ("given_up", given_up()),
        ("not_steady", not_steady()),
        ("nothing_injected", nothing_injected()),
        ("dropped", dropped()),
    ]
}

#[test]
fn the_text_of_every_kind_of_run() {
    for (name, run) in all() {
        insta::assert_snapshot!(
            format!("text_{name}"),
            text::full(&conclude(&run), Some("…/report.html"))
        );
    }
}

#[test]
fn text_fits_into_eighty_columns() {
    for (name, run) in all() {
        for line in text::full(&conclude(&run), None).lines() {
            // A word that is longer than a line stands alone beside the label.
            let lone = line.get(10..).is_some_and(|rest| !rest.contains(' '));
            assert!(lone || line.chars().count() <= 80, "{name}: {line}");
        }
    }
}

#[test]
fn the_last_lines_of_a_run() {
    insta::assert_snapshot!(
        "ending_held",
        text::ending(&conclude(&held()), Some("…/report.html"))
    );
}

#[test]
fn the_junit_file_of_every_kind_of_run() {
    for (name, run) in all() {
        insta::assert_snapshot!(format!("junit_{name}"), junit::junit(&conclude(&run)));
    }
}

#[test]
fn the_json_of_a_held_and_of_a_stuck_run() {
    for (name, run) in [("held", held()), ("stuck", paused(Undo::Sticks))] {
        insta::assert_snapshot!(format!("json_{name}"), json(&conclude(&run)).unwrap());
    }
}

/// Left in the test's own folder, to be looked at.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test writes files, the crate does not"
)]
fn pages_are_written_for_people_to_look_at() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, run) in all() {
        let report = conclude(&run);
        std::fs::write(
            folder.join(format!("{name}.html")),
            html::html(&report).unwrap(),
        )
        .unwrap();
        std::fs::write(folder.join(format!("{name}.xml")), junit::junit(&report)).unwrap();
    }
}
