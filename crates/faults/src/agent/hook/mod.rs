//! The agent's side of the hook protocol (docs/hook-protocol.md): a socket that trainers connect to.
//!
//! A hostile trainer harms only itself: connections, lines, rates and answers are bounded, and what is dropped is counted.

mod client;
pub mod place;

use super::procs::Known;
use crate::sys::clock;
use client::{Client, Spoken};
use rustix::event::epoll;
use squall_model::hook::{FromAgent, Hello, HoldReached, HoldSpec, TrainingEvent};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections at the same time.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes read in one turn, from all connections together.
const TURN_MAX: usize = 1024 * 1024;
/// Lines a second from all connections together, so that the controller can keep every event that is let through. Whoever holds or
/// asks beyond it is answered at once, and nobody hears of it.
const RATE_ALL: u64 = 20_000;
const LISTENER: u64 = 0;

/// Names a connection as long as the agent lives.
pub type ClientId = u64;

/// What a trainer said.
#[derive(Debug, Clone, PartialEq)]
pub enum FromHook {
    Hello {
        client: ClientId,
    },
    Event {
        client: ClientId,
        event: Box<TrainingEvent>,
        /// When it happened, on the agent's clock.
        boot_ns: u64,
    },
    Held {
        client: ClientId,
        hold: HoldReached,
    },
    Request {
        client: ClientId,
        request: Request,
    },
    Gone {
        client: ClientId,
        hello: Hello,
        pid: u32,
    },
    Dropped {
        what: String,
        count: u64,
    },
}

/// The same moment on the agent's clock and on the one that trainers stamp their events with.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub boot_ns: u64,
    pub mono_ns: u64,
}

impl Now {
    /// Right now.
    pub fn read() -> Now {
        Now {
            boot_ns: clock::boot_ns(),
            mono_ns: clock::monotonic_ns(),
        }
    }
}

/// A trainer asks to be ended.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Request {
    pub id: String,
    /// `process-terminate` or `process-kill`.
    pub fault: String,
    #[serde(default)]
    pub epoch: Option<u64>,
    #[serde(default)]
    pub step: Option<u64>,
    #[serde(default)]
    pub grace_ms: Option<u64>,
}

/// The listening socket and everyone connected to it.
#[derive(Debug)]
pub struct Hooks {
    epoll: OwnedFd,
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<ClientId, Client>,
    last: ClientId,
    refused: u64,
    /// Lines let through since this moment.
    passed: u64,
    since_ns: u64,
    dropped: u64,
    /// Holds and requests that were answered here.
    unheard: u64,
}

