//! Programs of our own at the TCX hook of each interface: they lose, double or change packets where they pass, at next to no cost.
//!
//! A served child holds them, and they go when it ends, however it ends. They see packets as the kernel carries them: forwarded ones too, so a
//! namespace that forwards is left to others, and TCP's large ones, which would meet one fate for all the packets they stand for on the wire.

mod assembler;
mod program;
mod scope;
pub(crate) mod server;
#[cfg(test)]
mod tests;

use super::Treatment;
use super::counts::Counts;
use super::netem;
use super::ssh::Session;
use super::traffic::{Direction, EFFECT, Protocol, Traffic};
use crate::cpu_pressure::child;
use crate::fault::{Door, FaultError};
use crate::network::Network;
use crate::sys::bpf;
use crate::sys::namespace::{self, Namespace};
use crate::sys::nftables::may_change;
use crate::sys::private;
use crate::sys::traffic_control::{LOOPBACK, Link, Route, SIDES, Side};
use crate::undo::{Undo, presence};
use scope::Scope;
use server::{Attached, Hook, Order};
use squall_model::event::{Observation, Presence};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The served child.
pub(crate) const SERVED: &str = "packet-hook";
/// The most interfaces.
const LINKS_MAX: usize = 16;
/// The most bits that are turned in a packet.
const BITS_MAX: u32 = 4;
/// A kind of heads, in `arp.h`'s numbers.
const ETHERNET: u16 = 1;
/// Tunnels whose packets begin with their IP header.
const BARE: [u16; 3] = [0xfffe, 768, 769];
/// The head of Ethernet.
const HEAD: u8 = 14;

/// Whether this kernel and this user can do it, found out in a network namespace of its own.
pub(crate) fn is_known() -> bool {
    may_change() && rehearse().is_ok()
}

/// Attaches a program to both sides of a loopback that ends with it, and finds it there; a kernel that could goes on to be able to.
fn rehearse() -> io::Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    let hooks = [true, false].map(|arriving| Hook {
        index: 1,
        arriving,
        head: HEAD,
        is_loopback: true,
    });
    let order = Order {
        namespace: None,
        namespace_inode: 0,
        name: "squall_try".to_owned(),
        hooks: hooks.to_vec(),
        scope: Scope::default(),
        seed: 1,
        counts: PathBuf::new(),
        treatment: Treatment::Duplicate { chance: 0.5 },
    };
    private::inside_new(|| {
        let _attached = Attached::new(&order)?;
        if where_hooked(&order.name)?.len() == hooks.len() {
            return Ok(());
        }
        Err(io::Error::other("a program was not found where it is"))
    })?;
    DONE.get_or_init(|| ());
    Ok(())
}

/// Whether programs do exactly this, at least for some packets. A checksum that is to be wrong is none of theirs: on a way within the host
/// nobody looks at it. The kernel's verifier gives up on a program that turns many bits.
pub(crate) fn does(treatment: &Treatment) -> bool {
    match treatment {
        Treatment::Loss { .. } | Treatment::Bursts { .. } | Treatment::Duplicate { .. } => true,
        Treatment::Corrupt { fits, bits, .. } => *fits && *bits <= BITS_MAX,
        _ => false,
    }
}

/// Where they do not.
pub(crate) fn where_not(treatment: &Treatment) -> &'static str {
    if matches!(treatment, Treatment::Corrupt { .. }) {
        "where the namespace forwards"
    } else {
        "where the namespace forwards, and for TCP at other interfaces than the loopback, whose large packets would meet one fate"
    }
}

/// Where programs go, or why others have to do it. Inside the namespace.
pub(crate) fn hooks(
    traffic: &Traffic,
    treatment: &Treatment,
) -> io::Result<Result<Vec<Hook>, String>> {
    if let Err(error) = rehearse() {
        return Ok(Err(format!("the kernel has no TCX hook for it: {error}")));
    }
    let route = Route::open()?;
    let addressed = route.addressed()?;
    let mut links = route.links()?;
    if netem::forwards(&links) {
        return Ok(Err("the namespace forwards packets of others".to_owned()));
    }
    links.retain(|link| link.is_up && addressed.contains(&link.index));
    Ok(places(&links, traffic, treatment))
}

fn places(links: &[Link], traffic: &Traffic, treatment: &Treatment) -> Result<Vec<Hook>, String> {
    if links.is_empty() || links.len() > LINKS_MAX {
        return Err(format!(
            "it has {} interfaces with addresses, not 1 to {LINKS_MAX}",
            links.len()
        ));
    }
    let by_segment = matches!(treatment, Treatment::Corrupt { .. });
    let is_whole = by_segment || traffic.protocol == Some(Protocol::Udp);
    let mut hooks = Vec::new();
    for link in links {
        // The loopback's packets are as long as large ones can be.
        if link.hardware != LOOPBACK && !is_whole {
            return Err(format!(
                "TCP comes through {} in large packets, each of which would meet one fate",
                link.name
            ));
        }
        let head = match link.hardware {
            ETHERNET | LOOPBACK => HEAD,
            other if BARE.contains(&other) => 0,
            other => return Err(format!("{} is of the kind {other}", link.name)),
        };
        for (way, arriving) in [(Direction::In, true), (Direction::Out, false)] {
            if traffic.direction == way || traffic.direction == Direction::Both {
                hooks.push(Hook {
                    index: link.index,
                    arriving,
                    head,
                    is_loopback: link.hardware == LOOPBACK,
                });
            }
        }
    }
    Ok(hooks)
}

