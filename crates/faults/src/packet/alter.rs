//! Packets as bytes: where their headers end, turned bits, checksums.

use super::decide::Draws;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// What is known of a packet from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub from: IpAddr,
    pub to: IpAddr,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// Where the transport header begins.
    pub transport: usize,
    /// Where what it carries begins.
    pub payload: usize,
    /// Where it ends.
    pub end: usize,
}

/// Reads the headers. `None`: it is no whole IPv4 or IPv6 packet, or a later part of a fragmented one.
pub(super) fn shape(bytes: &[u8]) -> Option<Shape> {
    let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (from, to, protocol, transport, end);
    match bytes.first()? >> 4 {
        4 => {
            if short(6)? & 0x1fff != 0 {
                return None;
            }
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            (from, to) = (address(12)?, address(16)?);
            protocol = *bytes.get(9)?;
            transport = usize::from(bytes[0] & 0xf) * 4;
            end = usize::from(short(2)?).min(bytes.len());
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            (from, to) = (address(8)?, address(24)?);
            end = (40 + usize::from(short(4)?)).min(bytes.len());
            (protocol, transport) = behind_extensions(bytes)?;
        }
        _ => return None,
    }
    let header = match protocol {
        TCP => usize::from(*bytes.get(transport + 12)? >> 4) * 4,
        _ => 8,
    };
    let payload = (transport + header).min(end);
    (transport < end).then_some(Shape {
        from,
        to,
        protocol,
        transport,
        payload,
        end,
    })
}

/// The transport protocol of an IPv6 packet and where it begins.
fn behind_extensions(bytes: &[u8]) -> Option<(u8, usize)> {
    let (mut next, mut at) = (*bytes.get(6)?, 40);
    // Hop-by-hop, routing, destination; a packet has each once or twice.
    for _ in 0..8 {
        if ![0, 43, 60].contains(&next) {
            break;
        }
        next = *bytes.get(at)?;
        at += (usize::from(*bytes.get(at + 1)?) + 1) * 8;
    }
    (next != 44).then_some((next, at))
}

/// Turns so many bits of what a packet carries, each in a share of it that is its own. False: it carries nothing.
pub(super) fn turn(bytes: &mut [u8], shape: &Shape, bits: u32, seed: u64) -> bool {
    let room = (shape.end - shape.payload) * 8;
    if room == 0 {
        return false;
    }
    let mut draws = Draws::new(seed, 0);
    let stride = (room / (bits as usize).max(1)).max(1);
    for number in 0..(bits as usize).min(room) {
        let bit = number * stride + (draws.next() % stride as u64) as usize;
        bytes[shape.payload + bit / 8] ^= 1 << (bit % 8);
    }
    true
}

/// Makes the transport checksum fit. False: there is none to make.
pub(super) fn fit_checksum(bytes: &mut [u8], shape: &Shape) -> bool {
    let at = shape.transport
        + match shape.protocol {
            TCP => 16,
            UDP => 6,
            ICMP6 => 2,
            _ => return false,
        };
    if at + 2 > shape.end {
        return false;
    }
    bytes[at..at + 2].fill(0);
    let mut sum = transport_sum(&bytes[shape.transport..shape.end], shape);
    if sum == 0 && shape.protocol == UDP {
        sum = 0xffff;
    }
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// The checksum of a transport header with what it carries; 0 when the one inside fits.
pub(super) fn transport_sum(bytes: &[u8], shape: &Shape) -> u16 {
    let mut sum = u64::from(shape.protocol) + bytes.len() as u64;
    for address in [shape.from, shape.to] {
        sum += match address {
            IpAddr::V4(address) => words(&address.octets()),
            IpAddr::V6(address) => words(&address.octets()),
        };
    }
    folded(sum + words(bytes))
}

fn words(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| {
        u64::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    };
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet as the kernel makes it, checksum included.
    fn udp(is_v6: bool, payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let mut bytes = if is_v6 {
            let mut head = vec![0x60, 0, 0, 0];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&[17, 64]);
            head.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
            head.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
            head
        } else {
            let mut head = vec![0x45, 0];
            head.extend_from_slice(&(20 + length).to_be_bytes());
            head.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
            head
        };
        bytes.extend_from_slice(&[0x10, 0, 0x20, 0]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(payload);
        let shape = shape(&bytes).unwrap();
        assert!(fit_checksum(&mut bytes, &shape));
        bytes
    }

    #[test]
    fn turned_bits_break_the_checksum_and_it_can_be_made_to_fit() {
        for is_v6 in [false, true] {
            for payload in [&b"x"[..], b"some words that are carried"] {
                let before = udp(is_v6, payload);
                let shape = shape(&before).unwrap();
                assert_eq!(shape.end, before.len());
                assert_eq!(&before[shape.payload..], payload);
                assert_eq!(transport_sum(&before[shape.transport..], &shape), 0);
                for bits in [1, 3] {
                    let mut after = before.clone();
                    assert!(turn(&mut after, &shape, bits, 9));
                    assert_eq!(after[..shape.payload], before[..shape.payload]);
                    let differ: u32 = after
                        .iter()
                        .zip(&before)
                        .map(|(one, other)| (one ^ other).count_ones())
                        .sum();
                    assert_eq!(differ, bits);
                    assert_ne!(transport_sum(&after[shape.transport..], &shape), 0);
                    assert!(fit_checksum(&mut after, &shape));
                    assert_eq!(transport_sum(&after[shape.transport..], &shape), 0);
                }
            }
        }
    }

    #[test]
    fn what_carries_nothing_stays_and_what_is_no_packet_has_no_shape() {
        let mut empty = udp(false, b"");
        let found = shape(&empty).unwrap();
        assert!(!turn(&mut empty, &found, 1, 1));
        for cut in 0..28 {
            // However short, it is read without reaching beyond its end.
            if let Some(found) = shape(&empty[..cut]) {
                assert!(found.payload <= found.end && found.end <= cut);
            }
        }
        assert_eq!(shape(&[0x55; 40]), None);
        let mut later = udp(false, b"part");
        later[7] = 1;
        assert_eq!(shape(&later), None);
    }

    #[test]
    fn ipv6_extensions_are_passed_over() {
        let plain = udp(true, b"word");
        let mut extended = plain.clone();
        extended[6] = 60;
        extended.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
        let length = (extended.len() - 40) as u16;
        extended[4..6].copy_from_slice(&length.to_be_bytes());
        let found = shape(&extended).unwrap();
        assert_eq!(
            (found.protocol, found.transport, found.payload),
            (17, 48, 56)
        );
        extended[40] = 44;
        assert_eq!(shape(&extended), None);
    }
}
