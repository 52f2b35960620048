//! Which packets a fault acts on, as rules of an nftables table of its own, and whether any has met them.

use super::ssh::Session;
use crate::fault::{FaultError, Target};
use crate::network::{Network, Peer};
use crate::sys::namespace::{self, Namespace};
use crate::sys::netlink::Message;
use crate::sys::nftables::{self, Counted, Hook, Part};
use crate::sys::process::Process;
use crate::sys::raw::OWN_MARK;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::syntax::ConfigProblem;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// The most peers, and the most ports: the rules must fit into one transaction.
pub(crate) const LIST_MAX: usize = 64;
/// How long a packet is waited for that shows that the rules act.
pub(crate) const EFFECT: Duration = Duration::from_secs(1);
/// How long all names together may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Where the rules of a table are probed. Names are not looked up again: their answer would come through the fault.
static PROBED: Mutex<BTreeMap<String, Vec<IpAddr>>> = Mutex::new(BTreeMap::new());
/// Datagrams sent at once, every 5 ms, until the fault has acted on one.
pub(crate) const PROBES: usize = 4;
/// The port of the effect probe when no port is named: discard.
const DISCARD: u16 = 9;
/// The chain that picks ports and acts.
const ACT: &str = "act";

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A way of packets, as the target sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Those that arrive and those that leave.
    #[default]
    Both,
    /// Those that arrive.
    In,
    /// Those that leave.
    Out,
}

/// The packets between a target and its peers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Traffic {
    pub peers: Vec<Peer>,
    pub ports: Vec<u16>,
    pub protocol: Option<Protocol>,
    pub direction: Direction,
}

