//! The process table, as /proc shows it.

use crate::sys::process;
use std::collections::BTreeMap;
use std::io;

pub use crate::sys::clock::boot_ns;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proc {
    pub pid: u32,
    pub parent: u32,
    /// State letter: `R`, `S`, `T`, `Z`, …
    pub state: char,
    /// Clock ticks after boot.
    pub start_time: u64,
    /// A thread of the kernel's: no memory of its own.
    pub kernel: bool,
}

impl Proc {
    fn of(pid: u32, stat: process::Stat) -> Proc {
        Proc {
            pid,
            parent: stat.parent,
            state: stat.state,
            start_time: stat.start_time,
            kernel: stat.kernel,
        }
    }
}

/// A process by its pid and its start: whoever gets the pid later is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub pid: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

impl Known {
    /// Whoever has this pid now.
    pub fn of(pid: u32) -> Option<Known> {
        read(pid).map(|found| Known {
            pid,
            start_time: found.start_time,
        })
    }

    /// Whether this is it.
    pub fn is(&self, process: &Proc) -> bool {
        (self.pid, self.start_time) == (process.pid, process.start_time)
    }

    /// Reads it; None when it is gone.
    pub fn read(&self) -> Option<Proc> {
        read(self.pid).filter(|found| self.is(found))
    }
}

/// Reads one process; None when it is gone.
pub fn read(pid: u32) -> Option<Proc> {
    let stat = process::stat(pid).ok()??;
    Some(Proc::of(pid, stat))
}

/// Every process of the table.
pub fn all() -> io::Result<BTreeMap<u32, Proc>> {
    let rows = process::table()?.into_iter();
    Ok(rows.map(|(pid, stat)| (pid, Proc::of(pid, stat))).collect())
}

/// The command line, words joined by spaces.
pub fn command(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().to_owned()
}

/// The user a process runs as; None when it is gone.
pub fn user(pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let effective = line
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok());
    effective.or_else(|| {
        std::fs::metadata(format!("/proc/{pid}"))
            .ok()
            .map(|meta| meta.uid())
    })
}

/// One figure of /proc/PID/status in bytes, e.g. `VmRSS`.
pub fn memory(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kibibytes(&status, field)
}

/// One figure of /proc/meminfo in bytes, e.g. `MemAvailable`.
pub fn host_memory(field: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Processor time of all living threads of a process, in nanoseconds.
pub fn run_time_ns(pid: u32) -> Option<u64> {
    let mut sum = 0u64;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .flatten()
    {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let own: Option<u64> = text
            .split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        sum = sum.saturating_add(own.unwrap_or(0));
    }
    Some(sum)
}

/// The identity of a process, dead and not yet collected ones included; None when it is gone.
pub fn identity(pid: u32) -> Option<squall_model::process::ProcessIdentity> {
    process::identity_dead_or_alive(pid).ok().flatten()
}
