//! Processes by identity. A pidfd is opened first and `/proc` is read after it, so that what was checked is what is signalled.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use squall_model::process::ProcessIdentity;
use std::io;
use std::time::{Duration, Instant};

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (dead, not yet collected), …
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// Its session.
    pub session: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
    /// A thread of the kernel's.
    pub kernel: bool,
}

impl Stat {
    /// Dead, whether or not its parent has collected it.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The id of this boot.
pub fn boot_id() -> io::Result<String> {
    #[cfg(feature = "crash-points")]
    if let Ok(boot_id) = std::env::var("SQUALL_BOOT_ID") {
        return Ok(boot_id);
    }
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// In the flags of a thread of the kernel's (`PF_KTHREAD`).
const KTHREAD: u64 = 0x0020_0000;

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold spaces and brackets, so the fields are counted after its last bracket.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        // One that is being taken down has session -1.
        session: fields
            .get(3)?
            .parse::<i64>()
            .ok()
            .map(|id| u32::try_from(id).unwrap_or(0))?,
        start_time: fields.get(19)?.parse().ok()?,
        kernel: fields.get(6)?.parse::<u64>().ok()? & KTHREAD != 0,
    })
}

/// Whether an error means that the process is gone.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        // A process that goes while it is read shows nothing.
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => parse_stat(&String::from_utf8_lossy(&bytes))
            .map(Some)
            .ok_or_else(|| {
                io::Error::other(format!(
                    "/proc/{pid}/stat has an unknown form: {:?}",
                    String::from_utf8_lossy(&bytes)
                ))
            }),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The identity of a running process; `None` when there is none or it is dead.
pub fn identity(pid: u32) -> io::Result<Option<ProcessIdentity>> {
    match stat(pid)? {
        Some(stat) if !stat.is_dead() => named(pid, stat).map(Some),
        _ => Ok(None),
    }
}

/// The same, of one that is dead and not yet collected too: its pid is still its own.
pub fn identity_dead_or_alive(pid: u32) -> io::Result<Option<ProcessIdentity>> {
    stat(pid)?.map(|stat| named(pid, stat)).transpose()
}

fn named(pid: u32, stat: Stat) -> io::Result<ProcessIdentity> {
    Ok(ProcessIdentity {
        boot_id: boot_id()?,
        pid_ns: pid_namespace(pid),
        pid,
        start_time: stat.start_time,
    })
}

fn pid_namespace(pid: u32) -> u64 {
    namespace_at(&format!("/proc/{pid}/ns/pid"))
}

/// The pid namespace of this process; 0 when it cannot be read.
pub fn own_pid_namespace() -> u64 {
    namespace_at("/proc/self/ns/pid")
}

fn namespace_at(path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |meta| meta.ino())
}

/// What `/proc` says of exactly this process; `None` when it is gone, dead, of another boot or pid namespace, or its pid was reused.
pub fn lookup(identity: &ProcessIdentity) -> io::Result<Option<Stat>> {
    if identity.boot_id != boot_id()? {
        return Ok(None);
    }
    let Some(stat) = living(identity)? else {
        return Ok(None);
    };
    // Where one of the two could not be read, the start time alone must do.
    let now = pid_namespace(identity.pid);
    let same = identity.pid_ns == 0 || now == 0 || identity.pid_ns == now;
    Ok(same.then_some(stat))
}

fn living(identity: &ProcessIdentity) -> io::Result<Option<Stat>> {
    Ok(
        stat(identity.pid)?
            .filter(|stat| stat.start_time == identity.start_time && !stat.is_dead()),
    )
}

/// The command line, blanks between the words, shortened for people.
pub fn command(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim().chars().take(120).collect()
}

/// The command line of a process, word by word; none when it is gone or not ours to read.
pub fn words(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Whether the environment a process was started with holds exactly this `NAME=value`. Unreadable: no.
pub fn has_variable(pid: u32, variable: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
        bytes
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes())
    })
}

/// The value of a variable in the environment a process was started with.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    bytes.split(|byte| *byte == 0).find_map(|one| {
        let value = one.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// Every pid in `/proc`.
pub fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Every process with its parent, as one pass over `/proc` saw it.
pub fn table() -> io::Result<Vec<(u32, Stat)>> {
    let mut rows = Vec::new();
    for pid in pids()? {
        if let Some(stat) = stat(pid)? {
            rows.push((pid, stat));
        }
    }
    Ok(rows)
}

