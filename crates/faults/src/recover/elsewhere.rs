//! Live runs of other state folders: what they made carries our name too, and a sweep must leave it alone.

use crate::lease::{self, Standing};
use crate::state_dir::run_dirs;
use crate::sys::process;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders of runs outside `state` whose lease is live, as far as this user can see: those that a guard, an agent or a workload
/// leads to, and those in the usual state folder of each user.
pub(super) fn live_runs(state: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for pid in process::pids().unwrap_or_default() {
        folders.extend(held_by(pid));
        folders.extend(worked_in(pid));
    }
    for state in usual_states() {
        folders.extend(run_dirs(&state).unwrap_or_default());
    }
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let state = real(state);
    folders
        .into_iter()
        .map(|folder| real(&folder))
        .filter(|folder| !folder.starts_with(&state) && is_live(folder))
        .collect()
}

/// Live, or not shown to be over for long: then nobody may conclude that its holders are gone.
fn is_live(run_dir: &Path) -> bool {
    match lease::read(run_dir) {
        Ok(None) => false,
        Ok(Some(lease)) => !lease.standing().is_ok_and(Standing::is_abandoned),
        Err(_) => true,
    }
}

/// The folder that a guard or an agent was told to work in.
fn held_by(pid: u32) -> Option<PathBuf> {
    let words = process::words(pid);
    if !matches!(words.get(1)?.as_str(), "guard" | "agent") {
        return None;
    }
    let options: serde_json::Value = serde_json::from_str(words.get(2)?).ok()?;
    options["run_dir"].as_str().map(PathBuf::from)
}

/// The folder of the run whose workload a process belongs to.
fn worked_in(pid: u32) -> Option<PathBuf> {
    process::variable(pid, super::sweep::RUN)?;
    let out = process::variable(pid, "SQUALL_OUT")?;
    Path::new(&out).parent().map(Path::to_owned)
}

/// Where state lies unless somebody says otherwise: root's, and in each user's home.
fn usual_states() -> Vec<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes = users.lines().filter_map(|line| line.split(':').nth(5));
    let below = |home: &str| Path::new(home).join(".local/state/squall");
    std::iter::once(PathBuf::from("/var/lib/squall"))
        .chain(homes.map(below))
        .collect()
}
