//! Who a process is. A bare pid is never enough: pids are reused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process on one boot of one host: the pid alone may mean another process a second later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessIdentity {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode number of `/proc/PID/ns/pid` as seen by the recorder; 0 when it could not be read.
    pub pid_ns: u64,
    /// The pid in the recorder's pid namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_time: u64,
}
