//! Faults on packets: a queue that a served child reads, and the rules that lead packets to it.
//!
//! First the table is made, which lets everything pass while nobody reads the queue; then the child takes the queue. The way back is the
//! reverse: the child lets go what waits and ends, then the table goes. Each fault is one file; what they share is here.

mod alter;
pub mod counts;
pub mod decide;
pub mod dns;
pub(crate) mod netem;
pub mod server;
pub mod ssh;
pub mod tcp;
pub(crate) mod tcx;
pub mod traffic;

pub use decide::Treatment;

use crate::cpu_pressure::child;
use crate::fault::{Door, FaultError, Target, Unmet};
use crate::kind::HostFacts;
use crate::sys::nftables::{self, Part};
use crate::sys::{namespace, queue};
use crate::undo::{Undo, presence};
use counts::Counts;
use server::Order;
use squall_model::event::{Observation, Presence};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic::{EFFECT, PROBES, Traffic, found};

/// The served child of all of them.
pub const SERVED: &str = "packet-queue";
/// Queue numbers from here on are taken, by the injection's id: low ones are what people write by hand.
const FIRST_QUEUE: u16 = 0x5a00;

/// What the host lacks for rules of our own.
pub(crate) fn unmet_rules(target: &Target, facts: &HostFacts) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    if !facts.nftables {
        unmet.push(Unmet {
            what: "nf_tables in the kernel, answering this user".to_owned(),
            remedy: "run as root; load it with `modprobe nf_tables`".to_owned(),
        });
    }
    unmet.extend(unmet_rights(target, facts));
    unmet
}

/// What is missing to act on the network of the target at all.
pub(crate) fn unmet_rights(target: &Target, facts: &HostFacts) -> Vec<Unmet> {
    let mut unmet = Vec::new();
    if !facts.net_admin {
        unmet.push(Unmet {
            what: "CAP_NET_ADMIN in the network namespace".to_owned(),
            remedy: "run as root".to_owned(),
        });
    }
    if let Err(error) = found(target) {
        unmet.push(Unmet {
            what: error.to_string(),
            remedy: "name a namespace that `ip netns` shows, or a running container".to_owned(),
        });
    }
    unmet
}

/// What is missing to make packets of our own.
pub(crate) fn unmet_raw(facts: &HostFacts) -> Option<Unmet> {
    (!facts.net_raw).then(|| Unmet {
        what: "CAP_NET_RAW in the network namespace".to_owned(),
        remedy: "run as root".to_owned(),
    })
}

/// What the host lacks for a queue.
pub(crate) fn unmet(target: &Target, facts: &HostFacts, treatment: &Treatment) -> Vec<Unmet> {
    let is_done_without =
        (facts.netem && netem::does(treatment)) || (facts.tcx && tcx::does(treatment));
    if is_done_without && facts.sys_admin && facts.packet_queue.is_none() {
        return unmet_rights(target, facts);
    }
    let mut unmet = unmet_rules(target, facts);
    if matches!(
        treatment,
        Treatment::Duplicate { .. } | Treatment::Queries { .. }
    ) {
        unmet.extend(unmet_raw(facts));
    }
    if facts.packet_queue.is_none() {
        unmet.push(Unmet {
            what: "netfilter queues: nfnetlink_queue with the nftables expression `queue` or the xtables target NFQUEUE"
                .to_owned(),
            remedy: "run as root; load them with `modprobe nfnetlink_queue nft_queue`".to_owned(),
        });
    }
    unmet
}

/// How packets are treated. Where there are several ways, the namespace decides at the injection, and the landing says which it was.
pub(crate) fn mechanism(facts: &HostFacts, treatment: &Treatment) -> String {
    let queue = facts.packet_queue.map(|rule| {
        format!("packets are queued to user space ({rule}) and given their verdict there")
    });
    let kernel = (facts.netem && netem::does(treatment)).then(|| {
        let kind = match treatment {
            Treatment::Rate { .. } => "tbf",
            _ => "netem",
        };
        format!("filters of traffic control lead packets through {kind} at an interface of its own")
    });
    let others = match (kernel, queue) {
        (Some(kernel), Some(queue)) => Some(format!(
            "{kernel}; where the namespace forwards or an interface has filters of others, {queue}"
        )),
        (kernel, queue) => kernel.or(queue),
    };
    if !facts.tcx || !tcx::does(treatment) {
        return others.unwrap_or_else(|| "no rule leads packets anywhere".to_owned());
    }
    let programs = "eBPF programs of its own at the TCX hook of each interface, which go with the process that holds them";
    match others {
        Some(others) => format!("{programs}; {}, {others}", tcx::where_not(treatment)),
        None => programs.to_owned(),
    }
}

