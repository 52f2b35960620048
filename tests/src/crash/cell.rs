//! One cell, run as the first process of its own namespaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::processes::tree;
use super::squall::{WORKLOAD, WORKLOAD_OF_NOBODY};
use super::stage::Stage;
use crate::targets::Size;

/// When a run is struck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// When the one who acts is at this boundary.
    Boundary(String),
    /// So long after `squall run` was started, whatever it is doing.
    Microseconds(u64),
}

/// One cell of the matrix, or one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Its place in the selection.
    pub number: usize,
    /// The fault's key, or `workload`.
    pub fault: String,
    /// `lasting`, `one-shot`, `served` or `workload`.
    pub class: String,
    /// The cause's name.
    pub cause: String,
    /// When.
    pub moment: Moment,
    /// Variables for the run: how a broken undo is planted.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}

impl Cell {
    /// `file-damage after-act kill-agent`.
    pub fn name(&self) -> String {
        match &self.moment {
            Moment::Boundary(boundary) => format!("{} {boundary} {}", self.fault, self.cause),
            Moment::Microseconds(after) => {
                format!(
                    "{} {:.1}ms {}",
                    self.fault,
                    *after as f64 / 1000.0,
                    self.cause
                )
            }
        }
    }

    /// The kind that its injection has in the journal.
    pub(super) fn kind(&self) -> &str {
        if self.fault == WORKLOAD_OF_NOBODY {
            WORKLOAD
        } else {
            &self.fault
        }
    }

    pub(super) fn is_one_shot(&self) -> bool {
        self.class == "one-shot"
    }

    /// A one-shot fault is never undone once it has acted, so its undo is only met by the guard, after the agent died in between.
    pub(super) fn is_met_by_guard(&self) -> bool {
        self.is_one_shot()
            && matches!(&self.moment, Moment::Boundary(boundary) if boundary.contains("undo") || boundary.contains("undone"))
    }
}

/// How a cell ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As before.
    Clean,
    /// Not as before.
    Left(Vec<String>),
    /// The cell proves nothing: its boundary was never reached, or something hung.
    Failed(String),
    /// The cell makes no sense here.
    Skipped(String),
}

/// A cell's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The cell.
    pub cell: Cell,
    /// How it ended.
    pub verdict: Verdict,
    /// The last move in the journal when it was struck.
    pub state: String,
    /// What was done, in words.
    pub struck: String,
    /// What could not be read, and why.
    pub blind: BTreeMap<String, String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Runs a cell here. This process must be the first of its namespaces.
pub fn run(cell: &Cell, program: &Path) -> Ended {
    let started = Instant::now();
    let mut ended = Ended {
        cell: cell.clone(),
        verdict: Verdict::Clean,
        state: String::new(),
        struck: String::new(),
        blind: BTreeMap::new(),
        took_ms: 0,
    };
    match Stage::set(cell, program, Size::Small) {
        Err(error) => ended.verdict = Verdict::Failed(format!("{error:#}")),
        Ok(mut stage) => {
            ended.verdict = stage.play().unwrap_or_else(|error| {
                let said = format!(
                    "{}; {}; {}",
                    stage.squall.said("run"),
                    stage.squall.said("undo"),
                    stage.squall.logged()
                );
                Verdict::Failed(format!("{error:#}; {said}; processes: {}", tree()))
            });
            if let Verdict::Left(left) = &mut ended.verdict {
                left.push(format!(
                    "({}; {}; {})",
                    stage.squall.said("run"),
                    stage.squall.said("undo"),
                    stage.squall.logged()
                ));
            }
            ended.state.clone_from(&stage.state);
            ended.struck.clone_from(&stage.struck.told);
            let blind = stage.before.blind().iter();
            ended.blind = blind
                .map(|(kind, reason)| (kind.to_string(), reason.clone()))
                .collect();
        }
    }
    ended.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    ended
}

/// The name of a cell's cgroups.
pub fn cgroup_name(token: &str) -> String {
    format!("crash-cell-{token}")
}

/// Names the cgroups of the cell.
pub const TOKEN: &str = "SQUALL_CELL_TOKEN";

/// The binary that a cell was told to use.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::var_os("SQUALL_CELL_PROGRAM")
        .map(PathBuf::from)
        .context("SQUALL_CELL_PROGRAM is not set")
}
