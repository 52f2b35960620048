//! Child processes of a test that never outlive it.
//!
//! The guard kills and reaps its own child and nothing else: an unreaped child's pid cannot be
//! taken by another process, so the kill cannot hit a stranger.

use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::poll::poll;
use crate::snapshot::{ProcessState, process_state};

/// A child process, killed and reaped when dropped.
#[derive(Debug)]
pub struct Spawned(Child);

impl Spawned {
    /// Starts a command with no input.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self(child))
    }

    /// Starts a command whose input stays open as long as what is given with it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn fed(command: &mut Command) -> anyhow::Result<(Self, ChildStdin)> {
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let input = child.stdin.take().context("no input")?;
        Ok((Self(child), input))
    }

    /// What it writes, where that was piped.
    ///
    /// # Errors
    /// When it was not, or was taken already.
    pub fn output(&mut self) -> anyhow::Result<ChildStdout> {
        self.0.stdout.take().context("its output is not piped")
    }

    /// Starts a process that does nothing for longer than any test runs.
    ///
    /// # Errors
    /// When `sleep` cannot be started.
    pub fn sleeper() -> anyhow::Result<Self> {
        Self::start(Command::new("sleep").arg("3600"))
    }

    /// The pid, valid as long as the guard has not reaped the child.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What the child is doing.
    pub fn state(&self) -> ProcessState {
        process_state(self.pid())
    }

    /// Sends a signal to the child.
    ///
    /// # Errors
    /// When the child is already reaped or may not be signalled.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.rustix_pid()?, signal).with_context(|| format!("signal {}", self.pid()))
    }

    /// The pid in the type that system calls take.
    ///
    /// # Errors
    /// Never, but for a pid out of range.
    pub fn rustix_pid(&self) -> anyhow::Result<Pid> {
        Pid::from_raw(i32::try_from(self.pid())?).context("a pid")
    }

    /// Waits until the child is in this state.
    ///
    /// # Errors
    /// When it is not within the limit.
    pub fn reaches(&self, state: ProcessState, limit: Duration) -> anyhow::Result<()> {
        poll(limit, || Ok((self.state() == state).then_some(())))
            .with_context(|| format!("pid {} is {:?}, not {state:?}", self.pid(), self.state()))
    }

    /// Waits for the child's end and reaps it.
    ///
    /// # Errors
    /// When it has not ended within the limit.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        poll(limit, || Ok(self.0.try_wait()?)).context("waiting for a child's end")
    }

    /// Kills and reaps the child now.
    ///
    /// # Errors
    /// When it cannot be killed or reaped.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Nothing to tell: an already reaped child is what we want.
        self.end().ok();
    }
}
