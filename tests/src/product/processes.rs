//! Processes as `/proc` shows them, for suites that look for who runs and who is left.

use std::fs;

use crate::snapshot::{ProcessState, process_state};

/// A live process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its pid.
    pub pid: u32,
    /// Its command line, by words.
    pub words: Vec<String>,
    /// The rank its environment gives it.
    pub rank: Option<u32>,
}

impl Found {
    /// The name of its program, without folders.
    pub fn program(&self) -> &str {
        let first = self.words.first().map_or("", String::as_str);
        first.rsplit('/').next().unwrap_or(first)
    }

    /// Whether it is `squall VERB`.
    pub fn is_squall(&self, verb: &str) -> bool {
        self.program() == "squall" && self.words.get(1).is_some_and(|word| word == verb)
    }
}

/// Every live process of this pid namespace that has a command line; zombies are not among them.
pub fn processes() -> Vec<Found> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(found).collect()
}

/// Whether a process is there and not yet dead.
pub fn is_alive(pid: u32) -> bool {
    !matches!(
        process_state(pid),
        ProcessState::Gone | ProcessState::Zombie
    )
}

fn found(pid: u32) -> Option<Found> {
    let entries = |name: &str| -> Option<Vec<String>> {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).ok()?;
        let entries = bytes.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        Some(
            entries
                .map(|it| String::from_utf8_lossy(it).into_owned())
                .collect(),
        )
    };
    let words = entries("cmdline")?;
    let environment = entries("environ").unwrap_or_default();
    let rank = environment
        .iter()
        .find_map(|entry| entry.strip_prefix("RANK=")?.parse().ok());
    (!words.is_empty() && is_alive(pid)).then_some(Found { pid, words, rank })
}
