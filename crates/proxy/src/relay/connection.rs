//! One connection: two sockets and a session between them. Knows when it is over, and what it waits for.

use super::ends::{End, Ends, Fate, Side};
use super::secure::{Absorbed, RECEIVED_MAX, SEALED_MAX};
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

/// How long the service may take to accept, and then for its TLS, in nanoseconds.
const CONNECT_MAX: Nanos = 10_000_000_000;
/// So often a socket with TLS is read in a row before others are served again.
const SEALED_READS: usize = 16;
/// How long a client whose connection we closed may take to close its own end, in nanoseconds. Closing at once would
/// reset it, and the last bytes would be lost.
const LINGER_MAX: Nanos = 1_000_000_000;

/// Whether the service is reached.
enum Service {
    Unasked,
    Resolving,
    Connecting {
        rest: Vec<SocketAddr>,
        until: Nanos,
    },
    /// Its TLS is being agreed upon.
    Securing {
        until: Nanos,
    },
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
        match ends.proxy.secured.to_client() {
            None => {}
            Some(Ok(tls)) => ends.client.secure(tls.into()),
            Some(Err(error)) => {
                let because = format!("TLS could not begin: {error}");
                ends.record(What::Refused { because });
                ends.reset();
            }
        }
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
        if matches!(self.service, Service::Securing { until } if until <= now) {
            self.refused(Side::Server, true, "it took longer than 10 s", now);
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
        if self.ends.end_of(side).is_secured() && !closing {
            return self.read_sealed(side, now, scratch);
        }
        match rustix::io::read(fd, &mut scratch[..room]) {
            Ok(0) => self.ended(side, now),
            Ok(_) if closing => {}
            Ok(count) => self.came(side, &scratch[..count], now),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.left |= side == Side::Client && !closing;
                self.peer_lost();
            }
        }
    }

    /// One side sends no more.
    fn ended(&mut self, side: Side, now: Nanos) {
        let closing = self.ends.fate != Fate::Lives;
        self.ends.end(side).has_ended = true;
        self.left |= side == Side::Client && !closing && !self.ends.client.is_finishing();
        if !closing {
            self.session.ended(side, now, &mut self.ends);
        }
    }

    /// Plain bytes have come from one side.
    fn came(&mut self, side: Side, bytes: &[u8], now: Nanos) {
        let counters = &self.ends.proxy.counters;
        let counter = match side {
            Side::Client => &counters.received_up,
            Side::Server => &counters.received_down,
        };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.read[index(side)] += bytes.len() as u64;
        if side == Side::Client {
            self.ends.asked(bytes);
        }
        self.session.data(side, bytes, now, &mut self.ends);
    }

    /// The same from a socket that carries TLS.
    fn read_sealed(&mut self, side: Side, now: Nanos, scratch: &mut [u8]) {
        for _ in 0..SEALED_READS {
            if !self.ends.end_of(side).reads() || self.ends.fate != Fate::Lives {
                return;
            }
            let was_handshaking = self.ends.end_of(side).is_handshaking();
            let absorbed = self.ends.end(side).absorb();
            match absorbed {
                Absorbed::Nothing => return,
                Absorbed::Lost => {
                    self.left |= side == Side::Client;
                    return self.peer_lost();
                }
                Absorbed::Refused(because) => {
                    return self.refused(side, was_handshaking, &because, now);
                }
                Absorbed::Ended if was_handshaking => {
                    return self.refused(side, true, "it ended before TLS was agreed upon", now);
                }
                Absorbed::Some | Absorbed::Ended => {}
            }
            // Words of TLS itself, and what waited until it was agreed upon.
            self.ends.end(side).flush();
            if side == Side::Server && !self.ends.server.is_handshaking() {
                self.service = Service::Connected;
            }
            self.unseal(side, now, scratch);
        }
    }

    /// Takes the plain bytes for which there is room, and then the end.
    fn unseal(&mut self, side: Side, now: Nanos, scratch: &mut [u8]) {
        while self.ends.end_of(side).pending() > 0 && self.ends.fate == Fate::Lives {
            let room = self.room(side).min(scratch.len());
            let count = self.ends.end(side).take(&mut scratch[..room]);
            if count == 0 {
                return;
            }
            self.came(side, &scratch[..count], now);
        }
        let end = self.ends.end_of(side);
        if let Some(orderly) = end.ending().filter(|_| !end.has_ended) {
            self.ends.end(side.other()).is_torn = !orderly;
            self.ended(side, now);
        }
    }

    /// The TLS of one side cannot be used.
    fn refused(&mut self, side: Side, was_handshaking: bool, because: &str, now: Nanos) {
        match side {
            Side::Server if was_handshaking => {
                self.ends.server.drop_socket();
                self.registered[1] = EventFlags::empty();
                let because = format!("its TLS was refused: {because}");
                self.service = Service::Unasked;
                self.session.failed(&because, true, now, &mut self.ends);
            }
            Side::Client if was_handshaking => {
                let because = format!("a client's TLS was refused: {because}");
                self.ends.record(What::Refused { because });
                self.ends.client.give_up();
                self.ends.client.give_up();
                self.ends.close();
            }
            _ => self.peer_lost(),
        }
    }

    /// One side was reset: so is the other.
    fn peer_lost(&mut self) {
        self.lost = true;
        self.ends.reset();
    }

    fn room(&self, side: Side) -> usize {
        let (from, to) = (self.ends.end_of(side), self.ends.end_of(side.other()));
        let received = if from.is_secured() { RECEIVED_MAX } else { 0 };
        let sealed = if to.is_secured() { SEALED_MAX } else { 0 };
        self.session.room(side, to.waiting(), received + sealed)
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
        self.session.failed(because, false, now, &mut self.ends);
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
                self.ends.server.opened();
                self.service = match self.ends.proxy.secured.to_service() {
                    None => Service::Connected,
                    Some(Ok(tls)) => {
                        self.ends.server.secure(tls.into());
                        let until = now.saturating_add(CONNECT_MAX);
                        Service::Securing { until }
                    }
                    Some(Err(error)) => {
                        return self.refused(Side::Server, true, &error.to_string(), now);
                    }
                };
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

    /// What was unsealed and found no room finds some now.
    fn unseal_rest(&mut self, now: Nanos) {
        for side in [Side::Client, Side::Server] {
            let end = self.ends.end_of(side);
            if end.pending() > 0 || end.ending().is_some() && !end.has_ended {
                let mut scratch = [0; 4096];
                self.unseal(side, now, &mut scratch);
            }
        }
    }

    /// Decides what comes next, and tells the poller what it waits for.
    pub(super) fn settle(&mut self, poller: &OwnedFd, now: Nanos) -> io::Result<Next> {
        if self.ends.client.broken.is_some() || self.ends.server.broken.is_some() {
            self.peer_lost();
        }
        self.unseal_rest(now);
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
            Service::Connecting { until, .. } | Service::Securing { until } => until,
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
        let lives = self.ends.fate == Fate::Lives;
        let reads = !lives || end.reads() && (self.room(side) > 0 || end.is_handshaking());
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
