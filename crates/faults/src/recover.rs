//! Recovery: what the next mutating command or the boot unit does for runs whose holders are gone. It only undoes.
//!
//! A live lease is never touched. A run whose lock is held though its lease is long over has stopped holders: they are ended first, by pidfd.
//! A user's run never undoes root's state, nor the reverse.

mod elsewhere;
pub(crate) mod probes;
mod settled;
pub mod sweep;

use crate::journal::record::Writer;
use crate::journal::state::Tracked;
use crate::journal::{self, Journal, JournalError};
use crate::lease::{self, LeaseError, STOPPED_AFTER, Standing};
use crate::origin::{Elsewhere, Origin};
use crate::state_dir::run_dirs;
use crate::sys::process::{self, Process};
use crate::undo::perform::{Outcome, undo_all};
use rustix::process::Signal;
use squall_model::id::{InjectionId, RunId};
use squall_model::process::ProcessIdentity;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a killed holder may take to die, and its lock to become free.
const DEATH: Duration = Duration::from_secs(5);
/// A reader that asks whether a lock is held holds it for a moment, and so does a child between its fork and its exec.
const BLINK: Duration = Duration::from_millis(250);

/// Why a run was not recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Somebody is at work. Never overridden.
    #[error(
        "could not undo run {run}, because it is live: {because}; end it where it runs (Ctrl-C), or wait until its lease is over"
    )]
    Live { run: RunId, because: String },
    /// It belongs to another user.
    #[error("could not undo {}, because it belongs to user {owner}, and this squall runs as user {own}; run `squall undo` as that user", path.display())]
    Foreign { path: PathBuf, owner: u32, own: u32 },
    /// It was made where its processes are not those of here.
    #[error("could not undo run {run}, because {elsewhere}; type {}: squall undo {run}   (when that is gone for good, type here: squall undo {run} --force)", elsewhere.place())]
    Elsewhere { run: RunId, elsewhere: Elsewhere },
    /// The lock is held, and nobody can tell by whom.
    #[error("could not undo {}, because its lock is held and {because}; `squall undo RUN --force` ends whoever holds it", path.display())]
    HeldByUnknown { path: PathBuf, because: String },
    /// A stopped holder could not be ended.
    #[error(
        "could not end process {pid}, which holds the journal of run {run}, because {because}; type: kill -KILL {pid}"
    )]
    Holder {
        run: RunId,
        pid: u32,
        because: String,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("could not {action} {}, because {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What was done for one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub run: RunId,
    pub run_dir: PathBuf,
    /// One per injection that was outstanding, newest first.
    pub outcomes: Vec<Outcome>,
    /// Stopped holders that were ended first.
    pub ended: Vec<ProcessIdentity>,
}

impl Recovered {
    /// Injections that need a person.
    pub fn stuck(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.stuck.is_some())
    }
}

/// What one run has outstanding, read without touching anything.
#[derive(Debug, Clone)]
pub struct Outstanding {
    pub run: RunId,
    pub run_dir: PathBuf,
    /// Some process holds the journal.
    pub held: bool,
    /// The lease, when it can be read.
    pub standing: Option<Standing>,
    /// Newest first.
    pub injections: Vec<Tracked>,
    /// Why it is to be undone elsewhere.
    pub elsewhere: Option<Elsewhere>,
    /// Why the journal could not be read.
    pub problem: Option<String>,
}

/// The run that a folder belongs to.
pub fn run_of(run_dir: &Path) -> RunId {
    RunId(
        run_dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    )
}

/// Lists what is outstanding, and journals that cannot be read. Read-only. A live run is listed too: `held` and `standing` tell.
pub fn outstanding(state: &Path) -> io::Result<Vec<Outstanding>> {
    let mut found = Vec::new();
    for run_dir in run_dirs(state)? {
        let path = run_dir.join(journal::FILE_NAME);
        if !path.exists() || settled::is(&run_dir) {
            continue;
        }
        let (injections, problem, elsewhere) = match journal::read_all(&path) {
            Ok(log) => {
                let open: Vec<Tracked> = log.state.outstanding().cloned().collect();
                (open, None, elsewhere_of(&log)?)
            }
            Err(error) => (Vec::new(), Some(error.to_string()), None),
        };
        if !injections.is_empty() || problem.is_some() {
            found.push(Outstanding {
                run: run_of(&run_dir),
                held: journal::is_held(&run_dir)?,
                standing: lease::read(&run_dir)
                    .ok()
                    .flatten()
                    .and_then(|one| one.standing().ok()),
                run_dir,
                injections,
                elsewhere,
                problem,
            });
        }
    }
    Ok(found)
}

