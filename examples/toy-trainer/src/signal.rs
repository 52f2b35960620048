//! Remembers that SIGTERM arrived.
//!
//! The handler only sets a flag; who cares looks at it at a place of their own choosing. This file holds the only
//! unsafe code of the package: the standard library and rustix offer no safe way to install a handler.

use std::sync::atomic::{AtomicBool, Ordering};

static TERMINATION_REQUESTED: AtomicBool = AtomicBool::new(false);

/// SIGTERM on every Linux architecture.
const SIGTERM: i32 = 15;

extern "C" fn remember(_signal: i32) {
    TERMINATION_REQUESTED.store(true, Ordering::SeqCst);
}

/// From now on SIGTERM does not end this process but is remembered.
#[expect(
    unsafe_code,
    reason = "installing a signal handler is a call of the C library"
)]
pub(crate) fn catch_termination() {
    unsafe extern "C" {
        fn signal(signal: i32, handler: extern "C" fn(i32)) -> usize;
    }
    // SAFETY: the signature is that of signal(3); the handler only stores to an atomic, which is async-signal-safe.
    unsafe { signal(SIGTERM, remember) };
}

/// Whether SIGTERM has arrived.
pub(crate) fn termination_requested() -> bool {
    TERMINATION_REQUESTED.load(Ordering::SeqCst)
}
