//! The undo side on the real host: faults through the real door, journals, recovery. Acts only on what it has started itself.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says by panicking what went wrong"
)]

mod common;
#[cfg(feature = "crash-points")]
mod crashes;
mod files;
mod network;
mod processes;
mod recovery;
mod resources;
mod superseded;
mod sweeping;

/// Says that something is not tested here. With `SQUALL_NO_SKIP=1` only what `tests/allowed-skips.txt` lists may be skipped.
fn skip(reason: &str) {
    let allowed = include_str!("../../../../tests/allowed-skips.txt")
        .lines()
        .filter_map(|line| line.split_once(" | "))
        .any(|(beginning, _)| reason.starts_with(beginning));
    let forbidden = std::env::var_os("SQUALL_NO_SKIP").is_some_and(|value| value == "1");
    assert!(
        allowed || !forbidden,
        "may not be skipped (SQUALL_NO_SKIP=1): {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
