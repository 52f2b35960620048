//! What became of each step: attempts, the high-water mark, the final lineage, checkpoints and step times.
//!
//! A step is *completed* when every rank that reports steps has ended it. In synchronous data-parallel training no
//! rank can end step s before all have ended s − 1, so `max(min over ranks, max over ranks − 1)` is a lower bound of
//! what is completed that a rank which falls silent cannot hold back.
//!
//! The *final lineage* is found backwards: the last attempt's steps count; it grew from the checkpoint it loaded, so
//! the latest earlier attempt that had completed that step counts up to there; and so on. Everything else was rolled
//! back and is wasted work.

use crate::lives::{Life, Lives, Unit};
use crate::log::{Seen, Work};
use std::collections::{BTreeMap, BTreeSet};

/// The end of a step for the whole job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    /// Number of the step, from 1.
    pub step: u64,
    /// When it was completed: nanoseconds since the run started.
    pub t_ns: u64,
}

/// A checkpoint that was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Steps completed in it.
    pub step: u64,
    /// When the save began, if the events tell.
    pub begun_ns: Option<u64>,
    /// When it had its final name.
    pub renamed_ns: u64,
}

/// One attempt of the whole job, from a start to a stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    /// First event of any rank: nanoseconds since the run started.
    pub start_ns: u64,
    /// Restart number that the trainer gave.
    pub restart: u32,
    /// Ranks seen in it.
    pub ranks: BTreeSet<Option<u32>>,
    /// Steps completed in the state it loaded, and when the last rank had loaded it.
    pub loaded: Option<(u64, u64)>,
    /// Its first step began then, if the events tell.
    pub first_begun_ns: Option<u64>,
    /// Ends of its steps, in order.
    pub steps: Vec<StepEnd>,
    /// Checkpoints put in place in it.
    pub saved: Vec<Saved>,
    /// Number of the first step that any rank ended in it.
    first_step: Option<u64>,
    /// Life of each rank: indices into the work's training events.
    events: BTreeMap<Option<u32>, Vec<usize>>,
}

impl Attempt {
    /// Steps completed in the state it began from: as loaded, else one less than its first step.
    pub fn resumed(&self) -> Option<u64> {
        let before_first = self.first_step.map(|step| step.saturating_sub(1));
        self.loaded.map(|(step, _)| step).or(before_first)
    }

    /// The last step that it completed; the state it resumed from when it completed none.
    pub fn completed(&self) -> Option<u64> {
        self.steps.last().map(|end| end.step).or(self.resumed())
    }

    /// When its last step ended.
    pub fn last_end_ns(&self) -> Option<u64> {
        self.steps.last().map(|end| end.t_ns)
    }

    /// Step and time where the attempt contradicts itself: it loaded one step and went on with another.
    pub fn contradiction(&self) -> Option<(u64, u64)> {
        let (loaded, _) = self.loaded?;
        let first = self.first_step?;
        (first != loaded + 1).then_some((loaded, first))
    }
}

/// A stretch of one attempt that the final state grew from: steps after `from` up to and including `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Index of the attempt.
    pub attempt: usize,
    /// Steps completed before the stretch.
    pub from: u64,
    /// Its last step; `u64::MAX` for the last attempt.
    pub to: u64,
}

/// The history of a training job.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    /// What progress is counted in.
    pub unit: Unit,
    /// In order of time. Never empty.
    pub attempts: Vec<Attempt>,
    /// The final lineage, earliest stretch first.
    pub kept: Vec<Kept>,
    /// Why step numbers of this job say nothing certain, if so.
    pub problem: Option<String>,
}

impl Lineage {
    /// Reads the history from training events; `None` when they tell of no progress.
    pub(crate) fn of(work: &Work<'_>) -> Option<Lineage> {
        let events = &work.training;
        let unit = Unit::of(events)?;
        let lives = Lives::of(events, unit);
        let mut attempts: Vec<Attempt> = lives
            .attempts
            .iter()
            .map(|lives| attempt(lives, events, unit))
            .collect();
        add_checkpoints(&mut attempts, events, unit);
        let problem = problem(&lives, &attempts, events, unit);
        let kept = kept(&attempts);
        Some(Lineage {
            unit,
            attempts,
            kept,
            problem,
        })
    }

