//! The kernel's own way: filters lead packets through an intermediate interface whose qdisc (netem, or tbf) delays or loses them.
//!
//! The root qdisc of an interface is never touched: filters hang at `clsact`, and where somebody else has put one there, packets are queued
//! to user space instead. Filters cannot tell forwarded packets from the namespace's own, so a namespace that forwards is left to the queue too.

mod shapes;

use super::Treatment;
use super::ssh::Session;
use super::traffic::{Direction, EFFECT, Protocol, Traffic};
use crate::fault::{Door, FaultError};
use crate::network::Network;
use crate::sys::module::{self, Module};
use crate::sys::namespace::{self, Namespace};
use crate::sys::private;
use crate::sys::raw::OWN_MARK;
use crate::sys::traffic_control::{self as tc, Filter, Match, Qdisc, Route, Side};
use crate::undo::{Undo, presence};
use shapes::{INNER, OUTER, shapes};
use squall_model::event::{Observation, Presence};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The most interfaces, and the most filters on one side of one: beyond, the queue does with fewer rules.
const LINKS_MAX: usize = 4;
const FILTERS_MAX: usize = 512;

/// Whether this kernel can do it, found out without loading anything: a thread asks in a network namespace of its own.
pub(crate) fn is_known() -> bool {
    let parts = [
        ("sch_netem", "netem_enqueue"),
        ("sch_tbf", "tbf_enqueue"),
        ("sch_ingress", "clsact_init"),
        ("cls_flower", "fl_classify"),
        ("cls_fw", "fw_classify"),
        ("act_mirred", "mirred_init_module"),
        ("ifb", "ifb_xmit"),
    ];
    let states = parts.map(|(name, symbol)| module::find(name, symbol));
    if states.contains(&Module::Absent) || !crate::sys::nftables::may_change() {
        return false;
    }
    states.contains(&Module::Loadable) || rehearse().is_ok()
}

/// Makes one of each in a namespace that ends with it; a kernel that could goes on to be able to.
fn rehearse() -> io::Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    private::inside_new(|| {
        let route = Route::open()?;
        let ifb = route.make_ifb("sqrehearsal")?;
        for shape in shapes(&Treatment::Loss { chance: 0.5 }, 1500, 1).unwrap_or_default() {
            route.make_qdisc(ifb, shape.0, shape.1, &shape.2)?;
        }
        let filters = [
            Filter::Marked(OWN_MARK),
            Filter::Spare(Match::default()),
            Filter::Lead(Match::default(), ifb, "rehearsal".to_owned()),
        ];
        let filters: Vec<_> = tc::SIDES
            .iter()
            .flat_map(|side| filters.clone().map(|filter| (*side, filter)))
            .collect();
        route.make_filters(1, &filters)
    })?;
    DONE.get_or_init(|| ());
    Ok(())
}

/// Whether the kernel's qdiscs do exactly this. Not those that count no copy, turn bits of any head, or know no packet that waits for others.
pub(crate) fn does(treatment: &Treatment) -> bool {
    shapes(treatment, 1500, 0).is_some()
}

/// One interface with the filters that it gets.
#[derive(Debug)]
pub(crate) struct Place {
    link: tc::Link,
    filters: Vec<(Side, Meant)>,
}

/// A filter before its interface is known.
#[derive(Debug, Clone)]
enum Meant {
    Spare(Filter),
    Lead(Match),
}

