//! What a host is, as far as faults care: read once by preflight, shown in plan and report.

use crate::sys::nftables::QueueRule;
use serde::{Deserialize, Serialize};

/// Facts that decide which mechanism serves a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Effective user id is 0.
    pub root: bool,
    /// CAP_NET_ADMIN is effective.
    pub net_admin: bool,
    /// CAP_NET_RAW is effective.
    #[serde(default)]
    pub net_raw: bool,
    /// CAP_SYS_ADMIN is effective.
    pub sys_admin: bool,
    /// CAP_KILL is effective.
    pub kill: bool,
    /// `v1`, `v2`, `hybrid` or `none`, with the folders in which this process may create cgroups.
    pub cgroup: String,
    /// The kernel answers nf_tables requests.
    pub nftables: bool,
    /// What leads packets to a netfilter queue, where there are queues.
    #[serde(default)]
    pub packet_queue: Option<QueueRule>,
    /// The kernel has netem and what leads packets to it.
    #[serde(default)]
    pub netem: bool,
    /// Programs of ours can be put at the TCX hook of an interface.
    #[serde(default)]
    pub tcx: bool,
    /// Kernel release.
    pub kernel: String,
    /// Number of processors this process may use.
    pub cores: u32,
    /// Memory in bytes: total, available.
    pub memory_total: u64,
    pub memory_available: u64,
}

impl HostFacts {
    /// Reads them from this host. What cannot be read counts as missing.
    pub fn read() -> HostFacts {
        use rustix::thread::CapabilitySet;
        let effective = rustix::thread::capabilities(None)
            .map(|sets| sets.effective)
            .unwrap_or(CapabilitySet::empty());
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        HostFacts {
            root: rustix::process::geteuid().is_root(),
            net_admin: effective.contains(CapabilitySet::NET_ADMIN),
            net_raw: effective.contains(CapabilitySet::NET_RAW),
            sys_admin: effective.contains(CapabilitySet::SYS_ADMIN),
            kill: effective.contains(CapabilitySet::KILL),
            cgroup: cgroup_layout(
                &std::fs::read_to_string("/proc/self/mounts").unwrap_or_default(),
            ),
            nftables: crate::sys::nftables::answers(),
            packet_queue: packet_queue(),
            netem: netem(),
            tcx: tcx(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            memory_total: memory_bytes(&memory, "MemTotal:"),
            memory_available: memory_bytes(&memory, "MemAvailable:"),
        }
    }
}

/// What leads packets to a queue here. The kernel is asked, and makes nothing of it; where asking would load a module, its file is looked for.
pub fn packet_queue() -> Option<QueueRule> {
    crate::sys::nftables::queue_rule_unloaded()
}

/// Whether packets can be delayed and lost by the kernel's own qdiscs.
pub fn netem() -> bool {
    crate::packet::netem::is_known()
}

/// Whether packets can be treated by programs where they pass an interface.
pub fn tcx() -> bool {
    crate::packet::tcx::is_known()
}

/// `v1`, `v2`, `hybrid` or `none`, followed by the hierarchies in whose root this process may create groups.
fn cgroup_layout(mounts: &str) -> String {
    let mut points = Vec::new();
    let (mut v1, mut v2) = (false, false);
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(point), Some(kind)) = (words.get(1), words.get(2)) else {
            continue;
        };
        v1 |= *kind == "cgroup";
        v2 |= *kind == "cgroup2";
        let ours = *kind == "cgroup" || *kind == "cgroup2";
        if ours && rustix::fs::access(*point, rustix::fs::Access::WRITE_OK).is_ok() {
            points.push(*point);
        }
    }
    let layout = match (v1, v2) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    if points.is_empty() {
        return layout.to_owned();
    }
    format!("{layout}, writable: {}", points.join(" "))
}

fn memory_bytes(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<u64> = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let v1 = "cgroup /nowhere/freezer cgroup rw 0 0\n";
        let v2 = "cgroup2 /nowhere cgroup2 rw 0 0\n";
        assert_eq!(cgroup_layout(v1), "v1");
        assert_eq!(cgroup_layout(v2), "v2");
        assert_eq!(cgroup_layout(&format!("{v1}{v2}")), "hybrid");
        assert_eq!(cgroup_layout("proc /proc proc rw 0 0\n"), "none");
    }

    #[test]
    fn this_host_has_a_kernel_cores_and_memory() {
        let facts = HostFacts::read();
        assert!(!facts.kernel.is_empty() && facts.cores > 0);
        assert!(facts.memory_total > facts.memory_available && facts.memory_available > 0);
        assert_eq!(facts.root, rustix::process::geteuid().is_root());
    }
}
