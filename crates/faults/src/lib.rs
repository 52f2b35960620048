//! Host faults (one file each), the agent that injects them, the undo journal and the guard.
//!
//! A fault touches the world through one door, [`host::Host`], which makes the undo durable first. `unsafe` lives in [`sys`] only.

pub mod agent;
pub mod backup;
mod cgroups;
pub mod crash;
pub mod engine;
pub mod fault;
pub mod frames;
pub mod guard;
pub mod host;
pub mod journal;
pub mod kind;
pub mod lease;
pub mod network;
pub mod origin;
pub mod packet;
pub mod protocol;
pub mod proxy;
pub mod recover;
pub mod serve;
pub mod spawn;
pub mod state_dir;
pub mod sys;
pub mod undo;

// One fault, one file, one line.
pub mod cpu_pressure;
pub mod file_damage;
pub mod memory_pressure;
pub mod network_blackhole;
pub mod network_corrupt;
pub mod network_delay;
pub mod network_dns;
pub mod network_duplicate;
pub mod network_loss;
pub mod network_partition;
pub mod network_rate;
pub mod network_reorder;
pub mod network_reset;
pub mod process_kill;
pub mod process_pause;
pub mod process_terminate;
