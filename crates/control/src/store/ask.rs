//! The question of a run as it is kept beside its events, so that a stored run can be concluded again without its file.

use serde::{Deserialize, Serialize};
use squall_analysis::run::{Ask, Checkpoint};
use squall_model::experiment::{Expect, Requirement};

/// Mirror of [`Ask`], on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredAsk {
    /// As in [`Ask`].
    pub title: String,
    /// As in [`Ask`].
    pub file: String,
    /// As in [`Ask`].
    pub requirement: Option<Requirement>,
    /// As in [`Ask`].
    pub expect: Vec<Expect>,
    /// As in [`Ask`].
    pub seed: u64,
    /// As in [`Ask`].
    pub reference: bool,
    /// As in [`Ask`].
    pub checkpoint_interval: Option<u64>,
    /// As in [`Ask`].
    pub eligible: u64,
    /// As in [`Ask`].
    pub at_most: u64,
}

impl From<StoredAsk> for Ask {
    fn from(ask: StoredAsk) -> Ask {
        Ask {
            title: ask.title,
            file: ask.file,
            requirement: ask.requirement,
            expect: ask.expect,
            seed: ask.seed,
            reference: ask.reference,
            checkpoint_interval: ask.checkpoint_interval,
            eligible: ask.eligible,
            at_most: ask.at_most,
        }
    }
}

/// Mirror of [`Checkpoint`], on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCheckpoint {
    /// As in [`Checkpoint`].
    pub path: String,
    /// As in [`Checkpoint`].
    pub reference: bool,
    /// As in [`Checkpoint`].
    pub step: Option<u64>,
    /// As in [`Checkpoint`].
    pub parameters: Option<String>,
    /// As in [`Checkpoint`].
    pub file_sha256: String,
}

impl From<StoredCheckpoint> for Checkpoint {
    fn from(found: StoredCheckpoint) -> Checkpoint {
        Checkpoint {
            path: found.path,
            reference: found.reference,
            step: found.step,
            parameters: found.parameters,
            file_sha256: found.file_sha256,
        }
    }
}
