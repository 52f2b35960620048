//! What a person sees for each mistake, and that doing what it says helps.

mod cases;
#[path = "../support/mod.rs"]
mod support;

use cases::{BASE, Case, cases};
use squall_model::diagnostic::{Diagnostic, render};
use squall_model::load::read;
use std::collections::BTreeSet;
use std::fmt::Write;
use support::TestFaults;

fn problems(text: &str) -> Vec<Diagnostic> {
    read::<TestFaults>(text, "experiment.yaml")
        .err()
        .unwrap_or_default()
}

fn with(case: &Case, part: &str) -> String {
    assert!(
        BASE.contains(case.part),
        "{} is no part of the base",
        case.part
    );
    BASE.replacen(case.part, part, 1)
}

fn codes(found: &[Diagnostic]) -> Vec<&str> {
    found.iter().map(|one| one.code.as_str()).collect()
}

#[test]
fn the_base_of_all_cases_is_sound() {
    assert_eq!(
        problems(BASE),
        Vec::new(),
        "{}",
        render(&problems(BASE), BASE, "base")
    );
}

#[test]
fn each_mistake_has_its_code_and_each_remedy_removes_it() {
    let mut wrong = String::new();
    for case in cases() {
        let (broken, fixed) = (with(case, case.broken), with(case, case.fixed));
        let found = problems(&broken);
        if !codes(&found).contains(&case.code) {
            writeln!(
                wrong,
                "{} is not among {:?} for\n{}\n",
                case.code,
                codes(&found),
                case.broken
            )
            .expect("a string");
        }
        let left = problems(&fixed);
        if !left.is_empty() {
            writeln!(
                wrong,
                "the remedy leaves\n{}",
                render(&left, &fixed, "fixed")
            )
            .expect("a string");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_file_of_something_else_is_one_problem_and_not_one_for_each_line() {
    for text in [
        "services:\n  db: {image: postgres}\nvolumes: {}\nnetworks: {}\n",
        "version: 1\ntime: {pattern: x}\nevents: []\n",
        "title: Policy\ntype: object\nproperties: {}\n$id: x\n",
    ] {
        assert_eq!(codes(&problems(text)), ["not-an-experiment"], "{text}");
    }
    // One that is meant as an experiment is told all that is wrong with it.
    let meant = problems("titel: x\nworkload: {process: {run: a}}\nmethod: []\nworklod: 1\n");
    assert!(meant.len() > 2 && !codes(&meant).contains(&"not-an-experiment"));
}

#[test]
fn each_problem_tells_where_and_what_to_do() {
    for case in cases() {
        let broken = with(case, case.broken);
        for one in problems(&broken) {
            assert!(one.help.is_some(), "{one:?}");
            assert!(one.span.is_some() && one.label.is_some(), "{one:?}");
            assert!(
                !one.message.ends_with('.') && !one.message.contains('\n'),
                "{one:?}"
            );
        }
    }
}

#[test]
fn the_page_of_all_diagnostics() {
    let mut page = String::new();
    for case in cases() {
        let broken = with(case, case.broken);
        write!(
            page,
            "── {}\n{}\n",
            case.code,
            render(&problems(&broken), &broken, "experiment.yaml")
        )
        .expect("a string");
    }
    insta::assert_snapshot!(page);
}

#[test]
fn there_are_at_least_thirty_cases_of_fifteen_kinds() {
    let kinds: BTreeSet<&str> = cases().map(|case| case.code).collect();
    assert!(
        cases().count() >= 30 && kinds.len() >= 15,
        "{} cases of {} kinds",
        cases().count(),
        kinds.len()
    );
}

#[test]
fn five_planted_errors_are_all_reported_at_once() {
    let text = "\
version: 1
tittle: five mistakes
workload:
  training: {run: train --epochs 40}
method:
  - proces-kill: {target: {rank: 1}}
  - process-pause: {target: {rank: 1}, for: 10}
  - process-kill: {target: {name: nobody}, at: {step: 0}}
";
    let found = problems(text);
    let mut seen = codes(&found);
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "missing-unit",
            "unknown-fault",
            "unknown-key",
            "unknown-target",
            "zero-value"
        ]
    );
    insta::assert_snapshot!(render(&found, text, "five.yaml"));
}

#[test]
fn one_mistake_gives_one_problem() {
    // A slip must not drag others behind it: what it made doubtful is not judged.
    for (part, broken) in [
        ("workload:", "worklod:"),
        ("targets:", "tragets:"),
        ("training: {", "trainig: {"),
        ("{rank: 1}", "{rnak: 1}"),
        ("at: {time: 10s}", "for: 10, at: {time: 10s}"),
        ("process-kill: {", "process-pause: {fro: 10s, "),
        (
            "every: epoch, within: 30s",
            "every: epoch, within: 30s, within: 3s",
        ),
        ("method:", "methd:"),
        ("time: 10s", "tiem: 10s"),
    ] {
        let text = BASE.replacen(part, broken, 1);
        let found = problems(&text);
        let expected = if broken.contains("for: 10,") { 2 } else { 1 };
        assert_eq!(
            found.len(),
            expected,
            "{}",
            render(&found, &text, "one.yaml")
        );
    }
}

#[test]
fn a_secret_on_the_line_of_a_problem_is_not_shown() {
    let text = BASE.replacen(
        "reference: true",
        "reference: yes, env: {API_TOKEN: hunter2}",
        1,
    );
    let shown = render(&problems(&text), &text, "x.yaml");
    assert!(
        shown.contains("API_TOKEN: •••••••") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn the_caret_stands_under_wide_characters() {
    let text = BASE.replacen("{rank: 1}", "{rank: 1, 日本語é: 2, x: 3}", 1);
    insta::assert_snapshot!(render(&problems(&text), &text, "wide.yaml"));
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = BASE.replacen(
        "title: the job survives",
        &format!("title: {} # {}\nsed: 1", "x".repeat(300), "y".repeat(300)),
        1,
    );
    let long = text.replacen(
        "{rank: 1}",
        &format!("{{rank: 1, note: {}, end: 2}}", "z".repeat(300)),
        1,
    );
    insta::assert_snapshot!(render(&problems(&long), &long, "long.yaml"));
}

#[test]
fn problems_are_json_for_machines() {
    let text = BASE.replacen("title:", "tittle:", 1);
    let json = serde_json::to_string_pretty(&problems(&text)).expect("JSON");
    insta::assert_snapshot!(json);
}
