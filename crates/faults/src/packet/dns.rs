//! Name queries as bytes: whether a packet holds one of a name that is meant, and what is sent in its place.
//!
//! A query by UDP is answered in its server's name. In a TCP stream nothing may grow or shrink, so there it is the server's answer that is
//! changed, to the same length. Whatever comes over the wire is read with its bounds checked; what cannot be read passes.

use super::alter::{Shape, fit_checksum, shape};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where name servers listen.
pub const PORT: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;
const HEADER: usize = 12;
const A: u16 = 1;
const NULL: u16 = 10;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;
/// The head of a record whose name is the root: name, type, class, time to live, length.
const RECORD: usize = 11;

/// What is done to queries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// They fail with this code of DNS.
    Fail { code: u8 },
    /// They are answered with these addresses; with none where there is none of the family that was asked for.
    Answer { addresses: Vec<IpAddr> },
    /// They are lost.
    Drop,
    /// They leave later.
    Slow { delay_ns: u64 },
}

/// What goes on in place of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// The packet vanishes, and this one is sent.
    Reply(Vec<u8>),
    /// The packet with other bytes.
    Changed(Vec<u8>),
}

/// A message of DNS in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    packet: Shape,
    /// Where it begins in the packet.
    at: usize,
    /// Whether it ends with the packet.
    is_whole: bool,
    is_answer: bool,
    name: String,
    kind: u16,
    /// Where its question ends.
    question_end: usize,
}

/// Whether the packet is one that an act treats: a query for one of these names, or (where acts need it) its answer in a TCP stream.
pub(super) fn is_meant(bytes: &[u8], names: &[String], act: &Act) -> bool {
    let Some(message) = read(bytes) else {
        return false;
    };
    let in_place = matches!(act, Act::Fail { .. } | Act::Answer { .. });
    let by_answer = in_place && message.packet.protocol == TCP;
    message.is_answer == by_answer && names.iter().any(|name| is_below(&message.name, name))
}

/// What goes on in place of a packet that is meant. `None`: nothing can be made of it.
pub(super) fn instead(bytes: &[u8], act: &Act) -> Option<Instead> {
    let message = read(bytes)?;
    let (code, addresses): (u8, &[IpAddr]) = match act {
        Act::Fail { code } => (*code, &[]),
        Act::Answer { addresses } => (0, addresses),
        Act::Drop | Act::Slow { .. } => return None,
    };
    let mut wanted = addresses.to_vec();
    wanted.retain(|address| match message.kind {
        A => address.is_ipv4(),
        AAAA => address.is_ipv6(),
        kind => kind == ANY,
    });
    if message.is_answer {
        return changed(bytes, &message, code, &wanted).map(Instead::Changed);
    }
    reply(bytes, &message, code, &wanted).map(Instead::Reply)
}

