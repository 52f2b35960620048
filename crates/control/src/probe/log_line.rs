//! A line appears (or does not) in the workload's output. Reads on from where it stopped; the stamps of the lines tell when they came.

use super::{Context, Probed, seconds};
use regex::Regex;
use squall_model::experiment::LogLineProbe;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

/// The most that is read in one measurement; the rest is read in the next.
const READ_MAX: u64 = 16 << 20;
const LINE_MAX: usize = 64 << 10;

/// How far the output was read, and what matched.
#[derive(Debug)]
pub(super) struct LogWatch {
    pattern: Option<Regex>,
    offset: u64,
    partial: Vec<u8>,
    matches: u64,
    /// Boot-time clock.
    last_ns: Option<u64>,
}

impl LogWatch {
    pub(super) fn new(probe: &LogLineProbe) -> LogWatch {
        LogWatch {
            pattern: Regex::new(&probe.pattern).ok(),
            offset: 0,
            partial: Vec::new(),
            matches: 0,
            last_ns: None,
        }
    }

    pub(super) fn measure(&mut self, probe: &LogLineProbe, context: &Context) -> Probed {
        if self.pattern.is_none() {
            return Probed::failed("its pattern is not a regular expression");
        }
        if let Err(error) = self.read_on(context) {
            return Probed::failed(format!("the workload's output cannot be read: {error}"));
        }
        let ago = self
            .last_ns
            .map(|last| Duration::from_nanos(crate::clock::boot_ns().saturating_sub(last)));
        let fresh = match (ago, probe.within) {
            (Some(ago), Some(within)) => ago <= within.0,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let text = match ago {
            Some(ago) => format!(
                "{} matching lines, the last {} ago",
                self.matches,
                seconds(ago)
            ),
            None => "no matching line".into(),
        };
        Probed::new(fresh != probe.absent, text, Some(self.matches as f64))
    }

    fn read_on(&mut self, context: &Context) -> std::io::Result<()> {
        let mut file = match File::open(&context.log) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.partial.len());
            self.partial
                .extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.take_line(&String::from_utf8_lossy(&line));
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) {
        let (stamp, text) = stamped(line.trim_end_matches(['\n', '\r']));
        if self
            .pattern
            .as_ref()
            .is_some_and(|pattern| pattern.is_match(text))
        {
            self.matches += 1;
            self.last_ns = Some(stamp.unwrap_or_else(crate::clock::boot_ns));
        }
    }
}

/// Splits `1234.567890 text` into the boot-time clock in nanoseconds and the text.
fn stamped(line: &str) -> (Option<u64>, &str) {
    let parse = || {
        let (stamp, text) = line.split_once(' ')?;
        let (whole, micros) = stamp
            .split_once('.')
            .filter(|(_, micros)| micros.len() == 6)?;
        let ns = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
        Some((ns.checked_add(micros.parse::<u64>().ok()? * 1_000)?, text))
    };
    match parse() {
        Some((ns, text)) => (Some(ns), text),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::stamped;

    #[test]
    fn stamps_are_split_off_and_anything_else_is_text() {
        assert_eq!(stamped("12.000003 a b"), (Some(12_000_003_000), "a b"));
        assert_eq!(stamped("12.5 a"), (None, "12.5 a"));
        assert_eq!(stamped("99999999999999999999.000000 a").0, None);
    }
}
