//! What this host offers, read once when the agent starts.

use super::procs;
use crate::kind::HostFacts;

const CAP_KILL: u64 = 5;
const CAP_NET_ADMIN: u64 = 12;
const CAP_SYS_ADMIN: u64 = 21;

/// Reads the facts. What cannot be read counts as not there.
pub(super) fn read() -> HostFacts {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u64| effective >> capability & 1 == 1;
    HostFacts {
        root: rustix::process::geteuid().is_root(),
        net_admin: has(CAP_NET_ADMIN),
        sys_admin: has(CAP_SYS_ADMIN),
        kill: has(CAP_KILL),
        cgroup: super::cgroups::layout(),
        nftables: crate::sys::nftables::answers(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        cores: std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        memory_total: procs::host_memory("MemTotal").unwrap_or(0),
        memory_available: procs::host_memory("MemAvailable").unwrap_or(0),
    }
}
