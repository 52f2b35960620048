//! The real `squall` on the real toy trainer, as a person starts them: every end-to-end suite goes through here.
//!
//! Judges read reports as JSON and the host from `/proc`; no type of the product is used to judge it.

mod desk;
mod live;
mod phase_log;
mod processes;
mod report;
pub mod screen;
pub mod shipped;

pub use desk::{Desk, Ended, binaries};
pub use live::Live;
pub use phase_log::{Edge, PhaseLog};
pub use processes::{Found, is_alive, processes};
pub use report::Report;
