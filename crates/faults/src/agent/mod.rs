//! The agent: one process per host. It arms triggers, injects on threads, and undoes everything when it has to end.
//!
//! Invariant: its main loop never waits for an injection, so it beats, hears its guard and can end at any moment. What it cannot
//! undo any more, because it is dead or hung, its guard undoes.

mod containers;
mod core;
mod door;
mod early;
mod ending;
mod guard_calls;
pub mod hook;
mod injection;
mod lasting;
mod orders;
pub mod output;
pub mod procs;
mod rest;
mod rule_end;
mod rules;
mod served;
mod shared;
mod starting;
pub mod targets;
mod training;
mod workload;

use crate::fault::Injectable;
use serde::{Deserialize, Serialize};
use squall_model::id::RunId;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What the guard tells a new agent, as the only argument of `squall agent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub run: RunId,
    pub run_dir: PathBuf,
    /// The controller's pid: never a target.
    pub controller: u32,
    pub lease_ms: u64,
    /// Inherited descriptors: the protocol with the controller, the line to the guard, the locked journal.
    pub control_fd: i32,
    pub guard_fd: i32,
    pub journal_fd: i32,
}

/// A file of the hook package: its path below the run's `hook` folder, and its content.
pub type HookFile = (&'static str, &'static [u8]);

/// `squall agent OPTIONS`, for a list of faults.
pub fn main<L: Injectable>(options: &str, hook_files: &'static [HookFile]) -> ExitCode {
    let ended = serde_json::from_str(options)
        .map_err(io::Error::from)
        .and_then(|options: Options| core::Agent::<L>::start(options, hook_files)?.run());
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the run's agent log; nobody is left to tell when it cannot be written.
            writeln!(io::stderr(), "agent: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
