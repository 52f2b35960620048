//! Crash points: with the feature `crash-points`, a harness learns of every journal boundary and may kill this process there. Without it, nothing.

use crate::journal::record::Writer;
use squall_model::id::InjectionId;

/// The boundaries at which a process can be held.
pub const BOUNDARIES: [&str; 9] = [
    "before-intent",
    "after-intent",
    "after-act",
    "after-active",
    "before-undoing",
    "after-undoing",
    "mid-undo",
    "before-undone",
    "after-undone",
];

/// Tells the harness (when `SQUALL_CRASH_SOCKET` names its socket) `ROLE BOUNDARY KIND INJECTION PID` and waits for a byte or the end.
#[cfg(feature = "crash-points")]
pub fn crash_point(boundary: &'static str, by: Writer, kind: &str, injection: &InjectionId) {
    use std::io::{Read, Write};
    let Some(path) = std::env::var_os("SQUALL_CRASH_SOCKET") else {
        return;
    };
    let Ok(mut socket) = std::os::unix::net::UnixStream::connect(path) else {
        return;
    };
    let line = format!(
        "{} {boundary} {kind} {injection} {}\n",
        by.name(),
        std::process::id()
    );
    if socket.write_all(line.as_bytes()).is_ok() {
        // One byte, the end and an error mean the same: go on.
        let mut byte = [0];
        while let Err(error) = socket.read(&mut byte) {
            if error.kind() != std::io::ErrorKind::Interrupted {
                break;
            }
        }
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn crash_point(_: &'static str, _: Writer, _: &str, _: &InjectionId) {}

/// A shorter lease (`SQUALL_LEASE_MS`), so that a matrix of many runs that wait for its end stays quick.
#[cfg(feature = "crash-points")]
pub fn lease() -> Option<std::time::Duration> {
    let text = std::env::var("SQUALL_LEASE_MS").ok()?;
    text.parse().ok().map(std::time::Duration::from_millis)
}

/// None in this build.
#[cfg(not(feature = "crash-points"))]
pub fn lease() -> Option<std::time::Duration> {
    None
}

/// Whether every undo is to do nothing and say that it did (`SQUALL_BROKEN_UNDO`): how the matrix proves that it would notice.
#[cfg(feature = "crash-points")]
pub fn undo_is_broken() -> bool {
    std::env::var_os("SQUALL_BROKEN_UNDO").is_some()
}

/// Never in this build.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn undo_is_broken() -> bool {
    false
}
