//! Texts with a form of their own: patterns, commands, addresses, paths.

use super::super::problem::{At, Problem};
use super::super::words::short;
use super::Meaning;
use regex::Regex;

const SHELL_WORDS: &[&str] = &[
    "|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1", "&>",
];

impl Meaning<'_> {
    /// A regular expression; gives it when it can be read.
    pub(super) fn pattern(&mut self, text: &str, at: At<'_>) -> Option<Regex> {
        let error = match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
            Ok(pattern) => return Some(pattern),
            Err(error) => error,
        };
        let because = match &error {
            regex::Error::CompiledTooBig(_) => "it grows too large".to_owned(),
            // The parser draws its own picture over several lines; its last line says why.
            error => error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned(),
        };
        self.value(
            at,
            Problem::new(
                "bad-pattern",
                format!("`{}` is not a regular expression", short(text)),
            )
            .label(because)
            .help("escape characters that are meant literally, e.g. `\\(` or `\\[`"),
        );
        None
    }

    /// A command line: split as a shell would, run without one.
    pub(super) fn command_line(&mut self, text: &str, at: At<'_>) {
        let words = match shell_words::split(text) {
            Ok(words) => words,
            Err(_) => {
                self.value(
                    at,
                    Problem::new(
                        "bad-command",
                        "the command line has a quote that is never closed",
                    )
                    .label("not closed")
                    .help("close it, or write `\\'` or `\\\"` if the quote is meant literally"),
                );
                return;
            }
        };
        let bad = |message: &str| Problem::new("bad-command", message.to_owned());
        let Some(first) = words.first().filter(|first| !first.is_empty()) else {
            self.value(
                at,
                bad("the command line is empty")
                    .label("nothing to run")
                    .help("write the program and its arguments"),
            );
            return;
        };
        if let Some((variable, _)) = first.split_once('=').filter(|(name, _)| is_variable(name)) {
            let help = format!("write `env: {{{variable}: …}}` beside `run:`");
            self.value(
                at,
                bad("the command line starts with a variable, and no shell reads it")
                    .label("no shell runs this")
                    .help(help),
            );
            return;
        }
        // Quoted operators are ordinary arguments, so only bare ones in the text count.
        let bare = text
            .split_whitespace()
            .find(|word| SHELL_WORDS.contains(word) && words.iter().any(|own| own == word));
        if let Some(operator) = bare {
            let message =
                format!("`{operator}` means nothing here, since no shell runs this command");
            self.value(
                at,
                bad(&message)
                    .label("would be passed on as an argument")
                    .help("write `sh -c '…'` if a shell is meant"),
            );
        }
    }

    /// A path pattern, which may have `*` and `?` in its last part only.
    pub(super) fn path(&mut self, text: &str, at: At<'_>) {
        self.out(text, at);
        if text.trim().is_empty() {
            self.value(
                at,
                Problem::new("bad-path", "the path is empty")
                    .label("no path")
                    .help("write a path, e.g. `{out}/checkpoint.safetensors`"),
            );
            return;
        }
        let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains(['*', '?']) {
            self.value(
                at,
                Problem::new(
                    "bad-path",
                    format!("`{}` has a pattern in the name of a folder", short(text)),
                )
                .label("only the last part may have `*` or `?`")
                .help("name the folder in full"),
            );
        }
    }

    /// `{out}` is the folder of the workload.
    pub(super) fn out(&mut self, text: &str, at: At<'_>) {
        if text.contains("{out}") && !self.has_workload && !self.workload_doubtful {
            self.value(
                at,
                Problem::new(
                    "out-without-workload",
                    "`{out}` is the folder of the workload, and there is none",
                )
                .label("no workload owns a folder")
                .help("write the path in full, or add a `workload:`"),
            );
        }
    }
}

/// Whether a name can be one of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
