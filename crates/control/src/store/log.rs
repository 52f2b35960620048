//! The event log of a live run, as its conductor sees it.

use super::db::Database;
use super::error::StoreError;
use super::series::Samples;
use super::writer::{Order, Writer};
use crate::clock::RunClock;
use rustix::fs::FlockOperation;
use squall_model::event::{Body, Event, RunState};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Messages between samplers and the writer.
const QUEUE: usize = 8_192;
/// Held by the controller as long as it lives.
const LOCK: &str = "controller.lock";

/// What a store needs to begin: the first event and what conclusions will need.
#[derive(Debug, Clone)]
pub struct Opening {
    /// `RunStarted`.
    pub first: Body,
    /// Key and JSON text, e.g. `ask`, `policies`.
    pub meta: Vec<(&'static str, String)>,
    /// The run's clock.
    pub clock: RunClock,
}

/// A run that is being written.
#[derive(Debug)]
pub struct Store {
    orders: SyncSender<Order>,
    samples: Samples,
    state: Mutex<RunState>,
    writer: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    clock: RunClock,
}

impl Store {
    /// Creates the database in `run_dir` and writes the first event.
    pub fn create(run_dir: &Path, opening: Opening) -> Result<Store, StoreError> {
        let lock = lock(run_dir)?.ok_or_else(|| StoreError::Content {
            path: run_dir.join(LOCK),
            what: "the lock",
            because: "another controller holds it".into(),
        })?;
        let database = Database::create(run_dir)?;
        let (orders, inbox) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                // The run is live until its last byte is written.
                let _held = lock;
                Writer::new(database).work(&inbox)
            })
            .map_err(|source| StoreError::File {
                action: "start the writer of",
                path: run_dir.to_path_buf(),
                source,
            })?;
        let store = Store {
            samples: Samples::new(orders.clone()),
            orders,
            state: Mutex::default(),
            writer: Mutex::new(Some(writer)),
            clock: opening.clock,
        };
        for (key, value) in opening.meta {
            store.set_meta(key, value)?;
        }
        store.append_at(0, opening.first)?;
        store.sync()?;
        Ok(store)
    }

    /// Appends what happened just now.
    pub fn append(&self, body: Body) -> Result<Event, StoreError> {
        self.append_at(self.clock.now_ns(), body)
    }

    /// Appends what happened at `t_ns`. An event that cannot follow the log is refused and leaves it as it is.
    pub fn append_at(&self, t_ns: u64, body: Body) -> Result<Event, StoreError> {
        let mut state = self.lock_state();
        let event = Event {
            seq: state.seq + 1,
            t_ns,
            body,
        };
        *state = state.clone().apply(&event)?;
        // Sent under the lock, so that the file's order is the log's.
        self.send(Order::Event(Box::new(event.clone())))?;
        Ok(event)
    }

    /// The state of the run so far.
    pub fn state(&self) -> RunState {
        self.lock_state().clone()
    }

    /// The run's clock.
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    /// Where samplers put what they measured.
    pub fn samples(&self) -> Samples {
        self.samples.clone()
    }

    /// Keeps a piece of JSON that conclusions need.
    pub fn set_meta(&self, key: &'static str, value: String) -> Result<(), StoreError> {
        self.send(Order::Meta { key, value })
    }

    /// Waits until everything appended so far is committed.
    pub fn sync(&self) -> Result<(), StoreError> {
        let (answer, answered) = sync_channel(1);
        self.send(Order::Sync(answer))?;
        match answered.recv_timeout(Duration::from_secs(30)) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.last_words("it did not answer within 30 s")),
        }
    }

    /// Writes what is left and ends the writer. Later appends fail.
    pub fn close(&self) -> Result<(), StoreError> {
        self.send(Order::Close)?;
        match self.take_writer().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Err(StoreError::WriterGone {
                because: "it panicked".into(),
            }),
            None => Ok(()),
        }
    }

    fn send(&self, order: Order) -> Result<(), StoreError> {
        self.orders
            .send(order)
            .map_err(|_| self.last_words("it was closed"))
    }

    fn last_words(&self, otherwise: &str) -> StoreError {
        let finished = {
            let mut slot = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.as_ref() {
                Some(handle) if handle.is_finished() => slot.take(),
                _ => None,
            }
        };
        match finished.map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => StoreError::WriterGone {
                because: otherwise.to_owned(),
            },
        }
    }

    fn take_writer(&self) -> Option<JoinHandle<Result<(), StoreError>>> {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn lock_state(&self) -> MutexGuard<'_, RunState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The controller's own lock on a run; `None` while another process holds it.
pub(super) fn lock(run_dir: &Path) -> Result<Option<File>, StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path: PathBuf = run_dir.join(LOCK);
    let failed = |source| StoreError::File {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(error.into())),
    }
}

/// Whether a controller writes this run now. Changes nothing, not even the lock file.
pub(super) fn is_live(run_dir: &Path) -> bool {
    let Ok(file) = File::open(run_dir.join(LOCK)) else {
        return false;
    };
    matches!(
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared),
        Err(rustix::io::Errno::WOULDBLOCK)
    )
}
