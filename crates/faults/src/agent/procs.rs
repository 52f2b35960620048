//! The process table, as /proc shows it.

use std::collections::BTreeMap;
use std::io;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proc {
    pub pid: u32,
    pub parent: u32,
    /// State letter: `R`, `S`, `T`, `Z`, …
    pub state: char,
    /// Clock ticks after boot.
    pub start_time: u64,
    /// User and system time, in clock ticks.
    pub cpu_ticks: u64,
    /// A thread of the kernel's: no memory of its own.
    pub kernel: bool,
}

/// Reads one process; None when it is gone.
pub fn read(pid: u32) -> Option<Proc> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name stands in parentheses and may hold anything, a parenthesis too.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| {
        fields
            .get(field - 3)
            .and_then(|text| text.parse::<u64>().ok())
    };
    Some(Proc {
        pid,
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(4)?).ok()?,
        start_time: number(22)?,
        cpu_ticks: number(14)? + number(15)?,
        kernel: number(9)? & 0x0020_0000 != 0,
    })
}

/// Every process of the table.
pub fn all() -> io::Result<BTreeMap<u32, Proc>> {
    let mut table = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(read) {
            table.insert(process.pid, process);
        }
    }
    Ok(table)
}

/// The environment a process was started with; empty when it may not be read.
pub fn environment(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// Whether an environment sets `name` to `value`.
pub fn sets(environment: &[u8], name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == wanted.as_bytes())
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

/// The identity of a running process, good for any later boot, namespace and reuse of its pid.
pub fn identity(pid: u32) -> Option<squall_model::process::ProcessIdentity> {
    use std::os::unix::fs::MetadataExt;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let process = read(pid)?;
    Some(squall_model::process::ProcessIdentity {
        boot_id: boot_id.trim().to_owned(),
        pid_ns: std::fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(0, |meta| meta.ino()),
        pid,
        start_time: process.start_time,
    })
}

/// The boot-time clock, in nanoseconds: it goes on while the host sleeps.
pub fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
