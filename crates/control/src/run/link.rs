//! The line to guard and agent, so that the conductor can be played against scripted ones.

use squall_faults::guard::wire::GuardReport;
use squall_faults::protocol::{FromAgent, ToAgent};
use std::time::Duration;

/// Something that arrived.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// From the agent.
    Agent(FromAgent),
    /// From the guard.
    Guard(GuardReport),
    /// The agent's line has ended.
    AgentGone,
    /// The guard's line has ended.
    GuardGone,
}

/// A line that no longer takes words.
#[derive(Debug, thiserror::Error)]
#[error("could not speak to the {to}, because {source}")]
pub struct LinkError {
    /// `agent` or `guard`.
    pub to: &'static str,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// Guard and agent of one run. Dropping it means: undo everything and end.
pub trait Link {
    /// Says something to the agent.
    fn send(&mut self, word: &ToAgent) -> Result<(), LinkError>;
    /// Prolongs the lease, with agent and guard.
    fn renew(&mut self) -> Result<(), LinkError>;
    /// The next word; nothing when none came in time.
    fn receive(&mut self, wait: Duration) -> Option<Word>;
}
