//! A run from its script to its conclusion.
//!
//! The conductor never touches the host itself: guard and agent do, behind a [`Link`]. Whatever happens, the run ends with everything undone or
//! with an exit that says what is not, and with a report.

mod checkpoints;
mod checks;
mod conclude;
mod conductor;
mod ending;
mod folder;
mod host;
mod link;
mod method;
mod observer;
mod permission;
mod reports;
mod script;
mod stages;
mod tracker;
mod whole;
mod words;

pub use conclude::conclude_stored;
pub use folder::RunFolder;
pub use host::{Host, HostError, LocalHost};
pub use link::{Link, LinkError, Word};
pub use observer::{Interrupt, LOSS_HISTORY, Live, Observer, Silent};
pub use reports::write_reports;
pub use script::{Node, Owned, Script, Source, Undecided};
pub use whole::{Conclusion, Request, RunError, close_earlier, conduct};

#[cfg(test)]
mod tests;
