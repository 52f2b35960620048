//! The sweep: finds what carries our names, and backups whose journal is lost. For when a run's folder was damaged or deleted.
//!
//! Whatever belongs to a run whose lock is held is skipped. What no run of this state folder explains is only removed when forced:
//! it may belong to another user's squall, or to one with another state folder.

mod hooks;
mod links;

use crate::agent::hook::place;
use crate::journal;
use crate::state_dir::run_dirs;
use crate::sys::{namespace, nftables, process};
use crate::undo::mark::{self, MARK};
use crate::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use squall_model::id::InjectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The variable that tells a process which run it belongs to.
pub const RUN: &str = "SQUALL_RUN";

/// The variable that marks a probe's command and all it starts: run, pid of its controller and a number, joined by dashes.
pub const PROBE: &str = "SQUALL_PROBE";

/// What is swept gets this long to end by itself.
const GRACE_MS: u64 = 1000;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is, in words.
    pub what: String,
    /// How it is taken back.
    pub undo: Undo,
    /// The run that explains it, when one of this state folder does.
    pub run: Option<PathBuf>,
    pub fate: Fate,
}

/// What was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Taken back, and read back as gone.
    Removed,
    /// Belongs to a live run.
    Live,
    /// Nobody here explains it; `--force` removes it.
    Unattributed,
    /// Could not be taken back.
    Stuck { because: String, remedy: String },
}

/// Which run, if any, explains an injection, and whether it is held.
struct Runs {
    injections: BTreeMap<InjectionId, PathBuf>,
    folders: BTreeMap<String, PathBuf>,
    /// By its limit, the mark of a workload with the run it belongs to.
    marks: BTreeMap<u64, (String, String)>,
    held: BTreeSet<PathBuf>,
}

