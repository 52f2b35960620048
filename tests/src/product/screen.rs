//! A terminal: a command that runs on a pseudo-terminal of a given size, and what stood on its screen after each drawing.

use std::process::Command;

/// The same command on a pseudo-terminal, by util-linux's `script`; its output is what the terminal was sent.
pub fn on_a_terminal(command: &Command, columns: usize) -> Command {
    let quoted =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect();
    let line = format!("stty rows 40 cols {columns} && exec {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "xterm").env_remove("NO_COLOR");
    if let Some(folder) = command.get_current_dir() {
        script.current_dir(folder);
    }
    script
}

/// What a terminal shows.
#[derive(Debug, Default)]
pub struct Screen {
    /// Every line since the start, none scrolled away.
    lines: Vec<String>,
    row: usize,
    /// Sequences that set a colour.
    pub colours: usize,
    /// Every sequence that is none of those that we send.
    pub strange: Vec<String>,
    /// The whole screen each time that something is taken off it.
    pub drawings: Vec<Vec<String>>,
}

impl Screen {
    /// Draws what was sent, as a terminal would: up, erase below, colours, lines.
    pub fn of(sent: &str) -> Screen {
        let mut screen = Screen::default();
        let mut rest = sent;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => screen.row += 1,
                '\r' => {}
                '\x1b' => rest = screen.escape(rest),
                c => screen.put(c),
            }
        }
        screen
    }

    /// The lines that stand there in the end.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    fn put(&mut self, c: char) {
        while self.lines.len() <= self.row {
            self.lines.push(String::new());
        }
        self.lines[self.row].push(c);
    }

    fn escape<'a>(&mut self, rest: &'a str) -> &'a str {
        let end = rest.find(|c: char| c.is_ascii_alphabetic());
        let (sequence, after) = end.map_or((rest, ""), |at| rest.split_at(at + 1));
        let number = sequence.trim_matches(|c: char| !c.is_ascii_digit()).parse();
        match (sequence.chars().last(), number) {
            (Some('m'), _) => self.colours += 1,
            (Some('A'), Ok(up)) => {
                self.drawings.push(self.lines.clone());
                self.row = self.row.saturating_sub(up);
            }
            (Some('J'), Err(_)) => self.lines.truncate(self.row),
            _ => self.strange.push(sequence.to_owned()),
        }
        after
    }
}
