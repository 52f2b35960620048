//! `squall plan`: what a run would touch. Touches nothing.

use super::file;
use crate::Outcome;
use crate::arguments::{Format, Plan as Arguments};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_control::run::{Script, Source};
use squall_model::exit::Exit;
use squall_model::plan::{Plan, build};
use std::path::Path;

/// An experiment, read, checked and planned.
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) script: Script,
}

/// Reads, checks and plans.
pub(crate) fn prepare(path: &Path, seed: Option<u64>) -> Result<Prepared, Failure> {
    let (mut loaded, text) = file::read(path)?;
    if seed.is_some() {
        loaded.experiment.seed = seed;
    }
    let seed = loaded.experiment.seed.unwrap_or_else(drawn);
    let plan = build(&loaded.experiment, seed);
    let directory = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let directory = directory.canonicalize().map_err(|error| {
        Failure::new(
            Exit::Invalid,
            format!(
                "could not find the folder of {}, because {error}",
                path.display()
            ),
            None,
        )
    })?;
    let source = Source {
        file: path.display().to_string(),
        text,
        sha256: loaded.sha256.clone(),
        directory,
    };
    let mut script = Script::new(&loaded.experiment, source, seed);
    script.plan = serde_json::to_value(&plan).unwrap_or_default();
    Ok(Prepared { plan, script })
}

/// A seed from the clock: recorded with the run, so that it can be given again.
fn drawn() -> u64 {
    squall_control::clock::boot_ns() & 0xffff_ffff
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let prepared = prepare(&arguments.file, arguments.seed)?;
    match arguments.format {
        Format::Json => json(&prepared.plan)?,
        Format::Text => print!("{}", text(&prepared, Stream::Out)),
    }
    Ok(Exit::Held)
}

/// The plan for people.
pub(crate) fn text(prepared: &Prepared, stream: Stream) -> String {
    let plan = &prepared.plan;
    let mut text = format!(
        "{}   {}   seed {}\n",
        style(
            Paint::Strong,
            concat!("squall ", env!("CARGO_PKG_VERSION")),
            stream
        ),
        plan.title,
        plan.seed,
    );
    for rule in &plan.rules {
        let target = rule
            .target_name
            .clone()
            .unwrap_or_else(|| selector(&rule.target));
        text.push_str(&format!(
            " plan     {} {target}, {} · {}",
            rule.kind, rule.aim, rule.blast_radius
        ));
        if let Some(mechanism) = &rule.mechanism {
            text.push_str(&format!(" · {mechanism}"));
        }
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
            .map(|(key, value)| {
                format!(
                    "{key} {}",
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}
