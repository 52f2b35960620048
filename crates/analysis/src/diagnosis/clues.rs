//! What the events tell about one restart: how the job stopped, what it resumed from, and where it first did something
//! else than a run that was not interrupted.

use super::made::{self, Cmp, Made, Steps};
use crate::lineage::{Attempt, Lineage};
use crate::log::Log;
use std::collections::BTreeSet;

/// Steps that are compared when the order of samples is looked for elsewhere.
const SHIFT_STEPS: u64 = 3;
/// How far from its place the order of samples is looked for, beyond the steps that were lost.
const SHIFT_MOST: i64 = 64;
/// Steps before the restart that show how much a loss moves by itself.
const USUAL_STEPS: u64 = 16;

/// The loss right after the restart, beside what it would have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Jump {
    pub(super) loss: f64,
    pub(super) twin: f64,
    /// Loss of the very first step.
    pub(super) initial: f64,
    /// Largest change from one step to the next in the steps before.
    pub(super) usual: f64,
}

impl Jump {
    /// How much of what had been learned is gone, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        (self.loss - self.twin) / (self.initial - self.twin).max(f64::MIN_POSITIVE)
    }

    /// Whether the loss moved by more than it does by itself, back towards the beginning.
    pub(super) fn is_one(&self) -> bool {
        self.loss - self.twin > 3.0 * self.usual && self.share() > 0.05
    }
}

/// How the attempt before a restart ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// All ranks said that they leave, after the same step.
    Orderly,
    /// A rank vanished without a word.
    Vanished,
    /// Ranks do not say when they leave, or records were dropped.
    Unknown,
}

/// All clues of one restart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clues {
    /// Index of the attempt that resumed.
    pub(super) attempt: usize,
    /// Steps completed in the state it resumed from.
    pub(super) resumed: u64,
    /// Last step that the attempt before had completed.
    pub(super) completed: Option<u64>,
    pub(super) stop: Stop,
    /// No record was dropped, so that what is not told did not happen.
    pub(super) whole: bool,
    /// A checkpoint of the step at which they left was put in place.
    pub(super) saved_at_stop: bool,
    /// The save of what was loaded had begun, and no event tells of its end though others' are told.
    pub(super) unfinished: bool,
    /// Path of what was loaded.
    pub(super) path: Option<String>,
    /// Files of two different steps were loaded by one rank before its first step.
    pub(super) mixed: Option<(u64, u64)>,
    /// The rank that saves checkpoints.
    pub(super) writer: u32,
    /// The first step after the restart, and the same step without an interruption.
    pub(super) first: Made,
    pub(super) first_twin: Made,
    /// The first step that differs in anything, and the first whose loss does.
    pub(super) parted: u64,
    pub(super) loss_parted: Option<u64>,
    /// How many steps ahead of the weights the samples are, when they are those of other steps.
    pub(super) shift: Option<i64>,
    pub(super) jump: Option<Jump>,
}

impl Clues {
    /// Steps lost at the restart.
    pub(super) fn lost(&self) -> u64 {
        self.completed.unwrap_or(0).saturating_sub(self.resumed)
    }

    pub(super) fn data(&self) -> Cmp {
        self.first.data(&self.first_twin)
    }

    pub(super) fn lr(&self) -> Cmp {
        self.first.number(&self.first_twin, |it| it.lr)
    }

    pub(super) fn loss(&self) -> Cmp {
        self.first.number(&self.first_twin, |it| it.loss)
    }

    pub(super) fn gradient(&self) -> Cmp {
        self.first.number(&self.first_twin, |it| it.grad_norm)
    }
}

/// What became of the search.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Search {
    /// A restart after which something is different.
    Found(Box<Clues>),
    /// A step differs that no restart came before.
    Before(u64),
    /// No restart shows anything.
    Nothing,
}