/// The hooks of this thread's network namespace at which a program of this name is.
pub(crate) fn where_hooked(name: &str) -> io::Result<Vec<(Link, Side, bpf::Hooked)>> {
    let mut all = all_hooked()?;
    all.retain(|(_, _, one)| one.name == name);
    Ok(all)
}

/// Every program at a hook of this thread's network namespace.
pub(crate) fn all_hooked() -> io::Result<Vec<(Link, Side, bpf::Hooked)>> {
    let mut found = Vec::new();
    for link in Route::open()?.links()? {
        for side in SIDES {
            let there = match bpf::hooked(link.index, side) {
                // The interface is gone, and its programs with it.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                // The kernel has no such hook.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(Vec::new()),
                there => there?,
            };
            found.extend(there.into_iter().map(|one| (link.clone(), side, one)));
        }
    }
    Ok(found)
}

/// Has a served child attach the programs.
pub(crate) fn inject(
    place: &Namespace,
    hooks: Vec<Hook>,
    treatment: &Treatment,
    traffic: &Traffic,
    networks: &[Network],
    spared: &[Session],
    host: &mut dyn Door,
) -> Result<(), FaultError> {
    let name = format!("squall_{}", host.injection());
    let counts = super::make_counts(host)?;
    let seed = super::seed(host);
    let (namespace, namespace_inode) = (place.path().map(Path::to_owned), place.inode());
    let undo = Undo::DetachPrograms {
        name: name.clone(),
        namespace: namespace.clone(),
        namespace_inode: Some(namespace_inode),
    };
    let action = format!("let programs {name} be put at {} TCX hooks", hooks.len());
    traffic.remember(&name, networks);
    // The child does it, and only after this was written down.
    host.change(
        undo,
        &action,
        &mut || match place.inside(|| where_hooked(&name))?.first() {
            Some(_) => Err(io::Error::other("programs of this name are there already")),
            None => Ok(()),
        },
    )?;
    let order = Order {
        namespace,
        namespace_inode,
        name,
        hooks,
        scope: Scope::of(traffic, networks, spared),
        seed,
        counts,
        treatment: treatment.clone(),
    };
    let order = serde_json::to_value(order).unwrap_or_default();
    host.serve(SERVED, order, Duration::from_secs(5)).map(drop)
}

/// Whether these are the changes of this mechanism.
pub(crate) fn is_used(changes: &[Undo]) -> bool {
    changes
        .iter()
        .any(|undo| matches!(undo, Undo::DetachPrograms { .. }))
}

/// Whether programs are at their hooks, held by the child, and have acted on a packet. Sends some.
pub(crate) fn observe(changes: &[Undo], traffic: &Traffic) -> Vec<Observation> {
    let programs = changes.iter().find_map(|undo| match undo {
        Undo::DetachPrograms {
            name,
            namespace,
            namespace_inode,
        } => Some((undo, name, namespace.as_deref(), *namespace_inode)),
        _ => None,
    });
    let counts = changes.iter().find_map(|undo| match undo {
        Undo::Tally { path } => Some(path.as_path()),
        _ => None,
    });
    let (Some((undo, name, path, inode)), Some(counts)) = (programs, counts) else {
        return Vec::new();
    };
    let there = presence(undo);
    if there.presence != Presence::Present {
        return vec![there];
    }
    let Some(pid) = child(changes) else {
        return vec![crate::cpu_pressure::unseen()];
    };
    let (presence, words) = super::judged(met(name, path, inode, counts, traffic));
    vec![Observation {
        presence,
        source: "kernel state, counter".to_owned(),
        evidence: format!("{}, held by process {pid}; {words}", there.evidence),
    }]
}

/// Waits until a program has acted on a packet, and sends some.
fn met(
    name: &str,
    path: Option<&Path>,
    inode: Option<u64>,
    counts: &Path,
    traffic: &Traffic,
) -> io::Result<Counts> {
    let gone = || io::Error::other("the network namespace is gone");
    let place = namespace::find_open(path, inode)?.ok_or_else(gone)?;
    let deadline = Instant::now() + EFFECT;
    place.inside(|| {
        let addresses = traffic.probed(name);
        let mut is_first = true;
        loop {
            let read = Counts::read(counts)?;
            if read.treated() > 0 || Instant::now() >= deadline {
                return Ok(read);
            }
            traffic.probe_once(&addresses, is_first);
            is_first = false;
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}
