//! A run as it happens: the same words at a terminal (with a few live lines below) and in a log.

mod area;
mod fit;
mod probes;
pub(crate) mod proxy;
mod words;

use crate::arguments::Format;
use crate::output::{Paint, Stream, style};
use area::Area;
use squall_control::run::{Live, Observer};
use squall_model::event::Event;
use squall_model::id::RunId;
use std::io::{IsTerminal, Write};
use std::path::Path;
use words::Words;

pub(crate) use fit::{columns, fitted, for_terminal, shortened};

/// Prints a run to standard error (for people) or standard output (for machines).
#[derive(Debug)]
pub(crate) struct Printer {
    format: Format,
    /// Lines of the live area that stand on the terminal now.
    area: usize,
    picture: Area,
    terminal: bool,
    words: Words,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Printer {
        let terminal = format == Format::Text
            && std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Printer {
            format,
            area: 0,
            picture: Area::default(),
            terminal,
            words: Words::default(),
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{}", for_terminal(text));
    }

    /// Takes the live area off the terminal.
    pub(crate) fn clear(&mut self) {
        if self.area > 0 {
            // Up to the first line of the area, then clear to the end of the screen.
            eprint!("\x1b[{}A\x1b[J", self.area);
            self.area = 0;
        }
    }
}

impl Observer for Printer {
    fn started(&mut self, run: &RunId, run_dir: &Path) {
        match self.format {
            Format::Text => self.say(&format!(" run      {run}\n          {}", run_dir.display())),
            Format::Json => print_json(&serde_json::json!({"run": run, "dir": run_dir})),
        }
    }

    fn event(&mut self, event: &Event) {
        if self.format == Format::Json {
            print_json(event);
            return;
        }
        if let Some(text) = self.words.line(event) {
            self.say(&text);
        }
    }

    fn tick(&mut self, live: &Live) {
        if !self.terminal {
            return;
        }
        self.clear();
        let columns = fit::columns(Stream::Error).unwrap_or(80);
        let lines = self.picture.lines(live, &self.words, columns);
        self.area = lines.len();
        for line in lines {
            eprintln!("{line}");
        }
        std::io::stderr().flush().unwrap_or_default();
    }

    fn remains(&mut self, what: &str) {
        if self.format == Format::Text {
            self.say(&format!(
                " {} still to do: {what}",
                style(Paint::Warn, "▲", Stream::Error)
            ));
        }
    }
}

fn print_json(value: &impl serde::Serialize) {
    // A closed pipe must not stop a run that has faults to undo.
    if let Ok(text) = serde_json::to_string(value) {
        writeln!(std::io::stdout(), "{text}").unwrap_or_default();
    }
}