/// Looks for the first restart after which a step is not what it is without an interruption.
pub(super) fn search(log: &Log<'_>, lineage: &Lineage, reference: &Lineage) -> Search {
    let runs = made::attempts(&log.work, lineage, false);
    let theirs: Steps = made::attempts(&log.reference, reference, true)
        .into_iter()
        .flatten()
        .collect();
    for (index, steps) in runs.iter().enumerate() {
        let compared = steps.iter();
        let mut both = compared.filter_map(|(step, made)| Some((*step, made, theirs.get(step)?)));
        let Some((parted, ..)) = both.find(|(_, made, twin)| differs(made, twin)) else {
            continue;
        };
        let attempt = &lineage.attempts[index];
        let (Some(before), Some(resumed)) = (index.checked_sub(1), attempt.resumed()) else {
            return Search::Before(parted);
        };
        let place = Place {
            log,
            lineage,
            theirs: &theirs,
            steps,
            index,
            before: &lineage.attempts[before],
        };
        return Search::Found(Box::new(place.clues(resumed, parted)));
    }
    Search::Nothing
}

fn differs(made: &Made, twin: &Made) -> bool {
    let cmp = [
        made.data(twin),
        made.number(twin, |it| it.loss),
        made.number(twin, |it| it.local_loss),
        made.number(twin, |it| it.lr),
        made.number(twin, |it| it.grad_norm),
    ];
    cmp.contains(&Cmp::Differs)
}

struct Place<'a> {
    log: &'a Log<'a>,
    lineage: &'a Lineage,
    theirs: &'a Steps,
    steps: &'a Steps,
    index: usize,
    before: &'a Attempt,
}

