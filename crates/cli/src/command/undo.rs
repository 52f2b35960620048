//! `squall undo`: takes back what a crashed run left. Never touches a live run.

use super::{runs, state_dir};
use crate::Outcome;
use crate::arguments::{Format, Undo};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_control::run::close_earlier;
use squall_faults::recover::sweep::{Fate, Found, sweep};
use squall_faults::recover::{RecoverError, Recovered, recover_all, recover_run};
use squall_model::exit::Exit;
use std::io;
use std::path::{Path, PathBuf};

type Results = Vec<(PathBuf, Result<Recovered, RecoverError>)>;

pub(crate) fn run(arguments: &Undo) -> Outcome {
    let state = state_dir()?;
    let results = match &arguments.run {
        Some(wanted) => {
            let dir = runs::find(wanted)?.dir;
            let result = recover_run(&dir, arguments.force);
            vec![(dir, result)]
        }
        None => recover_all(&state, false).map_err(|error| unreadable(&state, &error))?,
    };
    let found = if arguments.sweep {
        sweep(&state, arguments.force).map_err(|error| unreadable(&state, &error))?
    } else {
        Vec::new()
    };
    let told = close_earlier(&state);
    let one = arguments.run.is_some();
    let exit = exit(&results, &found, one);
    match arguments.format {
        Format::Json => machine(&results, &found, exit)?,
        Format::Text => {
            people(&results, &found, one);
            told.iter().for_each(|text| println!("  {text}"));
        }
    }
    Ok(exit)
}

fn unreadable(state: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Bug,
        format!(
            "could not look through {}, because {error}",
            state.display()
        ),
        None,
    )
}

/// Stuck changes are 40. A run that was named and is live, or to be undone elsewhere, is a refusal; among all runs it is left alone.
fn exit(results: &Results, found: &[Found], one: bool) -> Exit {
    let mut exit = Exit::Held;
    for (_, result) in results {
        exit = exit.outranking(match result {
            Ok(recovered) if recovered.stuck().next().is_none() => Exit::Held,
            Ok(_) => Exit::NotRolledBack,
            Err(RecoverError::Live { .. } | RecoverError::Elsewhere { .. }) if one => Exit::Refused,
            Err(
                RecoverError::Live { .. }
                | RecoverError::Elsewhere { .. }
                | RecoverError::Foreign { .. },
            ) => Exit::Held,
            Err(_) => Exit::NotRolledBack,
        });
    }
    let stuck = found
        .iter()
        .any(|one| matches!(one.fate, Fate::Stuck { .. } | Fate::Unattributed));
    if stuck {
        exit.outranking(Exit::NotRolledBack)
    } else {
        exit
    }
}

fn people(results: &Results, found: &[Found], one: bool) {
    let mut undone = 0;
    for (dir, result) in results {
        match result {
            Ok(recovered) => {
                for outcome in &recovered.outcomes {
                    undone += 1;
                    let evidence = outcome
                        .observations
                        .first()
                        .map_or("", |seen| seen.evidence.as_str());
                    match &outcome.stuck {
                        None => println!(
                            "{} {} {} undone   {evidence}",
                            style(Paint::Good, "✓", Stream::Out),
                            outcome.kind,
                            outcome.injection
                        ),
                        Some(stuck) => println!(
                            "{} {} {} is stuck: {}\n    type: {}",
                            style(Paint::Error, "✗", Stream::Out),
                            outcome.kind,
                            outcome.injection,
                            stuck.because,
                            stuck.remedy
                        ),
                    }
                }
            }
            Err(RecoverError::Live { .. }) if !one => {
                println!("  {} is live and was left alone", dir.display())
            }
            Err(error @ RecoverError::Elsewhere { .. }) if !one => {
                println!("  left alone: {error}")
            }
            Err(error) => eprintln!("{} {error}", style(Paint::Error, "error:", Stream::Error)),
        }
    }
    for one in found {
        undone += 1;
        match &one.fate {
            Fate::Removed => println!(
                "{} {} removed",
                style(Paint::Good, "✓", Stream::Out),
                one.what
            ),
            Fate::Live => println!("  {} belongs to a live run and was left alone", one.what),
            Fate::Unattributed => println!(
                "{} {} belongs to no run of this state folder; --force takes it back",
                style(Paint::Warn, "▲", Stream::Out),
                one.what
            ),
            Fate::Stuck { because, remedy } => println!(
                "{} {}: {because}\n    type: {remedy}",
                style(Paint::Error, "✗", Stream::Out),
                one.what
            ),
        }
    }
    if undone == 0 && results.iter().all(|(_, result)| result.is_ok()) {
        println!(
            "{} nothing was outstanding",
            style(Paint::Good, "✓", Stream::Out)
        );
    }
}

fn machine(results: &Results, found: &[Found], exit: Exit) -> Result<(), Failure> {
    let runs: Vec<serde_json::Value> = results
        .iter()
        .map(|(dir, result)| match result {
            Ok(recovered) => serde_json::json!({"run": recovered.run, "dir": dir, "injections": recovered.outcomes.iter().map(|outcome| serde_json::json!({
                "injection": outcome.injection, "kind": outcome.kind, "observations": outcome.observations,
                "stuck": outcome.stuck.as_ref().map(|stuck| serde_json::json!({"because": stuck.because, "remedy": stuck.remedy})),
            })).collect::<Vec<_>>()}),
            Err(error) => serde_json::json!({"dir": dir, "error": error.to_string()}),
        })
        .collect();
    let swept: Vec<serde_json::Value> = found
        .iter()
        .map(|one| serde_json::json!({"what": one.what, "run": one.run, "fate": format!("{:?}", one.fate)}))
        .collect();
    json(
        &serde_json::json!({"version": "squall.undo/1", "exit": exit.code(), "runs": runs, "swept": swept}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_faults::origin::Elsewhere;
    use squall_model::id::RunId;

    #[test]
    fn a_run_of_another_machine_is_refused_where_it_was_named_and_left_alone_among_all() {
        let error = RecoverError::Elsewhere {
            run: RunId("r1".into()),
            elsewhere: Elsewhere::Machine {
                there: "node-a".into(),
                here: "node-b".into(),
            },
        };
        assert_eq!(
            error.to_string(),
            "could not undo run r1, because it was made on the machine `node-a`, and this is `node-b`; type on `node-a`: \
             squall undo r1   (when that is gone for good, type here: squall undo r1 --force)"
        );
        let results = vec![(PathBuf::from("runs/r1"), Err(error))];
        assert_eq!(exit(&results, &[], true), Exit::Refused);
        assert_eq!(exit(&results, &[], false), Exit::Held);
    }
}
