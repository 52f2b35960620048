//! `squall status`: what runs and what is outstanding. Reads only.

use crate::Outcome;
use crate::arguments::{Format, Status as Arguments};
use crate::live::{columns, fitted};
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
        Format::Text => print!("{}", people(&found, columns(Stream::Out))),
    }
    Ok(exit)
}

fn people(found: &Status, columns: Option<usize>) -> String {
    let mut page = String::new();
    let mut add = |line: String| {
        page.push_str(&fitted(&line, columns, 6));
        page.push('\n');
    };
    for one in &found.live {
        let mark = style(Paint::Warn, "▲ live", Stream::Out);
        add(format!(
            "{mark} run {}   {}",
            one.summary.run, one.summary.title
        ));
    }
    // What a live run holds is its own business, and will be undone by it.
    for one in &found.injected {
        let mark = style(Paint::Warn, "▲ injected", Stream::Out);
        add(format!("{mark} by run {}: {}", one.run, lease(one)));
        list(one).into_iter().for_each(&mut add);
    }
    for one in &found.outstanding {
        let mark = style(Paint::Error, "✗ outstanding", Stream::Out);
        add(format!("{mark} run {}: {}", one.run, lease(one)));
        list(one).into_iter().for_each(&mut add);
        match &one.elsewhere {
            None => add(format!("    undo it: squall undo {}", one.run)),
            Some(elsewhere) => {
                add(format!("    {elsewhere}"));
                let place = elsewhere.place();
                add(format!("    undo it {place}: squall undo {}", one.run));
            }
        }
    }
    for run in &found.cut_off {
        add(format!(
            "  run {} was cut off; the next `squall run` or `squall undo --all` closes its record",
            run.run
        ));
    }
    if found.injected.is_empty() && found.outstanding.is_empty() {
        let mark = style(Paint::Good, "✓", Stream::Out);
        add(format!(
            "{mark} nothing is injected; nothing is outstanding"
        ));
    }
    page
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

/// Each injection with its target, as the journal names it.
fn list(one: &Outstanding) -> Vec<String> {
    let injections = one.injections.iter().map(|injection| {
        let state = format!("{:?}", injection.phase).to_lowercase();
        let about = &injection.about;
        format!(
            "    {} {} on {} ({state})",
            about.kind, injection.id, about.target
        )
    });
    let problem = one.problem.iter().map(|problem| format!("    {problem}"));
    injections.chain(problem).collect()
}

fn one_run(one: &Outstanding) -> serde_json::Value {
    let left = match one.standing {
        Some(Standing::Live { left }) => Some(left.as_secs_f64()),
        _ => None,
    };
    serde_json::json!({
        "run": one.run, "dir": one.run_dir, "held": one.held, "lease_left_s": left, "problem": one.problem, "elsewhere": one.elsewhere.as_ref().map(ToString::to_string),
        "injections": one.injections.iter().map(|injection| serde_json::json!({
            "injection": injection.id, "kind": injection.about.kind, "target": injection.about.target, "state": format!("{:?}", injection.phase).to_lowercase(),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_faults::journal::record::About;
    use squall_faults::journal::state::{Phase, Tracked};
    use squall_model::id::{InjectionId, RunId};
    use squall_model::syntax::Class;

    #[test]
    fn outstanding_injections_are_told_with_their_targets_in_eighty_columns() {
        let about = About {
            rule: None,
            kind: "file-damage".into(),
            class: Class::Lasting,
            target: format!("file /var/lib/{}/step-10.pt", "training/".repeat(9)),
            process: None,
            aim: Default::default(),
            mechanism: "m".into(),
        };
        let one = Outstanding {
            run: RunId("01a20dc3-7e9e-715e-86ba-0ab2bf49ffef".into()),
            run_dir: "/r".into(),
            held: false,
            standing: None,
            injections: vec![Tracked {
                id: InjectionId("aaaaaaaa".into()),
                about: about.clone(),
                phase: Phase::Active,
                undos: Vec::new(),
                observations: Vec::new(),
                stuck: None,
                last_intent: 1,
            }],
            elsewhere: None,
            problem: None,
        };
        assert_eq!(one_run(&one)["injections"][0]["target"], about.target);
        let found = Status {
            outstanding: vec![one],
            ..Status::default()
        };
        assert!(people(&found, None).contains(&format!("on {} (active)", about.target)));
        let narrow = people(&found, Some(80));
        assert!(narrow.contains("squall undo 01a20dc3-7e9e-715e-86ba-0ab2bf49ffef"));
        for line in narrow.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
