//! One SQLite file per run: the event log and the sample blocks.
//!
//! The event log is the truth: every event passes [`squall_model::event::RunState::apply`] before it is written, and what is in the file
//! after a crash is a gapless beginning of it.

mod close;
pub mod codec;
mod db;
mod decode;
mod error;
mod events;
mod gather;
mod log;
mod merge;
mod pack;
mod read;
mod series;
mod summary;
mod wire;
mod writer;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_packs;

pub use close::{Closed, close_cut_off};
pub use codec::SeriesId;
pub use db::FILE;
pub use error::StoreError;
pub use log::{Opening, Store};
pub use merge::{JournalEnd, JournalEntry, is_final, journal_entries, missing, never_acted};
pub use read::StoredRun;
pub use series::{Samples, SeriesSpec, Stream};
pub use summary::{RunSummary, runs};
pub use writer::LOSS_MAX;
