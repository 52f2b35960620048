//! Remembers that SIGTERM arrived.
//!
//! The handler only sets a flag; who cares looks at it at a place of their own choosing.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static TERMINATION_REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGTERM does not end this process but is remembered.
pub(crate) fn catch_termination() -> io::Result<()> {
    let flag = Arc::clone(TERMINATION_REQUESTED.get_or_init(Arc::default));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, flag).map(drop)
}

/// Whether SIGTERM has arrived.
pub(crate) fn termination_requested() -> bool {
    TERMINATION_REQUESTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::SeqCst))
}
