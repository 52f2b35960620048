//! What a host is, as far as faults care: read once by preflight, shown in plan and report.

use serde::{Deserialize, Serialize};

/// Facts that decide which mechanism serves a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Effective user id is 0.
    pub root: bool,
    /// CAP_NET_ADMIN is effective.
    pub net_admin: bool,
    /// CAP_SYS_ADMIN is effective.
    pub sys_admin: bool,
    /// CAP_KILL is effective.
    pub kill: bool,
    /// `v1`, `v2`, `hybrid` or `none`, with the folders in which this process may create cgroups.
    pub cgroup: String,
    /// The kernel answers nf_tables requests.
    pub nftables: bool,
    /// Kernel release.
    pub kernel: String,
    /// Number of processors this process may use.
    pub cores: u32,
    /// Memory in bytes: total, available.
    pub memory_total: u64,
    pub memory_available: u64,
}
