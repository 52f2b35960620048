//! `squall runs`.

use crate::Outcome;
use crate::arguments::{Format, Runs};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_control::store::{RunSummary, runs};
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Runs) -> Outcome {
    let runs = list()?;
    if arguments.format == Format::Json {
        json(&serde_json::json!({"version": "squall.runs/1", "runs": runs}))?;
        return Ok(Exit::Held);
    }
    if runs.is_empty() {
        println!("no runs in {}", super::state_dir()?.display());
    }
    for run in &runs {
        let started = run
            .started_utc
            .get(..19)
            .unwrap_or(&run.started_utc)
            .replace('T', " ");
        let state = style(Paint::Strong, state(run), Stream::Out);
        println!(
            "{}  {started}  {:>8.1} s  {state:14} {}",
            run.run, run.seconds, run.title
        );
        if let Some(problem) = &run.problem {
            println!("          could not be read: {problem}");
        }
    }
    Ok(Exit::Held)
}

/// All runs of this user's state folder, oldest first.
pub(crate) fn list() -> Result<Vec<RunSummary>, Failure> {
    runs(&super::state_dir()?).map_err(|error| Failure::new(Exit::Bug, error, None))
}

fn state(run: &RunSummary) -> &'static str {
    match run.exit {
        _ if run.live => "running",
        None => "cut off",
        Some(Exit::Held) => "held",
        Some(Exit::Deviated) => "deviated",
        Some(Exit::NotSteady) => "not steady",
        Some(Exit::Aborted) => "aborted",
        Some(Exit::Interrupted) => "interrupted",
        Some(Exit::Inconclusive) => "inconclusive",
        Some(Exit::NotRolledBack) => "NOT UNDONE",
        Some(Exit::Bug) => "bug",
        Some(_) => "refused",
    }
}

/// The one run whose id starts with `wanted`, or `last`.
pub(crate) fn find(wanted: &str) -> Result<RunSummary, Failure> {
    let mut runs = list()?;
    if wanted == "last" {
        return runs.pop().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "there is no run yet",
                Some("`squall run FILE` makes one"),
            )
        });
    }
    let mut found: Vec<RunSummary> = runs
        .into_iter()
        .filter(|run| run.run.starts_with(wanted))
        .collect();
    match (found.pop(), found.len()) {
        (Some(run), 0) => Ok(run),
        (None, _) => Err(Failure::new(
            Exit::Usage,
            format!("no run's id starts with `{wanted}`"),
            Some("`squall runs` lists them"),
        )),
        (Some(_), more) => Err(Failure::new(
            Exit::Usage,
            format!("the ids of {} runs start with `{wanted}`", more + 1),
            Some("give more of the id; `squall runs` lists them"),
        )),
    }
}
