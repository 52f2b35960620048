//! Undos that act on one process, by identity: a reused pid is never signalled.

use super::{UndoError, seen};
use crate::sys::process::Process;
pub(crate) use crate::sys::process::lookup;
use rustix::process::Signal;
use squall_model::event::{Observation, Presence};
use squall_model::process::ProcessIdentity;
use std::time::Duration;

/// How long the kernel is given to show what a signal did.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a process may take to die of SIGKILL (it may be inside a system call that cannot be interrupted).
const DEATH: Duration = Duration::from_secs(10);

/// Lets a stopped process run.
pub(super) fn continue_process(identity: &ProcessIdentity) -> Result<(), UndoError> {
    let pid = identity.pid;
    let fail = |because: String| {
        UndoError::new(
            format!("let process {pid} run again"),
            because,
            format!("kill -CONT {pid}   # if `ps -o lstart,args -p {pid}` shows the right process"),
        )
    };
    let process = match Process::open(identity) {
        Ok(Some(process)) => process,
        Ok(None) => return Ok(()),
        Err(error) => return Err(fail(error.to_string())),
    };
    process
        .signal(Signal::CONT)
        .map_err(|error| fail(error.to_string()))?;
    let (stat, runs) = process
        .wait_stat(SETTLE, |stat| stat.is_none_or(|stat| stat.state != 'T'))
        .map_err(|error| fail(error.to_string()))?;
    if runs {
        return Ok(());
    }
    Err(fail(format!(
        "it is still in state {}",
        stat.map_or('?', |stat| stat.state)
    )))
}

/// Reads whether a process is stopped.
pub(super) fn stopped(identity: &ProcessIdentity) -> Observation {
    let pid = identity.pid;
    let source = "process table";
    match lookup(identity) {
        Err(error) => seen(
            Presence::Unknown,
            source,
            format!("/proc/{pid}/stat: {error}"),
        ),
        Ok(None) => seen(Presence::Absent, source, format!("process {pid} is gone")),
        Ok(Some(stat)) if stat.state == 'T' => seen(
            Presence::Present,
            source,
            format!("state T (stopped) in /proc/{pid}/stat"),
        ),
        Ok(Some(stat)) => seen(
            Presence::Absent,
            source,
            format!("state {} in /proc/{pid}/stat", stat.state),
        ),
    }
}

/// Ends a process that we started: TERM, a grace, KILL, and waits until it is dead.
pub(super) fn end(identity: &ProcessIdentity, grace_ms: u64, what: &str) -> Result<(), UndoError> {
    let pid = identity.pid;
    let fail = |because: String| {
        UndoError::new(
            format!("end {what} (process {pid})"),
            because,
            format!("kill -KILL {pid}   # if `ps -o lstart,args -p {pid}` shows {what}"),
        )
    };
    let process = match Process::open(identity) {
        Ok(Some(process)) => process,
        Ok(None) => return Ok(()),
        Err(error) => return Err(fail(error.to_string())),
    };
    match end_open(&process, Duration::from_millis(grace_ms), DEATH) {
        Ok(Ended::Alive) => Err(fail(format!(
            "it did not die within {} s of SIGKILL",
            DEATH.as_secs()
        ))),
        Ok(Ended::ByTerm | Ended::ByKill) => Ok(()),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// What ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    ByTerm,
    ByKill,
    Alive,
}

/// TERM (and CONT, since a stopped process does not see TERM), a grace, KILL.
pub(crate) fn end_open(
    process: &Process,
    grace: Duration,
    death: Duration,
) -> std::io::Result<Ended> {
    if !grace.is_zero() {
        let sent = process.signal(Signal::TERM)? && process.signal(Signal::CONT)?;
        if !sent || process.wait_dead(grace)? {
            return Ok(Ended::ByTerm);
        }
    }
    process.signal(Signal::KILL)?;
    Ok(if process.wait_dead(death)? {
        Ended::ByKill
    } else {
        Ended::Alive
    })
}

/// Reads whether a process is alive.
pub(super) fn runs(identity: &ProcessIdentity, what: &str) -> Observation {
    let pid = identity.pid;
    let source = "process table";
    match lookup(identity) {
        Err(error) => seen(
            Presence::Unknown,
            source,
            format!("/proc/{pid}/stat: {error}"),
        ),
        Ok(None) => seen(
            Presence::Absent,
            source,
            format!("{what} (process {pid}) is gone"),
        ),
        Ok(Some(stat)) => seen(
            Presence::Present,
            source,
            format!("{what} is in state {} in /proc/{pid}/stat", stat.state),
        ),
    }
}
