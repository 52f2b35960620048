//! `network-partition`: packets to and from given peers or ports are lost, as behind a dead switch or a wrong firewall rule.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::network::Network;
use crate::sys::namespace;
use crate::sys::netlink::Message;
use crate::sys::nftables::{self, Counted, Hook, Part};
use crate::undo::{Undo, presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most peers, and the most ports: the rules must fit into one transaction.
const LIST_MAX: usize = 64;
/// How long a packet is waited for that shows that the rules act.
const EFFECT: Duration = Duration::from_secs(1);
/// The port of the effect probe when no port is named: discard.
const DISCARD: u16 = 9;

/// Drops packets to and from peers and ports, by an nftables table of its own.
///
/// Aimed at `workload`, it acts in the network namespace that the owned workload is then started in: between its processes, over loopback,
/// and never on the host. Nothing outside that namespace can reach the workload, probes by `http` and `tcp` included.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NetworkPartition {
    /// The other side: IPv4 and IPv6 addresses or networks, at most 64. Every peer unless said; then `ports` must be.
    pub peers: Vec<Network>,
    /// TCP and UDP ports, at most 64, at either end of a connection. Every port unless said; then `peers` must be.
    pub ports: Vec<u16>,
    /// Only this transport protocol. All of them unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Which packets are lost. Both ways unless said.
    pub direction: Direction,
}

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

impl FaultKind for NetworkPartition {
    const INFO: KindInfo = KindInfo {
        kind: "network-partition",
        summary: "Packets to and from given peers or ports are lost.",
        class: Class::Lasting,
        layer: "the kernel's packet filter, before connection tracking; sockets see silence and retransmit, senders on this host may see EPERM on a datagram",
        requires: "nf_tables in the kernel, and CAP_NET_ADMIN in the network namespace",
        after_kill: "the next `squall undo`; a network namespace that ends takes the rules with it",
        targets: &["workload", "namespace", "host"],
        example: "network-partition: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, peers: [10.0.0.0/8, \"fd00::/8\"], ports: [29500]}",
    };
}

