//! The guard: a small process that outlives the agent and the controller just long enough to undo what they left.
//!
//! Invariant: as long as something of the run may be in the world, the guard either sees a live agent under a live lease, or it
//! is undoing. It learns of deaths by pidfd and end of file, and writes to the journal only after the agent's proven death.

pub mod cgroup;
mod children;
mod rescue;
mod watch;
pub mod wire;

use serde::{Deserialize, Serialize};
use squall_model::id::RunId;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What the controller tells a new guard, as the only argument of `squall guard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub run: RunId,
    /// The run's folder; exists.
    pub run_dir: PathBuf,
    /// How long the run lives without a word from the controller.
    pub lease_ms: u64,
    /// The controller's pid.
    pub controller: u32,
    /// Inherited descriptors: the agent's end of its protocol, and the guard's own line to the controller.
    pub control_fd: i32,
    pub renew_fd: i32,
}

/// `squall guard OPTIONS`.
pub fn main(options: &str) -> ExitCode {
    let ended = serde_json::from_str(options)
        .map_err(io::Error::from)
        .and_then(|options: Options| watch::Guard::start(options)?.watch());
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the run's guard log; nobody is left to tell when it cannot be written.
            writeln!(io::stderr(), "guard: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
