//! What a run shows to whoever watches it. The terminal and, later, a server implement it; control prints nothing itself.

use squall_model::event::{Event, Stage};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The live values of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Live {
    /// Since the run's start.
    pub elapsed: Duration,
    /// Where the run is.
    pub stage: Option<Stage>,
    /// Highest step completed.
    pub step: u64,
    /// Highest epoch completed.
    pub epoch: u64,
    /// Over the last seconds.
    pub steps_per_second: Option<f64>,
    /// Latest values, oldest first, at most [`LOSS_HISTORY`].
    pub loss: Vec<f64>,
    /// Until guard and agent would undo everything by themselves.
    pub lease_left: Duration,
    /// What the armed rules wait for, in words.
    pub next: Vec<String>,
    /// Injections whose change may be in the world.
    pub outstanding: usize,
}

/// Values of the loss that are kept for a picture.
pub const LOSS_HISTORY: usize = 60;

/// Watches a run. Called on the conductor's thread: must return at once.
pub trait Observer {
    /// The run folder exists.
    fn started(&mut self, _run: &squall_model::id::RunId, _run_dir: &std::path::Path) {}
    /// A stage begins.
    fn stage(&mut self, _stage: Stage) {}
    /// Something was written to the event log.
    fn event(&mut self, _event: &Event) {}
    /// Four times a second.
    fn tick(&mut self, _live: &Live) {}
    /// Ctrl-C came again: what remains to be done before the run can end.
    fn remains(&mut self, _what: &str) {}
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Requests to end, as signals bring them. The first ends the run and undoes everything; later ones only ask what remains.
#[derive(Debug, Default)]
pub struct Interrupt {
    count: AtomicU32,
    signal: Mutex<String>,
}

impl Interrupt {
    /// A signal came: `SIGINT`, `SIGTERM`, `SIGHUP`.
    pub fn raise(&self, signal: &str) {
        let mut name = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() {
            signal.clone_into(&mut name);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// How many have come.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// The name of the first.
    pub(super) fn signal(&self) -> String {
        self.signal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
