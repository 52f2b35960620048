//! Served children without a guard: this package's own program is started as `serve-fault KIND`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use squall_faults::fault::FaultError;
use squall_faults::host::{Gated, Spawner};
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;

/// The program that knows `serve-fault`, `--inject` and `--recover`.
///
/// # Errors
/// When it was not built.
pub fn program() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let folders = ours
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("squall-crash"));
    folders
        .into_iter()
        .find(|path| path.is_file())
        .context("there is no squall-crash beside this program")
}

/// Starts children and collects them.
#[derive(Debug, Clone, Default)]
pub struct Children(Arc<Mutex<Vec<Child>>>);

impl Children {
    fn all(&self) -> MutexGuard<'_, Vec<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects those that have ended.
    pub fn reap(&self) {
        self.all()
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }
}

struct Waiting {
    children: Children,
    identity: ProcessIdentity,
    config: serde_json::Value,
}

impl Spawner for Children {
    fn spawn_gated(
        &self,
        kind: &str,
        config: &serde_json::Value,
        _: &InjectionId,
    ) -> std::io::Result<Box<dyn Gated>> {
        let program = program().map_err(std::io::Error::other)?;
        let mut command = Command::new(program);
        command
            .args(["serve-fault", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let child = command.spawn()?;
        let identity = squall_faults::sys::process::identity(child.id())?;
        self.all().push(child);
        let identity = identity.ok_or_else(|| std::io::Error::other("the child is gone"))?;
        Ok(Box::new(Waiting {
            children: self.clone(),
            identity,
            config: config.clone(),
        }))
    }
}

impl Gated for Waiting {
    fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn release(self: Box<Self>, _: Duration) -> Result<(), FaultError> {
        let failed = |source: std::io::Error| FaultError::Os {
            action: "let go".to_owned(),
            object: "a served child".to_owned(),
            source,
        };
        let mut all = self.children.all();
        let child = all.iter_mut().find(|child| child.id() == self.identity.pid);
        let child = child.ok_or_else(|| failed(std::io::Error::other("it was collected")))?;
        let input = child
            .stdin
            .as_mut()
            .ok_or_else(|| failed(std::io::Error::other("no input")))?;
        input
            .write_all(&squall_faults::serve::go(&self.config).map_err(failed)?)
            .map_err(failed)?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| failed(std::io::Error::other("no output")))?;
        let mut line = String::new();
        // The whole test has a time limit; a child that dies ends the line.
        BufReader::new(output)
            .read_line(&mut line)
            .map_err(failed)?;
        if line.trim() != squall_faults::serve::READY {
            return Err(failed(std::io::Error::other(format!("it said {line:?}"))));
        }
        Ok(())
    }
}
