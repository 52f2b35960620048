//! A problem in something a person wrote: where it is, what is wrong, what to write instead. Rendered by `cli`, printed as JSON for machines.

mod render;
mod width;

pub use render::{Plain, Style, render, render_styled};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One problem. All problems of a file are reported together, most important first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// Stable kebab-case name of the kind of problem, e.g. `unknown-key`.
    pub code: String,
    /// What is wrong: a lowercase sentence without a final stop.
    pub message: String,
    /// Where; absent when the problem belongs to no place in the file.
    pub span: Option<Location>,
    /// Text beside the caret, e.g. "did you mean `network-delay`?".
    pub label: Option<String>,
    /// What to write or type next.
    pub help: Option<String>,
}

/// A place in a text: byte offsets for tools, line and column for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// First byte, from 0.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}
