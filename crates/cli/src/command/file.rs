//! Reading the text of a file that people write.

use crate::output::Failure;
use squall_model::exit::Exit;
use squall_model::load;
use std::io::Read;
use std::path::Path;

/// One byte more than the loader accepts: enough to know that a file is too large without reading all of it.
const READ_MAX: u64 = load::BYTES_MAX as u64 + 1;

/// What to give where an experiment is wanted.
pub(crate) const EXPERIMENT: &str =
    "give the path of an experiment file; `squall faults` lists what can stand in it";

/// The text of a file, bounded. `help` says which file to give.
pub(crate) fn text(path: &Path, help: &str) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(
            Exit::Invalid,
            format!("could not read {}, because {error}", path.display()),
            Some(help),
        )
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(
            Exit::Invalid,
            format!("{} is not UTF-8 at byte {at}", path.display()),
            Some("save the file as UTF-8 text"),
        )
    })
}
