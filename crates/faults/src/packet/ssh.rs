//! Established SSH sessions, which no fault may cut: whoever watches an experiment from afar would lose the host.

use crate::sys::nftables::Part;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The most sessions that are spared. With more of them the injection is refused: a host with so many is no place for it.
pub const SESSIONS_MAX: usize = 256;
/// Where SSH servers listen unless told otherwise.
const SSH_PORT: u16 = 22;
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

/// The established sessions of SSH servers and clients in the network namespace of this thread, and those at port 22 whose process is
/// hidden from this one, as behind another pid namespace.
///
/// # Errors
/// When the kernel's table or the sockets of an SSH process cannot be read, or there are too many.
pub fn sessions() -> io::Result<Vec<Session>> {
    let found = connections()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let spared = to_spare(&found, &holders()?);
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

/// Who holds which sockets, by their inodes.
#[derive(Debug, Default)]
struct Holders {
    ssh: BTreeSet<u64>,
    others: BTreeSet<u64>,
}

fn to_spare(found: &[(Session, u64)], holders: &Holders) -> BTreeSet<Session> {
    let is_ssh = |session: &Session, inode: &u64| {
        let at_port = session.local.port() == SSH_PORT || session.remote.port() == SSH_PORT;
        holders.ssh.contains(inode) || (at_port && !holders.others.contains(inode))
    };
    found
        .iter()
        .filter(|(session, inode)| is_ssh(session, inode))
        .map(|(session, _)| *session)
        .collect()
}

/// The sockets of all processes that can be seen. One whose sockets may not be read counts as hidden, unless it is known to be of SSH.
fn holders() -> io::Result<Holders> {
    let mut holders = Holders::default();
    for pid in crate::sys::process::pids()? {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim();
        let is_ssh = name.starts_with("sshd") || name == "ssh" || name.starts_with("dropbear");
        match sockets_in(Path::new(&format!("/proc/{pid}/fd"))) {
            Ok(inodes) if is_ssh => holders.ssh.extend(inodes),
            Ok(inodes) => holders.others.extend(inodes),
            Err(error) if is_ssh => {
                return Err(io::Error::new(
                    error.kind(),
                    format!(
                        "could not find the sessions of {name} (process {pid}), because its sockets cannot be read: {error}; run as root"
                    ),
                ));
            }
            Err(_) => {}
        }
    }
    Ok(holders)
}

/// The inodes of the sockets that a folder of open files names. None for a process that has ended: it has no session any more.
fn sockets_in(folder: &Path) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    let mut read = || -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let link = match std::fs::read_link(entry?.path()) {
                Err(error) if is_gone(&error) => continue,
                link => link?,
            };
            let link = link.to_string_lossy();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
        Ok(())
    };
    match read() {
        Err(error) if is_gone(&error) => Ok(inodes),
        other => other.map(|()| inodes),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
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

    #[test]
    fn a_session_of_a_hidden_process_is_spared_by_its_port() {
        let session = |local: &str, remote: &str| Session {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let known = session("10.0.0.1:2222", "10.0.0.2:40000");
        let hidden = session("10.0.0.1:22", "10.0.0.2:40001");
        let client = session("10.0.0.1:40002", "10.0.0.2:22");
        let another = session("10.0.0.1:22", "10.0.0.2:40003");
        let plain = session("10.0.0.1:80", "10.0.0.2:40004");
        let found = [
            (known, 1),
            (hidden, 2),
            (client, 0),
            (another, 3),
            (plain, 4),
        ];
        let holders = Holders {
            ssh: [1].into(),
            others: [3].into(),
        };
        let spared = to_spare(&found, &holders);
        assert_eq!(spared, BTreeSet::from([known, hidden, client]));
    }

    #[test]
    fn only_a_process_that_is_gone_has_no_sockets_for_sure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mine = sockets_in(Path::new("/proc/self/fd")).unwrap();
        assert!(!mine.is_empty(), "{listener:?}");
        assert_eq!(sockets_in(Path::new("/proc/0/fd")).unwrap(), [0; 0]);
        assert!(sockets_in(Path::new("/proc/self/comm")).is_err());
    }
}