/// Undoes what is outstanding of every run whose holders are gone.
pub fn recover_all(
    state: &Path,
    force: bool,
) -> io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>> {
    let mut results = Vec::new();
    for run_dir in run_dirs(state)? {
        if run_dir.join(journal::FILE_NAME).exists() && !settled::is(&run_dir) {
            let result = recover_run(&run_dir, force);
            results.push((run_dir, result));
        }
    }
    Ok(results)
}

fn elsewhere_of(log: &journal::Log) -> io::Result<Option<Elsewhere>> {
    let Some(origin) = &log.header.origin else {
        return Ok(None);
    };
    let (boot, here) = (&log.header.boot_id, Origin::here());
    Ok(origin.elsewhere(boot, &here, &process::boot_id()?, log.state.outstanding()))
}

/// Whether a run was made on another machine, by its lease: then nothing of it is ours to touch, its record neither.
pub fn is_of_another_machine(run_dir: &Path) -> bool {
    let lease = lease::read(run_dir).ok().flatten();
    let here = process::boot_id();
    lease.is_some_and(|lease| here.is_ok_and(|here| lease.other_machine(&here).is_some()))
}

/// Leaves a run alone that is to be undone elsewhere: refused by name, or, with nothing outstanding, as done.
fn leave_alone(run_dir: &Path) -> Result<Option<Recovered>, RecoverError> {
    // One that cannot be read is told by whoever takes it.
    let Ok(log) = journal::read_all(&run_dir.join(journal::FILE_NAME)) else {
        return Ok(None);
    };
    let run = log.header.run.clone();
    let elsewhere = elsewhere_of(&log).map_err(|source| RecoverError::Io {
        action: "tell the boot of",
        path: run_dir.to_owned(),
        source,
    })?;
    let Some(elsewhere) = elsewhere else {
        return Ok(None);
    };
    if log.state.outstanding().next().is_some() {
        return Err(RecoverError::Elsewhere { run, elsewhere });
    }
    Ok(Some(Recovered {
        run,
        run_dir: run_dir.to_owned(),
        outcomes: Vec::new(),
        ended: Vec::new(),
    }))
}

/// Undoes what is outstanding of one run. `force` also ends holders that no readable lease names, and undoes here what was made
/// elsewhere; it never overrides a live lease.
pub fn recover_run(run_dir: &Path, force: bool) -> Result<Recovered, RecoverError> {
    check_owner(run_dir)?;
    if !force && let Some(left) = leave_alone(run_dir)? {
        return Ok(left);
    }
    let mut ended = Vec::new();
    let journal = match take_within(run_dir, BLINK) {
        Err(JournalError::Busy { .. }) => {
            ended = end_holders(run_dir, force)?;
            take_within(run_dir, DEATH)?
        }
        other => other?,
    };
    let run = journal.header().run.clone();
    let journal = Mutex::new(journal);
    let outcomes = undo_all(&journal, "its holders are gone");
    let controller_lives = controller_lives(run_dir);
    if !controller_lives {
        probes::end_left(&run, probes::WITHIN).map_err(|source| RecoverError::Io {
            action: "end the probes of",
            path: run_dir.to_owned(),
            source,
        })?;
    }
    let journal = journal
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    drop_backups(&journal)?;
    crate::agent::hook::place::remove_left(&run.0).map_err(|source| RecoverError::Io {
        action: "remove the hook's socket of",
        path: run_dir.to_owned(),
        source,
    })?;
    // Not a fault's change: it fails no undo. What is left is tried again by the next command, and found by the sweep.
    let cgroup = crate::guard::cgroup::remove(run_dir, &run);
    // What a live controller's probes have started is for a later command to end, should it be lost.
    let left =
        controller_lives || cgroup.is_err() || journal.state().outstanding().next().is_some();
    journal.close()?;
    if !left {
        settled::mark(run_dir);
    }
    Ok(Recovered {
        run,
        run_dir: run_dir.to_owned(),
        outcomes,
        ended,
    })
}

/// A controller that recovers its own run goes on probing.
fn controller_lives(run_dir: &Path) -> bool {
    let lease = lease::read(run_dir).ok().flatten();
    lease
        .and_then(|lease| lease.controller)
        .is_some_and(|controller| Process::open(&controller).is_ok_and(|found| found.is_some()))
}

