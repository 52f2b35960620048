//! Lines for people and log readers: one write each, flushed, and never a reason to fail.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line to standard output. A reader that went away is ignored.
pub(crate) fn say(line: Arguments<'_>) {
    write_line(&mut std::io::stdout().lock(), line).ok();
}

/// Writes one line to standard error. A reader that went away is ignored.
pub(crate) fn complain(line: Arguments<'_>) {
    write_line(&mut std::io::stderr().lock(), line).ok();
}

fn write_line(out: &mut impl Write, line: Arguments<'_>) -> std::io::Result<()> {
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
