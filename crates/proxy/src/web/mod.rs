//! Faults of HTTP and of the streams of language models: which request a rule acts on, and what is done to it and its answer.
//!
//! Everything here is a state machine over bytes and times; sockets are the relay's.

mod answer;
mod change;
mod matching;
mod mock;
mod rule;
mod session;
#[cfg(test)]
mod tests;
mod timeline;
mod whole;

pub(crate) use answer::civil;
pub(crate) use mock::{Mocked, Pace};
pub use rule::{
    CallWrong, Cut, Damage, Finds, Framing, Speech, StructureWrong, UsageSays, VectorsWrong,
    WebFault, WebRule, When,
};
pub(crate) use session::Web;
