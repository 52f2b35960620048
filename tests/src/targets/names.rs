//! Faults on name queries, on the loopback of the sandbox: a server and a client of our own, who know only what the standard says.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Prey, Recipe, Size};
use crate::snapshot::Kind;

/// Whoever has not come by then is lost.
const SILENCE: Duration = Duration::from_millis(150);
/// A query that nobody disturbs is answered sooner.
const SOON: Duration = Duration::from_millis(80);

pub(super) const DNS: Recipe = Recipe {
    kind: "network-dns",
    prepare: servers,
    selector: |_| json!({"host": true}),
    variants: |_| {
        vec![
            json!({"names": ["example.org"], "fail": "nxdomain"}),
            json!({"names": ["."], "answers": ["192.0.2.1", "2001:db8::1"], "protocol": "udp"}),
            json!({"names": ["example.org"], "slow": "110ms", "peers": ["127.0.0.1", "::1"]}),
            json!({"names": ["example.org", "example.com"], "drop": true}),
        ]
    },
    is_seen: |prey| {
        let seen = prey.sockets.iter().map(|server| {
            let begun = Instant::now();
            let genuine = by_datagram(server, "www.example.org")?.is_some_and(|it| it.is_genuine());
            Ok(!genuine || begun.elapsed() >= SOON)
        });
        let seen: Vec<bool> = seen.collect::<anyhow::Result<_>>()?;
        Ok(!seen.is_empty() && seen.iter().all(|seen| *seen))
    },
    shows_in: &[Kind::Nftables, Kind::StrayProcess],
};

fn servers(_: &Path, size: Size) -> anyhow::Result<Prey> {
    let places = ["127.0.0.1:53", "[::1]:53"];
    let sockets: Result<_, _> = places.into_iter().map(UdpSocket::bind).collect();
    let listeners: Result<_, _> = places.into_iter().map(TcpListener::bind).collect();
    Ok(Prey {
        sockets: sockets.context("take queries by UDP")?,
        listeners: listeners.context("take queries by TCP")?,
        ..Prey::none(size)
    })
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The code of the answer.
    pub code: u8,
    /// The addresses of IPv4 in it.
    pub addresses: Vec<[u8; 4]>,
    /// Where the answer came from.
    pub from: SocketAddr,
    /// How long it took.
    pub took: Duration,
}

impl Told {
    fn is_genuine(&self) -> bool {
        self.code == 0 && self.addresses == [[10, 0, 0, 9]]
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// What the server says to anybody: the address 10.0.0.9.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    (bytes[2], bytes[3], bytes[7]) = (0x81, 0x80, 1);
    bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 9]);
    bytes
}

fn read(message: &[u8], asked: &[u8], from: SocketAddr, begun: Instant) -> anyhow::Result<Told> {
    ensure!(message.len() >= asked.len(), "too short: {message:?}");
    ensure!(
        message[..2] == asked[..2] && message[2] & 0x80 != 0,
        "{message:?}"
    );
    ensure!(message[12..asked.len()] == asked[12..], "another question");
    let mut addresses = Vec::new();
    let mut rest = &message[asked.len()..];
    for _ in 0..message[7] {
        ensure!(
            rest.len() >= 16 && rest[..4] == [0xc0, 12, 0, 1],
            "{rest:?}"
        );
        addresses.push([rest[12], rest[13], rest[14], rest[15]]);
        rest = &rest[16..];
    }
    Ok(Told {
        code: message[3] & 15,
        addresses,
        from,
        took: begun.elapsed(),
    })
}

/// Asks a server, which answers when the query reaches it. None: nobody answered.
///
/// # Errors
/// When the answer is none to the question, or sockets fail.
pub fn by_datagram(server: &UdpSocket, name: &str) -> anyhow::Result<Option<Told>> {
    let place = server.local_addr()?;
    let any = if place.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let client = UdpSocket::bind(any)?;
    client.connect(place)?;
    server.set_nonblocking(true)?;
    let mut bytes = [0; 512];
    while server.recv_from(&mut bytes).is_ok() {}
    let (asked, begun) = (query(name), Instant::now());
    client.send(&asked)?;
    client.set_read_timeout(Some(Duration::from_millis(2)))?;
    while begun.elapsed() < SILENCE {
        if let Ok((length, from)) = server.recv_from(&mut bytes) {
            // A probe of the landing may have waited until now.
            if bytes[..length] == asked {
                server.send_to(&answer(&asked), from)?;
            }
        }
        match client.recv(&mut bytes) {
            Ok(length) => return read(&bytes[..length], &asked, place, begun).map(Some),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// As [`by_datagram`], in a TCP stream.
///
/// # Errors
/// As there.
pub fn by_stream(server: &TcpListener, name: &str) -> anyhow::Result<Option<Told>> {
    let place = server.local_addr()?;
    let mut client = TcpStream::connect_timeout(&place, Duration::from_secs(1))?;
    let (mut served, _) = server.accept()?;
    for end in [&client, &served] {
        end.set_read_timeout(Some(SILENCE))?;
        end.set_nodelay(true)?;
    }
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let (asked, begun) = (query(name), Instant::now());
    client.write_all(&framed(&asked))?;
    let mut bytes = vec![0; asked.len() + 2];
    if served.read_exact(&mut bytes).is_err() {
        return Ok(None);
    }
    served.write_all(&framed(&answer(&asked)))?;
    let mut length = [0; 2];
    if client.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    client.read_exact(&mut message)?;
    read(&message, &asked, place, begun).map(Some)
}
