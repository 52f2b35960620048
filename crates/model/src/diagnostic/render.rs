//! Diagnostics as people read them: one block per problem with the line, a caret and what to do.
//!
//! Invariant: nothing of the file reaches the terminal unfiltered; control characters and values of keys that name a secret are replaced.

use super::{Diagnostic, Location, width};
use regex::Regex;
use std::fmt::Write;
use std::sync::OnceLock;

/// The most columns of a source line that are shown; longer lines are cut around the caret.
const COLUMNS_MAX: usize = 120;

/// Hooks for colour. Every part arrives complete and without line breaks; the default leaves it as it is.
pub trait Style {
    /// The word `error`.
    fn error(&self, text: &str) -> String {
        text.to_owned()
    }
    /// Line numbers, corners and bars.
    fn frame(&self, text: &str) -> String {
        text.to_owned()
    }
    /// The caret line with its label.
    fn caret(&self, text: &str) -> String {
        text.to_owned()
    }
    /// The word `help`.
    fn help(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// No colour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Style for Plain {}

/// All diagnostics of a file, without colour, a blank line between two.
pub fn render(diagnostics: &[Diagnostic], source: &str, file_name: &str) -> String {
    render_styled(diagnostics, source, file_name, &Plain)
}

/// As `render`, with colour.
pub fn render_styled(
    diagnostics: &[Diagnostic],
    source: &str,
    file_name: &str,
    style: &dyn Style,
) -> String {
    let mut out = String::new();
    for (index, diagnostic) in diagnostics.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        block(&mut out, diagnostic, source, file_name, style);
    }
    out
}

fn block(
    out: &mut String,
    diagnostic: &Diagnostic,
    source: &str,
    file_name: &str,
    style: &dyn Style,
) {
    line(
        out,
        format_args!("{}: {}", style.error("error"), shown(&diagnostic.message)),
    );
    let file_name = shown(file_name);
    match diagnostic.span {
        Some(span) => excerpt(
            out,
            span,
            diagnostic.label.as_deref().unwrap_or_default(),
            source,
            &file_name,
            style,
        ),
        None => line(
            out,
            format_args!("  {}", style.frame(&format!("┌ {file_name}"))),
        ),
    }
    if let Some(help) = &diagnostic.help {
        line(
            out,
            format_args!("  {}: {}", style.help("help"), shown(help)),
        );
    }
}

fn excerpt(
    out: &mut String,
    span: Location,
    label: &str,
    source: &str,
    file_name: &str,
    style: &dyn Style,
) {
    let number = span.line.to_string();
    let gutter = number.len().max(2);
    let corner = format!("{:gutter$}┌ {file_name}:{}:{}", "", span.line, span.column);
    line(out, format_args!("{}", style.frame(&corner)));
    let (text, before, marked) = window(source, span);
    line(
        out,
        format_args!(
            "{} {}",
            style.frame(&format!("{number:>gutter$} │")),
            text.trim_end()
        ),
    );
    let caret = format!(
        "{}{} {}",
        " ".repeat(before),
        "^".repeat(marked.max(1)),
        shown(label)
    );
    line(
        out,
        format_args!(
            "{} {}",
            style.frame(&format!("{:gutter$} │", "")),
            style.caret(caret.trim_end())
        ),
    );
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    out.write_fmt(text).ok();
    out.push('\n');
}

/// The line that holds `span`, cut around it if it is long; columns before the caret; columns under it.
fn window(source: &str, span: Location) -> (String, usize, usize) {
    let start = boundary(source, span.start);
    let end = boundary(source, span.end).max(start);
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[start..]
        .find('\n')
        .map_or(source.len(), |at| start + at);
    let end = end.min(line_end);
    // A line may be a megabyte; no more of it than can be shown is looked at.
    let fits = forth(source, line_start, line_end, COLUMNS_MAX) == line_end;
    let (from, to) = if fits {
        (line_start, line_end)
    } else {
        let from = back(source, line_start, start, COLUMNS_MAX / 2);
        let room = COLUMNS_MAX.saturating_sub(width::of_str(&source[from..start]));
        (from, forth(source, start, line_end, room))
    };
    let end = end.min(to);
    let whole = masked(&shown(&source[from..to]));
    let lead = if from > line_start { "…" } else { "" };
    let tail = if to < line_end { "…" } else { "" };
    let before = width::of_str(lead) + width::of_str(&shown(&source[from..start]));
    let marked = width::of_str(shown(&source[start..end]).trim_end());
    (format!("{lead}{whole}{tail}"), before, marked)
}

fn boundary(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first byte of the last `columns` before `at`.
fn back(source: &str, line_start: usize, at: usize, columns: usize) -> usize {
    let mut seen = 0;
    for (offset, c) in source[line_start..at].char_indices().rev() {
        seen += width::of_char(c);
        if seen > columns {
            return line_start + offset + c.len_utf8();
        }
    }
    line_start
}

/// The byte past the first `columns` from `at`, at most `line_end`.
fn forth(source: &str, at: usize, line_end: usize, columns: usize) -> usize {
    let mut seen = 0;
    for (offset, c) in source[at..line_end].char_indices() {
        seen += width::of_char(c);
        if seen > columns {
            return at + offset;
        }
    }
    line_end
}

/// Without anything that could move a terminal's cursor or reorder its text; each character keeps its column count.
fn shown(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' => ' ',
        '\r' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{200b}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(replace).collect()
}

/// Values of keys that name a secret, and passwords in URLs, as dots of the same width.
fn masked(text: &str) -> String {
    static SECRET: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = SECRET.get_or_init(|| {
        Regex::new(r#"(?i)(?:(?:secret|password|passwd|api[-_]?key|access[-_]?key|private[-_]?key|credentials?|token)["']?\s*[:=]\s*|bearer\s+|://[^/\s:@]*:)(?P<value>"[^"]*"|'[^']*'|[^\s,}@]+)"#).ok()
    });
    let Some(pattern) = pattern else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in pattern
        .captures_iter(text)
        .filter_map(|captures| captures.name("value"))
    {
        out.push_str(&text[done..found.start()]);
        out.push_str(&"•".repeat(width::of_str(found.as_str())));
        done = found.end();
    }
    out.push_str(&text[done..]);
    out
}
