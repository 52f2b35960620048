//! Established SSH sessions, which no fault may cut: whoever watches an experiment from afar would lose the host.

use crate::sys::nftables::Part;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The most sessions that are spared. With more of them the injection is refused: a host with so many is no place for it.
pub const SESSIONS_MAX: usize = 256;
/// The state of an established connection in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// Both ends of a connection, as the target sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Session {
    /// A rule that lets it pass. `arriving`: for packets that arrive.
    pub fn rule(&self, arriving: bool) -> Vec<Part> {
        let (from, to) = if arriving {
            (self.remote, self.local)
        } else {
            (self.local, self.remote)
        };
        let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        vec![
            Part::From(from.ip(), whole(from.ip())),
            Part::To(to.ip(), whole(to.ip())),
            Part::Protocol(6),
            Part::SourcePort(from.port()),
            Part::DestinationPort(to.port()),
            Part::Return,
        ]
    }
}

/// The established TCP connections in the network namespace of this thread, each with the inode of its socket.
///
/// # Errors
/// When the kernel's table cannot be read.
pub fn connections() -> io::Result<Vec<(Session, u64)>> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(Path::new("/proc/thread-self/net").join(table)) {
            Ok(text) => found.extend(text.lines().skip(1).filter_map(established)),
            // A host may have no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The established sessions of SSH servers and clients in the network namespace of this thread.
///
/// # Errors
/// When the kernel's table cannot be read, or there are too many.
pub fn sessions() -> io::Result<Vec<Session>> {
    let found = connections()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let sockets = sockets_of_ssh()?;
    let spared: BTreeSet<Session> = found
        .into_iter()
        .filter(|(_, inode)| sockets.contains(inode))
        .map(|(session, _)| session)
        .collect();
    if spared.len() > SESSIONS_MAX {
        return Err(io::Error::other(format!(
            "there are {} SSH sessions, more than {SESSIONS_MAX}",
            spared.len()
        )));
    }
    Ok(spared.into_iter().collect())
}

/// A connection and the inode of its socket, from a line of `/proc/net/tcp`.
fn established(line: &str) -> Option<(Session, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if *words.get(3)? != ESTABLISHED {
        return None;
    }
    let session = Session {
        local: address(words.get(1)?)?,
        remote: address(words.get(2)?)?,
    };
    Some((session, words.get(9)?.parse().ok()?))
}

/// `0100007F:0016`, each word of the address in the host's order. An IPv4 address within IPv6 is IPv4 on the wire.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let address = match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::from),
        IpAddr::V4(_) => address,
    };
    Some(SocketAddr::new(address, port))
}

/// The inodes of all sockets that SSH servers and clients hold.
fn sockets_of_ssh() -> io::Result<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for pid in crate::sys::process::pids()? {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim();
        if !(name.starts_with("sshd") || name == "ssh" || name.starts_with("dropbear")) {
            continue;
        }
        // One that ends while it is looked at has no session any more.
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in open.into_iter().flatten().flatten() {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn lines_of_both_tables_are_read_and_only_established_ones() {
        let v4 = "   1: 0100007F:0016 0200007F:A1B2 01 00000000:00000000 02:000A7214 00000000     0        0 4711 2 0";
        let (session, inode) = established(v4).unwrap();
        assert_eq!(inode, 4711);
        assert_eq!(session.local, (Ipv4Addr::LOCALHOST, 22).into());
        assert_eq!(session.remote, "127.0.0.2:41394".parse().unwrap());
        assert_eq!(established(&v4.replace(" 01 ", " 0A ")), None);
        let v6 = "   0: 00000000000000000000000001000000:0016 0000000000000000FFFF00000200007F:0001 01 0 0 0 0 0 7 1";
        let (session, _) = established(v6).unwrap();
        assert_eq!(session.local, (Ipv6Addr::LOCALHOST, 22).into());
        assert_eq!(session.remote, "127.0.0.2:1".parse().unwrap());
    }
}
