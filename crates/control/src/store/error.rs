//! What can go wrong with a run's store.

use super::codec::CodecError;
use squall_model::event::IllegalEvent;
use std::path::PathBuf;

/// Why a run could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("could not {action} {path}, because {source}", path = path.display())]
    Database {
        /// What was attempted.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A file could not be read or written.
    #[error("could not {action} {path}, because {source}", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Written by a newer Squall.
    #[error("could not read {path}, because it has format {found} and this build reads up to {known}; use the Squall that wrote it", path = path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest this build knows.
        known: i64,
    },
    /// A block of samples is damaged.
    #[error("could not read samples of {path}, because {source}", path = path.display())]
    Block {
        /// The database file.
        path: PathBuf,
        /// What is wrong with the block.
        #[source]
        source: CodecError,
    },
    /// Something in it cannot be understood.
    #[error("could not read {what} of {path}, because {because}", path = path.display())]
    Content {
        /// The database file.
        path: PathBuf,
        /// Which part.
        what: &'static str,
        /// Why not.
        because: String,
    },
    /// An event that cannot follow what the log says: a bug of Squall's.
    #[error("could not append to the event log, because {0}")]
    Illegal(#[from] IllegalEvent),
    /// The writer has ended; its own error was reported where it happened.
    #[error("could not write to the run's store, because its writer has ended: {because}")]
    WriterGone {
        /// Its last words.
        because: String,
    },
}
