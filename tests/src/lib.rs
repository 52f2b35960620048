//! Independent readers and end-to-end suites.
//!
//! Nothing here shares code with the faults: what a fault claims to have put back is judged by a
//! reader that was written without it, straight from `/proc`, `/sys`, netlink and `ip`/`tc`.

pub mod bench;
pub mod catalogue;
pub mod compliance;
pub mod crash;
pub mod folder;
pub mod nft_writer;
pub mod page;
pub mod pair;
pub mod poll;
pub mod product;
pub mod proof;
pub mod prove;
pub mod sandbox;
pub mod snapshot;
pub mod spawned;
pub mod targets;