/// By programs at the interfaces' hooks, else by the kernel's own qdiscs, where they do exactly this here, else by a queue.
pub(crate) fn inject(
    target: &Target,
    host: &mut dyn Door,
    traffic: &Traffic,
    treatment: Treatment,
) -> Result<(), FaultError> {
    if let Some(problem) = traffic.problems(true).into_iter().next() {
        return Err(FaultError::Limit {
            action: "queue packets".to_owned(),
            because: problem.message,
        });
    }
    let place = found(target)?;
    let networks = traffic.networks()?;
    let os = |action: &str, source: io::Error| FaultError::Os {
        action: action.to_owned(),
        object: format!("{target:?}"),
        source,
    };
    let looked = |error| os("look at the interfaces", error);
    let mut instead = Vec::new();
    if tcx::does(&treatment) {
        let found = place.inside(|| Ok((tcx::hooks(traffic, &treatment)?, ssh::sessions()?)));
        match found.map_err(looked)? {
            (Ok(hooks), spared) => {
                return tcx::inject(&place, hooks, &treatment, traffic, &networks, &spared, host);
            }
            (Err(because), _) => instead.push(because),
        }
    }
    if netem::does(&treatment) {
        let found = place.inside(|| netem::places(traffic, &networks, &ssh::sessions()?));
        match found.map_err(looked)? {
            Ok(places) => {
                return netem::inject(&place, &places, &treatment, traffic, &networks, host);
            }
            Err(because) => instead.push(because),
        }
    }
    let instead = match instead.is_empty() {
        true => String::new(),
        false => format!(", as {}", instead.join(", and ")),
    };
    let wish = host.draw("queue number");
    let (rule, number, spared) = place
        .inside(|| {
            let rule = nftables::queue_rule()
                .ok_or_else(|| io::Error::other("the kernel knows no rule that queues packets"))?;
            Ok((rule, free_number(wish)?, ssh::sessions()?))
        })
        .map_err(|error| os("prepare a queue", error))?;
    let counts = make_counts(host)?;
    let table = format!("squall_{}", host.injection());
    let seed = seed(host);
    let undo = Undo::DeleteTable {
        family: "inet".to_owned(),
        table: table.clone(),
        namespace: place.path().map(Path::to_owned),
        namespace_inode: Some(place.inode()),
    };
    let messages = traffic.table(&table, &networks, &spared, &[Part::Queue(number, rule)]);
    traffic.remember(&table, &networks);
    let action = format!("make the nftables table {table} that leads to queue {number}{instead}");
    host.change(undo, &action, &mut || {
        place.inside(|| nftables::transact(&messages))
    })?;
    let order = Order {
        namespace: place.path().map(Path::to_owned),
        namespace_inode: place.inode(),
        queue: number,
        seed,
        counts,
        treatment,
    };
    let order = serde_json::to_value(order).unwrap_or_default();
    host.serve(SERVED, order, Duration::from_secs(5)).map(drop)
}

/// What the draws of an injection begin with.
fn seed(host: &dyn Door) -> u64 {
    (host.draw("packets") * (1u64 << 53) as f64) as u64
}

/// Makes the file that the served child counts in.
fn make_counts(host: &mut dyn Door) -> Result<PathBuf, FaultError> {
    let counts = host.backup_dir()?.join("counts");
    let tally = Undo::Tally {
        path: counts.clone(),
    };
    host.change(tally, "make the file of counts", &mut || {
        // Its room on the disk is taken before any packet is met.
        let file = std::fs::File::create(&counts)?;
        Counts::default().write(&file)?;
        file.sync_all()
    })?;
    Ok(counts)
}

/// A number that no queue of this network namespace has.
fn free_number(wish: f64) -> io::Result<u16> {
    let taken = queue::taken()?;
    let first = FIRST_QUEUE + (wish * f64::from(0x7fff - FIRST_QUEUE)) as u16;
    (first..0x8000)
        .chain(FIRST_QUEUE..first)
        .find(|number| !taken.contains(number))
        .ok_or_else(|| io::Error::other("every queue number is taken"))
}

