//! Places: from what the parser counts to bytes, lines and columns of the text.
//!
//! Invariant: every place lies inside the text and on character boundaries.

use crate::diagnostic::Location;
use saphyr_parser::Span;

/// Line and column by looking at the text; only for the odd place, as it walks the text.
pub(super) fn locate(text: &str, start: usize, end: usize) -> Location {
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Location {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        start,
        end,
    }
}

/// Turns the parser's character counts into bytes.
pub(super) struct Offsets {
    /// The end of the text, where the parser's own line count is one too far.
    end: Location,
    /// Byte of each character; empty when every character is one byte.
    bytes: Vec<u32>,
    len: usize,
    base: usize,
}

impl Offsets {
    pub(super) fn new(text: &str, body: &str) -> Self {
        let bytes = if body.is_ascii() {
            Vec::new()
        } else {
            body.char_indices().map(|(at, _)| at as u32).collect()
        };
        Offsets {
            end: locate(body, body.len(), body.len()),
            base: text.len() - body.len(),
            bytes,
            len: body.len(),
        }
    }

    fn byte(&self, character: usize) -> usize {
        let within = if self.bytes.is_empty() {
            character.min(self.len)
        } else {
            self.bytes
                .get(character)
                .map_or(self.len, |at| *at as usize)
        };
        self.base + within
    }

    pub(super) fn location(&self, span: Span) -> Location {
        let start = self.byte(span.start.index());
        if start == self.base + self.len {
            return Location {
                start,
                end: start,
                ..self.end
            };
        }
        Location {
            line: span.start.line().max(1),
            column: span.start.col() + 1,
            start,
            end: self.byte(span.end.index()).max(start),
        }
    }
}

/// The anchor or tag that stands before a value, if it can be found close by.
pub(super) fn decoration(text: &str, place: Location, mark: char) -> Location {
    let mut from = place.start.saturating_sub(256);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    if text[place.start..].starts_with(mark) {
        let end = word_end(text, place.start);
        return Location { end, ..place };
    }
    match text[from..place.start].rfind(mark) {
        Some(at) => {
            let start = from + at;
            let end = word_end(text, start);
            locate(text, start, end)
        }
        None => place,
    }
}

fn word_end(text: &str, start: usize) -> usize {
    text[start..]
        .find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}'))
        .map_or(text.len(), |at| start + at)
}

/// An empty place is widened to the character it points at, so that a caret has something to stand under.
pub(super) fn widen(text: &str, place: Location) -> Location {
    let next = text[place.start..].chars().next();
    match next {
        Some(c) if place.end == place.start && c != '\n' && c != '\r' => Location {
            end: place.start + c.len_utf8(),
            ..place
        },
        _ => place,
    }
}

/// Lists and maps in brackets reach to their bracket; blocks start with their first and end with their last child.
pub(super) fn collection_span(
    start: Location,
    first: Option<Location>,
    last: Option<Location>,
    end: Location,
    text: &str,
) -> Location {
    let opened = text[start.start..].starts_with(['[', '{']);
    if opened && end.end > end.start {
        return Location {
            end: end.end,
            ..start
        };
    }
    match (first, last) {
        (Some(first), Some(last)) => Location {
            end: last.end.max(first.end),
            ..first
        },
        _ => start,
    }
}
