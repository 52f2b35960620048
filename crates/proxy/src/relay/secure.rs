//! TLS on one end: what the socket carries is sealed, what the session sees is plain.
//!
//! Invariant: no more is unsealed than the session has asked for, and one record at most is sealed before the socket takes it.

use crate::tls::RECORD_MAX;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use rustls::Connection;
use std::io::{self, IoSlice, Read, Write};

/// What a peer's records take at most: one that is not whole, and one that was unsealed, in bytes.
pub(super) const RECEIVED_MAX: usize = 36 * 1024;
/// What a sealed record that waits for the socket takes, in bytes.
pub(super) const SEALED_MAX: usize = RECORD_MAX + 256;

/// What came of reading from the socket.
#[derive(Debug)]
pub(super) enum Absorbed {
    /// Something: plain bytes may be there.
    Some,
    /// Nothing yet.
    Nothing,
    /// The peer sends no more.
    Ended,
    /// The socket is broken.
    Lost,
    /// It is no TLS, or not the TLS that is trusted.
    Refused(String),
}

/// The TLS of one end.
#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
    /// Plain bytes that were not asked for yet.
    pending: usize,
    /// Whether the peer has said that it ends, once it has ended.
    pub(super) ending: Option<bool>,
    /// The peer was refused: nothing is said any more.
    is_refused: bool,
    said_end: bool,
}

impl Tls {
    pub(super) fn new(connection: Connection) -> Tls {
        Tls {
            connection,
            pending: 0,
            ending: None,
            is_refused: false,
            said_end: false,
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether nothing can be said yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether something sealed waits for the socket.
    pub(super) fn wants_to_write(&self) -> bool {
        self.connection.wants_write() && !self.is_refused
    }

    /// Reads a part of what the socket has.
    pub(super) fn absorb(&mut self, socket: BorrowedFd<'_>) -> Absorbed {
        match self.connection.read_tls(&mut Socket(socket)) {
            Ok(0) => {
                self.ending.get_or_insert(false);
                return Absorbed::Ended;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Absorbed::Nothing,
            Err(_) => return Absorbed::Lost,
        }
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.pending = state.plaintext_bytes_to_read();
                if state.peer_has_closed() {
                    self.ending = Some(true);
                    return Absorbed::Ended;
                }
                Absorbed::Some
            }
            Err(error) => {
                // The peer is told why, if its socket takes that.
                self.connection.write_tls(&mut Socket(socket)).ok();
                self.is_refused = true;
                Absorbed::Refused(error.to_string())
            }
        }
    }

    /// Takes plain bytes.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let room = into.len().min(self.pending);
        match self.connection.reader().read(&mut into[..room]) {
            Ok(count) => {
                self.pending -= count;
                count
            }
            Err(_) => {
                self.pending = 0;
                0
            }
        }
    }

    /// Hands sealed bytes to the socket. True when none wait any more.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<bool, Errno> {
        while self.wants_to_write() {
            match self.connection.write_tls(&mut Socket(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        Ok(true)
    }

    /// Seals the first of these bytes; how many.
    pub(super) fn seal(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(RECORD_MAX);
        self.connection.writer().write(&bytes[..count]).unwrap_or(0)
    }

    /// Says that nothing more comes.
    pub(super) fn say_end(&mut self) {
        if !std::mem::replace(&mut self.said_end, true) {
            self.connection.send_close_notify();
        }
    }
}

/// A socket as the library wants it.
struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(self.0, &mut *into)
        })?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let send = || rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL);
        Ok(rustix::io::retry_on_intr(send)?)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = || {
            let mut nothing = SendAncillaryBuffer::default();
            rustix::net::sendmsg(self.0, parts, &mut nothing, SendFlags::NOSIGNAL)
        };
        Ok(rustix::io::retry_on_intr(send)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
