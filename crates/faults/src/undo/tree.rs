//! Ends everything that an owned workload has started: its cgroups' members, every process that carries its mark, and what descends from those.
//!
//! A process that calls setsid and forks twice leaves the tree of parents but keeps its environment, so it is found without root and without cgroups.

use super::cgroup;
use super::mark::{self, MARK, limit};
use super::{UndoError, seen};
use crate::sys::process::{self, Process};
use rustix::fd::AsFd;
use rustix::process::Signal;
use squall_model::event::{Observation, Presence};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the killing may take before a person is told.
const DEATH: Duration = Duration::from_secs(10);
/// Between two looks for processes that were not there before.
const LOOK: Duration = Duration::from_millis(20);

/// All living members now, this process never among them.
pub fn members(mark: &str, cgroups: &[PathBuf]) -> io::Result<Vec<u32>> {
    let table = process::table()?;
    let mut roots: Vec<u32> = table
        .iter()
        .filter(|(pid, stat)| !stat.is_dead() && mark::is_on(*pid, mark))
        .map(|(pid, _)| *pid)
        .collect();
    for folder in cgroups {
        roots.extend(cgroup::members(folder)?);
    }
    let mut found = process::descendants(&table, &roots);
    found.append(&mut roots);
    found.sort_unstable();
    found.dedup();
    let own = std::process::id();
    let alive = |pid: &u32| match table.iter().find(|(one, _)| one == pid) {
        Some((_, stat)) => !stat.is_dead(),
        // A cgroup lists whom this user may not look at, too.
        None => process::stat(*pid).is_err_and(|error| is_refused(&error)),
    };
    found.retain(|pid| *pid != own && *pid != 0 && alive(pid));
    Ok(found)
}

/// The members held by pidfds, so that no reused pid is ever signalled.
fn hold(mark: &str, cgroups: &[PathBuf]) -> io::Result<Vec<Process>> {
    let mut held = Vec::new();
    for pid in members(mark, cgroups)? {
        match Process::open_pid(pid) {
            Ok(process) => held.extend(process),
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // Membership was read before the pidfds were opened: look once more, and keep who is still a member.
    let still = members(mark, cgroups)?;
    held.retain(|process| still.contains(&process.identity().pid));
    Ok(held)
}

/// TERM to every member, a grace, then KILL until two whole scans find nobody.
pub(super) fn end(mark: &str, cgroups: &[PathBuf], grace_ms: u64) -> Result<(), UndoError> {
    let fail = |because: String| {
        UndoError::new(
            format!("end the workload {mark}"),
            because,
            format!(
                "for p in $(grep -lsz -e '^{MARK}={mark}$' -e 'realtime timeout *{} ' /proc/[0-9]*/environ /proc/[0-9]*/limits | cut -d/ -f3); do kill -KILL $p; done",
                limit(mark)
            ),
        )
    };
    let ended = (|| -> io::Result<Vec<u32>> {
        if grace_ms > 0 && ask_to_end(mark, cgroups, Duration::from_millis(grace_ms))? {
            return Ok(Vec::new());
        }
        kill_all(mark, cgroups)
    })();
    match ended {
        Ok(left) if left.is_empty() => Ok(()),
        Ok(left) => Err(fail(format!(
            "after {} s of killing these processes are left: {left:?}",
            DEATH.as_secs()
        ))),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// TERM once to each member, also to those that appear meanwhile. True when nobody was left within the grace.
fn ask_to_end(mark: &str, cgroups: &[PathBuf], grace: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + grace;
    let mut asked: BTreeMap<(u32, u64), ()> = BTreeMap::new();
    let mut empty_scans = 0;
    loop {
        let held = hold(mark, cgroups)?;
        if held.is_empty() {
            empty_scans += 1;
            if empty_scans == 2 {
                return Ok(true);
            }
            continue;
        }
        empty_scans = 0;
        for member in &held {
            let identity = member.identity();
            if asked
                .insert((identity.pid, identity.start_time), ())
                .is_none()
            {
                // A stopped process does not see TERM before it runs again.
                signal(member, Signal::TERM)?;
                signal(member, Signal::CONT)?;
            }
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        wait_for_a_death(&held, LOOK.min(deadline - now))?;
    }
}

/// KILL until nobody is left, or until the deadline; gives who is left.
fn kill_all(mark: &str, cgroups: &[PathBuf]) -> io::Result<Vec<u32>> {
    let deadline = Instant::now() + DEATH;
    let mut empty_scans = 0;
    loop {
        for folder in cgroups {
            cgroup::kill(folder)?;
        }
        let held = hold(mark, cgroups)?;
        if held.is_empty() {
            empty_scans += 1;
            if empty_scans == 2 {
                return Ok(Vec::new());
            }
            continue;
        }
        empty_scans = 0;
        for member in &held {
            signal(member, Signal::KILL)?;
        }
        if Instant::now() >= deadline {
            return Ok(held.iter().map(|member| member.identity().pid).collect());
        }
        wait_for_a_death(&held, LOOK)?;
    }
}

/// A member that may not be looked at or signalled (it changed its user) must not keep the others alive.
pub(super) fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn signal(member: &Process, signal: Signal) -> io::Result<()> {
    match member.signal(signal) {
        Err(error) if !is_refused(&error) => Err(error),
        _ => Ok(()),
    }
}

fn wait_for_a_death(held: &[Process], within: Duration) -> io::Result<()> {
    let descriptors: Vec<_> = held.iter().map(AsFd::as_fd).collect();
    process::wait_any(&descriptors, within).map(|_| ())
}

/// Reads whether anything of the workload is alive.
pub(super) fn presence(mark: &str, cgroups: &[PathBuf]) -> Observation {
    let source = "process table";
    match members(mark, cgroups) {
        Err(error) => seen(
            Presence::Unknown,
            source,
            format!("/proc could not be read: {error}"),
        ),
        Ok(pids) if pids.is_empty() => seen(
            Presence::Absent,
            source,
            format!("a full scan of /proc found no process with {MARK}={mark} or its limit"),
        ),
        Ok(pids) => seen(
            Presence::Present,
            source,
            format!(
                "{} processes with {MARK}={mark}, its limit, or below one: {pids:?}",
                pids.len()
            ),
        ),
    }
}
