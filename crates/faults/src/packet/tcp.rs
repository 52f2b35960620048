//! TCP connections from outside: where they stand, and packets that end them.
//!
//! Neither `/proc` nor the kernel's socket tables say what number a connection expects next. A segment that cannot belong to it makes its
//! socket say so: it answers with what it has sent and what it waits for. With these numbers a reset is believed by both ends.

use super::alter;
use super::ssh::Session;
use crate::sys::raw::{Capture, Sender};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const TCP: u8 = 6;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// How long all sockets together may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

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

/// Whose packet it is, and what that end has sent and waits for.
fn numbers(bytes: &[u8]) -> Option<(Session, u32, u32)> {
    let shape = alter::shape(bytes)?;
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let at = shape.transport;
    let from = SocketAddr::new(shape.from, port(at)?);
    let to = SocketAddr::new(shape.to, port(at + 2)?);
    let flags = *bytes.get(at + 13)?;
    if shape.protocol != TCP || flags & ACK == 0 || flags & RST != 0 {
        return None;
    }
    // Of a long packet only the beginning was seen; its header says how long it is.
    let whole = match bytes.first()? >> 4 {
        4 => usize::from(port(2)?),
        _ => 40 + usize::from(port(4)?),
    };
    let sent = whole.checked_sub(shape.payload)? as u32;
    let session = Session {
        local: from,
        remote: to,
    };
    Some((session, word(at + 4)?.wrapping_add(sent), word(at + 8)?))
}

/// Resets both ends of connections, by packets that look like the other's. Those whose socket did not answer within a second in all.
///
/// # Errors
/// When packets cannot be seen.
pub fn reset(sessions: &[Session], guess: u32, sender: &Sender) -> io::Result<BTreeSet<Session>> {
    let capture = Capture::open()?;
    let mut silent: BTreeSet<Session> = sessions.iter().copied().collect();
    for (session, turn) in sessions.iter().zip(0u32..) {
        let number = guess.wrapping_add(turn);
        // One that cannot be sent gets no answer.
        let challenge = segment(session.remote, session.local, number, number, ACK);
        sender.send(&challenge).unwrap_or_default();
    }
    let deadline = Instant::now() + ANSWER;
    while !silent.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(bytes) = capture.next(left)? else {
            break;
        };
        let Some((session, sent, awaited)) = numbers(&bytes) else {
            continue;
        };
        if !silent.contains(&session) {
            continue;
        }
        let (local, remote) = (session.local, session.remote);
        let here = sender.send(&segment(remote, local, awaited, sent, RST | ACK));
        let there = sender.send(&segment(local, remote, sent, awaited, RST | ACK));
        if here.and(there).is_ok() {
            silent.remove(&session);
        }
    }
    Ok(silent)
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
            assert_eq!(numbers(&bytes), Some((session, 7, 9)));
            // A long one, of which only the beginning was captured.
            let mut long = bytes.clone();
            let (at, length) = if local.contains('[') {
                (4, 20 + 5000u16)
            } else {
                (2, 40 + 5000u16)
            };
            long[at..at + 2].copy_from_slice(&length.to_be_bytes());
            long.extend_from_slice(&[0; 2008]);
            assert_eq!(numbers(&long), Some((session, 5007, 9)));
            // A reset says nothing.
            let reset = segment(session.local, session.remote, 7, 9, RST | ACK);
            assert_eq!(numbers(&reset), None);
        }
    }
}
