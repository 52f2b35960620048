//! The report in the forms that people and machines read. Every form shows the same words.

mod chapters;
mod clients;
mod diagnosis;
pub mod html;
pub mod junit;
pub mod markdown;
mod models;
mod pack;
mod page;
pub mod past;
mod rows;
pub mod text;
mod view;

use crate::report::Report;

/// The report as JSON, indented, with a newline at its end.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Makes text safe to show: characters that control a terminal, reorder text or may not stand in XML become `\u{FFFD}`.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|c| if shown(c) { c } else { '\u{FFFD}' })
        .collect()
}

fn shown(c: char) -> bool {
    let reorders = matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{061C}');
    let nothing = matches!(c, '\u{FFFE}' | '\u{FFFF}');
    c == '\n' || c == '\t' || !(c.is_control() || reorders || nothing)
}
