//! Places in training that a kill is aimed at: a rank in a phase.

use crate::product::{Edge, PhaseLog};

/// Steps in an epoch of every run here.
pub(super) const STEPS_PER_EPOCH: u64 = 8;

/// Phases of a step: every rank goes through them.
const IN_A_STEP: [&str; 6] = [
    "data-wait",
    "forward",
    "backward",
    "all-reduce",
    "optimizer-step",
    "step-end",
];
/// Phases between epochs: every rank goes through them.
const AFTER_AN_EPOCH: [&str; 2] = ["epoch-end", "evaluation"];
/// Phases of a save: rank 0 alone goes through them.
const IN_A_SAVE: [&str; 3] = [
    "checkpoint-begin",
    "checkpoint-written",
    "checkpoint-renamed",
];

/// A rank in a phase, and the epoch it is aimed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whom.
    pub rank: u32,
    /// In which phase.
    pub phase: &'static str,
    /// In which epoch.
    pub epoch: u64,
    /// In which step; none where the phase belongs to an epoch.
    pub step: Option<u64>,
}

impl Place {
    /// The `number`th place of a walk that visits all ranks and phases over and over.
    pub fn nth(number: usize, epoch: u64) -> Self {
        let places = all();
        let (rank, phase) = places[number % places.len()];
        let within = number as u64 % STEPS_PER_EPOCH + 1;
        let step = IN_A_STEP
            .contains(&phase)
            .then_some((epoch - 1) * STEPS_PER_EPOCH + within);
        Self {
            rank,
            phase,
            epoch,
            step,
        }
    }

    /// The step of a method that kills there.
    pub fn kill(&self) -> String {
        let at = match self.step {
            Some(step) => format!("step: {step}"),
            None => format!("epoch: {}", self.epoch),
        };
        format!(
            "process-kill: {{target: {{rank: {}}}, at: {{{at}, phase: {}}}}}",
            self.rank, self.phase
        )
    }

    /// Whether a rank that ended after this edge ended here.
    pub fn is_at(&self, edge: &Edge) -> bool {
        let step = self.step.unwrap_or(self.epoch * STEPS_PER_EPOCH);
        edge.begin && edge.phase == self.phase && edge.epoch == self.epoch && edge.step == step
    }

    /// Whether the trainer's own log says that a life of the job ended with this rank here.
    pub fn was_the_end(&self, log: &PhaseLog) -> bool {
        let ends = (0..log.restarts()).filter_map(|restart| log.last(self.rank, restart));
        ends.filter(|edge| self.is_at(edge)).count() == 1
    }

    /// `rank 1 forward`.
    pub fn name(&self) -> String {
        format!("rank {} {}", self.rank, self.phase)
    }
}

/// Every rank in every phase that it goes through, of two ranks.
fn all() -> Vec<(u32, &'static str)> {
    let both = IN_A_STEP.iter().chain(&AFTER_AN_EPOCH);
    let mut places: Vec<(u32, &str)> = both.flat_map(|phase| [(0, *phase), (1, *phase)]).collect();
    places.extend(IN_A_SAVE.iter().map(|phase| (0, *phase)));
    places
}