fn check_owner(run_dir: &Path) -> Result<(), RecoverError> {
    let own = rustix::process::geteuid().as_raw();
    for path in [run_dir.to_owned(), run_dir.join(journal::FILE_NAME)] {
        let meta = std::fs::symlink_metadata(&path).map_err(|source| RecoverError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        if meta.uid() != own {
            return Err(RecoverError::Foreign {
                path,
                owner: meta.uid(),
                own,
            });
        }
    }
    Ok(())
}

/// Ends the holders of a lock whose lease is long over. Refuses while the lease is live, or may be.
fn end_holders(run_dir: &Path, force: bool) -> Result<Vec<ProcessIdentity>, RecoverError> {
    let run = run_of(run_dir);
    let live = |because: String| RecoverError::Live {
        run: run.clone(),
        because,
    };
    let unknown = |because: String| RecoverError::HeldByUnknown {
        path: run_dir.to_owned(),
        because,
    };
    let holders = match lease::read(run_dir) {
        Ok(Some(lease)) => {
            match lease
                .standing()
                .map_err(|error| unknown(error.to_string()))?
            {
                Standing::Live { left } => {
                    return Err(live(format!(
                        "its lease runs for another {:.1} s",
                        left.as_secs_f64()
                    )));
                }
                standing @ Standing::Over { .. } if !standing.is_abandoned() => {
                    let seconds = STOPPED_AFTER.as_secs();
                    return Err(live(format!(
                        "its lease has just run out, and its holders have {seconds} s to undo it"
                    )));
                }
                Standing::Over { .. } => lease.agent.into_iter().chain(lease.guard).collect(),
            }
        }
        Ok(None) if force => lock_holders(run_dir).map_err(|error| unknown(error.to_string()))?,
        Err(LeaseError::Damaged { .. }) if force => {
            lock_holders(run_dir).map_err(|error| unknown(error.to_string()))?
        }
        Ok(None) => return Err(unknown("it has no lease".to_owned())),
        Err(error) => return Err(unknown(error.to_string())),
    };
    kill(&run, holders)
}

/// KILL to all first, so that none can act when another is gone; then waits for each.
fn kill(run: &RunId, holders: Vec<ProcessIdentity>) -> Result<Vec<ProcessIdentity>, RecoverError> {
    let mut open = Vec::new();
    for holder in holders {
        let fail = |because: String| RecoverError::Holder {
            run: run.clone(),
            pid: holder.pid,
            because,
        };
        if holder.pid == std::process::id() {
            continue;
        }
        if let Some(process) = Process::open(&holder).map_err(|error| fail(error.to_string()))? {
            process
                .signal(Signal::KILL)
                .map_err(|error| fail(error.to_string()))?;
            open.push(process);
        }
    }
    for process in &open {
        let pid = process.identity().pid;
        let fail = |because: String| RecoverError::Holder {
            run: run.clone(),
            pid,
            because,
        };
        if !process
            .wait_dead(DEATH)
            .map_err(|error| fail(error.to_string()))?
        {
            return Err(fail(format!(
                "it did not die within {} s of SIGKILL",
                DEATH.as_secs()
            )));
        }
    }
    Ok(open
        .iter()
        .map(|process| process.identity().clone())
        .collect())
}

/// Who holds the lock, where no lease names them: every process with a descriptor of the journal that carries a lock.
fn lock_holders(run_dir: &Path) -> io::Result<Vec<ProcessIdentity>> {
    let meta = std::fs::metadata(run_dir.join(journal::FILE_NAME))?;
    let mut holders = Vec::new();
    for pid in process::pids()? {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let holds = entries.flatten().any(|entry| {
            let ours = std::fs::metadata(entry.path())
                .is_ok_and(|one| (one.dev(), one.ino()) == (meta.dev(), meta.ino()));
            let info = Path::new("/proc")
                .join(pid.to_string())
                .join("fdinfo")
                .join(entry.file_name());
            ours && std::fs::read_to_string(info).is_ok_and(|text| text.contains("FLOCK"))
        });
        if holds && pid != std::process::id() {
            holders.extend(process::identity(pid)?);
        }
    }
    Ok(holders)
}

/// Takes the journal as soon as its lock is free.
fn take_within(run_dir: &Path, patience: Duration) -> Result<Journal, JournalError> {
    let deadline = Instant::now() + patience;
    loop {
        match Journal::take_over(run_dir, Writer::Recovery) {
            Err(JournalError::Busy { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// Removes backups that no outstanding injection needs: those of undone ones, and of injections that died before their first intent.
fn drop_backups(journal: &Journal) -> Result<(), RecoverError> {
    let folder = journal.run_dir().join("backups");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(RecoverError::Io {
                action: "read",
                path: folder,
                source,
            });
        }
    };
    for entry in entries.flatten() {
        let id = InjectionId(entry.file_name().to_string_lossy().into_owned());
        if journal
            .state()
            .get(&id)
            .is_some_and(Tracked::is_outstanding)
        {
            continue;
        }
        std::fs::remove_dir_all(entry.path()).map_err(|source| RecoverError::Io {
            action: "remove",
            path: entry.path(),
            source,
        })?;
    }
    Ok(())
}
