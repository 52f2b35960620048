//! `cargo xtask torch --bugs N`: the seeded bugs of the PyTorch script, each found different and named from the report
//! alone, and none named on clean runs.
//!
//! Seed 1 is the shipped experiment. Rules of naming were written while looking at runs with that seed only; the seeds from
//! [`FRESH`] on decide the count. There each fault is at another place.

use crate::launcher::Findings;
use crate::torch::{Bench, Ran};
use crate::{interval, report};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;

const BUGS: [&str; 6] = [
    "torn-checkpoint",
    "optimizer-state",
    "samples",
    "learning-rate",
    "rank0-state",
    "save-handler",
];
/// The first seed that was not used in development.
const FRESH: u32 = 101;
const STEPS_PER_EPOCH: u32 = 8;
/// What a report answers beside the name of a bug.
const UNKNOWN: &str = "unknown";
const SAME: &str = "same";
const LAUNCHER: &str = "launcher";
const NOTHING: &str = "no answer";

/// One experiment: its bug, or none, and the seed.
type Trial = (Option<&'static str>, u32);

/// The shipped experiments and a clean run once with `seeds` 0, else `seeds` fresh seeds of each bug and as many clean runs.
pub(crate) fn run(bench: &Bench, seeds: u32) -> Result<bool> {
    let chosen: Vec<u32> = match seeds {
        0 => vec![1],
        n => (FRESH..FRESH + n).collect(),
    };
    let mut trials: Vec<Trial> = Vec::new();
    for seed in chosen {
        trials.extend(BUGS.map(|bug| (Some(bug), seed)));
        trials.push((None, seed));
    }
    let mut seen: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for (number, trial) in trials.iter().enumerate() {
        let answer = answer(bench, *trial)?;
        let truth = trial.0.unwrap_or(SAME);
        println!(
            "{} of {}: {truth}, seed {}: {answer}",
            number + 1,
            trials.len(),
            trial.1
        );
        *seen.entry((truth, answer)).or_default() += 1;
        fs::write(bench.state.join("bugs.txt"), summary(&seen))?;
    }
    print!("\n{}", summary(&seen));
    Ok(is_green(&seen, seeds))
}

/// Nine bugs of ten named and no alarm on clean runs. What the launcher lost twice in a row was not measured: of the shipped
/// experiments, of which each runs once, none may be missing.
fn is_green(seen: &BTreeMap<(&str, String), u32>, seeds: u32) -> bool {
    let count = |fits: &dyn Fn(&str, &str) -> bool| -> u32 {
        let all = seen.iter();
        all.filter(|((truth, name), _)| fits(truth, name))
            .map(|(_, n)| n)
            .sum()
    };
    let buggy = count(&|truth, name| truth != SAME && name != LAUNCHER);
    let right = count(&|truth, name| truth != SAME && name == truth);
    let alarms = count(&|truth, name| truth == SAME && name != SAME && name != LAUNCHER);
    let lost = count(&|_, name| name == LAUNCHER);
    let measured = seeds > 0 || lost == 0;
    measured && buggy > 0 && right * 10 >= buggy * 9 && alarms == 0
}

/// What the report names. A failure of the launcher alone is repeated once.
fn answer(bench: &Bench, trial: Trial) -> Result<String> {
    let name = format!("{}-{}", trial.0.unwrap_or("clean"), trial.1);
    let text = text(trial)?;
    for then in ["the run is repeated", "twice in a row"] {
        let ran = bench.text(&name, &text)?;
        if !lost_by_the_launcher(&ran) {
            return report::named(&ran.folder);
        }
        println!("{name}: lost by the launcher, {then}");
    }
    Ok(LAUNCHER.into())
}

fn lost_by_the_launcher(ran: &Ran) -> bool {
    let findings: Findings = ran.findings();
    report::workload_exit(&ran.folder) != Some(0) && findings.blame_the_launcher()
}

/// The shipped experiment, with another seed at another place; a clean run is one without its bug.
fn text((bug, seed): Trial) -> Result<String> {
    // Every third clean run is preempted, every third loses rank 0, every third rank 1.
    let like = bug.unwrap_or(["samples", "save-handler", "rank0-state"][seed as usize % 3]);
    let file = format!("examples/pytorch/bug-{like}.yaml");
    let mut text = fs::read_to_string(crate::command::root().join(&file))
        .with_context(|| format!("could not read {file}"))?;
    let mut change = |from: String, to: String| -> Result<()> {
        if !text.contains(&from) {
            bail!("{file} does not say `{from}`");
        }
        text = text.replace(&from, &to);
        Ok(())
    };
    if bug.is_none() {
        change(format!(" --bug {like}"), String::new())?;
    }
    if seed != 1 {
        change("--seed 1".into(), format!("--seed {seed}"))?;
        let epoch = 3 + seed % 4;
        let step = (epoch - 1) * STEPS_PER_EPOCH + 2 + seed % 6;
        let (mark, end) = match like {
            "torn-checkpoint" => ("at: {epoch: ", ", phase"),
            _ => ("at: {step: ", ", phase"),
        };
        let start = text.find(mark).context("there is no `at:`")? + mark.len();
        let length = text[start..].find(end).context("there is no `phase:`")?;
        let place = if mark.contains("epoch") { epoch } else { step };
        text.replace_range(start..start + length, &place.to_string());
    }
    Ok(text)
}

/// Truth down, answer across.
fn summary(seen: &BTreeMap<(&str, String), u32>) -> String {
    let columns: Vec<&str> = BUGS
        .into_iter()
        .chain([UNKNOWN, SAME, NOTHING, LAUNCHER])
        .collect();
    let short = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{:16}", "truth \\ named")];
    for name in &columns {
        lines[0] += &format!(" {:>9}", short(name));
    }
    let (mut right, mut all) = (0, 0);
    for truth in BUGS.into_iter().chain([SAME]) {
        let mut line = format!("{truth:16}");
        for name in &columns {
            let n = seen
                .get(&(truth, (*name).to_owned()))
                .copied()
                .unwrap_or_default();
            line += &format!(" {:>9}", if n == 0 { "·".into() } else { n.to_string() });
            if truth != SAME && *name != LAUNCHER {
                all += n;
                right += if *name == truth { n } else { 0 };
            }
        }
        lines.push(line);
    }
    lines.push(format!("bugs named right: {}", interval::of(right, all)));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(all: &[(&'a str, &str, u32)]) -> BTreeMap<(&'a str, String), u32> {
        let rows = all.iter();
        rows.map(|(truth, name, n)| ((*truth, (*name).to_owned()), *n))
            .collect()
    }

    #[test]
    fn a_shipped_experiment_that_was_not_measured_is_red() {
        let named = BUGS.map(|bug| (bug, bug, 1));
        assert!(is_green(&seen(&named), 0));
        let mut lost = named;
        lost[5].1 = LAUNCHER;
        assert!(!is_green(&seen(&lost), 0));
        for one in &mut lost[1..] {
            one.1 = LAUNCHER;
        }
        assert!(!is_green(&seen(&lost), 0));
    }

    #[test]
    fn of_many_seeds_nine_in_ten_are_named_and_no_clean_run_is() {
        let many = |right, wrong, alarms| {
            is_green(
                &seen(&[
                    ("samples", "samples", right),
                    ("samples", UNKNOWN, wrong),
                    ("samples", LAUNCHER, 1),
                    (SAME, SAME, 5),
                    (SAME, "samples", alarms),
                ]),
                10,
            )
        };
        assert!(many(9, 1, 0));
        assert!(!many(8, 2, 0));
        assert!(!many(9, 1, 1));
        assert!(!many(0, 0, 0));
    }
}
