//! One connection of a hook: its lines in, its answers out, each bounded.

use super::{Now, Request};
use crate::agent::procs::Known;
use rustix::event::epoll;
use rustix::net::{SendFlags, send};
use serde::Serialize;
use squall_model::hook::{
    FromAgent, Hello, HoldReached, HoldSpec, LINE_MAX, TrainingEvent, VERSION,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Lines a second that one connection may send, and how many it may save up.
const RATE: u64 = 10_000;
const BURST: u64 = 20_000;
/// Answers that a process does not read: it is cut off beyond this.
const QUEUE_MAX: usize = 64 * 1024;
const READ_MAX: usize = 64 * 1024;
const PHASES_MAX: usize = 64;
/// An event that looks older than this was stamped by another clock.
const AGE_MAX_NS: u64 = 2_000_000_000;

/// A line that was understood.
#[derive(Debug)]
pub(super) enum Spoken {
    Hello,
    Event(Box<TrainingEvent>),
    Held(HoldReached),
    Request(Request),
}

#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    pub(super) pid: u32,
    /// Who had this pid when it connected; None when it had gone by then.
    pub(super) process: Option<Known>,
    pub(super) hello: Option<Hello>,
    armed: Vec<HoldSpec>,
    welcomed: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    tokens: u64,
    filled_ns: u64,
    /// When its latest event happened.
    pub(super) latest_ns: u64,
    pub(super) watched: epoll::EventFlags,
    pub(super) dropped: u64,
    pub(super) closed: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, pid: u32, now_ns: u64) -> Client {
        Client {
            socket,
            pid,
            process: Known::of(pid),
            hello: None,
            armed: Vec::new(),
            welcomed: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            tokens: BURST,
            filled_ns: now_ns,
            latest_ns: now_ns,
            watched: epoll::EventFlags::IN,
            dropped: 0,
            closed: false,
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Reads and writes what is possible now. Returns the bytes read.
    pub(super) fn serve(&mut self, now_ns: u64, spoken: &mut Vec<Spoken>) -> usize {
        self.flush();
        let mut chunk = [0u8; READ_MAX];
        let count = match rustix::io::read(&self.socket, &mut chunk) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return 0,
            Err(_) => 0,
        };
        self.inbox.extend_from_slice(&chunk[..count]);
        let mut start = 0;
        while let Some(length) = self.inbox[start..].iter().position(|byte| *byte == b'\n') {
            if length >= LINE_MAX || self.closed {
                break;
            }
            let line = self.inbox[start..start + length].to_vec();
            start += length + 1;
            self.line(&line, now_ns, spoken);
        }
        self.inbox.drain(..start);
        if self.inbox.len() >= LINE_MAX {
            self.refuse(&format!("a line is longer than {LINE_MAX} bytes"));
        }
        self.closed |= count == 0;
        count
    }

    /// When an event happened that its sender stamped with `t_mono_ns`, on the agent's clock: never before another one of the same
    /// process. Where the sender's clock is not ours, that is now.
    pub(super) fn happened(&mut self, t_mono_ns: u64, now: Now) -> u64 {
        let age = now.mono_ns.checked_sub(t_mono_ns);
        let age = age.filter(|age| *age <= AGE_MAX_NS).unwrap_or(0);
        self.latest_ns = now.boot_ns.saturating_sub(age).max(self.latest_ns);
        self.latest_ns
    }

    fn line(&mut self, line: &[u8], now_ns: u64, spoken: &mut Vec<Spoken>) {
        if !self.spend(now_ns) {
            self.dropped += 1;
            return;
        }
        let parsed: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_slice(line);
        let Some((key, value)) = parsed
            .ok()
            .filter(|map| map.len() == 1)
            .and_then(|map| map.into_iter().next())
        else {
            return self.refuse("a line is not a JSON object with one key");
        };
        let word = match (key.as_str(), self.hello.is_some()) {
            ("hello", _) => return self.greet(value, spoken),
            ("event" | "hold" | "request", false) => {
                return self.refuse("the first message is not `hello`");
            }
            ("event", true) => serde_json::from_value(value)
                .map(Box::new)
                .map(Spoken::Event),
            ("hold", true) => serde_json::from_value(value).map(Spoken::Held),
            ("request", true) => serde_json::from_value(value).map(Spoken::Request),
            _ => return, // a newer trainer's word
        };
        match word {
            Ok(word) => spoken.push(word),
            Err(error) => self.refuse(&format!("a `{key}` cannot be read: {error}")),
        }
    }

    fn greet(&mut self, value: serde_json::Value, spoken: &mut Vec<Spoken>) {
        let version = value.get("v").and_then(serde_json::Value::as_u64);
        if version != Some(u64::from(VERSION)) {
            let said = version.map_or("none".to_owned(), |v| v.to_string());
            return self.refuse(&format!(
                "this agent speaks version {VERSION} of the hook protocol, not {said}"
            ));
        }
        match serde_json::from_value::<Hello>(value) {
            Ok(mut hello) => {
                hello.phases.truncate(PHASES_MAX);
                hello.phases.retain(|phase| phase.len() <= 64);
                hello.role.truncate(
                    hello
                        .role
                        .char_indices()
                        .nth(32)
                        .map_or(hello.role.len(), |(at, _)| at),
                );
                self.hello = Some(hello);
                spoken.push(Spoken::Hello);
            }
            Err(error) => self.refuse(&format!("`hello` cannot be read: {error}")),
        }
    }

    /// Answers who waits for an answer; false: nobody does.
    pub(super) fn turn_away(&mut self, word: &Spoken) -> bool {
        match word {
            Spoken::Hello | Spoken::Event(_) => return false,
            Spoken::Held(hold) => self.say(&FromAgent::Release {
                id: hold.id.clone(),
            }),
            Spoken::Request(request) => self.say(&FromAgent::Refused {
                id: Some(request.id.clone()),
                because: "too much is said to this agent at once".to_owned(),
            }),
        }
        true
    }

    /// One line's worth of the rate; false when it is used up.
    fn spend(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.filled_ns);
        let fresh = (u128::from(passed) * u128::from(RATE) / 1_000_000_000) as u64;
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(BURST);
            self.filled_ns = now_ns;
        }
        let enough = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        enough
    }

    /// Sends the holds that concern this process, if they are not what it was told last.
    pub(super) fn arm(&mut self, holds: &[HoldSpec]) {
        let Some(hello) = &self.hello else {
            return;
        };
        let concerns = |hold: &&HoldSpec| {
            (hold.rank.is_none() || hold.rank == hello.rank) && hello.phases.contains(&hold.phase)
        };
        let mine: Vec<HoldSpec> = holds.iter().filter(concerns).cloned().collect();
        if !self.welcomed {
            self.welcomed = true;
            self.say(&FromAgent::Welcome {
                v: VERSION,
                arm: mine.clone(),
            });
        } else if mine != self.armed {
            self.say(&FromAgent::Arm {
                holds: mine.clone(),
            });
        }
        self.armed = mine;
    }

    pub(super) fn say<T: Serialize>(&mut self, message: &T) {
        let Ok(mut line) = serde_json::to_vec(message) else {
            return;
        };
        line.push(b'\n');
        if line.len() > LINE_MAX || self.outbox.len() + line.len() > QUEUE_MAX {
            self.closed = true;
            return;
        }
        self.outbox.extend(line);
        self.flush();
    }

    fn refuse(&mut self, because: &str) {
        if !self.closed {
            self.say(&FromAgent::Refused {
                id: None,
                because: because.to_owned(),
            });
            self.closed = true;
        }
    }

    fn flush(&mut self) {
        while !self.outbox.is_empty() {
            match send(
                &self.socket,
                &self.outbox,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    // What it had sent before it went is still read.
                    self.outbox.clear();
                    return;
                }
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
