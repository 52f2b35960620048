//! Runs whose journal is known to hold nothing: a mark beside it spares the next command to open and read it.
//!
//! The mark counts only while it is newer than the journal, so whoever writes to the journal again is looked at again. Losing it costs a
//! reading, nothing else.

use crate::journal;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The mark, beside the journal.
const MARK: &str = "journal.settled";

/// Whether nothing was outstanding when the journal was last closed, and nobody has written to it since.
pub(super) fn is(run_dir: &Path) -> bool {
    let written = |name: &str| {
        let meta = std::fs::symlink_metadata(run_dir.join(name)).ok()?;
        meta.is_file().then(|| meta.modified().ok()).flatten()
    };
    match (written(MARK), written(journal::FILE_NAME)) {
        (Some(mark), Some(journal)) => mark > journal,
        _ => false,
    }
}

/// Says so. What cannot be written is found out by reading the next time.
pub(super) fn mark(run_dir: &Path) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(run_dir.join(MARK));
    if let Ok(mut file) = file {
        // By the clock that the journal's own time is from, so that neither can seem newer than it is.
        file.write_all(b"\n").ok();
    }
}
