//! One connection: two sockets and a session between them. Knows when it is over, and what it waits for.

use super::ends::{End, Ends, Fate, Side};
use super::session::Session;
use crate::proxy::Proxy;
use crate::record::What;
use crate::stream::{NEVER, Nanos};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use squall_model::exchange::Ended;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the service may take to accept, in nanoseconds.
const CONNECT_MAX: Nanos = 10_000_000_000;
/// How long a client whose connection we closed may take to close its own end, in nanoseconds. Closing at once would
/// reset it, and the last bytes would be lost.
const LINGER_MAX: Nanos = 1_000_000_000;

/// Whether the service is reached.
enum Service {
    Unasked,
    Resolving,
    Connecting { rest: Vec<SocketAddr>, until: Nanos },
    Connected,
}

pub(super) struct Connection {
    pub(super) ends: Ends,
    pub(super) key: u64,
    /// The earliest time that is asked of the timers.
    pub(super) armed: Nanos,
    session: Box<dyn Session>,
    version: u64,
    service: Service,
    registered: [EventFlags; 2],
    closes_at: Option<Nanos>,
    read: [u64; 2],
    lost: bool,
    /// The client ended or was lost while nothing on our side had ended yet.
    left: bool,
}

/// What is to be done with a connection after it was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Keep,
    /// Its service's name is to be resolved.
    Resolve,
    Drop,
}

fn index(side: Side) -> usize {
    side as usize
}

impl Connection {
    pub(super) fn new(
        client: OwnedFd,
        proxy: Arc<Proxy>,
        number: u64,
        session: Box<dyn Session>,
    ) -> Connection {
        proxy.counters.open.fetch_add(1, Ordering::Relaxed);
        let version = proxy.version();
        let mut ends = Ends::new(proxy, number);
        ends.client.set_socket(client, true);
        Connection {
            ends,
            key: 0,
            armed: NEVER,
            session,
            version,
            service: Service::Unasked,
            registered: [EventFlags::empty(); 2],
            closes_at: None,
            read: [0; 2],
            lost: false,
            left: false,
        }
    }

    pub(super) fn open(&mut self, now: Nanos) {
        self.session.open(now, &mut self.ends);
    }

