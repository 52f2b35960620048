//! Host faults (one file each), the agent that injects them, the undo journal and the guard.
//!
//! A fault touches the world through one door, [`host::Host::change`], which makes the undo durable first. `unsafe` lives in [`sys`] only.

pub mod agent;
pub mod cpu_pressure;
pub mod fault;
pub mod frames;
pub mod guard;
pub mod kind;
pub mod memory_pressure;
pub mod protocol;
pub mod serve;
pub mod sys;
pub mod undo;