/// Held for longer than a reader, or a child between its fork and its exec, holds a lock.
fn is_held(folder: &Path) -> io::Result<bool> {
    let deadline = Instant::now() + super::BLINK;
    while journal::is_held(folder)? {
        if Instant::now() >= deadline {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

impl Runs {
    fn read(state: &Path) -> io::Result<Runs> {
        let mut runs = Runs {
            injections: BTreeMap::new(),
            folders: BTreeMap::new(),
            marks: BTreeMap::new(),
            held: BTreeSet::new(),
        };
        for folder in run_dirs(state)? {
            if is_held(&folder)? {
                runs.held.insert(folder.clone());
            }
            runs.explain(folder);
        }
        for folder in super::elsewhere::live_runs(state) {
            runs.held.insert(folder.clone());
            runs.explain(folder);
        }
        Ok(runs)
    }

    /// Everything that this run may have made.
    fn explain(&mut self, folder: PathBuf) {
        if let Ok(log) = journal::read_all(&folder.join(journal::FILE_NAME)) {
            for tracked in log.state.injections() {
                self.injections.insert(tracked.id.clone(), folder.clone());
            }
        }
        let run = super::run_of(&folder);
        // The guard's own cgroup stands in no journal.
        let guard = crate::guard::cgroup::id(&run);
        self.injections.insert(guard, folder.clone());
        for mark in mark::of_run(&run) {
            self.marks.insert(mark::limit(&mark), (mark, run.0.clone()));
        }
        self.folders.insert(run.0, folder);
    }

    fn settle(&self, what: String, undo: Undo, run: Option<PathBuf>, force: bool) -> Found {
        let fate = match &run {
            Some(run) if self.held.contains(run) => Fate::Live,
            None if !force => Fate::Unattributed,
            _ => remove(&undo),
        };
        Found {
            what,
            undo,
            run,
            fate,
        }
    }
}

fn remove(undo: &Undo) -> Fate {
    if let Err(error) = revert(undo) {
        return Fate::Stuck {
            because: error.to_string(),
            remedy: error.remedy,
        };
    }
    let seen = presence(undo);
    match seen.presence {
        Presence::Absent | Presence::Superseded => Fate::Removed,
        _ => Fate::Stuck {
            because: seen.evidence,
            remedy: "squall undo --sweep   # again".to_owned(),
        },
    }
}

/// Finds and removes leftovers. Run it after `recover_all`, which undoes what the journals know.
pub fn sweep(state: &Path, force: bool) -> io::Result<Vec<Found>> {
    let runs = Runs::read(state)?;
    let mut found = Vec::new();
    sweep_processes(&runs, force, &mut found)?;
    sweep_cgroups(&runs, force, &mut found)?;
    sweep_tables(&runs, force, &mut found)?;
    links::sweep(&runs, force, &mut found)?;
    hooks::sweep(&runs, force, &mut found)?;
    sweep_backups(state, &runs, force, &mut found)?;
    sweep_sockets(&runs, &mut found)?;
    Ok(found)
}

/// Processes of owned workloads, one entry per mark, and those that carry only the name of a run. Only those of this user.
fn sweep_processes(runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let above = process::self_and_above()?;
    let mut marks: BTreeMap<(String, Option<String>), Vec<u32>> = BTreeMap::new();
    let mut unmarked = Vec::new();
    for pid in process::pids()? {
        let ours = std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == own);
        if !ours || above.contains(&pid) {
            continue;
        }
        // One that has written over its environment is known by its limit.
        let by_limit = || runs.marks.get(&mark::limit_of(pid)?).cloned();
        let (mark, run) = match by_limit() {
            Some((mark, run)) => (Some(mark), Some(run)),
            None => {
                let run = process::variable(pid, RUN).or_else(|| run_of_probe(pid));
                (process::variable(pid, MARK), run)
            }
        };
        match (mark, run) {
            (Some(mark), run) => marks.entry((mark, run)).or_default().push(pid),
            (None, Some(run)) => unmarked.push((pid, run)),
            (None, None) => {}
        }
    }
    for ((mark, run), pids) in marks {
        let run = run.and_then(|run| runs.folders.get(&run).cloned());
        let what = format!("processes of the workload {mark}: {pids:?}");
        let undo = Undo::EndTree {
            mark,
            cgroups: Vec::new(),
            grace_ms: GRACE_MS,
        };
        found.push(runs.settle(what, undo, run, force));
    }
    for (pid, run) in unmarked {
        // One that has ended since needs no ending.
        let Some(process) = process::identity(pid)? else {
            continue;
        };
        let what = format!("process {pid} of the run {run}: {}", process::command(pid));
        let undo = Undo::EndProcess {
            process,
            grace_ms: GRACE_MS,
            what: format!("a process of the run {run}"),
        };
        found.push(runs.settle(what, undo, runs.folders.get(&run).cloned(), force));
    }
    Ok(())
}

/// The run whose probe a process belongs to: its controller was killed while the command ran.
fn run_of_probe(pid: u32) -> Option<String> {
    let mark = process::variable(pid, PROBE)?;
    let mut parts = mark.rsplitn(3, '-');
    parts.nth(2).map(str::to_owned)
}

/// Cgroups named `squall-ID`, in every mounted hierarchy.
pub(crate) fn cgroups_of_ours() -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for line in std::fs::read_to_string("/proc/self/mounts")?.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if kind == "cgroup" || kind == "cgroup2" {
            named_below(Path::new(point), 0, &mut folders);
        }
    }
    folders.sort();
    folders.dedup();
    Ok(folders)
}

fn sweep_cgroups(runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    for folder in cgroups_of_ours()? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) = injection_in(&name, "squall-") else {
            continue;
        };
        let undo = Undo::RemoveCgroups {
            paths: vec![folder.clone()],
        };
        let run = runs.injections.get(&id).cloned();
        // Who is in it must go first; this is nobody when the run ended properly.
        let live = run.as_ref().is_some_and(|run| runs.held.contains(run));
        if !live && (run.is_some() || force) {
            let tree = Undo::EndTree {
                mark: id.0.clone(),
                cgroups: vec![folder.clone()],
                grace_ms: GRACE_MS,
            };
            if let Fate::Stuck { because, remedy } = remove(&tree) {
                let what = format!("processes in the cgroup {}", folder.display());
                found.push(Found {
                    what,
                    undo: tree,
                    run: run.clone(),
                    fate: Fate::Stuck { because, remedy },
                });
            }
        }
        found.push(runs.settle(format!("the cgroup {}", folder.display()), undo, run, force));
    }
    Ok(())
}

