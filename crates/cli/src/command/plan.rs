//! `squall plan`: what a run would touch. Touches nothing.

use crate::Outcome;
use crate::arguments::{Format, Plan as Arguments};
use crate::live::for_terminal;
use crate::output::{Failure, Paint, Stream, folded, json, style};
use squall_control::prepare::{Circumstances, PrepareError, Prepared, prepare as prepared};
use squall_model::exit::Exit;
use squall_model::plan::Plan;
use std::io::IsTerminal;
use std::path::Path;

/// Reads, checks, plans, and holds the plan against policies and host.
pub(crate) fn prepare(path: &Path, seed: Option<u64>) -> Result<Prepared, Failure> {
    prepared(path, &Circumstances::here(seed)).map_err(|error| explain(error, path))
}

/// What a person is told when an experiment may not be played.
fn explain(error: PrepareError, path: &Path) -> Failure {
    let exit = error.exit();
    let message = error.to_string();
    match error {
        PrepareError::Invalid { text, problems } => {
            Failure::diagnostics(&problems, &text, &path.display().to_string())
        }
        PrepareError::Refused { refusals, plan } => {
            let mut failure = Failure::new(exit, message, None);
            for refusal in &refusals {
                failure.add(
                    &format!(
                        "{} ({}: {})",
                        refusal.what, refusal.policy.file, refusal.key
                    ),
                    &refusal.remedy,
                );
            }
            failure.after(&text(&plan, Stream::Error))
        }
        PrepareError::Unmet { unmet, plan } => {
            let mut failure = Failure::new(exit, message, None);
            for (_, lack) in &unmet {
                failure.add(&lack.what, &lack.remedy);
            }
            failure.after(&text(&plan, Stream::Error))
        }
        PrepareError::File { .. } => Failure::new(
            exit,
            message,
            Some("give the path of an experiment file; `squall faults` lists what can stand in it"),
        ),
        PrepareError::NoTarget { .. } => Failure::new(
            exit,
            message,
            Some(
                "start what the selector names, or change the selector (what the workload itself starts is named by `rank` or `workload`); an empty selection is never a success",
            ),
        ),
        PrepareError::Policy(_) => Failure::new(
            exit,
            message,
            Some("mend the policy file; while it cannot be read, nothing is allowed"),
        ),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let prepared = prepare(&arguments.file, arguments.seed)?;
    match arguments.format {
        Format::Json => json(&prepared.plan)?,
        Format::Text if std::io::stdout().is_terminal() => {
            println!("{}", for_terminal(&text(&prepared.plan, Stream::Out)));
        }
        Format::Text => print!("{}", text(&prepared.plan, Stream::Out)),
    }
    Ok(Exit::Held)
}

/// The plan for people.
pub(crate) fn text(plan: &Plan, stream: Stream) -> String {
    let mut text = format!(
        "{}   {}   seed {}",
        style(
            Paint::Strong,
            concat!("squall ", env!("CARGO_PKG_VERSION")),
            stream
        ),
        plan.title,
        plan.seed,
    );
    // Of one rule the head says whom it touches at most; of several each says it for itself.
    if let [rule] = &plan.rules[..] {
        text.push_str(&format!("   blast radius {}", rule.blast_radius));
    }
    text.push('\n');
    if let Some(isolation) = &plan.isolation {
        text.push_str(&folded(&format!(" plan     {isolation}")));
        text.push('\n');
    }
    for rule in &plan.rules {
        let target = rule
            .target_name
            .clone()
            .unwrap_or_else(|| selector(&rule.target));
        let mut line = format!(" plan     {} {target}, {}", rule.kind, rule.aim);
        if plan.rules.len() > 1 {
            line.push_str(&format!(" · {}", rule.blast_radius));
        }
        if let Some(mechanism) = &rule.mechanism {
            line.push_str(&format!(" · {mechanism}"));
        }
        text.push_str(&folded(&line));
        text.push('\n');
        for unmet in &rule.unmet {
            text.push_str(&format!(
                "          {} lacks {}; {}\n",
                style(Paint::Error, "✗", stream),
                unmet.what,
                unmet.remedy
            ));
        }
    }
    text
}

fn selector(selector: &squall_model::timing::Selector) -> String {
    match serde_json::to_value(selector) {
        Ok(serde_json::Value::Object(map)) => map
            .iter()
            .filter(|(key, _)| *key != "at-most")
            .map(|(key, value)| match value {
                serde_json::Value::Bool(true) => key.clone(),
                serde_json::Value::String(text) => format!("{key} {text}"),
                other => format!("{key} {other}"),
            })
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}
