//! `squall check`.

use super::file;
use crate::Outcome;
use crate::arguments::{Check, Format};
use crate::output::{Failure, json};
use squall_catalog::Faults;
use squall_model::exit::Exit;
use squall_model::load;

pub(crate) fn run(arguments: &Check) -> Outcome {
    let text = file::text(&arguments.file, file::EXPERIMENT)?;
    let name = arguments.file.display().to_string();
    let read = load::read::<Faults>(&text, &name);
    match (arguments.format, read) {
        (Format::Json, read) => {
            let found = read.err().unwrap_or_default();
            json(
                &serde_json::json!({"version": "squall.check/1", "file": name, "problems": found}),
            )?;
            Ok(if found.is_empty() {
                Exit::Held
            } else {
                Exit::Invalid
            })
        }
        (Format::Text, Ok(loaded)) => {
            println!("✓ {name}: {}", loaded.experiment.title);
            Ok(Exit::Held)
        }
        (Format::Text, Err(found)) => Err(Failure::diagnostics(&found, &text, &name)),
    }
}
