//! What everything in Squall agrees on: the experiment file, the plan, the event log, ids, units and exit codes.
//!
//! Pure: no I/O, no clock, no async runtime. A stored run can be replayed through this crate alone.
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod event;
pub mod exchange;
pub mod exit;
pub mod experiment;
pub mod glob;
pub mod hook;
pub mod id;
pub mod load;
pub mod patterns;
pub mod plan;
pub mod policy;
pub mod process;
pub mod proxying;
pub mod rule;
pub mod seed;
pub mod syntax;
pub mod timing;
pub mod units;