    /// Whether a step that was made in an attempt is part of the final state.
    pub fn keeps(&self, attempt: usize, step: u64) -> bool {
        self.kept
            .iter()
            .any(|kept| kept.attempt == attempt && kept.from < step && step <= kept.to)
    }

    /// The highest step completed in any attempt.
    pub fn high_water(&self) -> Option<u64> {
        self.attempts.iter().filter_map(Attempt::completed).max()
    }

    /// Number of steps in the final lineage, and of those that were made and rolled back.
    pub fn kept_and_wasted(&self) -> (u64, u64) {
        let (mut kept, mut wasted) = (0, 0);
        self.each_step(|attempt, before, end| {
            let steps = end.step - before;
            if self.keeps(attempt, end.step) {
                kept += steps;
            } else {
                wasted += steps;
            }
        });
        (kept, wasted)
    }

    /// Calls `visit` with the attempt, the step completed before, and the end, for each step end in order.
    pub(crate) fn each_step(&self, mut visit: impl FnMut(usize, u64, StepEnd)) {
        for (index, attempt) in self.attempts.iter().enumerate() {
            let mut before = attempt
                .first_step
                .map_or(0, |first| first.saturating_sub(1));
            for end in &attempt.steps {
                visit(index, before, *end);
                before = end.step;
            }
        }
    }

    /// Times of single steps in nanoseconds: from one step end to the next of the same attempt, with its end.
    pub fn step_times(&self) -> Vec<(StepEnd, u64)> {
        let mut times = Vec::new();
        for attempt in &self.attempts {
            for pair in attempt.steps.windows(2) {
                if let [before, end] = pair
                    && end.step == before.step + 1
                {
                    times.push((*end, end.t_ns.saturating_sub(before.t_ns)));
                }
            }
        }
        times
    }

    /// Steps between checkpoints, one number for each pair of neighbours within an attempt; the state that an attempt
    /// began from counts as its first.
    pub fn checkpoint_gaps(&self) -> Vec<u64> {
        let mut gaps = Vec::new();
        for attempt in &self.attempts {
            let mut before = attempt.resumed();
            for saved in &attempt.saved {
                if let Some(before) = before
                    && saved.step > before
                {
                    gaps.push(saved.step - before);
                }
                before = Some(saved.step);
            }
        }
        gaps
    }

    /// The events of each rank in each attempt: attempt, rank, index into the work's training events.
    pub(crate) fn rank_events(&self) -> impl Iterator<Item = (usize, Option<u32>, usize)> + '_ {
        self.attempts.iter().enumerate().flat_map(|(index, it)| {
            it.events
                .iter()
                .flat_map(move |(rank, events)| events.iter().map(move |at| (index, *rank, *at)))
        })
    }
}

