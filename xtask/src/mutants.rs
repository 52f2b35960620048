//! `cargo xtask mutants`: breaks the code that must never be wrong, one place at a time, and shows what no test notices.
//!
//! Broken code is only ever run by `xtask/isolated`, where it sees no process but its own.

use crate::command::{cargo, program, root, succeeds, target_dir};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that the same tests answer for.
struct Group {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// Which tests, the quickest first: what one lets through, the next one tries.
    tests: &'static [&'static [&'static str]],
}

const GROUPS: &[Group] = &[
    Group {
        name: "model",
        package: "squall-model",
        files: &[
            "crates/model/src/event/state.rs",
            "crates/model/src/rule/aim.rs",
            "crates/model/src/rule/mod.rs",
            "crates/model/src/rule/taking.rs",
        ],
        tests: &[&["--lib"], &["--tests"]],
    },
    Group {
        name: "journal",
        package: "squall-faults",
        files: &[
            "crates/faults/src/journal.rs",
            "crates/faults/src/journal/codec.rs",
            "crates/faults/src/journal/record.rs",
            "crates/faults/src/journal/state.rs",
            "crates/faults/src/lease.rs",
        ],
        tests: &[&["--lib"], &["--test", "undo"]],
    },
    Group {
        name: "undo",
        package: "squall-faults",
        files: &[
            "crates/faults/src/recover.rs",
            "crates/faults/src/undo/perform.rs",
        ],
        tests: &[&["--test", "undo"]],
    },
    Group {
        name: "guard",
        package: "squall-faults",
        files: &["crates/faults/src/guard/*.rs"],
        tests: &[&["--lib"], &["--test", "rescue"]],
    },
];

/// The version that is installed where there is none.
const VERSION: &str = "27.1.0";
/// The least share that must be caught, in percent. Time-outs do not count.
const GOAL: f64 = 90.0;

/// What became of each mutant, by its description.
type Fates = BTreeMap<String, &'static str>;

/// The lists that cargo-mutants leaves behind.
const FATES: &[&str] = &["caught", "missed", "timeout", "unviable"];

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let (mut list, mut names, mut passed_on) = (false, Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => list = true,
            "--shard" => {
                let shard = words.next().context("`--shard` takes K/N, e.g. 0/4")?;
                passed_on.extend(["--sharding", "round-robin", "--shard", shard]);
            }
            "--in-place" => passed_on.push("--in-place"),
            name if GROUPS.iter().any(|group| group.name == name) => names.push(name),
            other => bail!(
                "`{other}` is not understood; `cargo xtask mutants` takes --list, --shard K/N, --in-place and the groups {}",
                GROUPS
                    .iter()
                    .map(|group| group.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }
    // A later version makes other mutants; these counts can be compared only within one.
    let version = ["install", "cargo-mutants", "--version", VERSION, "--locked"];
    if !cargo(&["mutants", "--version"])? && !cargo(&version)? {
        bail!("could not install cargo-mutants; type `cargo install cargo-mutants --locked`");
    }
    let mut fates = Fates::new();
    for group in GROUPS {
        if !names.is_empty() && !names.contains(&group.name) {
            continue;
        }
        if list {
            let mut words = group.words();
            words.push("--list");
            words.extend(&passed_on);
            cargo(&words)?;
        } else {
            fates.extend(group.run(&passed_on)?);
        }
    }
    Ok(list || report(&fates))
}

impl Group {
    fn words(&self) -> Vec<&str> {
        let mut words = vec!["mutants", "--no-shuffle", "--package", self.package];
        for file in self.files {
            words.extend(["--file", file]);
        }
        words
    }

    fn run(&self, passed_on: &[&str]) -> Result<Fates> {
        let folder = target_dir().join("mutants").join(self.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let output = folder.to_string_lossy();
        let mut fates = Fates::new();
        for tests in self.tests {
            println!("\n== {}: cargo test {}", self.name, tests.join(" "));
            let mut words = self.words();
            words.extend(["--output", &output]);
            // Those that the quicker tests let through, by name; the first time those that were asked for.
            let missed: Vec<String> = fates
                .iter()
                .filter(|(_, fate)| **fate == "missed")
                .map(|(mutant, _)| format!("--re=^{}$", literally(mutant)))
                .collect();
            if fates.is_empty() {
                words.extend(passed_on);
            } else if missed.is_empty() {
                break;
            } else {
                words.extend(missed.iter().map(String::as_str));
                words.extend(passed_on.iter().filter(|word| **word == "--in-place"));
            }
            // The selection is also that of the build, so that nothing is built in vain.
            let selection: Vec<String> = tests
                .iter()
                .map(|word| format!("--cargo-test-arg={word}"))
                .collect();
            words.extend(selection.iter().map(String::as_str));
            let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let mut command = program(&cargo, &words, "debug");
            command
                .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
                .env(
                    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
                    root().join("xtask/isolated"),
                )
                .env(
                    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
                    root().join("xtask/isolated"),
                );
            // It also fails when something was missed: its lists tell more.
            let _: bool = succeeds(&mut command)?;
            fates.extend(read(&folder.join("mutants.out")));
        }
        Ok(fates)
    }
}

/// A pattern that matches this text and no other.
fn literally(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// A list that is not there is empty: nothing was left to try.
fn read(folder: &Path) -> Fates {
    let mut fates = Fates::new();
    for fate in FATES {
        let text = fs::read_to_string(folder.join(format!("{fate}.txt"))).unwrap_or_default();
        fates.extend(text.lines().map(|line| (line.to_owned(), *fate)));
    }
    fates
}

/// Counts by file, then what survived; whether enough was caught.
fn report(fates: &Fates) -> bool {
    let mut files: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (mutant, fate) in fates {
        let file = mutant.split(':').next().unwrap_or_default();
        *files.entry(file).or_default().entry(fate).or_default() += 1;
        *files.entry("all").or_default().entry(fate).or_default() += 1;
    }
    println!(
        "\n{:40} {:>7} {:>7} {:>7} {:>8}",
        "", FATES[0], FATES[1], FATES[2], FATES[3]
    );
    for (file, counts) in &files {
        let count = |fate: &str| counts.get(fate).copied().unwrap_or_default();
        println!(
            "{file:40} {:7} {:7} {:7} {:8}",
            count(FATES[0]),
            count(FATES[1]),
            count(FATES[2]),
            count(FATES[3])
        );
    }
    println!("\nSurvivors:");
    for (mutant, _) in fates.iter().filter(|(_, fate)| **fate == "missed") {
        println!("  {mutant}");
    }
    let of = |wanted: &str| fates.values().filter(|fate| **fate == wanted).count() as f64;
    let judged = of("caught") + of("missed");
    let share = if judged > 0.0 {
        100.0 * of("caught") / judged
    } else {
        0.0
    };
    println!("\n{share:.1} % of {judged} caught; the goal is {GOAL} %");
    share >= GOAL
}
