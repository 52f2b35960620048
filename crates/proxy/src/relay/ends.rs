//! The two ends of a connection: what a session may do to them.
//!
//! Invariant: bytes that a socket does not take are kept, in order, and counted, so that nobody reads more than fits.

use super::outbox::{OFFERED, Outbox};
use super::secure::{Absorbed, Tls};
use crate::proxy::Proxy;
use crate::record::{What, unix_ns};
use crate::watch::Eye;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};
use squall_model::exchange::{Ended, Exchange};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// One end.
#[derive(Debug, Default)]
pub(crate) struct End {
    socket: Option<OwnedFd>,
    /// Whether the socket takes bytes (the service's: after the connection is made).
    is_open: bool,
    out: Outbox,
    /// What is said on the socket is sealed.
    tls: Option<Box<Tls>>,
    /// The other end's peer has ended without saying so in TLS: ours is not told otherwise.
    pub(crate) is_torn: bool,
    /// The peer sends no more.
    pub(crate) has_ended: bool,
    /// We send no more once all is out.
    finishing: bool,
    finished: bool,
    /// Sending failed: the peer is gone.
    pub(crate) broken: Option<Errno>,
}

impl End {
    pub(crate) fn set_socket(&mut self, socket: OwnedFd, is_open: bool) {
        self.socket = Some(socket);
        self.is_open = is_open;
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn opened(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// From here on the socket carries TLS.
    pub(super) fn secure(&mut self, connection: rustls::Connection) {
        self.tls = Some(Box::new(Tls::new(connection)));
    }

    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether its TLS is not agreed upon yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.is_handshaking() && !tls.is_refused())
    }

    /// Reads a part of what the socket has.
    pub(super) fn absorb(&mut self) -> Absorbed {
        match (&mut self.tls, &self.socket) {
            (Some(tls), Some(socket)) => tls.absorb(socket.as_fd()),
            _ => Absorbed::Nothing,
        }
    }

    /// Plain bytes that were read and not taken.
    pub(super) fn pending(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.pending())
    }

    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        self.tls.as_mut().map_or(0, |tls| tls.take(into))
    }

    /// How the peer has ended its TLS, once all was taken: whether it said so.
    pub(super) fn ending(&self) -> Option<bool> {
        self.tls
            .as_ref()
            .filter(|tls| tls.pending() == 0)
            .and_then(|tls| tls.ending)
    }

    /// Whether the socket is to be read.
    pub(super) fn reads(&self) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|tls| tls.pending() == 0 && tls.ending.is_none())
    }

    /// Nothing that waits can be said to a peer whose TLS was refused.
    pub(super) fn give_up(&mut self) {
        self.out = Outbox::default();
    }

    /// Closes the socket. What waits is kept for the next one.
    pub(crate) fn drop_socket(&mut self) {
        self.socket = None;
        self.is_open = false;
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Takes what was sent where there is no socket.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        self.out.drain()
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        let waits = match &self.tls {
            Some(tls) => tls.wants_to_write() || !tls.is_handshaking() && !self.out.is_empty(),
            None => !self.out.is_empty(),
        };
        self.is_open && self.broken.is_none() && waits
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Sends now what the socket takes, and keeps the rest.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.finishing || self.broken.is_some() {
            return;
        }
        if let Some(tls) = &self.tls {
            if !tls.is_refused() {
                self.out.push(bytes);
                self.flush_sealed();
            }
            return;
        }
        let sent = if self.out.is_empty() {
            self.write(bytes)
        } else {
            0
        };
        self.out.push(&bytes[sent..]);
    }

    /// Gives the socket these bytes; how many it took.
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.hand(|socket| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
    }

    fn hand(&mut self, send: impl Fn(&OwnedFd) -> Result<usize, Errno>) -> usize {
        let Some(socket) = self.socket.as_ref().filter(|_| self.is_open) else {
            return 0;
        };
        loop {
            match send(socket) {
                Ok(sent) => return sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(error) => {
                    self.broken = Some(error);
                    return 0;
                }
            }
        }
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) {
        if self.tls.is_some() {
            self.flush_sealed();
            return self.shut();
        }
        while !self.out.is_empty() && self.broken.is_none() {
            let out = std::mem::take(&mut self.out);
            let mut slices = [IoSlice::new(&[]); OFFERED];
            let count = out.offer(&mut slices);
            let sent = self.hand(|socket| {
                let mut nothing = SendAncillaryBuffer::default();
                rustix::net::sendmsg(socket, &slices[..count], &mut nothing, SendFlags::NOSIGNAL)
            });
            self.out = out;
            if sent == 0 {
                break;
            }
            self.out.took(sent);
        }
        self.shut();
    }

    /// Seals what was kept, a record at a time, as far as the socket takes it.
    fn flush_sealed(&mut self) {
        let (Some(tls), Some(socket)) = (&mut self.tls, &self.socket) else {
            return;
        };
        if !self.is_open || self.broken.is_some() {
            return;
        }
        loop {
            match tls.flush(socket.as_fd()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.broken = Some(error);
                    return;
                }
            }
            if self.out.is_empty() || tls.is_handshaking() {
                return;
            }
            let mut slices = [IoSlice::new(&[]); OFFERED];
            self.out.offer(&mut slices);
            let sealed = tls.seal(&slices[0]);
            self.out.took(sealed);
            if sealed == 0 {
                return;
            }
        }
    }

    /// No more is sent after what is kept.
    pub(crate) fn finish(&mut self) {
        self.finishing = true;
        self.shut();
    }

    fn shut(&mut self) {
        if !self.finishing || self.finished || !self.out.is_empty() || !self.is_open {
            return;
        }
        if let Some(tls) = self.tls.as_mut().filter(|tls| !tls.is_refused()) {
            if tls.is_handshaking() {
                return;
            }
            if !self.is_torn {
                tls.say_end();
            }
            let sent = self
                .socket
                .as_ref()
                .map_or(Ok(true), |socket| tls.flush(socket.as_fd()));
            match sent {
                Ok(true) => {}
                // The socket takes no more: the end follows when it does.
                Ok(false) => return,
                Err(error) => self.broken = Some(error),
            }
        }
        self.finished = true;
        if let Some(socket) = &self.socket
            && let Err(error) = rustix::net::shutdown(socket, Shutdown::Write)
        {
            self.broken = Some(error);
        }
    }
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Lives,
    /// It is closed once all is sent.
    Closes,
    /// Both ends are reset now.
    Resets,
}