/// Where filters go, or why the queue has to do it. Inside the namespace.
pub(crate) fn places(
    traffic: &Traffic,
    networks: &[Network],
    spared: &[Session],
) -> io::Result<Result<Vec<Place>, String>> {
    if let Err(error) = rehearse() {
        return Ok(Err(format!("the kernel has no netem for it: {error}")));
    }
    let route = Route::open()?;
    let (addressed, qdiscs) = (route.addressed()?, route.qdiscs()?);
    let mut links = route.links()?;
    if forwards(&links) {
        return Ok(Err("the namespace forwards packets of others".to_owned()));
    }
    links.retain(|link| link.is_up && addressed.contains(&link.index));
    if links.is_empty() || links.len() > LINKS_MAX {
        return Ok(Err(format!(
            "it has {} interfaces with addresses, not 1 to {LINKS_MAX}",
            links.len()
        )));
    }
    if let Some(taken) = links.iter().find(|link| tc::has_place(&qdiscs, link.index)) {
        return Ok(Err(format!("{} has filters of others", taken.name)));
    }
    let mut filters = Vec::new();
    for (way, side) in [
        (Direction::In, Side::Ingress),
        (Direction::Out, Side::Egress),
    ] {
        if traffic.direction != way && traffic.direction != Direction::Both {
            continue;
        }
        let leading = matches(traffic, networks, way);
        if leading.len() > FILTERS_MAX {
            return Ok(Err(format!("{} filters would be needed", leading.len())));
        }
        filters.push((side, Meant::Spare(Filter::Marked(OWN_MARK))));
        let spare = |one: &Session| Meant::Spare(Filter::Spare(session(one, way)));
        filters.extend(spared.iter().map(|one| (side, spare(one))));
        filters.extend(leading.into_iter().map(|one| (side, Meant::Lead(one))));
    }
    let place = |link| Place {
        link,
        filters: filters.clone(),
    };
    Ok(Ok(links.into_iter().map(place).collect()))
}

/// Whether the namespace of this thread passes packets on: it may, and has two interfaces to do it between. That it may alone says nothing:
/// where the host does, as for containers, each new namespace begins so.
pub(super) fn forwards(links: &[tc::Link]) -> bool {
    let is_between = |link: &&tc::Link| link.is_up && link.hardware != tc::LOOPBACK;
    links.iter().filter(is_between).count() > 1 && may_forward()
}

fn may_forward() -> bool {
    ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
        .iter()
        .any(|name| {
            let value = std::fs::read_to_string(Path::new("/proc/sys/net").join(name));
            value.is_ok_and(|value| value.trim() != "0")
        })
}

fn session(one: &Session, way: Direction) -> Match {
    let (from, to) = if way == Direction::In {
        (one.remote, one.local)
    } else {
        (one.local, one.remote)
    };
    let whole = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
    Match {
        from: Some(whole(from.ip())),
        to: Some(whole(to.ip())),
        protocol: Some(6),
        source_port: Some(from.port()),
        destination_port: Some(to.port()),
        ..Match::default()
    }
}

/// Everything that is meant: each peer with each port at each end.
fn matches(traffic: &Traffic, networks: &[Network], way: Direction) -> Vec<Match> {
    let peers: Vec<Match> = if networks.is_empty() {
        [false, true]
            .map(|is_v6| Match {
                is_v6,
                ..Match::default()
            })
            .to_vec()
    } else {
        let peer = |network: &Network| {
            let peer = Some((network.address, network.prefix));
            match way {
                Direction::In => Match {
                    from: peer,
                    ..Match::default()
                },
                _ => Match {
                    to: peer,
                    ..Match::default()
                },
            }
        };
        networks.iter().map(peer).collect()
    };
    let protocols: &[u8] = match traffic.protocol {
        Some(Protocol::Tcp) => &[6],
        Some(Protocol::Udp) => &[17],
        None => &[6, 17],
    };
    let mut found = Vec::new();
    for peer in peers {
        if traffic.ports.is_empty() {
            let protocol = traffic.protocol.and(protocols.first().copied());
            found.push(Match { protocol, ..peer });
            continue;
        }
        for protocol in protocols {
            let one = Match {
                protocol: Some(*protocol),
                ..peer
            };
            for port in &traffic.ports {
                found.push(Match {
                    source_port: Some(*port),
                    ..one
                });
                found.push(Match {
                    destination_port: Some(*port),
                    ..one
                });
            }
        }
    }
    found
}

