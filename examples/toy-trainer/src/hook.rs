//! Client of the hook protocol, version 1 (`docs/hook-protocol.md`).
//!
//! It tells an agent what this process does and lets the agent make it wait at an exact place. It never breaks or
//! slows training by itself: without a socket, with a broken one or with an agent that does not read, it falls silent.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a held process waits for the agent.
const HOLD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a new connection waits for the agent's first word, so that a hold armed there meets the first step.
const WELCOME_DEADLINE: Duration = Duration::from_millis(500);
/// Longest line of the protocol in bytes, with its newline.
const LINE_MAX: usize = 8 * 1024;

/// Who this process is, for the greeting.
pub(crate) struct Identity<'a> {
    pub(crate) rank: Option<u32>,
    pub(crate) world: Option<u32>,
    pub(crate) restart: u32,
    pub(crate) role: &'a str,
    /// Every hold point this process can offer.
    pub(crate) phases: &'a [&'a str],
}

/// A place in training; both numbers count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) step: u64,
    pub(crate) epoch: u64,
}

/// A hold the agent asked for.
#[derive(Clone, Debug, Deserialize)]
struct Hold {
    id: String,
    phase: String,
    rank: Option<u32>,
    step: Option<u64>,
    epoch: Option<u64>,
}

/// The connection to the agent, if there is one.
pub(crate) struct Hook {
    link: Option<Link>,
}

struct Link {
    stream: UnixStream,
    rank: Option<u32>,
    sequence: u64,
    dropped: u64,
    /// The rest of a line of which the socket took only a part.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    holds: Vec<Hold>,
    /// Ids of holds that fired; a hold fires once.
    fired: Vec<String>,
    welcomed: bool,
    /// The hold that now blocks this process.
    waiting_for: Option<String>,
    open: bool,
}

impl Hook {
    /// Connects to the agent that the environment names and greets it.
    pub(crate) fn from_environment(identity: &Identity<'_>) -> Self {
        let named = (
            std::env::var_os("SQUALL_HOOK_SOCKET"),
            std::env::var_os("SQUALL_RUN"),
        );
        let (Some(path), Some(_)) = named else {
            return Self { link: None };
        };
        Self {
            link: connect(&path).map(|stream| Link::greet(stream, identity)),
        }
    }

    /// Sends an event of `kind` with `fields` (an object), or drops and counts it.
    pub(crate) fn event(&mut self, kind: &str, fields: Value) {
        if let Some(link) = &mut self.link {
            link.event(kind, fields);
        }
        self.forget_closed();
    }

    /// Takes what the agent sent and blocks here while one of its holds matches.
    pub(crate) fn hold_point(&mut self, phase: &str, at: Place) {
        if let Some(link) = &mut self.link {
            link.receive();
            while let Some(index) = link
                .holds
                .iter()
                .position(|hold| link.matches(hold, phase, at))
            {
                let hold = link.holds.remove(index);
                link.hold(hold, at);
            }
        }
        self.forget_closed();
    }

    fn forget_closed(&mut self) {
        self.link.take_if(|link| !link.open);
    }
}

/// Opens the socket without ever blocking: an agent whose backlog is full is no agent.
fn connect(path: &std::ffi::OsStr) -> Option<UnixStream> {
    let address = SocketAddrUnix::new(path).ok()?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    Some(UnixStream::from(socket))
}

impl Link {
    fn greet(stream: UnixStream, identity: &Identity<'_>) -> Self {
        let mut link = Self {
            stream,
            rank: identity.rank,
            sequence: 0,
            dropped: 0,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            holds: Vec::new(),
            fired: Vec::new(),
            welcomed: false,
            waiting_for: None,
            open: true,
        };
        let (rank, world, restart) = (identity.rank, identity.world, identity.restart);
        link.send(&json!({"hello": {
            "v": 1, "pid": std::process::id(), "rank": rank, "local_rank": rank, "world": world,
            "restart": restart, "phases": identity.phases, "role": identity.role,
        }}));
        let deadline = Instant::now() + WELCOME_DEADLINE;
        while link.open && !link.welcomed && link.wait(PollFlags::IN, deadline) {
            link.receive();
        }
        link
    }

