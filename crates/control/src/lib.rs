//! Runs experiments: plans, starts, probes, monitors, stores, concludes. Never touches a host itself: that is the agent's, under its guard.
//!
//! Threads and channels; prints nothing. Whoever drives it hands in an observer and gets a conclusion.
#![forbid(unsafe_code)]

pub mod board;
pub mod clock;
pub mod doctor;
pub mod monitor;
pub mod policy_files;
pub mod prepare;
pub mod probe;
pub mod run;
pub mod status;
pub mod store;

#[cfg(test)]
mod testing;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
