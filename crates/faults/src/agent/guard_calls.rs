//! What the agent asks of its guard: to start children. Asked from any thread; the main loop hands the answers over.

use crate::fault::FaultError;
use crate::guard::wire::{self, Program, SpawnRequest, ToGuard};
use crate::host::{Gated, Spawner};
use crate::serve;
use crate::sys::clock::boot_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the guard may take to start a child.
const ANSWER: Duration = Duration::from_secs(10);
/// When it may begin to at the latest: a guard that was stopped must not start one that nobody waits for any more.
const BEGIN: Duration = Duration::from_secs(5);
/// How long a burner may take to end cleanly.
const GRACE: Duration = Duration::from_millis(500);
/// How long a proxy may take to tell its last records.
const PROXY_GRACE: Duration = Duration::from_secs(2);

type Answer = Result<ProcessIdentity, String>;

/// The line to the guard, shared by all threads.
#[derive(Debug)]
pub(super) struct GuardCalls {
    socket: Arc<OwnedFd>,
    last: AtomicU64,
    waiting: Mutex<BTreeMap<u64, SyncSender<Answer>>>,
    /// Held open for as long as the child runs: the end of its input is its order to stop, however this agent ends.
    gates: Gates,
    logs: PathBuf,
}

type Gates = Arc<Mutex<BTreeMap<u32, OwnedFd>>>;

impl GuardCalls {
    /// `logs`: the run's folder for logs.
    pub(super) fn new(socket: Arc<OwnedFd>, logs: PathBuf) -> GuardCalls {
        GuardCalls {
            socket,
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            gates: Gates::default(),
            logs,
        }
    }

    /// Starts a child and waits for the guard's answer. `fds`: its standard input, output and error.
    pub(super) fn spawn(
        &self,
        mut request: SpawnRequest,
        fds: &[OwnedFd; 3],
    ) -> io::Result<ProcessIdentity> {
        request.request = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let id = request.request;
        let begin = u64::try_from(BEGIN.as_nanos()).unwrap_or(u64::MAX);
        request.until_boot_ns = boot_ns().saturating_add(begin);
        let (sender, receiver): (_, Receiver<Answer>) = sync_channel(1);
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        let borrowed = fds.each_ref().map(AsFd::as_fd);
        wire::send(&self.socket, &ToGuard::Spawn(request), &borrowed)?;
        match receiver.recv_timeout(ANSWER) {
            Ok(Ok(process)) => Ok(process),
            Ok(Err(because)) => Err(io::Error::other(because)),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the guard did not answer",
            )),
        }
    }

    /// Hands over the guard's answer to a request.
    pub(super) fn answered(&self, request: u64, answer: Answer) {
        let sender = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&request);
        if let Some(sender) = sender {
            // A caller that gave up has closed its gate, so the child exits by itself.
            sender.try_send(answer).unwrap_or_default();
        }
    }

    /// A child has ended.
    pub(super) fn exited(&self, pid: u32) {
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pid);
    }

    /// The guard is dead: nobody will answer.
    pub(super) fn fail_all(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Spawner for GuardCalls {
    fn spawn_gated(
        &self,
        kind: &str,
        config: &serde_json::Value,
        injection: &InjectionId,
    ) -> io::Result<Box<dyn Gated>> {
        let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
        let (child_in, gate) = rustix::pipe::pipe_with(cloexec)?;
        let (ready, child_out) = rustix::pipe::pipe_with(cloexec)?;
        let log = self.logs.join(format!("served-{kind}-{injection}.log"));
        let log = crate::state_dir::open_log(&log)?;
        let request = SpawnRequest {
            request: 0,
            program: Program::Served {
                kind: kind.to_owned(),
            },
            env: Vec::new(),
            directory: None,
            cgroups: Vec::new(),
            private: false,
            until_boot_ns: 0,
        };
        let identity = self.spawn(request, &[child_in, child_out, log.into()])?;
        Ok(Box::new(Waiting {
            identity,
            gate,
            ready,
            go: serve::go(config)?,
            kind: kind.to_owned(),
            gates: self.gates.clone(),
        }))
    }
}

/// A served child before its go. Dropping it closes the gate.
#[derive(Debug)]
struct Waiting {
    identity: ProcessIdentity,
    gate: OwnedFd,
    ready: OwnedFd,
    go: Vec<u8>,
    kind: String,
    gates: Gates,
}

impl Gated for Waiting {
    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    fn grace(&self) -> Duration {
        match self.kind.as_str() {
            squall_model::proxying::SERVED => PROXY_GRACE,
            _ => GRACE,
        }
    }

    fn release(self: Box<Self>, ready_within: Duration) -> Result<(), FaultError> {
        let object = format!("serve-fault {}", self.kind);
        let fail = |action: &str, source: io::Error| FaultError::Os {
            action: action.into(),
            object: object.clone(),
            source,
        };
        let mut sent = 0;
        while sent < self.go.len() {
            match rustix::io::write(&self.gate, &self.go[sent..]) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail("let go", error.into())),
            }
        }
        wait_ready(&self.ready, ready_within).map_err(|error| fail("see ready", error))?;
        self.gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.identity.pid, self.gate);
        Ok(())
    }
}

fn wait_ready(ready: &OwnedFd, within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("it was not ready within {} s", within.as_secs()),
                ));
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut chunk = [0u8; 64];
        let count = rustix::io::read(ready, &mut chunk)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ended before it was ready; its log in the run's folder says why",
            ));
        }
        said.extend_from_slice(&chunk[..count]);
        if said.starts_with(serve::READY.as_bytes()) {
            return Ok(());
        }
    }
}
