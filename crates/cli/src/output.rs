//! How this program speaks: colour only repeats what words say, and only at a terminal without `NO_COLOR`.

use squall_model::diagnostic::Diagnostic;
use squall_model::exit::Exit;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// A command that could not do its work: what was attempted, why it could not be, what to type next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
}

impl Failure {
    /// One error with its remedy.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display, help: Option<&str>) -> Failure {
        let mut text = format!(
            "{} {message}\n",
            style(Paint::Error, "error:", Stream::Error)
        );
        if let Some(help) = help {
            text.push_str(&format!(
                "  {} {help}\n",
                style(Paint::Strong, "help:", Stream::Error)
            ));
        }
        Failure { exit, text }
    }

    /// One of several reasons, with its remedy.
    pub(crate) fn add(&mut self, what: &str, remedy: &str) {
        let help = style(Paint::Strong, "help:", Stream::Error);
        self.text.push_str(&format!(
            "  {} {what}\n    {help} {remedy}\n",
            style(Paint::Error, "✗", Stream::Error)
        ));
    }

    /// The same, with something to read before it.
    pub(crate) fn after(mut self, before: &str) -> Failure {
        self.text.insert_str(0, before);
        self
    }

    /// All problems of a file at once.
    pub(crate) fn diagnostics(found: &[Diagnostic], source: &str, file: &str) -> Failure {
        let mut text = squall_model::diagnostic::render(found, source, file);
        let count = match found.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        text.push_str(&format!("\n{count} in {file}; nothing was done\n"));
        Failure {
            exit: Exit::Invalid,
            text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a styled word stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paint {
    Error,
    Good,
    Warn,
    Strong,
}

/// Where it is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// Whether a stream shows colour.
pub(crate) fn is_styled(stream: Stream) -> bool {
    let terminal = match stream {
        Stream::Out => std::io::stdout().is_terminal(),
        Stream::Error => std::io::stderr().is_terminal(),
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    terminal && !plain
}

/// The text, styled when the stream shows colour.
pub(crate) fn style(paint: Paint, text: &str, stream: Stream) -> String {
    if !is_styled(stream) {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Error => "1;31",
        Paint::Good => "32",
        Paint::Warn => "33",
        Paint::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Whether something could not be said on stdout though somebody may still read it, as on a full disk.
static UNSAID: AtomicBool = AtomicBool::new(false);

/// Says something. Nobody may be there to read it any more, and that ends no run.
pub(crate) fn say(stream: Stream, text: fmt::Arguments<'_>) {
    match stream {
        Stream::Out => match io::stdout().write_fmt(text) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                UNSAID.store(true, Ordering::Relaxed);
            }
            Ok(()) | Err(_) => {}
        },
        // There is no third place where its failure could be said.
        Stream::Error => drop(io::stderr().write_fmt(text)),
    }
}

/// The exit code, with the bad news that what was to be printed was not.
pub(crate) fn after_all(exit: Exit) -> Exit {
    let unsaid = io::stdout()
        .flush()
        .is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe)
        || UNSAID.load(Ordering::Relaxed);
    if !unsaid {
        return exit;
    }
    eprintln!("error: could not write all of the output; see whether the disk is full");
    match exit {
        Exit::Held => Exit::Bug,
        worse => worse,
    }
}

/// A text as lines of at most 80 columns: the first as it is, the others below its tenth.
pub(crate) fn folded(text: &str) -> String {
    let mut folded = String::new();
    let mut column = 0;
    for word in text.split_inclusive(' ') {
        let letters = word.trim_end().chars().count();
        if column > 10 && column + letters > 80 {
            folded.truncate(folded.trim_end().len());
            folded.push_str("\n          ");
            column = 10;
        }
        folded.push_str(word);
        column += word.chars().count();
    }
    folded
}

/// A JSON value on stdout, one line.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| {
        Failure::new(
            Exit::Bug,
            format!("could not write JSON, because {error}"),
            None,
        )
    })?;
    println!("{text}");
    Ok(())
}
