//! Phases of one rank, told to the hook and, if asked for, to a phase log.
//!
//! The phase log is independent of the hook: one synced line before anything happens in a phase and one after its
//! work, so it says where a kill landed even when nobody else saw it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::failure::{Context, Result};
use crate::hook::{Hook, Identity, Place, monotonic_ns};

/// Phases that every rank goes through.
const PHASES: [&str; 9] = [
    "data-wait",
    "forward",
    "backward",
    "all-reduce",
    "optimizer-step",
    "step-end",
    "epoch-end",
    "evaluation",
    "exit",
];
/// Phases that only rank 0 goes through, because it writes the checkpoints.
const WRITER_PHASES: [&str; 3] = [
    "checkpoint-begin",
    "checkpoint-written",
    "checkpoint-renamed",
];

/// Tells the outside what one rank does.
pub(crate) struct Observer {
    pub(crate) hook: Hook,
    log: Option<File>,
    rank: u32,
    restart: u32,
}

impl Observer {
    /// Connects the hook and opens the phase log.
    pub(crate) fn new(rank: u32, world: u32, restart: u32, log: Option<&Path>) -> Result<Self> {
        let mut phases = PHASES.to_vec();
        if rank == 0 {
            phases.extend(WRITER_PHASES);
        }
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let log = log.map(open).transpose().context("opening the phase log")?;
        let identity = Identity {
            rank: Some(rank),
            world: Some(world),
            restart,
            role: "rank",
            phases: &phases,
        };
        Ok(Self {
            hook: Hook::from_environment(&identity),
            log,
            rank,
            restart,
        })
    }

    /// Enters `phase` and waits there if the agent wants it.
    pub(crate) fn enter(&mut self, phase: &str, at: Place) {
        self.enter_announcing(phase, at, &[]);
    }

    /// Enters `phase`, sends `events` (kind and further fields), and waits there if the agent wants it.
    pub(crate) fn enter_announcing(&mut self, phase: &str, at: Place, events: &[(&str, Value)]) {
        self.log_line(phase, at, "begin");
        self.hook.event(
            "phase-begin",
            json!({"phase": phase, "step": at.step, "epoch": at.epoch}),
        );
        for (kind, fields) in events {
            self.event(kind, at, fields.clone());
        }
        self.hook.hold_point(phase, at);
    }

    /// Leaves `phase`: its work is done.
    pub(crate) fn leave(&mut self, phase: &str, at: Place) {
        self.log_line(phase, at, "end");
        self.hook.event(
            "phase-end",
            json!({"phase": phase, "step": at.step, "epoch": at.epoch}),
        );
    }

    /// Sends an event with the step and epoch of `at` added to its `fields`.
    pub(crate) fn event(&mut self, kind: &str, at: Place, mut fields: Value) {
        fields["step"] = at.step.into();
        fields["epoch"] = at.epoch.into();
        self.hook.event(kind, fields);
    }

    /// One write per line on an appending descriptor, synced. A log that fails is given up, not the training.
    fn log_line(&mut self, phase: &str, at: Place, edge: &str) {
        let Some(file) = &mut self.log else { return };
        let line = format!(
            "{} {} {} {} {phase} {edge} {}\n",
            self.rank,
            self.restart,
            at.epoch,
            at.step,
            monotonic_ns()
        );
        if file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .is_err()
        {
            self.log = None;
        }
    }
}