/// nftables tables named `squall_ID`, in every network namespace that something leads to.
fn sweep_tables(runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    // Where it is not loaded there are no tables, and asking would load it.
    if !nftables::is_loaded() || !nftables::answers() {
        return Ok(());
    }
    for (inode, path) in namespace::all()? {
        // A namespace that ends while it is looked at has no tables any more.
        let tables = namespace::inside(Some(&path), nftables::tables).unwrap_or_default();
        for (family, table) in tables {
            let Some(id) = injection_in(&table, "squall_") else {
                continue;
            };
            let family = nftables::family_name(family).to_owned();
            let what = format!("the nftables table {family} {table} in {}", path.display());
            let undo = Undo::DeleteTable {
                family,
                table,
                namespace: Some(path.clone()),
                namespace_inode: Some(inode),
            };
            found.push(runs.settle(what, undo, runs.injections.get(&id).cloned(), force));
        }
    }
    Ok(())
}

/// Hook sockets that nobody listens at any more: an agent was killed, and its run's folder is gone or was never undone.
fn sweep_sockets(runs: &Runs, found: &mut Vec<Found>) -> io::Result<()> {
    let live = |run: &str| {
        runs.folders
            .get(run)
            .is_some_and(|folder| runs.held.contains(folder))
    };
    for (run, path) in place::abandoned(live)? {
        let folder = runs.folders.get(&run).cloned();
        place::remove_left(&run)?;
        found.push(Found {
            what: format!("the hook's socket {}", path.display()),
            undo: Undo::Nothing {
                act: "a name that leads to nobody".to_owned(),
            },
            run: folder,
            fate: Fate::Removed,
        });
    }
    Ok(())
}

/// The id in a name of ours.
fn injection_in(name: &str, prefix: &str) -> Option<InjectionId> {
    let id = name.strip_prefix(prefix)?;
    InjectionId::is_valid(id).then(|| InjectionId(id.to_owned()))
}

/// Folders with a name of ours; not looked into further. Unreadable folders have none of ours.
fn named_below(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    const DEPTH_MAX: u32 = 16;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let ours = injection_in(&entry.file_name().to_string_lossy(), "squall-").is_some();
        if ours {
            found.push(entry.path());
        } else if depth < DEPTH_MAX {
            named_below(&entry.path(), depth + 1, found);
        }
    }
}

/// Backups with a manifest in run folders without a journal that can be read: the manifest alone says what to put back.
fn sweep_backups(state: &Path, runs: &Runs, force: bool, found: &mut Vec<Found>) -> io::Result<()> {
    for run in run_dirs(state)? {
        let journal = journal::read_all(&run.join(journal::FILE_NAME));
        // A newer journal is never undone by guess.
        let lost = matches!(&journal, Err(journal::JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
            || matches!(&journal, Err(journal::JournalError::Damaged { .. }));
        let Ok(folders) = std::fs::read_dir(run.join("backups")) else {
            continue;
        };
        for folder in folders.flatten().filter(|_| lost) {
            let folder = folder.path();
            let Ok(manifest) = crate::backup::load(&folder) else {
                continue;
            };
            let what = format!(
                "the backup of {} without a journal",
                manifest.path.display()
            );
            let undo = Undo::RestoreFile {
                path: manifest.path,
                backup: folder.clone(),
            };
            let one = runs.settle(what, undo, Some(run.clone()), force);
            if one.fate == Fate::Removed {
                std::fs::remove_dir_all(&folder)?;
            }
            found.push(one);
        }
    }
    Ok(())
}
