//! Children that the guard starts for the agent, and their ends.

use super::wire::{FromGuard, Program, SpawnRequest};
use crate::agent::procs;
use crate::sys::spawn::{Launch, Started};
use crate::undo::mark;
use squall_model::process::ProcessIdentity;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// This binary, whatever has since been put under its path.
pub(super) const SELF: &str = "/proc/self/exe";

/// The children that were started and not yet waited for.
#[derive(Debug, Default)]
pub(super) struct Children {
    /// The caller's cgroups, which the guard itself may have left: every child begins there.
    home: Vec<PathBuf>,
    running: BTreeMap<u32, OwnedFd>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) pid: u32,
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
}

impl Children {
    /// Starts a child; the answer for the agent.
    pub(super) fn start(&mut self, request: SpawnRequest, fds: Vec<OwnedFd>) -> FromGuard {
        let id = request.request;
        match self.try_start(request, fds) {
            Ok(process) => FromGuard::Spawned {
                request: id,
                process,
            },
            Err(error) => FromGuard::SpawnFailed {
                request: id,
                because: error.to_string(),
            },
        }
    }

    fn try_start(
        &mut self,
        request: SpawnRequest,
        fds: Vec<OwnedFd>,
    ) -> io::Result<ProcessIdentity> {
        if procs::boot_ns() > request.until_boot_ns {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it was asked for too long ago, and nobody waits for it any more",
            ));
        }
        let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "three descriptors belong to a child",
            ));
        };
        let argv: Vec<OsString> = match &request.program {
            Program::Workload { argv } => argv.iter().map(OsString::from).collect(),
            Program::Served { kind } => vec!["squall".into(), "serve-fault".into(), kind.into()],
        };
        let mut launch = Launch::new(argv);
        if matches!(request.program, Program::Served { .. }) {
            launch.program = Some(PathBuf::from(SELF));
        }
        launch.env = request
            .env
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        launch.mark = launch
            .env
            .iter()
            .find(|(name, _)| name == mark::MARK)
            .map(|(_, value)| mark::limit(&value.to_string_lossy()));
        launch.directory = request.directory.as_deref();
        launch.stdin = Some(stdin);
        launch.stdout = Some(stdout);
        launch.stderr = Some(stderr);
        launch.session = true;
        launch.cgroups = [self.home.clone(), request.cgroups].concat();
        launch.private = request.private;
        let Started { pid, pidfd } = launch.start()?;
        // Not yet waited for, so the pid is still its own even if it has ended.
        let identity =
            procs::identity(pid).ok_or_else(|| io::Error::other("the child cannot be identified"));
        self.running.insert(pid, pidfd);
        identity
    }

    /// Children that begin in these cgroups.
    pub(super) fn at(home: Vec<PathBuf>) -> Children {
        Children {
            home,
            ..Children::default()
        }
    }

    /// Waits for whoever has ended: children of ours, the agent, and orphans that we were given.
    pub(super) fn reap(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        while let Ok(Some((pid, status))) =
            rustix::process::wait(rustix::process::WaitOptions::NOHANG)
        {
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or(0);
            self.running.remove(&pid);
            ends.push(End {
                pid,
                exit: status.exit_status(),
                signal: status.terminating_signal(),
            });
        }
        ends
    }

    /// Ends every child at once. For the end of the run, after the journal's own undos.
    pub(super) fn kill_all(&mut self) {
        for pidfd in self.running.values() {
            // Gone already is fine.
            rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL)
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_nobody_waits_for_any_more_is_not_started() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut children = Children::default();
        let mut ask = |until_boot_ns| {
            let request = SpawnRequest {
                request: 7,
                program: Program::Workload {
                    argv: vec!["true".into()],
                },
                env: Vec::new(),
                directory: None,
                cgroups: Vec::new(),
                private: false,
                until_boot_ns,
            };
            children.start(request, vec![null(), null(), null()])
        };
        let late = ask(procs::boot_ns() - 1);
        let FromGuard::SpawnFailed { request, because } = late else {
            panic!("{late:?}");
        };
        assert_eq!(request, 7);
        assert!(because.contains("too long ago"), "{because}");
        let in_time = ask(procs::boot_ns() + 60_000_000_000);
        let FromGuard::Spawned { process, .. } = in_time else {
            panic!("{in_time:?}");
        };
        // Of this child alone: others of this process belong to other tests.
        let pid = i32::try_from(process.pid).unwrap();
        let ended = rustix::process::waitpid(
            rustix::process::Pid::from_raw(pid),
            rustix::process::WaitOptions::empty(),
        );
        assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    }
}
