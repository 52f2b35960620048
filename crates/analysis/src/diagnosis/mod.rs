//! Which mistake of the trainer makes a resumed run end differently: by what the run and its undisturbed twin told,
//! never by how they were started.
//!
//! The search walks to the first restart after which a step differs from the same step of the reference, and asks in
//! which way. *Data, learning rate, losses of single ranks, gradient* are compared at the first step after the
//! restart, where one wrong part of the state shows by itself, before it has spoilt the others:
//!
//! | what differs first | mistake |
//! |---|---|
//! | the loss, on every rank, and the save of what was loaded never ended, its files are of different steps, or much of what was learned is gone | torn checkpoint |
//! | the samples, which are those of later steps by as many as were lost, after all ranks left by themselves | dead save handler |
//! | the samples otherwise | samples |
//! | the learning rate | learning rate |
//! | the loss of the ranks that do not save, not of the one that does | rank-0 state |
//! | nothing at the first step, and the loss at the second | optimiser state |
//!
//! What fits none, or more than one because a number was not told, is 'unknown', with what is still possible.

mod clues;
mod made;
mod suspects;

use crate::lineage::Lineage;
use crate::log::Log;
use crate::num;
use crate::same_result::{SameResult, Sameness};
use clues::{Clues, Search, search};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mistake that a restart brings out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mistake {
    /// A checkpoint that was not completely written was loaded.
    TornCheckpoint,
    /// The optimiser began anew.
    OptimizerState,
    /// Samples were skipped or repeated.
    Samples,
    /// The learning rate is not the one the job had.
    LearningRate,
    /// The state of the rank that saves was given to all ranks.
    Rank0State,
    /// Asked to stop, the job left without saving its weights.
    SaveHandler,
    /// None of these, or more than one is possible.
    Unknown,
}

impl Mistake {
    /// `torn checkpoint`, …
    pub fn words(self) -> &'static str {
        match self {
            Mistake::TornCheckpoint => "torn checkpoint",
            Mistake::OptimizerState => "optimiser state",
            Mistake::Samples => "samples",
            Mistake::LearningRate => "learning rate",
            Mistake::Rank0State => "rank-0 state",
            Mistake::SaveHandler => "dead save handler",
            Mistake::Unknown => "unknown",
        }
    }

    /// What it does, in a sentence without its end.
    fn meaning(self) -> &'static str {
        match self {
            Mistake::TornCheckpoint => {
                "the job went on from a checkpoint that had not been written completely"
            }
            Mistake::OptimizerState => "the optimiser's state was not restored",
            Mistake::Samples => {
                "the order of samples was not restored, so some were skipped or repeated"
            }
            Mistake::LearningRate => "the learning-rate schedule was not restored",
            Mistake::Rank0State => {
                "ranks that do not save the checkpoint did not get their own state back"
            }
            Mistake::SaveHandler => {
                "asked to stop, the job recorded where it was in the data but did not save its weights"
            }
            Mistake::Unknown => "which part of the state was not restored is not known",
        }
    }

    /// What to look at in the trainer.
    fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Mistake::TornCheckpoint => {
                "write a checkpoint to a temporary file, sync it, rename it, sync the folder; on loading refuse a file that is not complete"
            }
            Mistake::OptimizerState => "save and load the optimiser's state beside the parameters",
            Mistake::Samples => {
                "save the sampler's position as the number of samples that the weights have seen, not of those fetched"
            }
            Mistake::LearningRate => {
                "save and load the scheduler's state, or derive the rate from the step number"
            }
            Mistake::Rank0State => "save the random state of each rank and give each its own back",
            Mistake::SaveHandler => {
                "in the handler of SIGTERM save a checkpoint before the position in the data is recorded"
            }
            Mistake::Unknown => return None,
        })
    }
}

/// How a suspicion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The evidence is for it.
    Fits,
    /// It could not be told apart: something was not told.
    Open,
    /// The evidence is against it.
    RuledOut,
}

/// One mistake with the evidence for or against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Suspect {
    /// Which mistake.
    pub mistake: Mistake,
    /// How it stands.
    pub standing: Standing,
    /// Why, in words.
    pub evidence: String,
}

/// Why a disturbed run ended differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The mistake that is named.
    pub mistake: Mistake,
    /// In one sentence.
    pub sentence: String,
    /// What to look at in the trainer; absent when nothing is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Steps completed in the state that the restart in question resumed from.
    pub resumed: Option<u64>,
    /// The first step after it that differs from the undisturbed run.
    pub parted: Option<u64>,
    /// Every mistake that was considered, those that fit first.
    pub suspects: Vec<Suspect>,
}

/// Names the mistake behind a different result; `None` when the result is not proved different.
pub(crate) fn diagnose(
    log: &Log<'_>,
    lineage: Option<&Lineage>,
    reference: Option<&Lineage>,
    same: &SameResult,
) -> Option<Diagnosis> {
    if same.sameness != Sameness::Different {
        return None;
    }
    let (Some(lineage), Some(reference)) = (lineage, reference) else {
        return Some(unknown("no event tells of the steps of both runs", None));
    };
    if let Some(problem) = lineage.problem.as_ref().or(reference.problem.as_ref()) {
        return Some(unknown(problem, None));
    }
    Some(match search(log, lineage, reference) {
        Search::Found(clues) => judge(&clues),
        Search::Before(step) => unknown(
            &format!(
                "the runs part at step {}, before any restart",
                num::thousands(step)
            ),
            Some(step),
        ),
        Search::Nothing => unknown(
            "no step that both runs tell of differs, though their results do",
            None,
        ),
    })
}

fn unknown(why: &str, parted: Option<u64>) -> Diagnosis {
    Diagnosis {
        mistake: Mistake::Unknown,
        sentence: format!("unknown: {why}"),
        remedy: None,
        resumed: None,
        parted,
        suspects: Vec::new(),
    }
}

fn judge(clues: &Clues) -> Diagnosis {
    let mut suspects = suspects::all(clues);
    suspects.sort_by_key(|it| match it.standing {
        Standing::Fits => 0,
        Standing::Open => 1,
        Standing::RuledOut => 2,
    });
    let of = |standing| suspects.iter().filter(move |it| it.standing == standing);
    let mistake = match (of(Standing::Fits).count(), of(Standing::Open).count()) {
        (1, 0) => suspects.first().map_or(Mistake::Unknown, |it| it.mistake),
        _ => Mistake::Unknown,
    };
    let at = format!(
        "after the restart from step {} the runs part at step {}",
        num::thousands(clues.resumed),
        num::thousands(clues.parted)
    );
    let sentence = match suspects.first().filter(|_| mistake != Mistake::Unknown) {
        Some(first) => format!(
            "{}: {}; {at}: {}",
            mistake.words(),
            mistake.meaning(),
            first.evidence
        ),
        None => {
            let possible: Vec<String> = of(Standing::Fits)
                .chain(of(Standing::Open))
                .map(|it| it.mistake.words().to_owned())
                .collect();
            let possible = match possible.as_slice() {
                [] => "no known mistake fits".to_owned(),
                some => format!("possible: {}", crate::words::list(some)),
            };
            format!("unknown: {at}; {possible}")
        }
    };
    Diagnosis {
        mistake,
        sentence,
        remedy: mistake.remedy().map(str::to_owned),
        resumed: Some(clues.resumed),
        parted: Some(clues.parted),
        suspects,
    }
}
