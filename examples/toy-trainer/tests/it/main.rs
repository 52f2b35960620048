//! Tests with real processes: the trainer as its users start it, disturbed through its own hook.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod agent;
mod bugs;
mod hook;
mod job;
mod recovery;
mod undisturbed;