/// Whether the table is there, the child reads the queue, and the fault has acted on a packet.
pub(crate) fn observe(
    changes: &[Undo],
    traffic: &Traffic,
    treatment: &Treatment,
) -> Vec<Observation> {
    if netem::is_used(changes) {
        return netem::observe(changes, traffic, treatment);
    }
    if tcx::is_used(changes) {
        return tcx::observe(changes, traffic);
    }
    let table = changes.iter().find_map(|undo| match undo {
        Undo::DeleteTable { table, .. } => Some((undo, table)),
        _ => None,
    });
    let counts = changes.iter().find_map(|undo| match undo {
        Undo::Tally { path } => Some(path.as_path()),
        _ => None,
    });
    let (Some((undo, table)), Some(counts)) = (table, counts) else {
        return Vec::new();
    };
    let there = presence(undo);
    if there.presence != Presence::Present {
        return vec![there];
    }
    let Some(pid) = child(changes) else {
        return vec![crate::cpu_pressure::unseen()];
    };
    let (presence, words) = judged(met(undo, table, counts, traffic));
    vec![Observation {
        presence,
        source: "kernel state, counter".to_owned(),
        evidence: format!(
            "{}, its queue read by process {pid}; {words}",
            there.evidence
        ),
    }]
}

/// Whether what was counted shows that the fault has acted, in words.
fn judged(met: io::Result<Counts>) -> (Presence, String) {
    let within = EFFECT.as_secs();
    match met {
        Err(error) => (
            Presence::Unknown,
            format!("what came through is unknown: {error}"),
        ),
        Ok(met) if met.received == 0 => (
            Presence::Unknown,
            format!("no packet has come through within {within} s"),
        ),
        Ok(met) if met.treated() == 0 => (
            Presence::Unknown,
            format!(
                "the fault has acted on no packet within {within} s: {}",
                met.words_for_people(false)
            ),
        ),
        Ok(met) => (Presence::Present, met.words_for_people(false)),
    }
}

