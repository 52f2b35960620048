//! TCP connections from outside: where they stand, and packets that end them.
//!
//! Neither `/proc` nor the kernel's socket tables say what number a connection expects next. A segment that cannot belong to it makes its
//! socket say so: it answers with what it has sent and what it waits for. With these numbers a reset is believed by both ends.

use super::alter;
use super::ssh::Session;
use crate::sys::raw::{Capture, Sender};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const TCP: u8 = 6;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// How long a socket may take to answer.
const ANSWER: Duration = Duration::from_millis(200);

/// A segment without content.
fn segment(from: SocketAddr, to: SocketAddr, seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let mut bytes = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut head = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            head.extend_from_slice(&source.octets());
            head.extend_from_slice(&target.octets());
            head
        }
        (source, target) => {
            let six = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let mut head = vec![0x60, 0, 0, 0, 0, 20, TCP, 64];
            head.extend_from_slice(&six(source).octets());
            head.extend_from_slice(&six(target).octets());
            head
        }
    };
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&ack.to_be_bytes());
    bytes.extend_from_slice(&[5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    if let Some(shape) = alter::shape(&bytes) {
        alter::fit_checksum(&mut bytes, &shape);
    }
    bytes
}

/// What a connection's own end has sent and waits for, from a packet it sent.
fn numbers(bytes: &[u8], session: &Session) -> Option<(u32, u32)> {
    let shape = alter::shape(bytes)?;
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let at = shape.transport;
    let from = SocketAddr::new(shape.from, port(at)?);
    let to = SocketAddr::new(shape.to, port(at + 2)?);
    let flags = *bytes.get(at + 13)?;
    let is_its = shape.protocol == TCP && from == session.local && to == session.remote;
    if !is_its || flags & ACK == 0 || flags & RST != 0 {
        return None;
    }
    let sent = (shape.end - shape.payload) as u32;
    Some((word(at + 4)?.wrapping_add(sent), word(at + 8)?))
}

/// Resets both ends of a connection, by packets that look like the other's. False: its socket did not answer.
///
/// # Errors
/// When packets cannot be seen or sent.
pub fn reset(session: &Session, guess: u32, sender: &Sender) -> io::Result<bool> {
    let capture = Capture::open()?;
    let (local, remote) = (session.local, session.remote);
    sender.send(&segment(remote, local, guess, guess, ACK))?;
    let deadline = Instant::now() + ANSWER;
    let mut found = None;
    while found.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(bytes) = capture.next(left)? else {
            return Ok(false);
        };
        found = numbers(&bytes, session);
    }
    let Some((sent, awaited)) = found else {
        return Ok(false);
    };
    sender.send(&segment(remote, local, awaited, sent, RST | ACK))?;
    sender.send(&segment(local, remote, sent, awaited, RST | ACK))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_back_with_its_numbers_and_a_fitting_checksum() {
        for (local, remote) in [
            ("10.0.0.1:80", "10.0.0.2:4711"),
            ("[fd00::1]:80", "[fd00::2]:1"),
        ] {
            let session = Session {
                local: local.parse().unwrap(),
                remote: remote.parse().unwrap(),
            };
            let bytes = segment(session.local, session.remote, 7, 9, ACK);
            let shape = alter::shape(&bytes).unwrap();
            assert_eq!(shape.end, bytes.len());
            assert_eq!(alter::transport_sum(&bytes[shape.transport..], &shape), 0);
            assert_eq!(numbers(&bytes, &session), Some((7, 9)));
            // Another's, and a reset, say nothing.
            let back = segment(session.remote, session.local, 7, 9, ACK);
            assert_eq!(numbers(&back, &session), None);
            let reset = segment(session.local, session.remote, 7, 9, RST | ACK);
            assert_eq!(numbers(&reset, &session), None);
        }
    }
}
