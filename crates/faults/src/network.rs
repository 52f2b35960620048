//! Addresses and networks as experiment files write them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::str::FromStr;

/// An address, or a network by its prefix: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Network, String> {
        let fail = |because: &str| {
            format!(
                "`{text}` is not an address or network, because {because}; write it like `10.0.0.7` or `fd00::/8`"
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| fail("its address cannot be read"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or_else(|| fail(&format!("its prefix is not between 0 and {most}")))?,
        };
        Ok(Network { address, prefix })
    }
}

impl Network {
    /// Whether the address is one of its.
    pub fn holds(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((ours, length), (theirs, other)) = (bits(self.address), bits(address));
        let shift = 128 - u32::from(self.prefix);
        length == other && (ours ^ theirs).checked_shr(shift).unwrap_or(0) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The other side: an address, a network, or a host's name that is looked up at each injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Network(Network),
    Name(String),
}

impl FromStr for Peer {
    type Err = String;
    fn from_str(text: &str) -> Result<Peer, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let begins_as_name = text.starts_with(|first: char| first.is_ascii_alphabetic());
        if begins_as_name && text.len() <= 253 && text.bytes().all(is_name) {
            return Ok(Peer::Name(text.to_owned()));
        }
        text.parse().map(Peer::Network)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Network(network) => network.fmt(f),
            Peer::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Peer, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Peer {
    /// Its networks now.
    pub fn networks(&self) -> std::io::Result<Vec<Network>> {
        let name = match self {
            Peer::Network(network) => return Ok(vec![*network]),
            Peer::Name(name) => name,
        };
        let mut found: Vec<Network> = Vec::new();
        for address in (name.as_str(), 0).to_socket_addrs()? {
            let address = address.ip();
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            let network = Network { address, prefix };
            if !found.contains(&network) {
                found.push(network);
            }
        }
        Ok(found)
    }
}

impl JsonSchema for Peer {
    fn schema_name() -> Cow<'static, str> {
        "Peer".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([0-9a-fA-F.:]+(/[0-9]{1,3})?|[A-Za-z][A-Za-z0-9._-]*)$",
            "examples": ["10.0.0.7", "fd00::/8", "db.example.org"],
            "description": "An IPv4 or IPv6 address, a network by its prefix, or a host's name, looked up at each injection."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let holds = |network: &str, address: &str| {
            let network: Network = network.parse().unwrap();
            network.holds(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.1.2.3") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.7", "10.0.0.7") && !holds("10.0.0.7", "10.0.0.6"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
    }

    #[test]
    fn addresses_networks_and_names_are_told_apart() {
        for text in ["10.0.0.7", "10.0.0.0/8", "::1", "fd00::/8"] {
            let peer: Peer = text.parse().unwrap();
            assert!(matches!(peer, Peer::Network(_)), "{text}");
            assert_eq!(peer.to_string(), text);
        }
        for text in ["db", "node-1.example.org", "localhost"] {
            let peer: Peer = text.parse().unwrap();
            assert_eq!(peer, Peer::Name(text.to_owned()));
        }
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "a host",
            "-x",
            "1host",
        ] {
            assert!(text.parse::<Peer>().is_err(), "{text}");
        }
        let found = "localhost".parse::<Peer>().unwrap().networks().unwrap();
        assert!(
            found.iter().all(|one| one.address.is_loopback()) && !found.is_empty(),
            "{found:?}"
        );
    }
}