/// Makes an intermediate interface for each interface, and the filters that lead through it.
pub(crate) fn inject(
    place: &Namespace,
    places: &[Place],
    treatment: &Treatment,
    traffic: &Traffic,
    networks: &[Network],
    host: &mut dyn Door,
) -> Result<(), FaultError> {
    let id = host.injection().0.clone();
    let cookie = format!("squall_{id}");
    let seed = (host.draw("packets") * (1u64 << 53) as f64) as u64;
    traffic.remember(&cookie, networks);
    let (namespace, namespace_inode) = (place.path().map(Path::to_owned), Some(place.inode()));
    for (number, one) in places.iter().enumerate() {
        let name = format!("sq{id}{number}");
        let undo = Undo::DeleteLink {
            name: name.clone(),
            kind: "ifb".to_owned(),
            namespace: namespace.clone(),
            namespace_inode,
        };
        let shapes = shapes(treatment, one.link.mtu, seed).unwrap_or_default();
        let mut ifb = 0;
        host.change(
            undo,
            &format!("make the interface {name} with its qdisc"),
            &mut || {
                ifb = place.inside(|| {
                    let route = Route::open()?;
                    let index = route.make_ifb(&name)?;
                    for (handle, below, shape) in &shapes {
                        route.make_qdisc(index, *handle, *below, shape)?;
                    }
                    route.bring_up(index).map(|()| index)
                })?;
                Ok(())
            },
        )?;
        let undo = Undo::DeleteFilters {
            device: one.link.name.clone(),
            index: one.link.index,
            cookie: cookie.clone(),
            namespace: namespace.clone(),
            namespace_inode,
        };
        let filters: Vec<_> = one
            .filters
            .iter()
            .map(|(side, meant)| match meant {
                Meant::Spare(filter) => (*side, filter.clone()),
                Meant::Lead(wanted) => (*side, Filter::Lead(*wanted, ifb, cookie.clone())),
            })
            .collect();
        let action = format!("lead packets at {} through {name}", one.link.name);
        host.change(undo, &action, &mut || {
            place.inside(|| Route::open()?.make_filters(one.link.index, &filters))
        })?;
    }
    Ok(())
}

/// Whether these are the changes of this mechanism.
pub(crate) fn is_used(changes: &[Undo]) -> bool {
    changes
        .iter()
        .any(|undo| matches!(undo, Undo::DeleteFilters { .. }))
}

/// What the qdiscs of an injection have counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    qdiscs: usize,
    packets: u64,
    waiting: u64,
    drops: u64,
}

impl Counted {
    fn of(qdiscs: &[Qdisc], links: &[u32]) -> Counted {
        let mut sum = Counted::default();
        for link in links {
            // The innermost decides; what it drops is counted there and above.
            let ours = qdiscs
                .iter()
                .filter(|one| one.index == *link && one.handle & 0xffff == 0);
            let inner = ours.filter(|one| one.handle == OUTER || one.handle == INNER);
            let Some(inner) = inner.max_by_key(|one| one.handle) else {
                continue;
            };
            sum.qdiscs += 1;
            sum.packets += inner.packets;
            sum.waiting += inner.waiting;
            sum.drops += inner.drops;
        }
        sum
    }

    /// Whether the treatment has acted on a packet.
    fn has_acted(&self, treatment: &Treatment) -> bool {
        match treatment {
            Treatment::Loss { .. } | Treatment::Bursts { .. } => self.drops > 0,
            _ => self.packets + self.waiting + self.drops > 0,
        }
    }
}