/// Waits until the fault has acted on a packet, and sends some.
fn met(undo: &Undo, table: &str, counts: &Path, traffic: &Traffic) -> io::Result<Counts> {
    let Undo::DeleteTable {
        namespace: path,
        namespace_inode,
        ..
    } = undo
    else {
        return Err(io::Error::other("it is not a table"));
    };
    let gone = || io::Error::other("the network namespace is gone");
    let place = namespace::find_open(path.as_deref(), *namespace_inode)?.ok_or_else(gone)?;
    let deadline = Instant::now() + EFFECT;
    place.inside(|| {
        let addresses = traffic.probed(table);
        traffic.count(table, &addresses)?;
        loop {
            let read = Counts::read(counts)?;
            if read.treated() > 0 || Instant::now() >= deadline {
                return Ok(read);
            }
            // One packet seldom is the one that a small chance picks.
            for address in addresses.iter().cycle().take(PROBES) {
                traffic.send_datagram(*address);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

/// Makes the config type of a fault on packets: its own fields, and those that say which packets it acts on.
macro_rules! on_packets {
    (
        $(#[$outer:meta])*
        pub struct $Fault:ident {
            $( $(#[$inner:meta])* pub $field:ident: $Type:ty, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct $Fault {
            $( $(#[$inner])* pub $field: $Type, )*
            /// The other side: IPv4 and IPv6 addresses, networks, or hosts' names, at most 64. Every peer unless said; then `ports` must be.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub peers: Vec<$crate::network::Peer>,
            /// TCP and UDP ports, at most 64, at either end of a connection. Every port unless said; then `peers` must be.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub ports: Vec<u16>,
            /// Only this transport protocol. All of them unless said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub protocol: Option<$crate::packet::traffic::Protocol>,
            /// Which packets, as the target sees them. Those that arrive unless said; on loopback a packet leaves and arrives.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub direction: Option<$crate::packet::traffic::Direction>,
        }

        impl $Fault {
            fn traffic(&self) -> $crate::packet::traffic::Traffic {
                use $crate::packet::traffic::{Direction, Traffic};
                Traffic {
                    peers: self.peers.clone(),
                    ports: self.ports.clone(),
                    protocol: self.protocol,
                    direction: self.direction.unwrap_or(Direction::In),
                    queries: None,
                }
            }
        }
    };
}

/// Makes a config type with `treatment`, `way` and `own_problems` a fault.
macro_rules! queue_fault {
    ($Fault:ident) => {
        impl $crate::fault::Fault for $Fault {
            fn unmet(
                &self,
                target: &$crate::fault::Target,
                facts: &$crate::kind::HostFacts,
            ) -> Vec<$crate::fault::Unmet> {
                $crate::packet::unmet(target, facts, &self.treatment())
            }
            fn mechanism(&self, facts: &$crate::kind::HostFacts) -> String {
                $crate::packet::mechanism(facts, &self.treatment())
            }
            fn inject(
                &self,
                target: &$crate::fault::Target,
                host: &mut dyn $crate::fault::Door,
            ) -> Result<(), $crate::fault::FaultError> {
                $crate::packet::inject(target, host, &self.traffic(), self.treatment())
            }
            fn observe(
                &self,
                _: &$crate::fault::Target,
                changes: &[$crate::undo::Undo],
            ) -> Vec<squall_model::event::Observation> {
                $crate::packet::observe(changes, &self.traffic(), &self.treatment())
            }
            fn problems(&self) -> Vec<squall_model::syntax::ConfigProblem> {
                let mut problems = self.traffic().problems(true);
                problems.extend(self.own_problems());
                problems
            }
        }
    };
}

pub(crate) use {on_packets, queue_fault};

/// What all of them say of themselves.
pub mod said {
    pub(crate) const REQUIRES: &str = "nf_tables and nfnetlink_queue in the kernel, the nftables expression `queue` or the xtables target NFQUEUE, and CAP_NET_ADMIN in the network namespace";
    /// Those of [`super::tcx::does`].
    pub(crate) const REQUIRES_HOOK: &str = "CAP_NET_ADMIN in the network namespace, and with CAP_SYS_ADMIN eBPF and the TCX hook in the kernel; else nf_tables and nfnetlink_queue, the nftables expression `queue` or the xtables target NFQUEUE";
    /// Those of [`super::tcx::does`] and [`super::netem::does`].
    pub(crate) const REQUIRES_HOOK_OR_KERNEL: &str = "CAP_NET_ADMIN in the network namespace, and with CAP_SYS_ADMIN eBPF and the TCX hook in the kernel, or netem, tbf, clsact, flower, fw, mirred and ifb; else nf_tables and nfnetlink_queue, the nftables expression `queue` or the xtables target NFQUEUE";
    pub(crate) const AFTER_KILL_HOOK: &str = "the kernel, at once: programs at TCX hooks go with the process that held them, and packets pass when nobody reads a queue (what waited in it is lost); a queue's rule goes with the next `squall undo`";
    pub(crate) const AFTER_KILL_HOOK_OR_KERNEL: &str = "the kernel, at once, where programs at TCX hooks did it (they go with the process that held them) or a queue (packets pass when nobody reads it; its rule goes with the next `squall undo`); guard, agent or the next `squall undo` where the kernel's own qdiscs did it, as nothing serves those";
    /// Those of [`super::netem::does`].
    pub(crate) const REQUIRES_KERNEL: &str = "CAP_NET_ADMIN in the network namespace, and netem, tbf, clsact, flower, fw, mirred and ifb in the kernel with CAP_SYS_ADMIN; else nf_tables and nfnetlink_queue, the nftables expression `queue` or the xtables target NFQUEUE";
    pub(crate) const AFTER_KILL_KERNEL: &str = "guard, agent or the next `squall undo` where the kernel's own qdiscs did it, as nothing serves those; the kernel, at once, where a queue did it: packets pass, what waited is lost, and the rule goes with the next `squall undo`";
    pub(crate) const AFTER_KILL: &str = "the kernel, at once: packets pass when nobody reads their queue, and what waited is lost; the rule goes with the next `squall undo`";
    pub(crate) const TARGETS: &[&str] = &["namespace", "container", "container-label", "host"];
}

/// A problem with a value.
pub(crate) fn problem(
    key: &'static str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> squall_model::syntax::ConfigProblem {
    squall_model::syntax::ConfigProblem {
        key,
        message: message.into(),
        help: help.into(),
    }
}

/// A share in percent that is to be above 0, as a chance.
pub(crate) fn chance(share: squall_model::units::Percent) -> f64 {
    share.0 / 100.0
}