/// The pids in `table` that descend from one of `roots`; the roots are not among them unless they descend from each other.
pub fn descendants(table: &[(u32, Stat)], roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut wave: Vec<u32> = roots.to_vec();
    while !wave.is_empty() {
        let next: Vec<u32> = table
            .iter()
            .filter(|(pid, stat)| wave.contains(&stat.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        found.extend_from_slice(&next);
        wave = next;
    }
    found
}

/// A process held by a pidfd: signals through it reach this process or nobody.
#[derive(Debug)]
pub struct Process {
    fd: OwnedFd,
    identity: ProcessIdentity,
}

impl Process {
    /// Opens exactly this process; `None` when it is gone, dead, of another boot or pid namespace, or its pid was reused.
    pub fn open(identity: &ProcessIdentity) -> io::Result<Option<Process>> {
        if identity.boot_id != boot_id()? {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let process = Process {
            fd,
            identity: identity.clone(),
        };
        // Read after the pidfd was opened: a pid that is reused between the two is noticed here.
        Ok(lookup(identity)?.map(|_| process))
    }

    /// Opens whatever runs under this pid now.
    pub fn open_pid(pid: u32) -> io::Result<Option<Process>> {
        match identity(pid)? {
            Some(identity) => Process::open(&identity),
            None => Ok(None),
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// What `/proc` says of this very process; `None` when it is gone or dead.
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        living(&self.identity)
    }

    /// Sends a signal. `Ok(false)`: it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is dead (collected or not); false when `within` passes first.
    pub fn wait_dead(&self, within: Duration) -> io::Result<bool> {
        wait_any(&[self.fd.as_fd()], within)
    }

    /// Looks until `/proc` shows what `wanted` accepts (`None`: gone). Gives the last reading and whether it was accepted.
    pub fn wait_stat(
        &self,
        within: Duration,
        wanted: impl Fn(Option<Stat>) -> bool,
    ) -> io::Result<(Option<Stat>, bool)> {
        let deadline = Instant::now() + within;
        loop {
            let stat = self.stat()?;
            if wanted(stat) {
                return Ok((stat, true));
            }
            if Instant::now() >= deadline {
                return Ok((stat, false));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of the descriptors is readable; false when `within` passes first.
pub fn wait_any(descriptors: &[BorrowedFd<'_>], within: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut polled: Vec<PollFd<'_>> = descriptors
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 41 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0 987654 11 12";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.session, stat.start_time),
            ('S', 7, 41, 987_654)
        );
    }

    #[test]
    fn a_process_that_is_being_taken_down_is_read_as_dead() {
        let text = "29126 (ip) X 0 -1 -1 0 -1 4227084 129 0 0 0 0 0 0 0 20 0 0 0 331593 0 0 0";
        let stat = parse_stat(text).unwrap();
        assert!(stat.is_dead() && stat.start_time == 331_593);
    }

    #[test]
    fn a_reused_pid_another_boot_or_namespace_and_a_dead_process_are_not_opened() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let identity = identity(child.id()).unwrap().unwrap();
        assert!(Process::open(&identity).unwrap().is_some());
        let reused = ProcessIdentity {
            start_time: identity.start_time + 1,
            ..identity.clone()
        };
        assert!(Process::open(&reused).unwrap().is_none());
        let rebooted = ProcessIdentity {
            boot_id: "another".into(),
            ..identity.clone()
        };
        assert!(Process::open(&rebooted).unwrap().is_none());
        let elsewhere = ProcessIdentity {
            pid_ns: identity.pid_ns + 1,
            ..identity.clone()
        };
        assert!(Process::open(&elsewhere).unwrap().is_none());
        assert_eq!(lookup(&elsewhere).unwrap(), None);
        let unread = ProcessIdentity {
            pid_ns: 0,
            ..identity.clone()
        };
        assert!(Process::open(&unread).unwrap().is_some());
        let open = Process::open(&identity).unwrap().unwrap();
        assert!(!open.wait_dead(Duration::ZERO).unwrap());
        child.kill().unwrap();
        assert!(open.wait_dead(Duration::from_secs(5)).unwrap());
        // Dead but not collected: as good as gone.
        assert!(Process::open(&identity).unwrap().is_none());
        child.wait().unwrap();
        assert!(!open.signal(Signal::KILL).unwrap());
    }
}
