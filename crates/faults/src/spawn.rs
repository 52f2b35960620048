//! How a controller starts a guard, and the two lines it then holds: to the agent, and to the guard.

use crate::frames::Frames;
use crate::guard::wire::{self, GuardReport, Received, ToGuardFromController};
use crate::sys::spawn::Launch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall_model::id::RunId;
use squall_model::process::ProcessIdentity;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a guard may take to lock its journal and start its agent.
const START: Duration = Duration::from_secs(10);

/// How the guard is started.
#[derive(Debug, Clone)]
pub struct Start {
    pub run: RunId,
    /// 5000 unless there is a reason.
    pub lease_ms: u64,
    /// The program that has the hidden commands `guard`, `agent` and `serve-fault`: this very one unless said.
    pub program: Option<PathBuf>,
}

/// The line to the guard.
#[derive(Debug)]
pub struct GuardLine(OwnedFd);

/// What a controller holds of a running guard and agent. Dropping it means: undo everything and end.
#[derive(Debug)]
pub struct Connection {
    /// The agent's protocol.
    pub agent: Frames,
    pub guard: GuardLine,
    pub guard_pid: u32,
    pub agent_process: ProcessIdentity,
}

/// Starts a guard and its agent for the run whose folder is `run_dir` (exists, mode 0700). Nothing is changed yet.
///
/// The caller is the guard's parent: it may wait for it, or leave that to its own end.
pub fn start(run_dir: &Path, start: &Start) -> io::Result<Connection> {
    let (control, agent_end) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    let (line, guard_end) = wire::pair()?;
    let log = crate::state_dir::open_log(&run_dir.join("logs/guard.log"))?;
    let options = crate::guard::Options {
        run: start.run.clone(),
        run_dir: run_dir.to_owned(),
        lease_ms: start.lease_ms,
        controller: std::process::id(),
        control_fd: agent_end.as_raw_fd(),
        renew_fd: guard_end.as_raw_fd(),
    };
    let words = vec![
        "squall".into(),
        "guard".into(),
        serde_json::to_string(&options)?.into(),
    ];
    let mut launch = Launch::new(words);
    launch.program = Some(
        start
            .program
            .clone()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe")),
    );
    launch.stdout = Some(log.try_clone()?.into());
    launch.stderr = Some(log.into());
    launch.pass = vec![agent_end.as_fd(), guard_end.as_fd()];
    launch.session = true;
    let guard = launch.start()?;
    drop((agent_end, guard_end));
    let line = GuardLine(line);
    let agent_process = line.wait_ready()?;
    Ok(Connection {
        agent: Frames::new(control)?,
        guard: line,
        guard_pid: guard.pid,
        agent_process,
    })
}

impl GuardLine {
    /// Prolongs the lease. Every second. An error means that the guard is gone.
    pub fn renew(&self) -> io::Result<()> {
        match wire::send(&self.0, &ToGuardFromController::Renew, &[]) {
            // A guard that is stopped does not read; its queue is full of renewals already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// What the guard has said since. `Err` of kind `UnexpectedEof`: it has exited.
    pub fn report(&self) -> io::Result<Option<GuardReport>> {
        match wire::receive(&self.0)? {
            Received::Message(report, _) => Ok(Some(report)),
            Received::Nothing => Ok(None),
            Received::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next word of the guard, waited for.
    pub fn wait_report(&self, within: Duration) -> io::Result<Option<GuardReport>> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(report) = self.report()? {
                return Ok(Some(report));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait_ready(&self) -> io::Result<ProcessIdentity> {
        match self.wait_report(START) {
            Ok(Some(GuardReport::Ready { agent, .. })) => Ok(agent),
            Ok(Some(GuardReport::Failed { because })) => Err(io::Error::other(because)),
            Ok(other) => Err(io::Error::other(format!(
                "the guard did not start: {other:?}"
            ))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::other(
                "the guard ended at once; see logs/guard.log in the run's folder",
            )),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for GuardLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
