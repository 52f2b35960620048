//! What a host looks like, read without any of the code that changes it.
//!
//! [`HostSnapshot::take`] before an experiment, again after it, and [`HostSnapshot::diff`] names
//! whatever is not as it was. The reader keeps three promises: it changes nothing, it leaves out
//! what moves by itself (counters, ages, access times, handles), and what it could not read is told
//! by [`HostSnapshot::blind`] instead of passing as clean.

mod cgroup;
mod files;
mod kernel;
mod mounts;
mod net;
pub mod netlink;
mod nft;
mod proc;
mod scope;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;

use rustix::io::Errno;
use serde::Serialize;

pub use proc::{ProcessState, process_state, start_time};
pub use scope::Scope;
pub use watch::{FirstClean, poll_until_clean};

/// A kind of thing that a fault can leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A network interface and its settings.
    Link,
    /// An address of an interface.
    Address,
    /// A route of any table, both families.
    Route,
    /// A routing rule, both families.
    RoutingRule,
    /// A queueing discipline, with its classes and filters.
    Qdisc,
    /// An nftables table, chain, rule, set, object or flowtable.
    Nftables,
    /// A rule of the older iptables.
    Iptables,
    /// A kernel parameter under `/proc/sys`, or one of a few under `/sys`.
    Sysctl,
    /// A file that names are resolved by: resolv.conf, hosts, nsswitch.conf.
    Resolver,
    /// The host's name and domain.
    Hostname,
    /// A named network namespace.
    NetworkNamespace,
    /// A mount, here or in the mount namespace of a watched process.
    Mount,
    /// A cgroup folder with its limits and its freezer.
    Cgroup,
    /// A loop or device-mapper device in use, or a swap area.
    BlockDevice,
    /// System V shared memory, semaphores and message queues.
    SharedMemory,
    /// A socket named after Squall, or anything in its socket folders.
    Socket,
    /// A BPF link or pinned object.
    Bpf,
    /// A process that is stopped, traced, a zombie or gone.
    ProcessState,
    /// A process that carries Squall's mark or name, or a child that should be over.
    StrayProcess,
    /// Policy, niceness, affinity, oom score, limits and cgroups of a watched process.
    ProcessSetting,
    /// A file, folder or link under a watched root: content, mode, owner, mtime, attributes.
    File,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Link,
        Self::Address,
        Self::Route,
        Self::RoutingRule,
        Self::Qdisc,
        Self::Nftables,
        Self::Iptables,
        Self::Sysctl,
        Self::Resolver,
        Self::Hostname,
        Self::NetworkNamespace,
        Self::Mount,
        Self::Cgroup,
        Self::BlockDevice,
        Self::SharedMemory,
        Self::Socket,
        Self::Bpf,
        Self::ProcessState,
        Self::StrayProcess,
        Self::ProcessSetting,
        Self::File,
    ];

    fn read(self, scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
        match self {
            Self::Link => net::links(facts),
            Self::Address => net::addresses(facts),
            Self::Route => net::routes(facts),
            Self::RoutingRule => net::rules(facts),
            Self::Qdisc => net::qdiscs(facts),
            Self::Nftables => nft::read(facts),
            Self::Iptables => net::iptables(facts),
            Self::Sysctl => kernel::sysctls(facts),
            Self::Resolver => files::resolver(facts),
            Self::Hostname => kernel::hostname(facts),
            Self::NetworkNamespace => kernel::network_namespaces(facts),
            Self::Mount => mounts::read(scope, facts),
            Self::Cgroup => cgroup::read(scope, facts),
            Self::BlockDevice => kernel::block_devices(std::path::Path::new("/"), facts),
            Self::SharedMemory => kernel::shared_memory(facts),
            Self::Socket => kernel::sockets(scope, facts),
            Self::Bpf => proc::bpf(facts),
            Self::ProcessState => proc::states(scope, facts),
            Self::StrayProcess => proc::strays(scope, facts),
            Self::ProcessSetting => proc::settings(scope, facts),
            Self::File => files::watched(scope, facts),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// The state of a host at one time, as named facts of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostSnapshot {
    facts: BTreeMap<Kind, BTreeMap<String, String>>,
    blind: BTreeMap<Kind, String>,
}

impl HostSnapshot {
    /// Reads every kind.
    ///
    /// # Errors
    /// When something could not be read for another reason than a missing right or facility.
    pub fn take(scope: &Scope) -> anyhow::Result<Self> {
        Self::take_only(scope, &Kind::ALL)
    }

    /// Reads the given kinds only, for a quick look.
    ///
    /// # Errors
    /// As [`HostSnapshot::take`].
    pub fn take_only(scope: &Scope, kinds: &[Kind]) -> anyhow::Result<Self> {
        let mut snapshot = Self {
            facts: BTreeMap::new(),
            blind: BTreeMap::new(),
        };
        for kind in kinds.iter().collect::<BTreeSet<_>>() {
            let mut facts = Facts::default();
            match kind.read(scope, &mut facts) {
                Ok(()) => {}
                Err(error) if is_out_of_reach(&error) => {
                    // A half-read kind must not pass for a whole one.
                    facts = Facts::default();
                    snapshot.blind.insert(*kind, format!("{error:#}"));
                }
                Err(error) => return Err(error.context(format!("reading {kind}"))),
            }
            snapshot.facts.insert(*kind, facts.0);
        }
        Ok(snapshot)
    }

    /// The kinds that this user or kernel does not let us read, with the reason.
    pub fn blind(&self) -> &BTreeMap<Kind, String> {
        &self.blind
    }

    /// The facts of one kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        let facts = self.facts.get(&kind).into_iter().flatten();
        facts.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What is not in `after` as it was here, over the kinds that both have read.
    ///
    /// An interface that is itself new or gone speaks for its kernel parameters. A kind that only
    /// one of the two could read is a difference.
    pub fn diff(&self, after: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (kind, before) in &self.facts {
            let Some(after_facts) = after.facts.get(kind) else {
                continue;
            };
            if let Some(difference) = self.diff_of_sight(after, *kind) {
                differences.push(difference);
                continue;
            }
            let names: BTreeSet<_> = before.keys().chain(after_facts.keys()).collect();
            for name in names {
                let (was, is) = (before.get(name), after_facts.get(name));
                if was != is {
                    let (before, after) = (was.cloned(), is.cloned());
                    differences.push(Difference {
                        kind: *kind,
                        name: name.clone(),
                        before,
                        after,
                    });
                }
            }
        }
        without_consequences(differences)
    }

    fn diff_of_sight(&self, after: &Self, kind: Kind) -> Option<Difference> {
        let (before, after) = (self.blind.get(&kind), after.blind.get(&kind));
        (before.is_some() != after.is_some()).then(|| Difference {
            kind,
            name: "(unreadable)".to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        })
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What kind of thing.
    pub kind: Kind,
    /// Which one.
    pub name: String,
    /// As it was; none when it was not there.
    pub before: Option<String>,
    /// As it is; none when it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            before,
            after,
        } = self;
        match (before, after) {
            (None, Some(after)) => write!(formatter, "{kind} {name}: left behind: {after}"),
            (Some(before), None) => write!(formatter, "{kind} {name}: gone, was: {before}"),
            (before, after) => {
                let (before, after) = (
                    before.as_deref().unwrap_or("-"),
                    after.as_deref().unwrap_or("-"),
                );
                write!(formatter, "{kind} {name}: was: {before}; is: {after}")
            }
        }
    }
}