impl Fault for NetworkPartition {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        if !facts.nftables {
            unmet.push(Unmet {
                what: "nf_tables in the kernel, answering this user".to_owned(),
                remedy: "run as root; load it with `modprobe nf_tables`".to_owned(),
            });
        }
        if !facts.net_admin {
            unmet.push(Unmet {
                what: "CAP_NET_ADMIN in the network namespace".to_owned(),
                remedy: "run as root".to_owned(),
            });
        }
        if let Err(error) = place(target)
            .and_then(|path| namespace::inode(path.as_deref()).map_err(failed("find", target)))
        {
            unmet.push(Unmet {
                what: error.to_string(),
                remedy: "name a namespace that `ip netns` shows".to_owned(),
            });
        }
        unmet
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        "nftables table of its own, dropping before connection tracking".to_owned()
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        if let Some(problem) = self.problems().into_iter().next() {
            return Err(FaultError::Limit {
                action: "cut the network".to_owned(),
                because: problem.message,
            });
        }
        let path = place(target)?;
        let inode = namespace::inode(path.as_deref()).map_err(failed("find", target))?;
        let table = format!("squall_{}", host.injection());
        let undo = Undo::DeleteTable {
            family: "inet".to_owned(),
            table: table.clone(),
            namespace: path.clone(),
            namespace_inode: Some(inode),
        };
        let messages = self.messages(&table);
        host.change(
            undo,
            &format!("make the nftables table {table}"),
            &mut || namespace::inside(path.as_deref(), || nftables::transact(&messages)),
        )
    }

    fn observe(&self, target: &Target, changes: &[Undo]) -> Vec<Observation> {
        changes
            .iter()
            .map(|undo| self.effect(target, undo))
            .collect()
    }

    fn needs_namespaces(&self) -> bool {
        true
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        let problem = |key, message: &str, help: &str| ConfigProblem {
            key,
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        if self.peers.is_empty() && self.ports.is_empty() {
            problems.push(problem(
                "peers",
                "neither peers nor ports are named, so everything would be cut, Squall included",
                "write `peers: [10.0.0.7]` or `ports: [29500]`",
            ));
        }
        if self.ports.is_empty() && self.peers.iter().any(|peer| peer.prefix == 0) {
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
}

impl NetworkPartition {
    /// The whole table, in one transaction: chains that pick the peers, and one that picks ports, counts and drops.
    fn messages(&self, table: &str) -> Vec<Message> {
        let mut messages = vec![
            nftables::new_table(table),
            nftables::new_chain(table, "cut", None),
        ];
        let ways = [
            (Direction::In, "in", Hook::Input),
            (Direction::Out, "out", Hook::Output),
        ];
        for (way, chain, hook) in ways {
            if self.direction != way && self.direction != Direction::Both {
                continue;
            }
            messages.push(nftables::new_chain(table, chain, Some(hook)));
            let jump = Part::Jump("cut".to_owned());
            for peer in &self.peers {
                let from = match way {
                    Direction::In => Part::From(peer.address, peer.prefix),
                    _ => Part::To(peer.address, peer.prefix),
                };
                messages.push(nftables::new_rule(table, chain, &[from, jump.clone()]));
            }
            if self.peers.is_empty() {
                messages.push(nftables::new_rule(table, chain, &[jump]));
            }
        }
        let cuts = self.cuts();
        messages.extend(
            cuts.iter()
                .map(|parts| nftables::new_rule(table, "cut", parts)),
        );
        messages
    }

    fn cuts(&self) -> Vec<Vec<Part>> {
        let protocols: &[u8] = match self.protocol {
            Some(Protocol::Tcp) => &[6],
            Some(Protocol::Udp) => &[17],
            None => &[6, 17],
        };
        if self.ports.is_empty() {
            let mut parts = vec![Part::Count, Part::Drop];
            if self.protocol.is_some() {
                parts.splice(0..0, protocols.iter().map(|number| Part::Protocol(*number)));
            }
            return vec![parts];
        }
        let mut rules = Vec::new();
        for protocol in protocols {
            for port in &self.ports {
                for end in [Part::SourcePort(*port), Part::DestinationPort(*port)] {
                    rules.push(vec![
                        Part::Protocol(*protocol),
                        end,
                        Part::Count,
                        Part::Drop,
                    ]);
                }
            }
        }
        rules
    }

    /// Rules that no packet has met have not landed: waits for one, and sends one where that is possible.
    fn effect(&self, target: &Target, undo: &Undo) -> Observation {
        let Undo::DeleteTable {
            table,
            namespace: path,
            namespace_inode,
            ..
        } = undo
        else {
            return presence(undo);
        };
        let there = presence(undo);
        if there.presence != Presence::Present {
            return there;
        }
        let measured = (|| {
            let Some(path) = namespace::find(path.as_deref(), *namespace_inode)? else {
                return Ok(Counted::default());
            };
            namespace::inside(Some(&path), || self.count(table))
        })();
        let (presence, evidence) = match measured {
            Err(error) => (
                Presence::Unknown,
                format!("{}; its counters: {error}", there.evidence),
            ),
            Ok(counted) if counted.packets == 0 => (
                Presence::Unknown,
                format!(
                    "{} with {} rules in {target:?}, but no packet has met them within {} s",
                    there.evidence,
                    counted.rules,
                    EFFECT.as_secs()
                ),
            ),
            Ok(counted) => (
                Presence::Present,
                format!(
                    "{} with {} rules; {} packets ({} bytes) dropped",
                    there.evidence, counted.rules, counted.packets, counted.bytes
                ),
            ),
        };
        Observation {
            presence,
            source: "kernel state, counter".to_owned(),
            evidence,
        }
    }

    fn count(&self, table: &str) -> io::Result<Counted> {
        let deadline = Instant::now() + EFFECT;
        let mut probed = false;
        loop {
            let counted = nftables::counted(nftables::INET, table)?;
            if counted.packets > 0 || Instant::now() >= deadline {
                return Ok(counted);
            }
            if !probed {
                self.probe();
                probed = true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends one packet that the rules must drop. That it fails is what is wanted, so its result says nothing; the counter does.
    fn probe(&self) {
        let port = self.ports.first().copied().unwrap_or(DISCARD);
        let address = match self.peers.first() {
            Some(peer) if peer.prefix > 0 => peer.address,
            Some(Network {
                address: IpAddr::V6(_),
                ..
            }) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let to = SocketAddr::new(address, port);
        if self.protocol == Some(Protocol::Tcp) {
            drop(TcpStream::connect_timeout(&to, Duration::from_millis(20)));
            return;
        }
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        drop(UdpSocket::bind(any).and_then(|socket| socket.send_to(b"squall", to)));
    }
}

/// The namespace a target names (`None`: our own).
fn place(target: &Target) -> Result<Option<PathBuf>, FaultError> {
    match target {
        Target::Host => Ok(None),
        Target::Namespace { path } => Ok(Some(named(path))),
        other => Err(FaultError::Target {
            target: format!("{other:?}"),
            because: "it is neither a network namespace nor the host".to_owned(),
        }),
    }
}

/// A bare name is one of `ip netns`.
fn named(path: &Path) -> PathBuf {
    if path.components().count() == 1 && !path.is_absolute() {
        return Path::new("/run/netns").join(path);
    }
    path.to_owned()
}

fn failed<'a>(action: &'a str, target: &'a Target) -> impl FnOnce(io::Error) -> FaultError + 'a {
    move |source| FaultError::Os {
        action: action.to_owned(),
        object: format!("{target:?}"),
        source,
    }
}
