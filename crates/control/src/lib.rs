//! Runs experiments.
#![forbid(unsafe_code)]

pub mod clock;
pub mod store;
#[cfg(test)]
mod testing;
