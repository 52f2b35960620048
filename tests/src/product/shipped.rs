//! The experiments that are shipped with the toy trainer, and variants of them for tests.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

/// The demo.
pub const DEMO: &str = "kill-a-rank-every-ten-epochs";
/// The seeded bugs; each is provoked by `bug-NAME.yaml`.
pub const BUGS: [&str; 6] = [
    "torn-checkpoint",
    "optimizer-state",
    "samples",
    "learning-rate",
    "rank0-state",
    "save-handler",
];

/// Their folder.
pub fn folder() -> PathBuf {
    repository().join("examples/toy-trainer")
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// The names of all shipped experiments, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".yaml").map(str::to_owned));
    }
    names.sort_unstable();
    ensure!(!names.is_empty(), "nothing is shipped");
    Ok(names)
}

/// The text of one.
///
/// # Errors
/// When there is none of that name.
pub fn text(name: &str) -> anyhow::Result<String> {
    let path = folder().join(format!("{name}.yaml"));
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Replaces parts of a text; each must be there, so that a variant never silently is the original.
///
/// # Errors
/// When one is not there.
pub fn changed(text: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (from, to) in changes {
        ensure!(text.contains(from), "`{from}` is not in the text:\n{text}");
        text = text.replace(from, to);
    }
    Ok(text)
}
