//! Which processes belong to the workload: its first process, everything below it, and everything that carries the run's mark in its
//! environment wherever it went. A process is looked at once; later scans only list /proc.

use super::files::{parse, words};
use std::collections::{BTreeMap, BTreeSet};

/// A process that carries no mark is looked at this often before it is taken for a stranger: right after a fork it still shows its
/// parent's environment.
const LOOKS: u8 = 4;

/// A process that has just been found to belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) rank: Option<String>,
}

#[derive(Debug)]
enum Standing {
    Member,
    Stranger { looks: u8 },
}

/// The processes known so far.
#[derive(Debug, Default)]
pub(super) struct Tree {
    mark: Option<Vec<u8>>,
    roots: BTreeSet<u32>,
    known: BTreeMap<u32, Standing>,
}

impl Tree {
    pub(super) fn new(mark: Option<&(String, String)>, roots: &[u32]) -> Tree {
        Tree {
            mark: mark.map(|(name, value)| format!("{name}={value}").into_bytes()),
            roots: roots.iter().copied().collect(),
            known: BTreeMap::new(),
        }
    }

    /// Lists /proc and returns who is new among the workload's.
    pub(super) fn scan(&mut self, root: Option<u32>) -> Vec<Found> {
        self.roots.extend(root);
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids: BTreeSet<u32> = entries
            .filter_map(|entry| parse(entry.ok()?.file_name().as_encoded_bytes()))
            .filter_map(|pid| u32::try_from(pid).ok())
            .collect();
        self.known.retain(|pid, _| pids.contains(pid));
        let mut found = Vec::new();
        // Ascending pids: a parent is nearly always judged before its children; the next scan catches the rest.
        for pid in pids {
            let looks = match self.known.get(&pid) {
                Some(Standing::Member) => continue,
                Some(Standing::Stranger { looks }) if *looks >= LOOKS => continue,
                Some(Standing::Stranger { looks }) => *looks,
                None => 0,
            };
            let standing = match self.judge(pid) {
                Some(process) => {
                    found.push(process);
                    Standing::Member
                }
                None => Standing::Stranger { looks: looks + 1 },
            };
            self.known.insert(pid, standing);
        }
        found
    }

    /// A member's pid ended; the number may come back as somebody else.
    pub(super) fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
        self.roots.remove(&pid);
    }

    fn judge(&self, pid: u32) -> Option<Found> {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let entries = || environ.split(|byte| *byte == 0);
        let marked = self
            .mark
            .as_ref()
            .is_some_and(|mark| entries().any(|entry| entry == mark));
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let below = || {
            let parent = words(&stat[close + 1..]).nth(1).and_then(parse);
            parent
                .and_then(|parent| u32::try_from(parent).ok())
                .is_some_and(|parent| matches!(self.known.get(&parent), Some(Standing::Member)))
        };
        if !(marked || self.roots.contains(&pid) || below()) {
            return None;
        }
        let rank = entries()
            .find_map(|entry| entry.strip_prefix(b"RANK="))
            .map(|rank| String::from_utf8_lossy(rank).into_owned());
        Some(Found {
            pid,
            name: String::from_utf8_lossy(&stat[open + 1..close]).into_owned(),
            rank,
        })
    }
}
