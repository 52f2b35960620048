//! Faults on packets, on the loopback of the sandbox: streams of numbered datagrams say what became of them.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::{Prey, Recipe, Size, listeners};
use crate::snapshot::Kind;

/// Datagrams sent to see what becomes of them.
const DATAGRAMS: u32 = 300;
/// So many at once fit into the room of a socket.
const AT_ONCE: u32 = 50;
/// Whoever is not there by then is lost.
const SILENCE: Duration = Duration::from_millis(150);
/// The one-way delay that is asked for.
const WAIT: Duration = Duration::from_millis(30);

const SHOWS_IN: &[Kind] = &[Kind::Nftables, Kind::Bpf, Kind::StrayProcess];

pub(super) const DELAY: Recipe = Recipe {
    kind: "network-delay",
    prepare: listeners,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        let ports = tcp_ports(prey);
        vec![
            json!({"delay": "30ms", "ports": ports}),
            json!({"delay": "40ms", "jitter": "5ms", "distribution": "normal", "peers": ["127.0.0.0/8", "::1"], "protocol": "tcp"}),
            json!({"delay": "40ms", "jitter": "5ms", "correlation": "20%", "may-overtake": true, "ports": ports, "direction": "out"}),
        ]
    },
    is_seen: |prey| Ok(fastest_connection(prey)? >= WAIT * 2),
    shows_in: SHOWS_IN,
};

pub(super) const LOSS: Recipe = Recipe {
    kind: "network-loss",
    prepare: takers,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        let ports = udp_ports(prey);
        vec![
            json!({"loss": "30%", "ports": ports, "protocol": "udp"}),
            json!({"bursts": {"begin": "10%", "end": "20%"}, "peers": ["127.0.0.1", "::1"]}),
        ]
    },
    is_seen: |prey| in_both(prey, |seen| seen.missing > 20),
    shows_in: SHOWS_IN,
};

pub(super) const DUPLICATE: Recipe = Recipe {
    kind: "network-duplicate",
    prepare: takers,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        vec![
            json!({"duplicates": "20%", "ports": udp_ports(prey)}),
            json!({"duplicates": "20%", "ports": udp_ports(prey), "direction": "out"}),
        ]
    },
    is_seen: |prey| in_both(prey, |seen| seen.doubled > 20),
    shows_in: SHOWS_IN,
};

pub(super) const REORDER: Recipe = Recipe {
    kind: "network-reorder",
    prepare: takers,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        vec![
            json!({"reordered": "20%", "ports": udp_ports(prey), "at-most": "20ms"}),
            json!({"reordered": "20%", "behind": 3, "at-most": "20ms", "ports": udp_ports(prey)}),
        ]
    },
    is_seen: |prey| in_both(prey, |seen| seen.overtaken > 20),
    shows_in: SHOWS_IN,
};

pub(super) const CORRUPT: Recipe = Recipe {
    kind: "network-corrupt",
    prepare: takers,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        let ports = udp_ports(prey);
        vec![
            json!({"corrupted": "30%", "checksum": "fitting", "bits": 2, "ports": ports}),
            json!({"corrupted": "30%", "ports": ports}),
        ]
    },
    is_seen: |prey| in_both(prey, |seen| seen.wrong + seen.missing > 20),
    shows_in: SHOWS_IN,
};

pub(super) const RATE: Recipe = Recipe {
    kind: "network-rate",
    prepare: listeners,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        let ports = tcp_ports(prey);
        vec![
            json!({"per-second": "4MB", "ports": ports}),
            json!({"per-second": "4MB", "burst": "10kB", "wait-at-most": "100ms", "peers": ["127.0.0.0/8", "::1"]}),
        ]
    },
    is_seen: |prey| Ok(fastest_transfer(prey)? >= Duration::from_millis(400)),
    shows_in: SHOWS_IN,
};

pub(super) const BLACKHOLE: Recipe = Recipe {
    kind: "network-blackhole",
    prepare: takers,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        vec![
            json!({"ports": udp_ports(prey), "direction": "out"}),
            json!({"peers": ["127.0.0.0/8", "::1"]}),
        ]
    },
    // Sending must not fail: that is what tells it from a partition.
    is_seen: |prey| in_both(prey, |seen| seen.missing == DATAGRAMS),
    shows_in: SHOWS_IN,
};

pub(super) const RESET: Recipe = Recipe {
    kind: "network-reset",
    prepare: connected,
    selector: |_| json!({"host": true}),
    variants: |prey| {
        vec![
            json!({"ports": tcp_ports(prey), "connections": 10}),
            json!({"peers": ["127.0.0.0/8", "::1"], "ports": tcp_ports(prey), "connections": 2}),
        ]
    },
    is_seen: |prey| {
        let mut ends = prey.connections.iter().flatten();
        Ok(!prey.connections.is_empty() && ends.all(is_closed))
    },
    shows_in: &[],
};