/// A query for the addresses of a name, as a probe sends it. `None`: no name can be written so.
pub fn question(name: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0x53, 0x71, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(
            u8::try_from(label.len())
                .ok()
                .filter(|length| *length < 64)?,
        );
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    (bytes.len() <= HEADER + 255 + 4).then_some(bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether a name is this one or below it; the empty one is the root.
fn is_below(name: &str, top: &str) -> bool {
    top.is_empty()
        || name
            .strip_suffix(top)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn read(bytes: &[u8]) -> Option<Message> {
    let packet = shape(bytes)?;
    let end = packet.end;
    match packet.protocol {
        UDP => message(bytes, packet, packet.payload, end),
        // The length stands before the message, or came in a packet of its own.
        TCP => short(bytes, packet.payload)
            .filter(|length| usize::from(*length) >= HEADER)
            .and_then(|length| {
                let at = packet.payload + 2;
                message(bytes, packet, at, at + usize::from(length))
            })
            .or_else(|| message(bytes, packet, packet.payload, end)),
        _ => None,
    }
}

fn message(bytes: &[u8], packet: Shape, at: usize, end: usize) -> Option<Message> {
    let seen = bytes.get(..packet.end)?;
    let flags = short(seen, at + 2)?;
    // One question, of the plain kind.
    if short(seen, at + 4)? != 1 || flags & 0x7800 != 0 {
        return None;
    }
    let (mut name, mut next) = (String::new(), at + HEADER);
    loop {
        let length = usize::from(*seen.get(next)?);
        if length == 0 {
            break;
        }
        // No question is compressed.
        if length > 63 || name.len() > 255 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        let label = seen.get(next + 1..next + 1 + length)?;
        name.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        next += 1 + length;
    }
    Some(Message {
        packet,
        at,
        is_whole: end == packet.end,
        is_answer: flags & 0x8000 != 0,
        name,
        kind: short(seen, next + 1)?,
        question_end: Some(next + 5).filter(|end| *end <= seen.len())?,
    })
}

/// The answer to a query by UDP, as its server would send it. It may not be kept: its time to live is 0.
fn reply(bytes: &[u8], query: &Message, code: u8, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let packet = &query.packet;
    let question = bytes.get(query.at..query.question_end)?;
    let mut body = question.to_vec();
    body[2] = 0x80 | (question[2] & 1);
    body[3] = 0x80 | code;
    let extends = bytes.get(query.question_end) == Some(&0)
        && short(bytes, query.question_end + 1) == Some(OPT);
    let counts = [1, addresses.len() as u16, 0, u16::from(extends)];
    for (count, at) in counts.into_iter().zip([4, 6, 8, 10]) {
        body[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
    for address in addresses {
        // Its name is the question's.
        body.extend_from_slice(&[0xc0, HEADER as u8]);
        let (kind, data) = match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        body.extend_from_slice(&kind.to_be_bytes());
        body.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, data.len() as u8]);
        body.extend_from_slice(&data);
    }
    if extends {
        body.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    datagram(bytes, packet, &body)
}

/// A datagram back to where a packet came from.
fn datagram(bytes: &[u8], packet: &Shape, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(8 + body.len()).ok()?;
    let mut made = match (packet.from, packet.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0x45, 0];
            head.extend_from_slice(&length.checked_add(20)?.to_be_bytes());
            head.extend_from_slice(&[0, 0, 0x40, 0, 64, UDP, 0, 0]);
            head.extend_from_slice(&to.octets());
            head.extend_from_slice(&from.octets());
            head
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut head = vec![0x60, 0, 0, 0];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&[UDP, 64]);
            head.extend_from_slice(&to.octets());
            head.extend_from_slice(&from.octets());
            head
        }
        _ => return None,
    };
    made.extend_from_slice(bytes.get(packet.transport + 2..packet.transport + 4)?);
    made.extend_from_slice(bytes.get(packet.transport..packet.transport + 2)?);
    made.extend_from_slice(&length.to_be_bytes());
    made.extend_from_slice(&[0, 0]);
    made.extend_from_slice(body);
    let whole = shape(&made)?;
    fit_checksum(&mut made, &whole).then_some(made)
}

/// An answer in a TCP stream with the same length and other content.
fn changed(bytes: &[u8], answer: &Message, code: u8, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let mut made = bytes.to_vec();
    if addresses.is_empty() {
        empty(&mut made, answer, code);
    } else if !readdress(&mut made, answer, addresses) {
        return None;
    }
    fit_checksum(&mut made, &answer.packet).then_some(made)
}

/// Sets the code and takes every record away: what stood there becomes one that says nothing. Of a message that goes on in the next
/// packet only the code is changed.
fn empty(made: &mut [u8], answer: &Message, code: u8) {
    let at = answer.at;
    made[at + 3] = made[at + 3] & 0xf0 | code;
    let rest = answer.packet.end - answer.question_end;
    if !answer.is_whole || (1..RECORD).contains(&rest) {
        return;
    }
    made[at + 6..at + 12].fill(0);
    if rest == 0 {
        return;
    }
    made[at + 11] = 1;
    let record = &mut made[answer.question_end..answer.packet.end];
    record.fill(0);
    record[1..3].copy_from_slice(&NULL.to_be_bytes());
    record[4] = 1;
    record[9..11].copy_from_slice(&((rest - RECORD) as u16).to_be_bytes());
}

/// Puts other addresses where addresses stand, in turn. False: none stands there.
fn readdress(made: &mut [u8], answer: &Message, addresses: &[IpAddr]) -> bool {
    let count = short(made, answer.at + 6).unwrap_or(0);
    let (mut at, mut changed) = (answer.question_end, 0);
    for _ in 0..count {
        let Some((kind, data, length)) = record(&made[..answer.packet.end], at) else {
            break;
        };
        let octets = addresses
            .iter()
            .filter_map(|address| match (kind, address) {
                (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
                (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
                _ => None,
            });
        let octets: Vec<Vec<u8>> = octets.filter(|octets| octets.len() == length).collect();
        if let Some(octets) = octets.get(changed % octets.len().max(1)) {
            made[data..data + length].copy_from_slice(octets);
            // It may not be kept for longer than the fault.
            made[data - 6..data - 2].fill(0);
            changed += 1;
        }
        at = data + length;
    }
    changed > 0
}

/// The record at a place: its type, where its data begins, and their length.
fn record(bytes: &[u8], mut at: usize) -> Option<(u16, usize, usize)> {
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break at += 1,
            length if length >= 0xc0 => break at += 2,
            length => at += 1 + length,
        }
    }
    let (kind, length) = (short(bytes, at)?, usize::from(short(bytes, at + 8)?));
    (at + 10 + length <= bytes.len()).then_some((kind, at + 10, length))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
