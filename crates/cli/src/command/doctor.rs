//! `squall doctor`: what this host can do.

use crate::Outcome;
use crate::arguments::{Format, Plain};
use crate::output::json;
use squall_model::exit::Exit;

pub(crate) fn run(arguments: &Plain) -> Outcome {
    let words = squall_control::doctor::host_words();
    match arguments.format {
        Format::Json => json(&words)?,
        Format::Text => words
            .iter()
            .for_each(|(what, value)| println!("{what:20} {value}")),
    }
    Ok(Exit::Held)
}
