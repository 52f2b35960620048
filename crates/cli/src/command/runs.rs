//! `squall runs`.

use crate::Outcome;
use crate::arguments::{Format, Runs};
use crate::live::{columns, fitted, shortened};
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
    print!("{}", table(&runs, columns(Stream::Out)));
    Ok(Exit::Held)
}

/// A line a run. At a terminal the id is as much of its beginning as tells it from the others, and the title loses its middle.
fn table(runs: &[RunSummary], columns: Option<usize>) -> String {
    let ids: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    let id_width = columns.map_or(usize::MAX, |_| telling(&ids));
    let mut table = String::new();
    for run in runs {
        let started = run.started_utc.get(..19).unwrap_or(&run.started_utc);
        let started = started.replace('T', " ");
        let id = run.run.get(..id_width).unwrap_or(&run.run);
        let before = format!("{id}  {started}  {:>8.1} s  ", run.seconds);
        let state_text = format!("{:14}", state(run));
        let title = match columns {
            Some(columns) => {
                let used = before.chars().count() + state_text.len() + 1;
                shortened(&run.title, columns.saturating_sub(used).max(8))
            }
            None => run.title.clone(),
        };
        let state_text = style(Paint::Strong, &state_text, Stream::Out);
        table.push_str(&format!("{before}{state_text} {title}\n"));
        if let Some(problem) = &run.problem {
            let line = format!("          could not be read: {problem}");
            table.push_str(&fitted(&line, columns, 10));
            table.push('\n');
        }
    }
    table
}

/// The shortest length, 8 at least, at which all ids differ.
fn telling(ids: &[&str]) -> usize {
    let longest = ids.iter().map(|id| id.len()).max().unwrap_or(0);
    let differ = |length: &usize| {
        let starts: std::collections::BTreeSet<&str> = ids
            .iter()
            .map(|id| id.get(..*length).unwrap_or(id))
            .collect();
        starts.len() == ids.len()
    };
    (8..longest).find(differ).unwrap_or(longest)
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
        Some(Exit::Usage) => "usage",
        Some(Exit::Invalid) => "invalid",
        Some(Exit::NoTarget) => "no target",
        Some(Exit::Unmet) => "unmet",
        Some(Exit::Unreachable) => "unreachable",
        Some(Exit::Refused) => "refused",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, problem: Option<&str>) -> RunSummary {
        RunSummary {
            run: id.into(),
            dir: "/r".into(),
            title: "the trainer survives losing a rank every ten epochs".into(),
            started_utc: "2026-11-24T13:34:05.471Z".into(),
            seed: 7,
            seconds: 17.34,
            stage: None,
            exit: Some(Exit::Interrupted),
            live: false,
            landed: 0,
            outstanding: 0,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn runs_fit_eighty_columns_and_their_ids_can_be_typed() {
        let runs = [
            run("01a20dc3-7e9e-715e-86ba-0ab2bf49ffef", None),
            run(
                "01a20dc3-7f00-715e-86ba-0ab2bf49ffef",
                Some(
                    "could not open /var/lib/squall/runs/01a20dc3-7f00-715e-86ba-0ab2bf49ffef/run.db, because it is gone",
                ),
            ),
        ];
        let narrow = table(&runs, Some(80));
        for line in narrow.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(
            narrow.starts_with("01a20dc3-7e  2026-11-24 13:34:05      17.3 s  interrupted    the "),
            "{narrow}"
        );
        let plain = table(&runs, None);
        for run in &runs {
            assert!(plain.contains(&run.run) && plain.contains(&run.title));
        }
    }
}
