//! The door of one injection, with an eye on its first change.

use super::injection::{Job, place_now};
use super::shared::{FromJob, Shared};
use crate::fault::{Door, FaultError, Injectable, Target};
use crate::host::Host;
use crate::journal::record::Landing;
use crate::undo::Undo;
use squall_model::event::Body;
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;

/// The door, with an eye on the first change.
pub(super) struct Watched<'a, L> {
    pub(super) host: Host,
    pub(super) job: &'a Job<L>,
    pub(super) target: &'a Target,
    /// It has landed, and the held process goes on, when the first change is made.
    pub(super) early: bool,
    pub(super) landing: Option<Landing>,
    /// What is told once the first undo is durable.
    pub(super) begun: Option<Body>,
    pub(super) shared: &'a Shared,
}

impl<L: Injectable> Watched<'_, L> {
    fn changed(&mut self) {
        if !self.early || self.landing.is_some() {
            return;
        }
        self.landing = Some(place_now(self.job, self.target, self.shared));
        if let Some(hold) = self.job.hold.clone() {
            self.shared.tell(FromJob::LetGo { hold, landed: true });
        }
    }
}

impl<L: Injectable> Door for Watched<'_, L> {
    fn change(
        &mut self,
        undo: Undo,
        action: &str,
        act: &mut dyn FnMut() -> std::io::Result<()>,
    ) -> Result<(), FaultError> {
        let (begun, shared) = (&mut self.begun, self.shared);
        // It acts only when the undo is durable.
        self.host.change(undo, action, &mut || {
            begun.take().into_iter().for_each(|body| shared.event(body));
            act()
        })?;
        self.changed();
        Ok(())
    }

    fn serve(
        &mut self,
        kind: &str,
        config: serde_json::Value,
        ready_within: std::time::Duration,
    ) -> Result<ProcessIdentity, FaultError> {
        let (begun, shared) = (&mut self.begun, self.shared);
        let mut tell = || begun.take().into_iter().for_each(|body| shared.event(body));
        let child = self
            .host
            .serve_told(kind, config, ready_within, &mut tell)?;
        self.changed();
        Ok(child)
    }

    fn backup_dir(&mut self) -> Result<std::path::PathBuf, FaultError> {
        self.host.backup_dir()
    }

    fn check_cancelled(&self) -> Result<(), FaultError> {
        self.host.check_cancelled()
    }

    fn injection(&self) -> &InjectionId {
        self.host.injection()
    }

    fn draw(&self, what: &str) -> f64 {
        self.host.draw(what)
    }
}