impl Traffic {
    /// What is wrong with it. `may_be_all`: a network with prefix 0 may be written where all packets are meant.
    pub fn problems(&self, may_be_all: bool) -> Vec<ConfigProblem> {
        let problem = |key, message: &str, help: &str| ConfigProblem {
            key,
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.peers.is_empty() && self.ports.is_empty() {
            let (message, help) = if may_be_all {
                (
                    "neither peers nor ports are named, so every packet would be meant",
                    "write `peers: [10.0.0.7]` or `ports: [29500]`; `peers: [0.0.0.0/0, \"::/0\"]` is everybody",
                )
            } else {
                (
                    "neither peers nor ports are named, so everything would be cut, Squall included",
                    "write `peers: [10.0.0.7]` or `ports: [29500]`",
                )
            };
            problems.push(problem("peers", message, help));
        }
        let is_all = |peer: &Peer| matches!(peer, Peer::Network(network) if network.prefix == 0);
        if !may_be_all && self.ports.is_empty() && self.peers.iter().any(is_all) {
            problems.push(problem(
                "peers",
                "a network with prefix 0 is every peer there is, so everything would be cut",
                "name a smaller network, or add `ports:`",
            ));
        }
        for (key, length) in [("peers", self.peers.len()), ("ports", self.ports.len())] {
            if length > LIST_MAX {
                problems.push(problem(
                    key,
                    &format!("{length} {key} are more than {LIST_MAX}"),
                    "use networks with a prefix, or several steps",
                ));
            }
        }
        problems
    }

    /// The peers as networks, names looked up now.
    ///
    /// # Errors
    /// When a name leads nowhere, or to too much.
    pub fn networks(&self) -> Result<Vec<Network>, FaultError> {
        let (peers, (sender, receiver)) = (self.peers.clone(), mpsc::channel());
        let look_up = move || {
            let found = peers
                .iter()
                .map(|peer| peer.networks().map_err(|error| (peer.to_string(), error)))
                .collect::<Result<Vec<_>, _>>();
            sender.send(found).ok();
        };
        let os = |(object, source): (String, io::Error)| FaultError::Os {
            action: "look up".to_owned(),
            object,
            source,
        };
        // A resolver that is not answered cannot be called back: its thread ends when it gives up.
        std::thread::Builder::new()
            .spawn(look_up)
            .map_err(|error| os(("the peers".to_owned(), error)))?;
        let late = |_| {
            let words = format!("no answer within {} s", LOOK_UP.as_secs());
            os((
                "the peers".to_owned(),
                io::Error::new(io::ErrorKind::TimedOut, words),
            ))
        };
        let found = receiver.recv_timeout(LOOK_UP).map_err(late)?;
        let networks = found.map_err(os)?.concat();
        if networks.len() > LIST_MAX * 4 || (networks.is_empty() && !self.peers.is_empty()) {
            return Err(FaultError::Limit {
                action: "pick the peers".to_owned(),
                because: format!("their names lead to {} addresses", networks.len()),
            });
        }
        Ok(networks)
    }

    /// The whole table, in one transaction: chains that spare what must be spared and pick the peers, and one that picks ports, counts and acts.
    pub fn table(
        &self,
        table: &str,
        networks: &[Network],
        spared: &[Session],
        act: &[Part],
    ) -> Vec<Message> {
        let mut messages = vec![
            nftables::new_table(table),
            nftables::new_chain(table, ACT, None),
        ];
        let ways = [
            (Direction::In, "in", Hook::Input),
            (Direction::Out, "out", Hook::Output),
        ];
        for (way, chain, hook) in ways {
            if self.direction != way && self.direction != Direction::Both {
                continue;
            }
            let mut rules = vec![vec![Part::Mark(OWN_MARK), Part::Return]];
            rules.extend(spared.iter().map(|one| one.rule(way == Direction::In)));
            let jump = Part::Jump(ACT.to_owned());
            rules.extend(networks.iter().map(|peer| {
                let peer = match way {
                    Direction::In => Part::From(peer.address, peer.prefix),
                    _ => Part::To(peer.address, peer.prefix),
                };
                vec![peer, jump.clone()]
            }));
            if networks.is_empty() {
                rules.push(vec![jump]);
            }
            messages.push(nftables::new_chain(table, chain, Some(hook)));
            messages.extend(
                rules
                    .iter()
                    .map(|parts| nftables::new_rule(table, chain, parts)),
            );
        }
        let acts = self.acts(act);
        messages.extend(
            acts.iter()
                .map(|parts| nftables::new_rule(table, ACT, parts)),
        );
        messages
    }

    fn acts(&self, act: &[Part]) -> Vec<Vec<Part>> {
        let protocols: &[u8] = match self.protocol {
            Some(Protocol::Tcp) => &[6],
            Some(Protocol::Udp) => &[17],
            None => &[6, 17],
        };
        let with = |mut parts: Vec<Part>| {
            parts.push(Part::Count);
            parts.extend_from_slice(act);
            parts
        };
        if self.ports.is_empty() {
            let picked = protocols.iter().map(|number| Part::Protocol(*number));
            let picked = picked.take(usize::from(self.protocol.is_some()));
            return vec![with(picked.collect())];
        }
        let mut rules = Vec::new();
        for protocol in protocols {
            for port in &self.ports {
                for end in [Part::SourcePort(*port), Part::DestinationPort(*port)] {
                    rules.push(with(vec![Part::Protocol(*protocol), end]));
                }
            }
        }
        rules
    }

    /// The counters of the table, after a packet has met its rules or the time is up. Sends one where that is possible.
    /// Inside the namespace.
    pub fn count(&self, table: &str, addresses: &[IpAddr]) -> io::Result<Counted> {
        let deadline = Instant::now() + EFFECT;
        let mut probed = false;
        loop {
            let counted = nftables::counted(nftables::INET, table)?;
            if counted.packets > 0 || Instant::now() >= deadline {
                return Ok(counted);
            }
            if !probed {
                self.probe(addresses);
                probed = true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Keeps where the rules of this table are to be probed.
    pub fn remember(&self, table: &str, networks: &[Network]) {
        let mut addresses: Vec<IpAddr> = networks
            .iter()
            .take(4)
            .map(|network| match network.address {
                address if network.prefix > 0 => address,
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            })
            .collect();
        if addresses.is_empty() {
            addresses.push(Ipv4Addr::LOCALHOST.into());
        }
        if let Ok(mut probed) = PROBED.lock() {
            probed.insert(table.to_owned(), addresses);
        }
    }

    /// The addresses kept for this table; none when another process made it.
    pub fn probed(&self, table: &str) -> Vec<IpAddr> {
        PROBED
            .lock()
            .ok()
            .and_then(|probed| probed.get(table).cloned())
            .unwrap_or_default()
    }

    /// Sends packets that the rules should meet. Whether they arrive says nothing; the counter does.
    fn probe(&self, addresses: &[IpAddr]) {
        for address in addresses {
            if self.protocol != Some(Protocol::Udp) {
                let to = SocketAddr::new(*address, self.probed_port());
                // An answer comes back even from a closed port; a datagram makes none.
                drop(TcpStream::connect_timeout(&to, Duration::from_millis(20)));
            }
            self.send_datagram(*address);
        }
    }

    /// Sends packets that filters should meet: the first time a connection attempt too, then only datagrams.
    pub fn probe_once(&self, addresses: &[IpAddr], is_first: bool) {
        if is_first || self.protocol == Some(Protocol::Tcp) {
            return self.probe(addresses);
        }
        // One packet seldom is the one that a small chance picks.
        for address in addresses.iter().cycle().take(PROBES) {
            self.send_datagram(*address);
        }
    }

    fn probed_port(&self) -> u16 {
        self.ports.first().copied().unwrap_or(DISCARD)
    }

    /// Sends one datagram that the rules should meet, where they meet datagrams.
    pub fn send_datagram(&self, address: IpAddr) {
        if self.protocol == Some(Protocol::Tcp) {
            return;
        }
        let to = SocketAddr::new(address, self.probed_port());
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        drop(UdpSocket::bind(any).and_then(|socket| socket.send_to(b"squall", to)));
    }
}

/// The namespace a target names (`None`: our own).
///
/// # Errors
/// When it is neither a namespace nor the host.
pub fn place(target: &Target) -> Result<Option<PathBuf>, FaultError> {
    match target {
        Target::Host => Ok(None),
        Target::Namespace { path } => Ok(Some(named(path))),
        Target::Container { init, .. } => {
            Ok(Some(PathBuf::from(format!("/proc/{}/ns/net", init.pid))))
        }
        other => Err(FaultError::Target {
            target: format!("{other:?}"),
            because: "it is neither a network namespace, nor a container, nor the host".to_owned(),
        }),
    }
}

/// The namespace a target names, held open.
///
/// # Errors
/// As [`place`], when it is gone, and when it is a container that has no network of its own.
pub fn found(target: &Target) -> Result<Namespace, FaultError> {
    let path = place(target)?;
    let opened = Namespace::open(path.as_deref()).map_err(|source| FaultError::Os {
        action: "find".to_owned(),
        object: format!("{target:?}"),
        source,
    })?;
    let Target::Container { name, init, .. } = target else {
        return Ok(opened);
    };
    let refuse = |because: &str| FaultError::Target {
        target: format!("container {name}"),
        because: because.to_owned(),
    };
    // Looked at after it was opened: a pid that has become another process's leads to another namespace.
    let is_its = Process::open(init).is_ok_and(|process| process.is_some());
    if !is_its {
        return Err(refuse("its first process has ended"));
    }
    if namespace::inode(None).is_ok_and(|ours| ours == opened.inode()) {
        return Err(refuse(
            "it shares the network of this host; aim at `host: true` where that is meant",
        ));
    }
    Ok(opened)
}

/// A bare name is one of `ip netns`.
fn named(path: &Path) -> PathBuf {
    if path.components().count() == 1 && !path.is_absolute() {
        return Path::new("/run/netns").join(path);
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_once_and_its_addresses_are_kept_for_the_probe() {
        let traffic = Traffic {
            peers: vec!["localhost".parse().unwrap()],
            ..Traffic::default()
        };
        let networks = traffic.networks().unwrap();
        assert!(networks.iter().all(|one| one.address.is_loopback()));
        traffic.remember("squall_kept", &networks);
        let unresolvable = Traffic {
            peers: vec!["there-is-none.invalid".parse().unwrap()],
            ..Traffic::default()
        };
        let kept: Vec<IpAddr> = networks.iter().take(4).map(|one| one.address).collect();
        assert_eq!(unresolvable.probed("squall_kept"), kept);
        assert_eq!(traffic.probed("squall_another"), [] as [IpAddr; 0]);
        assert!(unresolvable.networks().is_err());
    }
}