/// Both ends, and on whose account.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) fate: Fate,
    /// The session wants the service; cleared when the connection is begun.
    pub(crate) wants_server: bool,
    pub(crate) proxy: Arc<Proxy>,
    /// The number of the connection in its proxy, from 0.
    pub(crate) number: u64,
    /// Who watches what passes, where that is wanted.
    eye: Option<Box<Eye>>,
}

impl Ends {
    pub(crate) fn new(proxy: Arc<Proxy>, number: u64) -> Ends {
        let eye = proxy.watching().map(|key| Box::new(Eye::new(key, number)));
        Ends {
            eye,
            client: End::default(),
            server: End::default(),
            fate: Fate::Lives,
            wants_server: false,
            proxy,
            number,
        }
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn end_of(&self, side: Side) -> &End {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Sends towards one side.
    pub(crate) fn send(&mut self, side: Side, bytes: &[u8]) {
        let counters = &self.proxy.counters;
        let counter = match side {
            Side::Client => &counters.sent_down,
            Side::Server => &counters.sent_up,
        };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.end(side).send(bytes);
        if side == Side::Client
            && let Some(eye) = &mut self.eye
        {
            let over = eye.sent(bytes, unix_ns());
            self.tell(over);
        }
    }

    /// The client has sent this.
    pub(crate) fn asked(&mut self, bytes: &[u8]) {
        if let Some(eye) = &mut self.eye {
            let asked = eye.asked(bytes, unix_ns());
            for words in asked {
                self.record(What::Asked { words });
            }
            let late = self.late();
            self.tell(late);
        }
    }

    /// The connection is over.
    pub(crate) fn over(&mut self, how: Ended) {
        if let Some(eye) = &mut self.eye {
            let over = eye.closed(how, unix_ns());
            self.tell(over);
        }
    }

    fn late(&mut self) -> Vec<Exchange> {
        self.eye.as_mut().map(|eye| eye.late()).unwrap_or_default()
    }

    fn tell(&self, over: Vec<Exchange>) {
        for exchange in over {
            self.record(What::Exchange(Box::new(exchange)));
        }
    }

    /// Closes after what is kept. A reset that was asked for stays one.
    pub(crate) fn close(&mut self) {
        if self.fate == Fate::Lives {
            self.fate = Fate::Closes;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.fate = Fate::Resets;
    }

    pub(crate) fn record(&self, what: What) {
        self.proxy.record(self.number, what);
    }
}
