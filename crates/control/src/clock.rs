//! The one clock of a run: nanoseconds of boot time, which goes on while the machine sleeps and never jumps.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

pub use squall_faults::sys::clock::boot_ns;

/// CPU time this process has used, in nanoseconds.
pub fn own_cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    (used.tv_sec as u64) * 1_000_000_000 + used.tv_nsec as u64
}

/// This boot's identity; empty when it cannot be read.
pub fn boot_id() -> String {
    squall_faults::sys::process::boot_id().unwrap_or_default()
}

/// UTC now, RFC 3339, to the millisecond.
pub fn utc_now() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.3}")
}

/// Where a run began, so that every stamp of it can be told from there.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    /// Boot-time clock at t = 0.
    pub boot_ns: u64,
}

impl RunClock {
    /// Starts now.
    pub fn start() -> RunClock {
        RunClock { boot_ns: boot_ns() }
    }

    /// Nanoseconds since the run started.
    pub fn now_ns(self) -> u64 {
        self.at(boot_ns())
    }

    /// A stamp of the boot-time clock, told from the run's start.
    pub fn at(self, boot_ns: u64) -> u64 {
        boot_ns.saturating_sub(self.boot_ns)
    }

    /// Time since the run started.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }
}
