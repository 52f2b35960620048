//! `squall status`: what runs and what is outstanding. Reads only.

use crate::Outcome;
use crate::arguments::{Format, Status as Arguments};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_control::status::{Status, status};
use squall_faults::lease::Standing;
use squall_faults::recover::Outstanding;
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let found =
        status(&super::state_dir()?).map_err(|error| Failure::new(Exit::Bug, error, None))?;
    let exit = if found.outstanding.is_empty() {
        Exit::Held
    } else {
        Exit::NotRolledBack
    };
    match arguments.format {
        Format::Json => machine(&found, exit)?,
        Format::Text => people(&found),
    }
    Ok(exit)
}

fn people(found: &Status) {
    for one in &found.live {
        println!(
            "{} run {}   {}",
            style(Paint::Warn, "▲ live", Stream::Out),
            one.summary.run,
            one.summary.title
        );
    }
    // What a live run holds is its own business, and will be undone by it.
    for one in &found.injected {
        println!(
            "{} by run {}: {}",
            style(Paint::Warn, "▲ injected", Stream::Out),
            one.run,
            lease(one)
        );
        list(one);
    }
    for one in &found.outstanding {
        println!(
            "{} run {}: {}",
            style(Paint::Error, "✗ outstanding", Stream::Out),
            one.run,
            lease(one)
        );
        list(one);
        println!("    undo it: squall undo {}", one.run);
    }
    for run in &found.cut_off {
        println!(
            "  run {} was cut off; the next `squall run` or `squall undo --all` closes its record",
            run.run
        );
    }
    if found.injected.is_empty() && found.outstanding.is_empty() {
        println!(
            "{} nothing is injected; nothing is outstanding",
            style(Paint::Good, "✓", Stream::Out)
        );
    }
}

fn machine(found: &Status, exit: Exit) -> Result<(), Failure> {
    json(&serde_json::json!({
        "version": "squall.status/1", "exit": exit.code(),
        "live": found.live.iter().map(|one| &one.summary).collect::<Vec<_>>(),
        "injected": found.injected.iter().map(one_run).collect::<Vec<_>>(),
        "outstanding": found.outstanding.iter().map(one_run).collect::<Vec<_>>(),
        "cut_off": found.cut_off,
    }))
}

fn lease(one: &Outstanding) -> String {
    match one.standing {
        Some(Standing::Live { left }) => format!("lease {:.1} s", left.as_secs_f64()),
        Some(Standing::Over { by }) if by.as_secs() < 86_400 * 365 => {
            format!("lease over since {:.0} s", by.as_secs_f64())
        }
        Some(Standing::Over { .. }) => "its lease is of another boot".to_owned(),
        None => "no lease can be read".to_owned(),
    }
}

fn list(one: &Outstanding) {
    for injection in &one.injections {
        println!(
            "    {} {} ({:?})",
            injection.about.kind, injection.id, injection.phase
        );
    }
    if let Some(problem) = &one.problem {
        println!("    {problem}");
    }
}

fn one_run(one: &Outstanding) -> serde_json::Value {
    let left = match one.standing {
        Some(Standing::Live { left }) => Some(left.as_secs_f64()),
        _ => None,
    };
    serde_json::json!({
        "run": one.run, "dir": one.run_dir, "held": one.held, "lease_left_s": left, "problem": one.problem,
        "injections": one.injections.iter().map(|injection| serde_json::json!({
            "injection": injection.id, "kind": injection.about.kind, "state": format!("{:?}", injection.phase).to_lowercase(),
        })).collect::<Vec<_>>(),
    })
}
