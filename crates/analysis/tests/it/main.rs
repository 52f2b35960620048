//! Runs of a simulated trainer whose truth is known, against what analysis concludes from their logs alone.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot build its run is to fail"
)]

mod acts;
mod edges;
mod forms;
mod golden;
mod honest;
mod kills;
mod laws;
mod models;
mod naming;
mod past;
mod real;
mod rows;
mod runs;
mod sameness;
mod scenarios;
mod sim;
mod truths;
