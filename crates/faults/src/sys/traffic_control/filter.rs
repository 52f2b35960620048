//! Filters: what they look at, what they do, and whose they are.

use super::{NEW, NEW_FILTER, Request, Side, tc_head};
use crate::sys::netlink::{Attributes, attributes};
use std::net::IpAddr;

/// Packets of any protocol, in network order.
const ALL: u16 = 3u16.to_be();
/// Stolen from where it was: it goes on elsewhere.
const STOLEN: u32 = 4;
/// Out of another interface.
const REDIRECT: u32 = 1;

/// What a filter looks at, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Match {
    /// Address and length of the prefix, of one family both.
    pub from: Option<(IpAddr, u8)>,
    pub to: Option<(IpAddr, u8)>,
    /// Where no address says the family.
    pub is_v6: bool,
    /// 6 or 17.
    pub protocol: Option<u8>,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
}

/// A filter: those with the smallest priority are asked first, and the first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Packets with this mark go on as they were.
    Marked(u32),
    /// They go on as they were.
    Spare(Match),
    /// They go through the interface of this index first; `cookie` (at most 16 bytes) says whose the filter is.
    Lead(Match, u32, String),
}

/// The priorities of ours, one for each kind of filter.
pub(super) const PRIORITIES: [u32; 3] = [0x5a00, 0x5a01, 0x5a02];

impl Filter {
    fn priority(&self) -> u32 {
        match self {
            Filter::Marked(_) => PRIORITIES[0],
            Filter::Spare(_) => PRIORITIES[1],
            Filter::Lead(..) => PRIORITIES[2],
        }
    }

    pub(super) fn request(&self, index: u32, side: Side) -> Request {
        let (handle, kind, options) = match self {
            Filter::Marked(mark) => (*mark, "fw", Attributes::new().host(5, u32::MAX)),
            Filter::Spare(wanted) => (0, "flower", wanted.keys()),
            Filter::Lead(wanted, to, cookie) => {
                (0, "flower", wanted.keys().nested(3, lead(*to, cookie)))
            }
        };
        Request {
            kind: NEW_FILTER,
            flags: NEW,
            head: tc_head(
                index,
                handle,
                side.parent(),
                self.priority() << 16 | u32::from(ALL),
            ),
            attributes: Attributes::new().text(1, kind).nested(2, options),
        }
    }
}

/// A list with one action.
fn lead(to: u32, cookie: &str) -> Attributes {
    // struct tc_mirred: index, capabilities, action, two counts, what to do, the interface.
    let words = [0, 0, STOLEN, 0, 0, REDIRECT, to];
    let parameters: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    let action = Attributes::new()
        .text(1, "mirred")
        .nested(2, Attributes::new().bytes(2, &parameters))
        .bytes(6, cookie.as_bytes());
    Attributes::new().nested(1, action)
}

impl Match {
    fn keys(&self) -> Attributes {
        let one = self.from.or(self.to);
        let is_v6 = one.map_or(self.is_v6, |(address, _)| address.is_ipv6());
        let family: u16 = if is_v6 { 0x86dd } else { 0x0800 };
        let mut keys = Attributes::new().short(8, family);
        // The numbers of the keys of a source and of a destination, for each family.
        for (network, v4, v6) in [(self.from, 10, 14), (self.to, 12, 16)] {
            let Some((address, prefix)) = network.filter(|(_, prefix)| *prefix > 0) else {
                continue;
            };
            keys = match address {
                IpAddr::V4(address) => {
                    let mask = u32::MAX << (32 - u32::from(prefix.min(32)));
                    keys.number(v4, address.to_bits() & mask)
                        .number(v4 + 1, mask)
                }
                IpAddr::V6(address) => {
                    let mask = u128::MAX << (128 - u32::from(prefix.min(128)));
                    keys.bytes(v6, &(address.to_bits() & mask).to_be_bytes())
                        .bytes(v6 + 1, &mask.to_be_bytes())
                }
            };
        }
        if let Some(protocol) = self.protocol {
            keys = keys.bytes(9, &[protocol]);
            let first = if protocol == 6 { 18 } else { 20 };
            for (port, key) in [
                (self.source_port, first),
                (self.destination_port, first + 1),
            ] {
                if let Some(port) = port {
                    keys = keys.short(key, port);
                }
            }
        }
        // Not in the card: it counts differently, and not every card can.
        keys.host(22, 1)
    }
}

/// Whether a filter has an action with this cookie.
pub(super) fn carries(body: &[u8], cookie: &str) -> bool {
    let within = |list: &[u8], wanted: u16| -> Vec<Vec<u8>> {
        attributes(list)
            .filter(|(kind, _)| *kind == wanted)
            .map(|(_, value)| value.to_vec())
            .collect()
    };
    let options = within(body.get(20..).unwrap_or_default(), 2);
    let actions = options.iter().flat_map(|options| within(options, 3));
    let each = actions.flat_map(|list| within(&list, 1));
    let mut cookies = each.flat_map(|action| within(&action, 6));
    cookies.any(|found| found == cookie.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_masked_and_a_prefix_of_none_is_no_address_at_all() {
        let keys = |wanted: Match| -> Vec<(u16, Vec<u8>)> {
            let keys = wanted.keys();
            let read = attributes(keys.as_bytes());
            read.map(|(kind, value)| (kind, value.to_vec())).collect()
        };
        let found = keys(Match {
            from: Some(("10.1.2.3".parse().unwrap(), 8)),
            protocol: Some(17),
            destination_port: Some(9),
            ..Match::default()
        });
        assert!(found.contains(&(8, vec![8, 0])) && found.contains(&(10, vec![10, 0, 0, 0])));
        assert!(found.contains(&(11, vec![255, 0, 0, 0])) && found.contains(&(21, vec![0, 9])));
        let found = keys(Match {
            to: Some(("::".parse().unwrap(), 0)),
            ..Match::default()
        });
        assert!(found.contains(&(8, vec![0x86, 0xdd])));
        assert!(
            found.iter().all(|(kind, _)| [8, 22].contains(kind)),
            "{found:?}"
        );
    }

    #[test]
    fn a_cookie_is_found_in_its_filter_and_in_no_other() {
        let filter = Filter::Lead(Match::default(), 7, "squall_abc".to_owned());
        let request = filter.request(1, Side::Ingress);
        let mut body = request.head;
        body.extend_from_slice(request.attributes.as_bytes());
        assert!(carries(&body, "squall_abc") && !carries(&body, "squall_abd"));
        assert!(!carries(&body[..40], "squall_abc") && !carries(&[], ""));
    }
}
