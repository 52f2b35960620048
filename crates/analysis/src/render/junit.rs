//! JUnit XML in the dialect that Jenkins reads: one test suite, whose test cases are the rollback and the landing of
//! each injection, each expectation, and the run itself. A finding about the system is a *failure*; what Squall could
//! not do or decide is an *error*, so that an inconclusive run is never green.

use super::safe;
use crate::expect::Judgement;
use crate::landing::Gone;
use crate::report::Report;
use squall_model::exit::Exit;

/// How one test case ended.
enum Outcome {
    Passed,
    Failed { kind: &'static str, message: String },
    Erred { kind: &'static str, message: String },
}

struct Case {
    class: &'static str,
    name: String,
    ns: u64,
    outcome: Outcome,
    /// What was measured, whatever the outcome.
    output: String,
}

/// The report as one JUnit test suite.
pub fn junit(report: &Report) -> String {
    let cases = cases(report);
    let count = |of: fn(&Outcome) -> bool| cases.iter().filter(|case| of(&case.outcome)).count();
    let failures = count(|it| matches!(it, Outcome::Failed { .. }));
    let errors = count(|it| matches!(it, Outcome::Erred { .. }));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    xml += &format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" time=\"{}\" timestamp=\"{}\" id=\"{}\">\n",
        escape(&report.title),
        cases.len(),
        seconds(report.length_ns),
        escape(report.started_utc.trim_end_matches('Z')),
        escape(&report.run.0),
    );
    xml += "    <properties>\n";
    for (name, value) in properties(report) {
        xml += &format!(
            "      <property name=\"{name}\" value=\"{}\"/>\n",
            escape(&value)
        );
    }
    xml += "    </properties>\n";
    for case in &cases {
        xml += &element(case);
    }
    xml += "  </testsuite>\n</testsuites>\n";
    xml
}

fn properties(report: &Report) -> Vec<(&'static str, String)> {
    let mut properties = vec![
        ("run", report.run.0.clone()),
        ("verdict", report.verdict.word.clone()),
        ("exit", report.verdict.code.to_string()),
        ("seed", report.reproduce.seed.to_string()),
        ("again", report.reproduce.command.clone()),
    ];
    if let Some(it) = &report.diagnosis {
        properties.push(("cause", it.sentence.clone()));
    }
    properties
}

fn cases(report: &Report) -> Vec<Case> {
    let mut cases = vec![run(report)];
    for it in &report.injections {
        let name = format!("{} on {} ({})", it.kind, it.target, it.id);
        let output = it.gone_words.clone();
        let message = || match &it.remedy {
            Some(remedy) => format!("{}; to do: {remedy}", it.gone_words),
            None => it.gone_words.clone(),
        };
        let outcome = match it.gone {
            Gone::Gone | Gone::NothingToUndo | Gone::Superseded => Outcome::Passed,
            Gone::Unknown => Outcome::Erred {
                kind: "not-read-back",
                message: message(),
            },
            Gone::StillPresent | Gone::Stuck | Gone::Outstanding => Outcome::Erred {
                kind: "not-rolled-back",
                message: message(),
            },
        };
        let ns = it
            .gone_ns
            .map_or(0, |gone| gone.saturating_sub(it.begun_ns));
        cases.push(Case {
            class: "squall.rollback",
            name: name.clone(),
            ns,
            outcome,
            output,
        });
        let message = it.landed_words.clone();
        let outcome = if it.landed.as_aimed() {
            Outcome::Passed
        } else {
            Outcome::Erred {
                kind: "not-as-aimed",
                message,
            }
        };
        let ns = it
            .landed_ns
            .map_or(0, |landed| landed.saturating_sub(it.begun_ns));
        let output = it.landed_words.clone();
        cases.push(Case {
            class: "squall.landing",
            name,
            ns,
            outcome,
            output,
        });
    }
    for (index, it) in report.expectations.iter().enumerate() {
        let message = it.measured.clone();
        cases.push(Case {
            class: "squall.expectation",
            // The number keeps two equal expectations apart.
            name: format!("{} {}: {}", index + 1, it.key, it.expected),
            ns: 0,
            outcome: match it.judgement {
                Judgement::Held => Outcome::Passed,
                Judgement::Deviated => Outcome::Failed {
                    kind: "deviated",
                    message,
                },
                Judgement::Inconclusive => Outcome::Erred {
                    kind: "inconclusive",
                    message,
                },
            },
            output: it.measured.clone(),
        });
    }
    cases
}

/// The run as a whole: red whenever the exit code is not 0.
fn run(report: &Report) -> Case {
    let message = format!("{}: {}", report.verdict.word, report.verdict.sentence);
    Case {
        class: "squall.run",
        name: "verdict".into(),
        ns: report.length_ns,
        output: message.clone(),
        outcome: match report.verdict.exit {
            Exit::Held => Outcome::Passed,
            Exit::Deviated => Outcome::Failed {
                kind: "deviated",
                message,
            },
            _ => Outcome::Erred {
                kind: "not-concluded",
                message,
            },
        },
    }
}

fn element(case: &Case) -> String {
    let inner = match &case.outcome {
        Outcome::Passed => String::new(),
        Outcome::Failed { kind, message } => problem("failure", kind, message),
        Outcome::Erred { kind, message } => problem("error", kind, message),
    };
    format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\">\n{inner}      <system-out>{}</system-out>\n    </testcase>\n",
        case.class,
        escape(&case.name),
        seconds(case.ns),
        escape(&case.output),
    )
}

fn problem(element: &str, kind: &str, message: &str) -> String {
    let message = escape(message);
    format!("      <{element} type=\"{kind}\" message=\"{message}\">{message}</{element}>\n")
}

fn seconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e9)
}

/// Text for an attribute or an element: unsafe characters replaced, markup escaped, line breaks kept as references.
fn escape(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '&' => xml += "&amp;",
            '<' => xml += "&lt;",
            '>' => xml += "&gt;",
            '"' => xml += "&quot;",
            '\'' => xml += "&apos;",
            '\n' => xml += "&#10;",
            '\t' => xml += "&#9;",
            c => xml.push(c),
        }
    }
    xml
}
