//! What people and machines read about each kind of run, word for word.

use crate::runs::*;
use crate::scenarios::*;
use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::num;
use squall_analysis::render::{html, json, junit, markdown, text};
use squall_analysis::run::Run;
use squall_model::event::Body;

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
        ("hung", hung()),
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
fn the_markdown_of_runs_with_a_cause_advice_models_and_a_hang() {
    for (name, run) in [
        ("held", held()),
        ("different", buggy(Bug::Samples)),
        ("hung", hung()),
        ("stuck", paused(Undo::Sticks)),
    ] {
        insta::assert_snapshot!(
            format!("markdown_{name}"),
            markdown::markdown(&conclude(&run))
        );
    }
}

/// Text without markup, escapes and line breaks.
fn bare(form: &str) -> String {
    let mut out = String::new();
    let mut tag = false;
    for c in form.chars() {
        match c {
            '<' => tag = true,
            '>' if tag => tag = false,
            '\\' => {}
            '\n' => out.push(' '),
            c if !tag => out.push(c),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_finding_stands_in_every_form_that_people_read() {
    for (name, run) in [("different", buggy(Bug::Samples)), ("hung", hung())] {
        let report = conclude(&run);
        let mut findings: Vec<String> = Vec::new();
        for it in &report.recoveries {
            let caught_up = it.caught_up_ns.unwrap();
            findings.push(format!("caught up {} after it", num::duration(caught_up)));
            for part in &it.segments {
                findings.push(format!("{} {}", part.name, num::duration(part.duration_ns)));
            }
            for stood in it.hang.iter().flat_map(|it| &it.stood) {
                findings.extend(stood.calls.iter().map(|call| bare(call)));
            }
            findings.extend(
                it.hang
                    .iter()
                    .filter_map(|it| Some(it.gave_up.as_ref()?.words())),
            );
        }
        let models = report.models.as_ref().unwrap();
        for it in models.basic.iter().chain(&models.beside) {
            findings.push(it.worked.clone());
            findings.push(it.interval_words());
        }
        for size in &report.projection.as_ref().unwrap().sizes {
            findings.push(num::duration((size.mttf_s * 1e9) as u64));
        }
        for it in &report.advice {
            findings.push(it.text.clone());
            findings.extend(it.evidence.iter().cloned());
        }
        if let Some(it) = &report.diagnosis {
            findings.push(it.sentence.clone());
            findings.extend(it.suspects.iter().map(|it| it.evidence.clone()));
        }
        assert!(findings.len() > 30, "{findings:#?}");
        for (form, shown) in [
            ("text", text::full(&report, None)),
            ("markdown", markdown::markdown(&report)),
            ("html", html::html(&report).unwrap().replace("&#39;", "'")),
        ] {
            let shown = bare(&shown);
            for finding in &findings {
                let finding = finding.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(
                    shown.contains(&finding),
                    "{name}: {form} does not say {finding:?}:\n{shown}"
                );
            }
        }
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

#[test]
fn a_hang_without_a_told_error_denies_no_time_out() {
    let mut run = hung();
    for event in &mut run.events {
        if let Body::Training { event, .. } = &mut event.body
            && event.kind == "exit"
        {
            event.because = None;
        }
    }
    let text = markdown::markdown(&conclude(&run));
    assert!(
        text.contains("\nNo process told of an error before it ended.\n"),
        "{text}"
    );
}
