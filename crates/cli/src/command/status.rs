//! `squall status`: what runs and what is outstanding. Reads only.

use crate::Outcome;
use crate::arguments::{Format, Status};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_faults::lease::Standing;
use squall_faults::recover::{Outstanding, outstanding};
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Status) -> Outcome {
    let state = super::state_dir()?;
    let found = outstanding(&state).map_err(|error| {
        Failure::new(
            Exit::Bug,
            format!("could not read {}, because {error}", state.display()),
            None,
        )
    })?;
    // What a live run holds is its own business, and will be undone by it.
    let (live, left): (Vec<&Outstanding>, Vec<&Outstanding>) =
        found.iter().partition(|one| is_live(one));
    let exit = if left.is_empty() {
        Exit::Held
    } else {
        Exit::NotRolledBack
    };
    if arguments.format == Format::Json {
        json(&serde_json::json!({
            "version": "squall.status/1", "exit": exit.code(),
            "live": live.iter().map(|one| machine(one)).collect::<Vec<_>>(),
            "outstanding": left.iter().map(|one| machine(one)).collect::<Vec<_>>(),
        }))?;
        return Ok(exit);
    }
    for one in &live {
        println!(
            "{} run {}: {}",
            style(Paint::Warn, "▲ live", Stream::Out),
            one.run,
            lease(one)
        );
        list(one);
    }
    for one in &left {
        println!(
            "{} run {}: {}",
            style(Paint::Error, "✗ outstanding", Stream::Out),
            one.run,
            lease(one)
        );
        list(one);
        println!("    undo it: squall undo {}", one.run);
    }
    if found.is_empty() {
        println!(
            "{} nothing is injected; nothing is outstanding",
            style(Paint::Good, "✓", Stream::Out)
        );
    }
    Ok(exit)
}

/// Its holders are at work, or will be noticed as stopped within the lease.
pub(crate) fn is_live(one: &Outstanding) -> bool {
    one.held && !one.standing.is_some_and(Standing::is_abandoned)
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

fn machine(one: &Outstanding) -> serde_json::Value {
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
