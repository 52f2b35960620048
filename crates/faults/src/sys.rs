//! The kernel's side: processes by pidfd, clocks, namespaces, netlink. All `unsafe` of this crate would live here; so far rustix's safe wrappers serve for everything.

pub mod clock;
pub mod process;