impl Place<'_> {
    fn clues(&self, resumed: u64, parted: u64) -> Clues {
        let get = |steps: &Steps, step: u64| steps.get(&step).cloned().unwrap_or_default();
        let completed = self.before.completed();
        let loss_parted = self.steps.iter().find(|(step, made)| {
            self.theirs.get(step).is_some_and(|twin| {
                made.number(twin, |it| it.loss) == Cmp::Differs
                    || made.number(twin, |it| it.local_loss) == Cmp::Differs
            })
        });
        let (unfinished, path) = self.loaded(resumed);
        Clues {
            attempt: self.index,
            resumed,
            completed,
            stop: self.stop(),
            whole: self.whole(),
            saved_at_stop: self.saved_at(completed),
            unfinished,
            path,
            mixed: self.mixed(),
            writer: self.writer(),
            first: get(self.steps, resumed + 1),
            first_twin: get(self.theirs, resumed + 1),
            parted,
            loss_parted: loss_parted.map(|(step, _)| *step),
            shift: self.shift(
                resumed,
                completed.unwrap_or(resumed).saturating_sub(resumed),
            ),
            jump: self.jump(resumed),
        }
    }

    /// Orderly: every rank of the attempt before said that it leaves, with the same code, after the same step.
    fn stop(&self) -> Stop {
        let ranks: BTreeSet<Option<u32>> = self.before.ranks.clone();
        let (mut left, mut codes) = (BTreeSet::new(), BTreeSet::new());
        let mut last = std::collections::BTreeMap::new();
        for (attempt, rank, index) in self.lineage.rank_events() {
            let event = self.log.work.training[index].event;
            if attempt + 1 != self.index {
                continue;
            }
            match event.kind.as_str() {
                "exit" => {
                    left.insert(rank);
                    codes.insert(event.code);
                }
                "step-end" => drop(last.insert(rank, event.step)),
                _ => {}
            }
        }
        let ends: BTreeSet<Option<u64>> = last.into_values().collect();
        let told = self.log.work.training.iter();
        let told = told.clone().any(|seen| seen.event.kind == "exit");
        if !ranks.is_empty() && left == ranks && codes.len() == 1 && ends.len() == 1 {
            Stop::Orderly
        } else if told && self.whole() {
            Stop::Vanished
        } else {
            Stop::Unknown
        }
    }

    fn whole(&self) -> bool {
        crate::same_result::dropped_in_run(self.log) == 0
    }

    /// Whether the save of the loaded checkpoint was never finished, and the path that was loaded.
    fn loaded(&self, resumed: u64) -> (bool, Option<String>) {
        let until = self.lineage.attempts[self.index].start_ns;
        let events = self.log.work.training.iter();
        let saves = events
            .clone()
            .filter(|it| it.event.step == Some(resumed) && it.t_ns <= until);
        let count = |kind: &str| saves.clone().filter(|it| it.event.kind == kind).count();
        let (begun, renamed) = (count("checkpoint-begin"), count("checkpoint-renamed"));
        let others = events
            .clone()
            .any(|it| it.event.kind == "checkpoint-renamed");
        let path = self.lineage.rank_events().find_map(|(attempt, _, index)| {
            let event = self.log.work.training[index].event;
            let is_load = attempt == self.index && event.kind == "checkpoint-loaded";
            event.path.clone().filter(|_| is_load)
        });
        (others && begun > renamed && self.whole(), path)
    }

    /// Whether a checkpoint of this step was put in place. Where saves tell of their begin, a file that was only renamed is
    /// a note of the script's, such as where it stopped.
    fn saved_at(&self, step: Option<u64>) -> bool {
        let saves = self.lineage.attempts.iter().flat_map(|it| &it.saved);
        let begins_are_told = saves.clone().any(|it| it.begun_ns.is_some());
        let mut here = self.before.saved.iter();
        here.any(|it| Some(it.step) == step && (it.begun_ns.is_some() || !begins_are_told))
    }

    fn mixed(&self) -> Option<(u64, u64)> {
        let mut loaded: std::collections::BTreeMap<Option<u32>, u64> = Default::default();
        for (attempt, rank, index) in self.lineage.rank_events() {
            let event = self.log.work.training[index].event;
            if attempt != self.index || event.kind != "checkpoint-loaded" {
                continue;
            }
            let Some(step) = event.step else { continue };
            let first = *loaded.entry(rank).or_insert(step);
            if first != step {
                return Some((first, step));
            }
        }
        None
    }

    /// The rank that tells of checkpoints; the lowest where nobody does.
    fn writer(&self) -> u32 {
        let events = self.log.work.training.iter();
        let saves = events.filter(|it| {
            it.event.kind.starts_with("checkpoint-") && it.event.kind != "checkpoint-loaded"
        });
        saves.filter_map(|it| it.rank).min().unwrap_or(0)
    }

    /// The distance at which the samples of the first steps are found in the undisturbed run.
    fn shift(&self, resumed: u64, lost: u64) -> Option<i64> {
        let at = |distance: i64| {
            let mut compared = 0;
            for step in resumed + 1..=resumed + SHIFT_STEPS {
                let other = step.checked_add_signed(distance)?;
                let (Some(mine), Some(theirs)) = (self.steps.get(&step), self.theirs.get(&other))
                else {
                    continue;
                };
                match mine.data(theirs) {
                    Cmp::Differs => return None,
                    Cmp::Equal => compared += 1,
                    Cmp::Unknown => {}
                }
            }
            (compared > 0).then_some(distance)
        };
        let most = SHIFT_MOST.saturating_add_unsigned(lost);
        let mut distances: Vec<i64> = (-SHIFT_MOST..=most).collect();
        distances.sort_by_key(|distance| distance.abs());
        distances.into_iter().find_map(at)
    }

    fn jump(&self, resumed: u64) -> Option<Jump> {
        let loss = |step: u64| self.theirs.get(&step).and_then(Made::loss);
        let (_, first) = self.theirs.first_key_value()?;
        let from = (resumed + 1).saturating_sub(USUAL_STEPS).max(1);
        let changes =
            (from..=resumed).filter_map(|step| Some((loss(step + 1)? - loss(step)?).abs()));
        Some(Jump {
            loss: self.steps.get(&(resumed + 1))?.loss()?,
            twin: loss(resumed + 1)?,
            initial: first.loss()?,
            usual: changes.fold(0.0, f64::max),
        })
    }
}
