//! `network-partition`: packets to and from given peers or ports are lost, as behind a dead switch or a wrong firewall rule.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::network::Peer;
use crate::packet::traffic::{EFFECT, Traffic, found};
use crate::packet::{self, ssh};
use crate::sys::namespace;
use crate::sys::nftables::{self, Counted, Part};
use crate::undo::{Undo, presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use std::path::Path;

pub use crate::packet::traffic::{Direction, Protocol};

/// Drops packets to and from peers and ports, by an nftables table of its own.
///
/// Aimed at `workload`, it acts in the network namespace that the owned workload is then started in: between its processes, over loopback,
/// and never on the host. Nothing outside that namespace can reach the workload, probes by `http` and `tcp` included.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NetworkPartition {
    /// The other side: IPv4 and IPv6 addresses, networks, or hosts' names, at most 64. Every peer unless said; then `ports` must be.
    pub peers: Vec<Peer>,
    /// TCP and UDP ports, at most 64, at either end of a connection. Every port unless said; then `peers` must be.
    pub ports: Vec<u16>,
    /// Only this transport protocol. All of them unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Which packets are lost. Both ways unless said.
    pub direction: Direction,
}

impl FaultKind for NetworkPartition {
    const INFO: KindInfo = KindInfo {
        kind: "network-partition",
        summary: "Packets to and from given peers or ports are lost.",
        class: Class::Lasting,
        layer: "the kernel's packet filter, before connection tracking; sockets see silence and retransmit, senders on this host may see EPERM on a datagram",
        requires: "nf_tables in the kernel, and CAP_NET_ADMIN in the network namespace",
        after_kill: "the next `squall undo`; a network namespace that ends takes the rules with it",
        targets: &[
            "workload",
            "namespace",
            "container",
            "container-label",
            "host",
        ],
        example: "network-partition: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, peers: [10.0.0.0/8, \"fd00::/8\"], ports: [29500]}",
    };
}

impl Fault for NetworkPartition {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        packet::unmet_rules(target, facts)
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
        let place = found(target)?;
        let networks = self.traffic().networks()?;
        let spared = place
            .inside(ssh::sessions)
            .map_err(|source| FaultError::Os {
                action: "find SSH sessions".to_owned(),
                object: format!("{target:?}"),
                source,
            })?;
        let table = format!("squall_{}", host.injection());
        let undo = Undo::DeleteTable {
            family: "inet".to_owned(),
            table: table.clone(),
            namespace: place.path().map(Path::to_owned),
            namespace_inode: Some(place.inode()),
        };
        let messages = self
            .traffic()
            .table(&table, &networks, &spared, &[Part::Drop]);
        self.traffic().remember(&table, &networks);
        host.change(
            undo,
            &format!("make the nftables table {table}"),
            &mut || place.inside(|| nftables::transact(&messages)),
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
        self.traffic().problems(false)
    }
}

impl NetworkPartition {
    fn traffic(&self) -> Traffic {
        Traffic {
            peers: self.peers.clone(),
            ports: self.ports.clone(),
            protocol: self.protocol,
            direction: self.direction,
        }
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
            let Some(place) = namespace::find_open(path.as_deref(), *namespace_inode)? else {
                return Ok(Counted::default());
            };
            place.inside(|| {
                let traffic = self.traffic();
                traffic.count(table, &traffic.probed(table))
            })
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
}
