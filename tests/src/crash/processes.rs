//! The processes of a cell, read from `/proc`: who is the guard, who the agent, who is left.
//!
//! A cell is the first process of its pid namespace, so every orphan becomes its child and must be reaped here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::cause::Who;
use crate::snapshot::{ProcessState, process_state};

/// How a reaped process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Collects every child and orphan that has ended.
#[derive(Debug, Default)]
pub struct Reaper(BTreeMap<u32, Ending>);

impl Reaper {
    /// Collects those that have ended by now.
    pub fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let ending = match (status.exit_status(), status.terminating_signal()) {
                (Some(exit), _) => Ending::Exit(exit),
                (None, signal) => Ending::Signal(signal.unwrap_or(0)),
            };
            self.0
                .insert(pid.as_raw_nonzero().get().unsigned_abs(), ending);
        }
    }

    /// How a process ended, once it has been collected.
    pub fn ending(&self, pid: u32) -> Option<Ending> {
        self.0.get(&pid).copied()
    }
}

/// A process of `squall`'s, by what it was started as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its pid.
    pub pid: u32,
    /// `run`, `guard`, `agent`, `serve-fault`, `undo`.
    pub verb: String,
    /// The whole command line.
    pub command: String,
}

impl Own {
    /// Its part in the run.
    pub fn who(&self) -> Option<Who> {
        match self.verb.as_str() {
            "run" => Some(Who::Controller),
            "guard" => Some(Who::Guard),
            "agent" => Some(Who::Agent),
            _ => None,
        }
    }
}

/// Every live process that runs `squall`; zombies are not among them.
pub fn own(squall: &Path) -> Vec<Own> {
    let name = squall.file_name().unwrap_or_default().as_encoded_bytes();
    pids()
        .into_iter()
        .filter_map(|pid| {
            let words = command_line(pid)?;
            let program = Path::new(words.first()?).file_name()?;
            if program.as_encoded_bytes() != name || !is_alive(pid) {
                return None;
            }
            let verb = words.get(1)?.clone();
            Some(Own {
                pid,
                verb,
                command: words.join(" "),
            })
        })
        .collect()
}

/// Everything alive in this pid namespace beside us, as `PID COMMAND (STATE)`, for people.
pub fn tree() -> String {
    let rows = pids().into_iter().filter(|pid| *pid != std::process::id());
    let rows: Vec<String> = rows
        .filter_map(|pid| {
            let words = command_line(pid)?.join(" ");
            let words: String = words.chars().take(100).collect();
            Some(format!("{pid} {words} ({:?})", process_state(pid)))
        })
        .collect();
    rows.join("; ")
}

/// Whether a process is there and not yet dead.
pub fn is_alive(pid: u32) -> bool {
    !matches!(
        process_state(pid),
        ProcessState::Gone | ProcessState::Zombie
    )
}

/// Sends a signal; a process that is gone is as good as signalled.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

fn command_line(pid: u32) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    (words.len() > 1).then_some(words)
}

/// Every pid in `/proc`.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