/// The middle of some numbers; of an even count the lower middle, so that it is one of them.
pub fn median(numbers: &[u64]) -> Option<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn attempt(lives: &[Life], events: &[Seen<'_>], unit: Unit) -> Attempt {
    let mut attempt = Attempt {
        start_ns: lives.iter().map(|life| life.start_ns).min().unwrap_or(0),
        restart: lives.first().map_or(0, |life| life.restart),
        ranks: lives.iter().map(|life| life.rank).collect(),
        ..Attempt::default()
    };
    let mut indices: Vec<usize> = Vec::new();
    for life in lives {
        attempt.events.insert(life.rank, life.events.clone());
        indices.extend(&life.events);
    }
    indices.sort_unstable();
    let mut progress: BTreeMap<Option<u32>, Option<u64>> =
        attempt.ranks.iter().map(|rank| (*rank, None)).collect();
    attempt.first_step = indices
        .iter()
        .filter_map(|index| unit.completed(&events[*index]))
        .min();
    let mut done = attempt
        .first_step
        .map_or(0, |first| first.saturating_sub(1));
    for index in indices {
        let seen = &events[index];
        match seen.event.kind.as_str() {
            "checkpoint-loaded" => {
                if let Some(step) = unit.position(seen) {
                    let step = attempt.loaded.map_or(step, |(other, _)| step.min(other));
                    attempt.loaded = Some((step, seen.t_ns));
                }
            }
            // A step is known to have begun with its first phase.
            "phase-begin"
                if attempt.steps.is_empty() && unit.position(seen) == attempt.first_step =>
            {
                attempt.first_begun_ns.get_or_insert(seen.t_ns);
            }
            _ => {}
        }
        let Some(step) = unit.completed(seen) else {
            continue;
        };
        progress.insert(seen.rank, Some(step));
        let now = completed(&progress);
        if now > done {
            done = now;
            let t_ns = seen.t_ns;
            attempt.steps.push(StepEnd { step: now, t_ns });
        }
    }
    attempt
}

/// `max(min over ranks, max over ranks − 1)`; see the module.
fn completed(progress: &BTreeMap<Option<u32>, Option<u64>>) -> u64 {
    let least = progress.values().copied().min().flatten().unwrap_or(0);
    let most = progress.values().copied().max().flatten().unwrap_or(0);
    least.max(most.saturating_sub(1))
}

/// Checkpoints belong to the attempt in whose time they were put in place, whoever tells of them.
fn add_checkpoints(attempts: &mut [Attempt], events: &[Seen<'_>], unit: Unit) {
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    for seen in events {
        let Some(step) = unit.position(seen) else {
            continue;
        };
        match seen.event.kind.as_str() {
            "checkpoint-begin" => {
                begun.insert(step, seen.t_ns);
            }
            "checkpoint-renamed" => {
                let owner = attempts
                    .iter_mut()
                    .rev()
                    .find(|it| it.start_ns <= seen.t_ns);
                if let Some(attempt) = owner
                    && attempt.saved.last().is_none_or(|last| last.step != step)
                {
                    attempt.saved.push(Saved {
                        step,
                        begun_ns: begun.remove(&step),
                        renamed_ns: seen.t_ns,
                    });
                }
            }
            _ => {}
        }
    }
}

fn problem(lives: &Lives, attempts: &[Attempt], events: &[Seen<'_>], unit: Unit) -> Option<String> {
    if lives.counted_within_epochs {
        return Some("steps are counted anew in each epoch, so a step number does not say how far training was".into());
    }
    for pair in attempts.windows(2) {
        let [before, after] = pair else { continue };
        let Some(first) = after.steps.first() else {
            continue;
        };
        let late = before.events.iter().find(|(rank, indices)| {
            !after.ranks.contains(rank)
                && indices.iter().any(|index| {
                    events[*index].t_ns > first.t_ns && unit.completed(&events[*index]).is_some()
                })
        });
        if let Some((rank, _)) = late {
            let rank = rank.map_or("a process".into(), |rank| format!("rank {rank}"));
            return Some(format!(
                "{rank} went on while others restarted, so there is no one history of the whole job"
            ));
        }
    }
    None
}

fn kept(attempts: &[Attempt]) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut current = attempts.iter().rposition(|it| !it.steps.is_empty());
    let mut to = u64::MAX;
    while let Some(index) = current {
        let from = attempts[index].resumed().unwrap_or(0);
        kept.push(Kept {
            attempt: index,
            from,
            to,
        });
        to = from;
        current = if from == 0 {
            None
        } else {
            parent(&attempts[..index], from)
        };
    }
    kept.reverse();
    kept
}

/// The latest attempt that put a checkpoint of `step` in place, else the latest that had completed it.
fn parent(earlier: &[Attempt], step: u64) -> Option<usize> {
    earlier
        .iter()
        .rposition(|it| it.saved.iter().any(|saved| saved.step == step))
        .or_else(|| {
            earlier.iter().rposition(|it| {
                let first = it.first_step.is_some_and(|first| first <= step);
                first && it.steps.last().is_some_and(|end| end.step >= step)
            })
        })
}
