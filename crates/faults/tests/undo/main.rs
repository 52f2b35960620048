//! The undo side on the real host: faults through the real door, journals, recovery. Acts only on what it has started itself.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says by panicking what went wrong"
)]

mod common;
#[cfg(feature = "crash-points")]
mod crashes;
mod files;
mod hooks;
mod links;
mod mounts;
mod network;
mod others;
mod processes;
mod recovery;
mod resources;
#[path = "../run/skip.rs"]
mod skip;
mod superseded;
mod sweeping;
mod trees;

use skip::skip;
