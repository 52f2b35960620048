//! The crash matrix: every fault at every journal boundary, with every cause of death, against the real `squall`.
//!
//! A cell runs in namespaces of its own as their first process: it takes a host snapshot, starts `squall run`, holds it at one boundary, strikes,
//! waits for the rescue, and takes the snapshot again. Whatever differs, less the targets of one-shot faults, is a leftover.
//! A cell whose boundary was never reached has failed: nothing passes in silence.

pub mod cause;
pub mod cell;
pub mod cgroups;
pub mod journal;
pub mod latency;
pub mod points;
pub mod pool;
pub mod processes;
pub mod report;
mod rescue;
pub mod select;
pub mod squall;
mod stage;
pub mod strike;
