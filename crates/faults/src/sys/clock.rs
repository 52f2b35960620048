//! The boot-time clock: it goes on while the machine sleeps, so a lease cannot outlive a suspended laptop.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started, sleep included.
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds of the clock that timeouts are measured with.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
