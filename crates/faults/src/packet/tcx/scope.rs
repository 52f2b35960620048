//! Which packets are meant, as numbers: what programs are made from.

use crate::network::Network;
use crate::packet::ssh::Session;
use crate::packet::traffic::{Protocol, Traffic};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The packets between a target and its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Scope {
    /// Addresses with the lengths of their prefixes; none: every peer.
    pub networks: Vec<(IpAddr, u8)>,
    /// At either end; none: every port.
    pub ports: Vec<u16>,
    /// The number of the transport protocol.
    pub protocol: Option<u8>,
    /// Connections whose packets go on: the target's end first.
    pub spared: Vec<(SocketAddr, SocketAddr)>,
}

impl Scope {
    pub(super) fn of(traffic: &Traffic, networks: &[Network], spared: &[Session]) -> Scope {
        Scope {
            networks: networks
                .iter()
                .map(|one| (one.address, one.prefix))
                .collect(),
            ports: traffic.ports.clone(),
            protocol: traffic.protocol.map(|protocol| match protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
            }),
            spared: spared.iter().map(|one| (one.local, one.remote)).collect(),
        }
    }
}
