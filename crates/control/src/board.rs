//! What the run has shown so far, for probes and monitors: when training last moved, who the workload is, where its output goes.
//!
//! Filled by the conductor from the event log; read by probe threads and the monitor.

use crate::clock::RunClock;
use squall_model::event::{Body, Event};
use squall_model::experiment::Unit;
use squall_model::id::RunId;
use squall_model::process::ProcessIdentity;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A count that training raises, with when it last did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Events of the kind, over all ranks.
    pub count: u64,
    /// The highest unit reached.
    pub highest: u64,
    /// When the last one came, since the run's start.
    pub last_ns: Option<u64>,
}

/// What is known of the live workload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workload {
    /// It runs the undisturbed reference.
    pub reference: bool,
    /// How many were started in this run, this one included.
    pub starts: u32,
    /// Its first process.
    pub process: Option<ProcessIdentity>,
    /// When it was started, since the run's start.
    pub started_ns: u64,
    /// When it ended, with its exit status.
    pub ended: Option<(u64, Option<i32>)>,
    /// Its folder.
    pub out: PathBuf,
    /// Progress in steps.
    pub steps: Progress,
    /// Progress in epochs.
    pub epochs: Progress,
    /// Finished checkpoints.
    pub checkpoints: Progress,
    /// The last loss seen.
    pub loss: Option<f64>,
    /// The process of each rank, as its hook announced it.
    pub ranks: BTreeMap<u32, u32>,
}

impl Workload {
    /// Progress in one unit.
    pub fn progress(&self, unit: Unit) -> Progress {
        match unit {
            Unit::Step => self.steps,
            Unit::Epoch => self.epochs,
            Unit::Checkpoint => self.checkpoints,
        }
    }

    /// It has told of training: of a step, an epoch or a checkpoint.
    pub fn has_trained(&self) -> bool {
        self.steps.count + self.epochs.count + self.checkpoints.count > 0
    }

    /// It runs.
    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }
}

/// Shared by the conductor, the probes and the monitor of one run.
#[derive(Debug)]
pub struct Board {
    /// The run.
    pub run: RunId,
    /// Its clock.
    pub clock: RunClock,
    /// Relative paths of probes start here: the folder of the experiment file.
    pub directory: PathBuf,
    workload: Mutex<Option<Workload>>,
}

impl Board {
    /// Nothing has happened yet.
    pub fn new(run: RunId, clock: RunClock, directory: PathBuf) -> Board {
        Board {
            run,
            clock,
            directory,
            workload: Mutex::default(),
        }
    }

    /// The workload that runs or ran last.
    pub fn workload(&self) -> Option<Workload> {
        self.lock().clone()
    }

    /// Asks one thing of the workload without copying it.
    pub fn of_workload<T>(&self, ask: impl FnOnce(&Workload) -> T) -> Option<T> {
        self.lock().as_ref().map(ask)
    }

    /// Takes in one event.
    pub fn note(&self, event: &Event) {
        let mut slot = self.lock();
        match &event.body {
            Body::WorkloadStarted {
                reference,
                process,
                out,
                ..
            } => {
                let before = slot.as_ref().map_or(0, |workload| workload.starts);
                *slot = Some(Workload {
                    reference: *reference,
                    starts: before + 1,
                    process: process.clone(),
                    started_ns: event.t_ns,
                    out: PathBuf::from(out),
                    ..Workload::default()
                });
            }
            Body::WorkloadEnded { exit, .. } => {
                if let Some(workload) = slot.as_mut() {
                    workload.ended = Some((event.t_ns, *exit));
                }
            }
            Body::Training {
                rank,
                pid,
                event: training,
                ..
            } => {
                let workload = slot.get_or_insert_default();
                if let (Some(rank), Some(pid)) = (rank, pid) {
                    workload.ranks.insert(*rank, *pid);
                }
                take_in(workload, event.t_ns, training);
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Workload>> {
        self.workload.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_in(workload: &mut Workload, t_ns: u64, event: &squall_model::hook::TrainingEvent) {
    if let Some(loss) = event.loss {
        workload.loss = Some(loss);
    }
    let (progress, reached) = match event.kind.as_str() {
        "step-end" => (&mut workload.steps, event.step),
        "epoch-end" => (&mut workload.epochs, event.epoch),
        "checkpoint-renamed" => (&mut workload.checkpoints, event.step),
        _ => return,
    };
    progress.count += 1;
    progress.highest = progress.highest.max(reached.unwrap_or(0));
    progress.last_ns = Some(t_ns);
}
