//! Faults of a byte stream: what happens to chunks on their way, decided without a socket and without a clock of its own.

mod fault;
mod pipe;
mod stage;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Per, Rule, Way};
pub use pipe::{Pipe, Sink};

/// Nanoseconds on a monotonic clock.
pub type Nanos = u64;

/// A time that never comes.
pub const NEVER: Nanos = Nanos::MAX;

/// The most bytes that a direction of a connection holds back, in bytes; what does not fit waits in the sender's socket.
/// With the connection's own state, and blocks that are not full, that is less than 64 KiB.
pub const HELD_MAX: usize = 52 * 1024;