/// The named facts of one kind while it is read.
#[derive(Debug, Default)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Adds a fact; a second one of the same name (a stacked mount, say) is numbered.
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        let mut unique = name.clone();
        let mut count = 1;
        while self.0.contains_key(&unique) {
            count += 1;
            unique = format!("{name} #{count}");
        }
        self.0.insert(unique, value.into());
    }

    /// Says more of a fact.
    fn extend(&mut self, name: &str, more: &str) {
        let value = self.0.entry(name.to_owned()).or_default();
        *value = format!("{value} | {more}");
    }
}

/// Leaves out the kernel parameters of interfaces that came or went, and the IPv6 packet size that
/// follows the size of an interface that changed.
fn without_consequences(differences: Vec<Difference>) -> Vec<Difference> {
    let links: BTreeMap<String, bool> = differences
        .iter()
        .filter(|difference| difference.kind == Kind::Link)
        .map(|link| {
            (
                link.name.clone(),
                link.before.is_none() || link.after.is_none(),
            )
        })
        .collect();
    let is_consequence = |difference: &Difference| {
        let link = difference.name.split('/').find_map(|part| links.get(part));
        let follows =
            difference.name.starts_with("net/ipv6/conf/") && difference.name.ends_with("/mtu");
        difference.kind == Kind::Sysctl && link.is_some_and(|came_or_went| *came_or_went || follows)
    };
    differences
        .into_iter()
        .filter(|difference| !is_consequence(difference))
        .collect()
}

/// Whether the error says that we may not look, or that there is nothing of the kind to look at.
fn is_out_of_reach(error: &anyhow::Error) -> bool {
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::Unsupported,
    ];
    let numbers = [
        Errno::PROTONOSUPPORT,
        Errno::OPNOTSUPP,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOENT,
    ];
    error.chain().any(|cause| {
        let by_kind = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| kinds.contains(&error.kind()));
        by_kind
            || cause
                .downcast_ref::<Errno>()
                .is_some_and(|number| numbers.contains(number))
    })
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}
