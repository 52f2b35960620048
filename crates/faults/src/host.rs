//! The door: the one way for a fault to change the world. The undo is durable before anything is touched.

use crate::crash::crash_point;
use crate::fault::{Door, FaultError};
use crate::journal::Journal;
use crate::journal::record::{About, Entry, Landing};
use crate::undo::Undo;
use crate::undo::perform::{Turn, locked};
use squall_model::event::Observation;
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A child that waits at a gate: it exits by itself when the gate's other end closes, so it needs no undo before it is let go.
pub trait Gated {
    /// Who it is.
    fn identity(&self) -> &ProcessIdentity;
    /// How long it may take to end cleanly after TERM.
    fn grace(&self) -> Duration;
    /// Lets it go and waits until it has said that it is ready.
    fn release(self: Box<Self>, ready_within: Duration) -> Result<(), FaultError>;
}

/// Starts served children. The agent gives one that asks the guard.
pub trait Spawner: Send + Sync {
    /// Starts this binary as `serve-fault KIND` with `config`, waiting at its gate.
    fn spawn_gated(
        &self,
        kind: &str,
        config: &serde_json::Value,
        injection: &InjectionId,
    ) -> io::Result<Box<dyn Gated>>;
}

/// A spawner for hosts that serve no children.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoChildren;

impl Spawner for NoChildren {
    fn spawn_gated(
        &self,
        _: &str,
        _: &serde_json::Value,
        _: &InjectionId,
    ) -> io::Result<Box<dyn Gated>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no children are served here",
        ))
    }
}

/// The door of one injection.
pub struct Host {
    journal: Arc<Mutex<Journal>>,
    injection: InjectionId,
    about: About,
    seed: u64,
    cancelled: Arc<AtomicBool>,
    spawner: Arc<dyn Spawner>,
}

impl Host {
    /// A door for one injection. Nothing is recorded before its first change.
    pub fn new(
        journal: Arc<Mutex<Journal>>,
        injection: InjectionId,
        about: About,
        seed: u64,
        cancelled: Arc<AtomicBool>,
        spawner: Arc<dyn Spawner>,
    ) -> Host {
        Host {
            journal,
            injection,
            about,
            seed,
            cancelled,
            spawner,
        }
    }

    /// Records that all changes were made and what was read back. The injection is active from here.
    pub fn land(
        &mut self,
        landing: Option<Landing>,
        observations: Vec<Observation>,
    ) -> Result<(), FaultError> {
        let entry = Entry::Active {
            injection: self.injection.clone(),
            landing: landing.map(Box::new),
            observations,
        };
        self.append(entry, "land")?;
        self.crash_point("after-active");
        Ok(())
    }

    /// The undos journalled so far.
    pub fn changes(&self) -> Vec<Undo> {
        locked(&self.journal)
            .state()
            .get(&self.injection)
            .map(|one| one.undos.clone())
            .unwrap_or_default()
    }

    fn append(&self, entry: Entry, action: &str) -> Result<(), FaultError> {
        let appended = locked(&self.journal).append(entry);
        appended.map(|_| ()).map_err(|error| FaultError::Journal {
            action: action.to_owned(),
            source: error.into(),
        })
    }

    /// As `serve`, and says when the undo is durable, before the child is let go.
    pub fn serve_told(
        &mut self,
        kind: &str,
        config: serde_json::Value,
        ready_within: Duration,
        durable: &mut dyn FnMut(),
    ) -> Result<ProcessIdentity, FaultError> {
        self.check_cancelled()?;
        let what = format!("serve-fault {kind}");
        let child = self
            .spawner
            .spawn_gated(kind, &config, &self.injection)
            .map_err(|source| FaultError::Os {
                action: "start".to_owned(),
                object: what.clone(),
                source,
            })?;
        let identity = child.identity().clone();
        let undo = Undo::EndProcess {
            process: identity.clone(),
            grace_ms: u64::try_from(child.grace().as_millis()).unwrap_or(u64::MAX),
            what: what.clone(),
        };
        // On an error the gate closes with `child`, which then exits without having done anything.
        self.intend(undo, &format!("let {what} go"))?;
        durable();
        child.release(ready_within)?;
        self.crash_point("after-act");
        Ok(identity)
    }

    fn intend(&self, undo: Undo, action: &str) -> Result<(), FaultError> {
        self.crash_point("before-intent");
        let entry = Entry::Intent {
            injection: self.injection.clone(),
            about: Box::new(self.about.clone()),
            action: action.to_owned(),
            undo,
        };
        self.append(entry, action)?;
        self.crash_point("after-intent");
        Ok(())
    }

    fn crash_point(&self, boundary: &'static str) {
        let by = locked(&self.journal).writer();
        crash_point(boundary, by, &self.about.kind, &self.injection);
    }
}

impl Door for Host {
    fn change(
        &mut self,
        undo: Undo,
        action: &str,
        act: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), FaultError> {
        self.check_cancelled()?;
        // From the record to the act no undo may come between: it would find nothing, and the act would stay.
        let _turn = Turn::take(&self.injection);
        self.intend(undo, action)?;
        act().map_err(|source| FaultError::Os {
            action: action.to_owned(),
            object: self.about.target.clone(),
            source,
        })?;
        self.crash_point("after-act");
        Ok(())
    }

    fn serve(
        &mut self,
        kind: &str,
        config: serde_json::Value,
        ready_within: Duration,
    ) -> Result<ProcessIdentity, FaultError> {
        self.serve_told(kind, config, ready_within, &mut || {})
    }

    fn backup_dir(&mut self) -> Result<PathBuf, FaultError> {
        let folder = locked(&self.journal)
            .run_dir()
            .join("backups")
            .join(&self.injection.0);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| FaultError::Os {
                action: "create".to_owned(),
                object: folder.display().to_string(),
                source,
            })?;
        Ok(folder)
    }

    fn check_cancelled(&self) -> Result<(), FaultError> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(FaultError::Cancelled);
        }
        Ok(())
    }

    fn injection(&self) -> &InjectionId {
        &self.injection
    }

    fn draw(&self, what: &str) -> f64 {
        squall_model::seed::unit(
            self.seed,
            &[b"injection", self.injection.0.as_bytes(), what.as_bytes()],
        )
    }
}