    /// Something is to be seen at one side's socket.
    pub(super) fn event(&mut self, side: Side, flags: EventFlags, now: Nanos, scratch: &mut [u8]) {
        self.follow(now);
        if side == Side::Server && matches!(self.service, Service::Connecting { .. }) {
            return self.connect_result(flags, now);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
            && !self.ends.end(side).has_ended
        {
            self.read(side, now, scratch);
        } else if flags.contains(EventFlags::ERR) {
            self.peer_lost();
        }
        if flags.contains(EventFlags::OUT) {
            self.ends.end(side).flush();
        }
    }

    /// Follows a change of the rules.
    pub(super) fn follow(&mut self, now: Nanos) {
        let version = self.ends.proxy.version();
        if version != self.version {
            self.version = version;
            self.session.changed(now, &mut self.ends);
        }
    }

    /// The time has come that it asked for, or another one.
    pub(super) fn timer(&mut self, now: Nanos) {
        self.armed = NEVER;
        self.follow(now);
        if self.session.due() <= now {
            self.session.poll(now, &mut self.ends);
        }
        if matches!(self.service, Service::Connecting { until, .. } if until <= now) {
            self.ends.server.drop_socket();
            self.registered[1] = EventFlags::empty();
            self.next_address(Errno::TIMEDOUT.into(), now);
        }
    }

    fn read(&mut self, side: Side, now: Nanos, scratch: &mut [u8]) {
        let closing = self.ends.fate != Fate::Lives;
        let room = match closing {
            true => scratch.len(),
            false => self.room(side).min(scratch.len()),
        };
        if room == 0 {
            return;
        }
        let Some(fd) = self.ends.end_of(side).fd() else {
            return;
        };
        match rustix::io::read(fd, &mut scratch[..room]) {
            Ok(0) => {
                self.ends.end(side).has_ended = true;
                self.left |= side == Side::Client && !closing && !self.ends.client.is_finishing();
                if !closing {
                    self.session.ended(side, now, &mut self.ends);
                }
            }
            Ok(_) if closing => {}
            Ok(count) => {
                let counters = &self.ends.proxy.counters;
                let counter = match side {
                    Side::Client => &counters.received_up,
                    Side::Server => &counters.received_down,
                };
                counter.fetch_add(count as u64, Ordering::Relaxed);
                self.read[index(side)] += count as u64;
                if side == Side::Client {
                    self.ends.asked(&scratch[..count]);
                }
                self.session
                    .data(side, &scratch[..count], now, &mut self.ends);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.left |= side == Side::Client && !closing;
                self.peer_lost();
            }
        }
    }

    /// One side was reset: so is the other.
    fn peer_lost(&mut self) {
        self.lost = true;
        self.ends.reset();
    }

    fn room(&self, side: Side) -> usize {
        self.session
            .room(side, self.ends.end_of(side.other()).waiting())
    }

    /// The name of the service was resolved, or could not be.
    pub(super) fn resolved(&mut self, found: Result<Vec<SocketAddr>, String>, now: Nanos) {
        if !matches!(self.service, Service::Resolving) {
            return;
        }
        match found {
            Ok(mut addresses) => {
                // Taken from the end.
                addresses.reverse();
                let until = now.saturating_add(CONNECT_MAX);
                self.service = Service::Connecting {
                    rest: addresses,
                    until,
                };
                self.next_address(Errno::ADDRNOTAVAIL.into(), now);
            }
            Err(because) => self.unreachable(&because, now),
        }
    }

    fn unreachable(&mut self, because: &str, now: Nanos) {
        self.service = Service::Unasked;
        self.session.failed(because, now, &mut self.ends);
    }

    /// Tries the next address, or gives up because of what happened with the last.
    fn next_address(&mut self, because: io::Error, now: Nanos) {
        let Service::Connecting { rest, until } = &mut self.service else {
            return;
        };
        *until = now.saturating_add(CONNECT_MAX);
        let Some(address) = rest.pop() else {
            return self.unreachable(&because.to_string(), now);
        };
        match begin(address) {
            Ok(socket) => self.ends.server.set_socket(socket, false),
            Err(error) => self.next_address(error, now),
        }
    }

    fn connect_result(&mut self, flags: EventFlags, now: Nanos) {
        let outcome = match self.ends.server.fd() {
            Some(fd) => sockopt::socket_error(fd).and_then(|outcome| outcome),
            None => return,
        };
        match outcome {
            Ok(()) if flags.contains(EventFlags::OUT) => {
                self.service = Service::Connected;
                self.ends.server.opened();
                self.ends.server.flush();
            }
            Ok(()) => {}
            Err(error) => {
                self.ends.server.drop_socket();
                self.registered[1] = EventFlags::empty();
                self.next_address(error.into(), now);
            }
        }
    }

    /// Decides what comes next, and tells the poller what it waits for.
    pub(super) fn settle(&mut self, poller: &OwnedFd, now: Nanos) -> io::Result<Next> {
        if self.ends.client.broken.is_some() || self.ends.server.broken.is_some() {
            self.peer_lost();
        }
        match self.ends.fate {
            Fate::Resets => {
                self.abort();
                return Ok(Next::Drop);
            }
            Fate::Closes if self.ends.client.waiting() == 0 => {
                self.ends.client.finish();
                self.ends.server.drop_socket();
                self.registered[1] = EventFlags::empty();
                let until = *self.closes_at.get_or_insert(now.saturating_add(LINGER_MAX));
                if self.ends.client.has_ended || until <= now {
                    return Ok(Next::Drop);
                }
            }
            Fate::Lives if self.ends.client.is_finished() && self.ends.server.is_finished() => {
                return Ok(Next::Drop);
            }
            Fate::Lives | Fate::Closes => {}
        }
        self.watch(Side::Client, poller)?;
        self.watch(Side::Server, poller)?;
        if std::mem::take(&mut self.ends.wants_server) && matches!(self.service, Service::Unasked) {
            self.service = Service::Resolving;
            return Ok(Next::Resolve);
        }
        Ok(Next::Keep)
    }

    /// When it wants to be looked at.
    pub(super) fn due(&self) -> Nanos {
        let connecting = match self.service {
            Service::Connecting { until, .. } => until,
            _ => NEVER,
        };
        let session = match self.ends.fate {
            Fate::Lives => self.session.due(),
            _ => NEVER,
        };
        session.min(connecting).min(self.closes_at.unwrap_or(NEVER))
    }

    fn watch(&mut self, side: Side, poller: &OwnedFd) -> io::Result<()> {
        let end: &End = self.ends.end_of(side);
        let Some(fd) = end.fd() else { return Ok(()) };
        let mut wanted = EventFlags::empty();
        let reads = self.ends.fate != Fate::Lives || self.room(side) > 0;
        if !end.has_ended && reads && end.is_open() {
            wanted |= EventFlags::IN;
        }
        if end.wants_to_write() || !end.is_open() {
            wanted |= EventFlags::OUT;
        }
        let known = &mut self.registered[index(side)];
        if *known == wanted {
            return Ok(());
        }
        let data = EventData::new_u64(self.key | index(side) as u64);
        match (known.is_empty(), wanted.is_empty()) {
            (true, _) => epoll::add(poller, fd, data, wanted)?,
            // A socket whose both directions are over would be reported for ever.
            (false, true) => epoll::delete(poller, fd)?,
            (false, false) => epoll::modify(poller, fd, data, wanted)?,
        }
        *known = wanted;
        Ok(())
    }

    /// Resets both ends: a close with a linger of zero is a TCP RST.
    fn abort(&mut self) {
        for side in [Side::Client, Side::Server] {
            if let Some(fd) = self.ends.end_of(side).fd()
                && sockopt::set_socket_linger(fd, Some(Duration::ZERO)).is_err()
            {
                // The peer is gone already.
                continue;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ends
            .proxy
            .counters
            .open
            .fetch_sub(1, Ordering::Relaxed);
        let how = match self.ends.fate {
            Fate::Resets if self.lost => "lost",
            Fate::Resets => "reset",
            Fate::Closes => "cut",
            Fate::Lives => "ended",
        };
        let ended = match self.ends.fate {
            Fate::Resets if !self.lost => Ended::Reset,
            // The service may have been the one that was lost; then the client is still there.
            Fate::Resets if self.ends.client.broken.is_none() && !self.left => Ended::Reset,
            Fate::Resets => Ended::Left,
            _ if self.left => Ended::Left,
            Fate::Closes | Fate::Lives => Ended::Cut,
        };
        self.ends.over(ended);
        let [up, down] = self.read;
        self.ends.record(What::Closed { up, down, how });
    }
}

/// Begins to connect.
fn begin(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
