//! What the YAML parser says, in words that tell what to do.

use super::problem::Problem;

const HINTS: &[(&str, &str, &str)] = &[
    (
        "tab",
        "a tab stands in the indentation",
        "indent with spaces",
    ),
    (
        "invalid indentation in quoted",
        "a quoted text is not closed, or the line it goes on over is not indented",
        "close the quote",
    ),
    (
        "invalid indentation",
        "this line does not fit the ones above it",
        "close the bracket that is still open above, or correct the indentation",
    ),
    (
        "mapping values are not allowed",
        "a `: ` stands where no key can be",
        "put the text in quotes if the colon belongs to it, or start a new line for a new key",
    ),
    (
        "unterminated",
        "something opened here is never closed",
        "close the quote or bracket",
    ),
    (
        "unexpected end of stream",
        "a quote is never closed",
        "close it",
    ),
    (
        "unexpected EOF",
        "something is never closed",
        "close the quote or bracket",
    ),
    (
        "',' or ']'",
        "a list in `[ ]` is not closed or lacks a comma",
        "separate items by `, ` and close with `]`",
    ),
    (
        "',' or '}'",
        "a map in `{ }` is not closed or lacks a comma",
        "separate entries by `, ` and close with `}`",
    ),
    (
        "simple key expect",
        "a line is neither `key: value` nor `- item`",
        "write it like `key: value`",
    ),
    (
        "could not find expected ':'",
        "a line is neither `key: value` nor `- item`",
        "write it like `key: value`",
    ),
    (
        "recursion limit",
        "lists and maps are nested too deeply",
        "no part of an experiment needs more than a dozen levels",
    ),
    (
        "did not find expected <document start>",
        "text stands after the end of the document",
        "indent it as part of the key above",
    ),
    (
        "block mapping",
        "this line does not fit the map it stands in",
        "give all keys of one map the same indentation",
    ),
    (
        "block collection",
        "this line does not fit the list it stands in",
        "give all `- ` of one list the same indentation",
    ),
    (
        "block sequence",
        "this line does not fit the list it stands in",
        "give all `- ` of one list the same indentation",
    ),
    (
        "while scanning an anchor or alias",
        "`&` and `*` start anchors and aliases, which are not read",
        "put the text in quotes if it starts with `*` or `&`",
    ),
    (
        "unknown anchor",
        "aliases are not read",
        "put the text in quotes if it starts with `*`",
    ),
    (
        "cannot start any token",
        "a value cannot start with this character",
        "put the value in quotes",
    ),
];

/// The problem that the parser's `info` describes.
pub(crate) fn problem(info: &str, text: &str, at: usize) -> Problem {
    let code = match () {
        () if info.contains("recursion limit") => "too-deep",
        () if info.contains("unknown anchor") => "yaml-alias",
        () => "yaml-syntax",
    };
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let indented_by_tab = text[line_start..at].contains('\t') || text[at..].starts_with('\t');
    let found = HINTS.iter().find(|(needle, ..)| match *needle {
        "tab" => indented_by_tab || info.contains("tabs "),
        needle => info.contains(needle),
    });
    match found {
        Some((_, message, help)) => Problem::new(code, *message)
            .label("the file cannot be read from here on")
            .help(*help),
        None => Problem::new(code, "this is not YAML")
            .label(info.to_owned())
            .help("compare its indentation, quotes and brackets with the lines above"),
    }
}
