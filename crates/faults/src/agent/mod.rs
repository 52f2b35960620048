pub mod hook;
pub mod output;
pub mod procs;
pub mod targets;