/// A connection by each family, idle.
fn connected(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let mut prey = listeners(folder, size)?;
    for listener in &prey.listeners {
        let one = TcpStream::connect(listener.local_addr()?)?;
        let (other, _) = listener.accept()?;
        for end in [&one, &other] {
            end.set_nonblocking(true)?;
        }
        prey.connections.push([one, other]);
    }
    Ok(prey)
}

/// Whether an end has been told that it is over; it is told why only once.
fn is_closed(end: &TcpStream) -> bool {
    match end.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn takers(_: &Path, size: Size) -> anyhow::Result<Prey> {
    let sockets = ["127.0.0.1:0", "[::1]:0"].map(UdpSocket::bind);
    let sockets = sockets
        .into_iter()
        .collect::<Result<_, _>>()
        .context("take datagrams of both families")?;
    Ok(Prey {
        sockets,
        ..Prey::none(size)
    })
}

fn ports(addresses: impl Iterator<Item = std::io::Result<SocketAddr>>) -> Vec<u16> {
    addresses
        .filter_map(|address| Some(address.ok()?.port()))
        .collect()
}

fn tcp_ports(prey: &Prey) -> Vec<u16> {
    ports(prey.listeners.iter().map(|one| one.local_addr()))
}

fn udp_ports(prey: &Prey) -> Vec<u16> {
    ports(prey.sockets.iter().map(UdpSocket::local_addr))
}

/// The quickest of three connections to each listener; the slower family counts.
fn fastest_connection(prey: &Prey) -> anyhow::Result<Duration> {
    let mut slowest = Duration::MAX;
    for listener in &prey.listeners {
        let address = listener.local_addr()?;
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let connection = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
            fastest = fastest.min(begun.elapsed());
            listener.accept()?;
            drop(connection);
        }
        slowest = slowest.min(fastest);
    }
    Ok(slowest)
}

/// What it takes to send two million bytes to each listener; the quicker family counts.
fn fastest_transfer(prey: &Prey) -> anyhow::Result<Duration> {
    let mut fastest = Duration::MAX;
    for listener in &prey.listeners {
        let mut out = TcpStream::connect(listener.local_addr()?)?;
        let (mut into, _) = listener.accept()?;
        let begun = Instant::now();
        let read = std::thread::spawn(move || std::io::copy(&mut into, &mut std::io::sink()));
        out.write_all(&vec![7; 2_000_000])?;
        drop(out);
        read.join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        fastest = fastest.min(begun.elapsed());
    }
    Ok(fastest)
}

/// What became of a stream of datagrams.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    missing: u32,
    doubled: u32,
    overtaken: u32,
    wrong: u32,
}

fn in_both(prey: &Prey, is_disturbed: impl Fn(&Seen) -> bool) -> anyhow::Result<bool> {
    let seen = prey
        .sockets
        .iter()
        .map(stream)
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(!seen.is_empty() && seen.iter().all(is_disturbed))
}

/// A datagram with its number, all over.
fn datagram(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(50)
}

/// Sends numbered datagrams to a socket and reads what arrives.
fn stream(to: &UdpSocket) -> anyhow::Result<Seen> {
    let address = to.local_addr()?;
    let from = UdpSocket::bind(if address.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    })?;
    to.set_read_timeout(Some(SILENCE))?;
    // What a stream before this one left.
    to.set_nonblocking(true)?;
    while to.recv(&mut [0; 512]).is_ok() {}
    to.set_nonblocking(false)?;
    let mut seen = Seen::default();
    let mut times = vec![0u32; DATAGRAMS as usize];
    let mut highest = 0;
    for first in (0..DATAGRAMS).step_by(AT_ONCE as usize) {
        for number in first..first + AT_ONCE {
            from.send_to(&datagram(number), address)?;
        }
        let mut came = 0;
        let mut bytes = [0; 512];
        // Those sent twice come before the silence or after it; a stream that is whole does not wait for it.
        while let Ok(length) = to.recv(&mut bytes) {
            let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if number >= DATAGRAMS || bytes[..length] != datagram(number) {
                seen.wrong += 1;
                continue;
            }
            times[number as usize] += 1;
            seen.overtaken += u32::from(number < highest);
            highest = highest.max(number);
            came += 1;
            if came >= AT_ONCE && is_silent(to)? {
                break;
            }
        }
    }
    seen.missing = times.iter().filter(|count| **count == 0).count() as u32;
    seen.doubled = times.iter().filter(|count| **count > 1).count() as u32;
    Ok(seen)
}

/// Whether nothing more waits right now.
fn is_silent(socket: &UdpSocket) -> anyhow::Result<bool> {
    socket.set_nonblocking(true)?;
    let looked = socket.peek(&mut [0; 512]);
    socket.set_nonblocking(false)?;
    Ok(looked.is_err())
}
