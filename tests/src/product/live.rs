//! A command that runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Ended;
use crate::spawned::Spawned;

/// A running `squall`, killed when dropped; its output goes to files.
#[derive(Debug)]
pub struct Live {
    process: Spawned,
    out: PathBuf,
    err: PathBuf,
    started: Instant,
}

impl Live {
    /// Starts a command whose output goes to new files in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let out = folder.join(format!("said-{count}.out"));
        let err = folder.join(format!("said-{count}.err"));
        command.stdout(File::create(&out)?);
        command.stderr(File::create(&err)?);
        Ok(Self {
            process: Spawned::start(&mut command)?,
            out,
            err,
            started: Instant::now(),
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let text = |path| String::from_utf8_lossy(&read(path)).into_owned();
        format!("{}\n{}", text(&self.out), text(&self.err))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn wait(mut self, limit: Duration) -> anyhow::Result<Ended> {
        let status = self
            .process
            .wait(limit)
            .map_err(|error| error.context(format!("it said:\n{}", self.said())))?;
        let text = |path: &Path| -> anyhow::Result<String> {
            Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
        };
        Ok(Ended {
            code: status.code(),
            out: text(&self.out)?,
            err: text(&self.err)?,
            took: self.started.elapsed(),
        })
    }
}
