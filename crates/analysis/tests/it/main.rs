//! Runs of a simulated trainer whose truth is known, against what analysis concludes from their logs alone.

mod golden;
mod scenarios;
mod sim;
