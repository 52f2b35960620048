//! The workload's output: every line stamped and kept, lines that match a pattern become training events.

use squall_model::experiment::LogPattern;
pub use squall_model::patterns::LogEvent;
use squall_model::patterns::Matcher;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A longer line is cut.
const LINE_MAX: usize = 64 * 1024;
/// The log file grows no further than this.
const LOG_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes read in one turn, so that a flood of output does not keep the agent from anything else.
const TURN_MAX: usize = 1024 * 1024;

/// The reading end of the workload's output.
#[derive(Debug)]
pub struct Output {
    pipe: OwnedFd,
    log: File,
    written: u64,
    partial: Vec<u8>,
    cutting: bool,
    patterns: Matcher,
    /// Lines that did not reach the log.
    pub lost_lines: u64,
}

impl Output {
    /// Reads `pipe` into `log` (made new, mode 0600). Patterns were checked with the experiment.
    pub fn new(pipe: OwnedFd, log: &Path, patterns: &[LogPattern]) -> io::Result<Output> {
        let patterns = Matcher::new(patterns)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let log = crate::state_dir::open_log(log)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let written = log.metadata()?.len();
        Ok(Output {
            pipe,
            log,
            written,
            partial: Vec::new(),
            cutting: false,
            patterns,
            lost_lines: 0,
        })
    }

    /// Reads what has arrived and hands out its lines. False when every writer is gone.
    pub fn read(&mut self, now_ns: u64, lines: &mut Vec<String>) -> io::Result<bool> {
        let mut chunk = [0u8; 64 * 1024];
        let mut budget = TURN_MAX;
        while budget > 0 {
            match rustix::io::read(&self.pipe, &mut chunk) {
                Ok(0) => {
                    self.end_line(now_ns, lines);
                    return Ok(false);
                }
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    self.take(&chunk[..count], now_ns, lines);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, mut bytes: &[u8], now_ns: u64, lines: &mut Vec<String>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], now_ns, lines);
            if !std::mem::take(&mut self.cutting) {
                self.finish_line(now_ns, lines);
            }
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, now_ns, lines);
    }

    /// Adds to the line in progress; what exceeds the longest line is handed out at once and the rest of it dropped.
    fn extend(&mut self, bytes: &[u8], now_ns: u64, lines: &mut Vec<String>) {
        if self.cutting {
            return;
        }
        let room = LINE_MAX - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.partial.extend_from_slice(" [cut]".as_bytes());
            self.finish_line(now_ns, lines);
            self.cutting = true;
        }
    }

    fn end_line(&mut self, now_ns: u64, lines: &mut Vec<String>) {
        if !self.partial.is_empty() {
            self.finish_line(now_ns, lines);
        }
    }

    fn finish_line(&mut self, now_ns: u64, lines: &mut Vec<String>) {
        let bytes = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text).to_owned();
        let stamped = format!(
            "{}.{:06} {text}\n",
            now_ns / 1_000_000_000,
            now_ns % 1_000_000_000 / 1_000
        );
        if self.written + stamped.len() as u64 > LOG_MAX
            || self.log.write_all(stamped.as_bytes()).is_err()
        {
            self.lost_lines += 1;
        } else {
            self.written += stamped.len() as u64;
        }
        lines.push(text);
    }

    /// The training events that a line is.
    pub fn events(&self, line: &str) -> Vec<LogEvent> {
        self.patterns.events(line)
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Output};
    use squall_model::experiment::LogPattern;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("squall-output-{name}-{}", std::process::id()));
        std::fs::remove_file(&path).unwrap_or_default();
        path
    }

    fn lines_of(name: &str, pieces: &[&[u8]]) -> (Vec<String>, String) {
        let log = scratch(name);
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut output = Output::new(read, &log, &[]).unwrap();
        let mut lines = Vec::new();
        for piece in pieces {
            for part in piece.chunks(32 * 1024) {
                rustix::io::write(&write, part).unwrap();
                assert!(output.read(1_234_567_890_123, &mut lines).unwrap());
            }
        }
        drop(write);
        assert!(!output.read(1_234_567_890_123, &mut lines).unwrap());
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        (lines, text)
    }

    #[test]
    fn lines_are_whole_whatever_the_pieces_and_the_last_needs_no_end() {
        let (lines, log) = lines_of("pieces", &[b"on", b"e\n\ntw", b"o\r\nthree"]);
        assert_eq!(lines, ["one", "", "two", "three"]);
        assert_eq!(log.lines().next(), Some("1234.567890 one"));
        assert_eq!(log.lines().count(), 4);
    }

    #[test]
    fn a_line_without_end_is_cut_once_and_the_next_line_is_whole() {
        let long = vec![b'x'; LINE_MAX * 3];
        let (lines, _) = lines_of("long", &[&long, b"yy\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("x [cut]"));
        assert!(lines[0].len() < LINE_MAX + 10);
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn named_groups_fill_the_event() {
        let log = scratch("groups");
        let (read, _write) = rustix::pipe::pipe().unwrap();
        let pattern = LogPattern {
            event: "step-end".into(),
            pattern: r"rank (?<rank>\d+) epoch (?<epoch>\d+) step (?<step>\d+) loss (?<loss>\S+)"
                .into(),
        };
        let output = Output::new(read, &log, &[pattern]).unwrap();
        let events = output.events("rank 1 epoch 2 step 640 loss 1.5");
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].rank, Some(1));
        assert_eq!(events[0].event.step, Some(640));
        assert_eq!(events[0].event.epoch, Some(2));
        assert_eq!(events[0].event.loss, Some(1.5));
        assert_eq!(events[0].event.kind, "step-end");
        assert!(output.events("warming up").is_empty());
        std::fs::remove_file(&log).unwrap();
    }
}