/// Whether filters and qdiscs are there and have acted on a packet. Sends some.
pub(crate) fn observe(
    changes: &[Undo],
    traffic: &Traffic,
    treatment: &Treatment,
) -> Vec<Observation> {
    let mut links = Vec::new();
    for undo in changes {
        let there = presence(undo);
        if there.presence != Presence::Present {
            return vec![there];
        }
        if let Undo::DeleteLink { name, .. } = undo {
            links.push(name.as_str());
        }
    }
    let (presence, words) = match met(changes, &links, traffic, treatment) {
        Err(error) => (
            Presence::Unknown,
            format!("what came through is unknown: {error}"),
        ),
        Ok(counted) => {
            let words = format!(
                "{} packets passed, {} dropped, {} wait",
                counted.packets, counted.drops, counted.waiting
            );
            if counted.has_acted(treatment) {
                (Presence::Present, words)
            } else {
                let within = EFFECT.as_secs();
                (
                    Presence::Unknown,
                    format!("the fault has acted on no packet within {within} s: {words}"),
                )
            }
        }
    };
    let kind = if matches!(treatment, Treatment::Rate { .. }) {
        "tbf"
    } else {
        "netem"
    };
    vec![Observation {
        presence,
        source: "kernel state, counter".to_owned(),
        evidence: format!(
            "filters lead packets through {kind} at {}; {words}",
            links.join(", ")
        ),
    }]
}

fn met(
    changes: &[Undo],
    links: &[&str],
    traffic: &Traffic,
    treatment: &Treatment,
) -> io::Result<Counted> {
    let filters = changes.iter().find_map(|undo| match undo {
        Undo::DeleteFilters {
            cookie,
            namespace,
            namespace_inode,
            ..
        } => Some((cookie, namespace, *namespace_inode)),
        _ => None,
    });
    let (cookie, path, inode) = filters.ok_or_else(|| io::Error::other("there are no filters"))?;
    let gone = || io::Error::other("the network namespace is gone");
    let place = namespace::find_open(path.as_deref(), inode)?.ok_or_else(gone)?;
    let deadline = Instant::now() + EFFECT;
    place.inside(|| {
        let addresses = traffic.probed(cookie);
        let route = Route::open()?;
        let found = route
            .links()?
            .into_iter()
            .filter(|link| links.contains(&link.name.as_str()));
        let indexes: Vec<u32> = found.map(|link| link.index).collect();
        let mut is_first = true;
        loop {
            let counted = Counted::of(&route.qdiscs()?, &indexes);
            if counted.has_acted(treatment) || Instant::now() >= deadline {
                return Ok(counted);
            }
            traffic.probe_once(&addresses, is_first);
            is_first = false;
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_do_exactly_is_left_to_the_queue() {
        assert!(does(&Treatment::Loss { chance: 0.5 }));
        let wide = Treatment::Rate {
            bytes_per_second: u64::MAX,
            burst: u64::MAX,
            at_most_ns: u64::MAX,
        };
        assert!(does(&wide));
        assert!(!does(&Treatment::Duplicate { chance: 0.5 }));
    }

    #[test]
    fn ports_without_peers_are_looked_for_in_both_families_protocols_and_ends() {
        let traffic = Traffic {
            ports: vec![80],
            ..Traffic::default()
        };
        assert_eq!(matches(&traffic, &[], Direction::In).len(), 8);
        let one: Network = "10.0.0.7".parse().unwrap();
        let found = matches(&Traffic::default(), &[one], Direction::Out);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to, Some((one.address, 32)));
    }

    #[test]
    fn only_a_drop_shows_that_a_loss_has_acted() {
        let qdisc = |handle, packets, drops| Qdisc {
            index: 7,
            handle,
            packets,
            drops,
            ..Qdisc::default()
        };
        let counted = Counted::of(&[qdisc(OUTER, 9, 3), qdisc(INNER, 9, 0)], &[7]);
        assert_eq!((counted.packets, counted.drops, counted.qdiscs), (9, 0, 1));
        assert!(!counted.has_acted(&Treatment::Loss { chance: 0.1 }));
        assert_eq!(Counted::of(&[qdisc(OUTER, 9, 3)], &[8]), Counted::default());
    }
}