impl Hooks {
    /// Listens on `path`, in a folder that only this user can enter.
    pub fn listen(path: &Path) -> io::Result<Hooks> {
        if path.as_os_str().len() > 100 {
            let because = format!(
                "the socket path {} is longer than 100 bytes",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, because));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &listener,
            epoll::EventData::new_u64(LISTENER),
            epoll::EventFlags::IN,
        )?;
        Ok(Hooks {
            epoll,
            listener,
            path: path.to_owned(),
            clients: BTreeMap::new(),
            last: LISTENER,
            refused: 0,
            passed: 0,
            since_ns: 0,
            dropped: 0,
            unheard: 0,
        })
    }

    /// The socket's path: what `SQUALL_HOOK_SOCKET` says.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Becomes readable when somebody wants to connect.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Serves whoever is ready; what they said is told in the order of its time. Returns, after a bounded amount of work, the most bytes
    /// that were read of one of them.
    pub fn serve(&mut self, now: Now, said: &mut Vec<FromHook>) -> io::Result<usize> {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(64);
        let none = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&none),
        ) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let (mut budget, mut most) = (TURN_MAX, 0);
        let mut words = Vec::new();
        for event in ready {
            match event.data.u64() {
                LISTENER => self.accept(now.boot_ns)?,
                _ if budget == 0 => break,
                id => {
                    let read = self.serve_client(id, now, &mut words);
                    budget = budget.saturating_sub(read);
                    most = most.max(read);
                }
            }
        }
        // Of each process they are in order already, and stay so.
        words.sort_by_key(|(at_ns, _)| *at_ns);
        said.extend(words.into_iter().map(|(_, word)| word));
        Ok(most)
    }

    fn accept(&mut self, now_ns: u64) -> io::Result<()> {
        for _ in 0..64 {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Out of descriptors, or the peer left again: nothing that ends the agent.
                Err(_) => return Ok(()),
            };
            let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
            let us = rustix::process::geteuid();
            if self.clients.len() >= CONNECTIONS_MAX
                || !(credentials.uid == us || credentials.uid.is_root())
            {
                self.refused += 1;
                continue;
            }
            stream.set_nonblocking(true)?;
            self.last += 1;
            let flags = epoll::EventFlags::IN;
            epoll::add(
                &self.epoll,
                &stream,
                epoll::EventData::new_u64(self.last),
                flags,
            )?;
            let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0);
            self.clients
                .insert(self.last, Client::new(stream.into(), pid, now_ns));
        }
        Ok(())
    }

    /// Returns the bytes read. Each word comes with the time of its sender's last event.
    fn serve_client(&mut self, id: ClientId, now: Now, said: &mut Vec<(u64, FromHook)>) -> usize {
        let Some(client) = self.clients.get_mut(&id) else {
            return 0;
        };
        let mut spoken = Vec::new();
        let read = client.serve(now.boot_ns, &mut spoken);
        if now.boot_ns.saturating_sub(self.since_ns) >= 1_000_000_000 {
            (self.since_ns, self.passed) = (now.boot_ns, 0);
        }
        for word in spoken {
            self.passed += 1;
            if self.passed > RATE_ALL && !matches!(word, Spoken::Hello) {
                if client.turn_away(&word) {
                    self.unheard += 1;
                } else {
                    self.dropped += 1;
                }
                continue;
            }
            let word = match word {
                Spoken::Hello => FromHook::Hello { client: id },
                Spoken::Event(event) => FromHook::Event {
                    client: id,
                    boot_ns: client.happened(event.t_mono_ns, now),
                    event,
                },
                Spoken::Held(hold) => FromHook::Held { client: id, hold },
                Spoken::Request(request) => FromHook::Request {
                    client: id,
                    request,
                },
            };
            said.push((client.latest_ns, word));
        }
        let latest_ns = client.latest_ns;
        let mut last = Vec::new();
        self.settle(id, &mut last);
        said.extend(last.into_iter().map(|word| (latest_ns, word)));
        read
    }

    /// After any traffic: waits for room to write where something is queued, forgets a closed connection.
    fn settle(&mut self, id: ClientId, said: &mut Vec<FromHook>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.closed {
            if let Some(client) = self.clients.remove(&id)
                && let Some(hello) = client.hello.clone()
            {
                self.report_dropped(&client, said);
                said.push(FromHook::Gone {
                    client: id,
                    hello,
                    pid: client.pid,
                });
            }
            return;
        }
        let mut flags = epoll::EventFlags::IN;
        if client.has_queued() {
            flags |= epoll::EventFlags::OUT;
        }
        if client.watched != flags
            && epoll::modify(&self.epoll, &*client, epoll::EventData::new_u64(id), flags).is_ok()
        {
            client.watched = flags;
        }
    }

    fn report_dropped(&self, client: &Client, said: &mut Vec<FromHook>) {
        if client.dropped > 0 {
            let what = format!("events of the hook in process {}", client.pid);
            said.push(FromHook::Dropped {
                what,
                count: client.dropped,
            });
        }
    }

    /// Once a second: what was dropped since.
    pub fn dropped(&mut self, said: &mut Vec<FromHook>) {
        for client in self.clients.values_mut() {
            let count = std::mem::take(&mut client.dropped);
            if count > 0 {
                let what = format!("events of the hook in process {}", client.pid);
                said.push(FromHook::Dropped { what, count });
            }
        }
        let count = std::mem::take(&mut self.dropped);
        if count > 0 {
            let what = "events of all hooks together".into();
            said.push(FromHook::Dropped { what, count });
        }
        let count = std::mem::take(&mut self.unheard);
        if count > 0 {
            let what = "holds and requests of all hooks together".into();
            said.push(FromHook::Dropped { what, count });
        }
        let count = std::mem::take(&mut self.refused);
        if count > 0 {
            said.push(FromHook::Dropped {
                what: "connections to the hook socket".into(),
                count,
            });
        }
    }

    /// Who is behind a connection, as far as it has said: its hello, and its pid by the kernel's word.
    pub fn who(&self, client: ClientId) -> Option<(&Hello, u32)> {
        let client = self.clients.get(&client)?;
        Some((client.hello.as_ref()?, client.pid))
    }

    /// The very process that connected: a reused pid, or a child that inherited the connection, is another one.
    pub fn process(&self, client: ClientId) -> Option<Known> {
        self.clients.get(&client)?.process
    }

    /// The newest connected process of role `rank` for each rank.
    pub fn announced(&self) -> BTreeMap<u32, Known> {
        let ranks = self.clients.values().filter_map(|client| {
            let hello = client.hello.as_ref()?;
            (hello.role == "rank").then_some((hello.rank?, client.process?))
        });
        ranks.collect()
    }

    /// The phases that connected processes of `rank` (none: any) can be held in.
    pub fn phases(&self, rank: Option<u32>) -> Vec<String> {
        let hellos = self
            .clients
            .values()
            .filter_map(|client| client.hello.as_ref());
        let of_rank = hellos.filter(|hello| rank.is_none() || hello.rank == rank);
        of_rank
            .flat_map(|hello| hello.phases.iter().cloned())
            .collect()
    }

    /// Tells every process the holds that concern it, where they differ from what it was told.
    pub fn arm(&mut self, holds: &[HoldSpec], said: &mut Vec<FromHook>) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            if let Some(client) = self.clients.get_mut(&id) {
                client.arm(holds);
            }
            self.settle(id, said);
        }
    }

    /// Answers one process.
    pub fn answer(&mut self, id: ClientId, answer: &FromAgent, said: &mut Vec<FromHook>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.say(answer);
        }
        self.settle(id, said);
    }

    /// Declines a request by name.
    pub fn refuse(&mut self, id: ClientId, request: &str, because: &str, said: &mut Vec<FromHook>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.say(&serde_json::json!({"refused": {"id": request, "because": because}}));
        }
        self.settle(id, said);
    }

    /// Lets every process go on for good: connections end, and on end-of-file a hook goes on at once.
    pub fn close(&mut self) {
        self.clients.clear();
        // A folder that is gone has no socket either.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

impl AsFd for Hooks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests;
