//! What is refused before a text is parsed: sizes, and characters that mislead terminals or the parser.

use super::place::locate;
use super::problem::{Problem, Problems};
use super::yaml::{BYTES_MAX, NODES_MAX};

/// Reports what makes a text not worth parsing. `false` when there was something.
pub(super) fn is_harmless(text: &str, problems: &mut Problems) -> bool {
    if text.len() > BYTES_MAX {
        problems.add_file(
            Problem::new(
                "too-large",
                format!(
                    "the file has {} bytes, and at most {BYTES_MAX} are read",
                    text.len()
                ),
            )
            .help("an experiment is a page of text; keep data in files of its own"),
        );
        return false;
    }
    // The parser looks ahead inside brackets without bound, so their number is bounded before it starts.
    let brackets = text
        .bytes()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{' | b'?'))
        .count();
    if brackets > NODES_MAX {
        problems.add_file(too_many_nodes());
        return false;
    }
    !refuse_control_characters(text, problems) && !refuse_directives(text, problems)
}

fn refuse_control_characters(text: &str, problems: &mut Problems) -> bool {
    let returns = |at: usize| text.as_bytes().get(at + 1) == Some(&b'\n');
    let bad = |at: usize, c: char| match c {
        '\n' | '\t' | '\u{85}' => false,
        '\r' => !returns(at),
        // A byte order mark may only stand at the start.
        '\u{feff}' => at > 0,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c.is_control(),
    };
    let Some((at, c)) = text.char_indices().find(|(at, c)| bad(*at, *c)) else {
        return false;
    };
    let message = format!(
        "the file holds the control character U+{:04X}",
        u32::from(c)
    );
    problems.add_at(
        locate(text, at, at + c.len_utf8()),
        Problem::new("control-character", message)
            .label("here")
            .help("remove it; inside a quoted text it can be written as an escape, e.g. \"\\x07\""),
    );
    true
}

/// `%YAML` and `%TAG` say nothing that is read. The parser also miscounts behind them.
fn refuse_directives(text: &str, problems: &mut Problems) -> bool {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start_matches('\u{feff}').starts_with('%') {
            let start = at + line.find('%').unwrap_or(0);
            problems.add_at(
                locate(text, start, start + 1),
                Problem::new("yaml-directive", "directives are not read")
                    .label("starts a directive")
                    .help("remove the line, or indent it if it belongs to a text"),
            );
            return true;
        }
        at += line.len();
    }
    false
}

pub(super) fn too_many_nodes() -> Problem {
    Problem::new(
        "too-many-nodes",
        format!("the file holds more than {NODES_MAX} values"),
    )
    .help("an experiment is a page of text; use `every:` and `times:` instead of repeating steps")
}
