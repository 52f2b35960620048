//! `squall serve-fault KIND`: the child's side of a served fault.
//!
//! The child waits on standard input for a go byte and the config behind it; by then its undo is in the journal. End of input
//! before that, and it exits with nothing touched; end of input later is its order to stop, so it never outlives who started it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The byte that lets a child begin.
pub const GO: u8 = b'g';
/// The first word of the child's only line of output.
pub const READY: &str = "ready";
/// The longest config, in bytes.
const CONFIG_MAX: u64 = 1024 * 1024;

/// What the child is told and may say.
#[derive(Debug)]
pub struct Child(());

impl Child {
    /// Says that the fault is in the world.
    pub fn ready(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{READY}")?;
        out.flush()
    }

    /// Whether the order to stop has come; waits for it up to `within`.
    pub fn stopped(&self, within: Duration) -> bool {
        let input = io::stdin();
        let mut polled = [PollFd::new(&input, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => false,
            Ok(_) => !matches!(rustix::io::read(&input, &mut [0u8; 64]), Ok(count) if count > 0),
            Err(_) => true,
        }
    }
}

/// Waits for the go byte. None: end of input came first.
fn gate(input: &mut dyn Read) -> io::Result<Option<serde_json::Value>> {
    let mut byte = [0u8];
    if input.read(&mut byte)? == 0 {
        return Ok(None);
    }
    if byte[0] != GO {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the first byte is not `go`",
        ));
    }
    let mut line = Vec::new();
    loop {
        // Byte by byte: what follows the line belongs to nobody, and its end is the order to stop.
        if input.read(&mut byte)? == 0 {
            return Ok(None);
        }
        if byte[0] == b'\n' {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
        line.push(byte[0]);
        if line.len() as u64 > CONFIG_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the config is too long",
            ));
        }
    }
}

/// The message that lets a child begin with its config.
pub fn go(config: &serde_json::Value) -> io::Result<Vec<u8>> {
    let mut bytes = vec![GO];
    serde_json::to_writer(&mut bytes, config)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// This process is the one to be killed when memory runs out, never the host's work.
pub fn volunteer_for_oom() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")
}

/// A fault's body. Returns when it was ordered to stop.
pub type Body = fn(serde_json::Value, &Child) -> Result<(), String>;

/// The bodies of this crate.
pub fn body(kind: &str) -> Option<Body> {
    match kind {
        "cpu-pressure" => Some(crate::cpu_pressure::serve),
        "memory-pressure" => Some(crate::memory_pressure::serve),
        crate::packet::SERVED => Some(crate::packet::server::serve),
        crate::packet::tcx::SERVED => Some(crate::packet::tcx::server::serve),
        _ => None,
    }
}

/// Further bodies, of crates that this one must not know.
pub type Others = fn(&str) -> Option<Body>;

/// The whole child. Words about a failure go to standard error, which is the run's log.
pub fn main(kind: &str, others: Others) -> ExitCode {
    let Some(body) = body(kind).or_else(|| others(kind)) else {
        return fail(&format!("`{kind}` is not a served fault"));
    };
    let config = match gate(&mut Unbuffered) {
        Ok(Some(config)) => config,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return fail(&error.to_string()),
    };
    match body(config, &Child(())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(because) => fail(&because),
    }
}

fn fail(because: &str) -> ExitCode {
    // Nobody is left to tell when the log cannot be written.
    writeln!(io::stderr(), "serve-fault: {because}").unwrap_or_default();
    ExitCode::FAILURE
}

/// Standard input without a buffer that would swallow what a poll is to see.
struct Unbuffered;

impl Read for Unbuffered {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(io::stdin(), &mut *bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{gate, go};

    #[test]
    fn nothing_begins_before_the_whole_go() {
        let config = serde_json::json!({"load": "50%"});
        let message = go(&config).unwrap();
        for cut in 0..message.len() {
            assert_eq!(gate(&mut &message[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert_eq!(gate(&mut &message[..]).unwrap(), Some(config));
        assert!(gate(&mut &b"x"[..]).is_err());
    }
}
