//! Why a process of the job stops, and with which exit code.
//!
//! Every fallible function returns [`Failure`], so the exit code is decided where the cause is known.

use std::fmt;

/// Gave up after too many restarts.
pub(crate) const GAVE_UP: u8 = 1;
/// The command line or the output directory does not fit.
pub(crate) const USAGE: u8 = 2;
/// A rank lost a peer or could not do its work; a restart may help.
pub(crate) const RANK_FAILED: u8 = 70;
/// A rank left at a step boundary because it was told to (SIGTERM); a restart continues.
pub(crate) const PREEMPTED: u8 = 75;
/// The supervisor was told to stop (SIGTERM): 128 + 15.
pub(crate) const TERMINATED: u8 = 143;

/// A message for people and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A mistake in the command line or in what the output directory holds.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// Something that a restart may cure.
    pub(crate) fn rank(message: impl Into<String>) -> Self {
        Self {
            code: RANK_FAILED,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

/// Says what was being done when a call of the system failed.
pub(crate) trait Context<T> {
    /// Turns the error into a [`Failure`] that starts with `doing`.
    fn context(self, doing: &str) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: &str) -> Result<T> {
        self.map_err(|error| Failure::rank(format!("{doing}: {error}")))
    }
}