    fn event(&mut self, kind: &str, mut fields: Value) {
        self.sequence += 1;
        fields["seq"] = self.sequence.into();
        fields["t_mono_ns"] = monotonic_ns().into();
        fields["kind"] = kind.into();
        if self.dropped > 0 {
            fields["dropped"] = self.dropped.into();
        }
        if self.send(&json!({ "event": fields })) {
            self.dropped = 0;
        } else {
            self.dropped += 1;
        }
    }

    fn matches(&self, hold: &Hold, phase: &str, at: Place) -> bool {
        hold.phase == phase
            && (hold.rank.is_none() || hold.rank == self.rank)
            && hold.step.is_none_or(|step| step == at.step)
            && hold.epoch.is_none_or(|epoch| epoch == at.epoch)
    }

    /// Blocks until the agent lets go, closes, or the deadline passes.
    fn hold(&mut self, hold: Hold, at: Place) {
        let deadline = Instant::now() + HOLD_DEADLINE;
        self.fired.push(hold.id.clone());
        let message = json!({"hold": {"id": hold.id, "step": at.step, "epoch": at.epoch, "phase": hold.phase}});
        while self.open && !self.send(&message) {
            if !self.wait(PollFlags::OUT, deadline) {
                break;
            }
        }
        self.waiting_for = Some(hold.id.clone());
        while self.open && self.waiting_for.is_some() {
            if !self.wait(PollFlags::IN, deadline) {
                self.waiting_for = None;
                let fields =
                    json!({"id": hold.id, "step": at.step, "epoch": at.epoch, "phase": hold.phase});
                self.event("hold-expired", fields);
                return;
            }
            self.receive();
        }
    }

    /// Waits until the socket is ready (true) or `deadline` has passed (false).
    fn wait(&self, flags: PollFlags, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.stream, flags)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(ready) => return ready > 0,
                Err(_) => return false,
            }
        }
    }

    /// Writes one line without blocking; false when it was dropped as a whole.
    fn send(&mut self, message: &Value) -> bool {
        let mut line = message.to_string();
        line.push('\n');
        if line.len() > LINE_MAX || !self.flush() {
            return false;
        }
        self.outgoing = line.into_bytes();
        self.flush();
        // Nothing went out: take the line back, so that a full buffer means a dropped event, not a late one.
        if self.outgoing.len() == message.to_string().len() + 1 {
            self.outgoing.clear();
            return false;
        }
        true
    }

    /// Writes what is left of a line; true when nothing is left.
    fn flush(&mut self) -> bool {
        while self.open && !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => self.open = false,
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
        }
        self.open && self.outgoing.is_empty()
    }

    /// Reads and obeys every message that has arrived.
    fn receive(&mut self) {
        let mut buffer = [0; 4096];
        while self.open {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(read) => self.incoming.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
            while let Some(end) = self.incoming.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.incoming.drain(..=end).collect();
                if let Ok(message) = serde_json::from_slice::<Value>(&line) {
                    self.obey(&message);
                }
            }
            if self.incoming.len() > LINE_MAX {
                self.open = false;
            }
        }
    }

    fn obey(&mut self, message: &Value) {
        if let Some(welcome) = message.get("welcome") {
            self.welcomed = true;
            self.arm(&welcome["arm"]);
        } else if let Some(arm) = message.get("arm") {
            self.arm(&arm["holds"]);
        } else if let Some(release) = message.get("release") {
            let id = release["id"].as_str();
            self.holds.retain(|hold| Some(hold.id.as_str()) != id);
            self.let_go(id);
        } else if let Some(landed) = message.get("landed") {
            self.let_go(landed["id"].as_str());
        } else if message.get("refused").is_some() {
            self.open = false;
        }
    }

    /// Replaces the whole list of holds; entries that cannot be read are ignored.
    fn arm(&mut self, holds: &Value) {
        let holds = holds.as_array().map(Vec::as_slice).unwrap_or_default();
        let readable = holds.iter().filter_map(|hold| Hold::deserialize(hold).ok());
        self.holds = readable
            .filter(|hold| !self.fired.contains(&hold.id))
            .collect();
    }

    fn let_go(&mut self, id: Option<&str>) {
        if self.waiting_for.as_deref() == id {
            self.waiting_for = None;
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests;
