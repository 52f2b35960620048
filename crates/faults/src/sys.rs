//! The kernel's side: processes by pidfd, clocks, namespaces, netlink, starting children. All `unsafe` of this crate lives here.

#[allow(unsafe_code, reason = "bpf(2)")]
pub mod bpf;
pub mod clock;
pub mod diag;
#[allow(
    unsafe_code,
    reason = "recvmmsg, and options of sockets that are numbers"
)]
pub mod mmsg;
pub mod module;
pub mod namespace;
pub mod netlink;
pub mod nftables;
#[allow(unsafe_code, reason = "the time between fork and exec")]
pub mod private;
pub mod process;
pub mod queue;
pub mod raw;
#[allow(
    unsafe_code,
    reason = "signal masks, signalfd and the time between fork and exec"
)]
pub mod spawn;
pub mod traffic_control;
