//! What the kernel tells of interfaces and qdiscs.

use super::{UP, word};
use crate::sys::netlink::{attributes, text};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// The kind of its packets' heads, in `arp.h`'s numbers: 1 is Ethernet, 772 the loopback.
    pub hardware: u16,
    /// What makes it, e.g. `ifb`; empty for real ones and the loopback.
    pub kind: String,
    pub is_up: bool,
    /// The longest packet, in bytes, without the head of the link.
    pub mtu: u32,
}

/// A qdisc with its counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Qdisc {
    pub index: u32,
    pub kind: String,
    pub handle: u32,
    pub parent: u32,
    pub packets: u64,
    pub drops: u64,
    pub waiting: u64,
}

pub(super) fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: word(body, 4)?,
        hardware: u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?),
        name: String::new(),
        kind: String::new(),
        is_up: word(body, 8)? & UP != 0,
        mtu: 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            3 => link.name = text(value),
            4 => link.mtu = word(value, 0)?,
            18 => {
                let kind = attributes(value).find(|(kind, _)| *kind == 1);
                link.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

pub(super) fn qdisc(body: &[u8]) -> Option<Qdisc> {
    let mut qdisc = Qdisc {
        index: word(body, 4)?,
        handle: word(body, 8)?,
        parent: word(body, 12)?,
        ..Qdisc::default()
    };
    for (kind, value) in attributes(body.get(20..)?) {
        match kind {
            1 => qdisc.kind = text(value),
            // Those of every kind, each in its own attribute.
            7 => {
                for (kind, value) in attributes(value) {
                    match kind {
                        1 => qdisc.packets = u64::from(word(value, 8)?),
                        3 => {
                            qdisc.waiting = u64::from(word(value, 0)?);
                            qdisc.drops = u64::from(word(value, 8)?);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(qdisc)
}
