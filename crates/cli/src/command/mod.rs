//! One module per verb.

pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod ettr;
pub(crate) mod faults;
pub(crate) mod file;
pub(crate) mod inner;
pub(crate) mod plan;
pub(crate) mod proxy;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod undo;

use crate::output::Failure;
use squall_model::exit::Exit;
use std::path::PathBuf;

/// This user's state folder.
pub(crate) fn state_dir() -> Result<PathBuf, Failure> {
    squall_faults::state_dir::state_dir().ok_or_else(|| {
        Failure::new(
            Exit::Unmet,
            "there is no state folder, because neither SQUALL_STATE_DIR nor XDG_STATE_HOME nor HOME is set",
            Some("set SQUALL_STATE_DIR to a folder of your own"),
        )
    })
}
