//! What each step of a run was made of, rank by rank, and how two makings of the same step compare.

use crate::lineage::Lineage;
use crate::log::Work;
use std::collections::BTreeMap;

/// Numbers closer than this, relative to the larger, count as equal: a resumed job repeats its numbers to the last
/// digit, and what a log rounds it rounds in both runs.
const EQUAL: f64 = 1e-6;

/// One step as one rank tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Part {
    pub(super) ids: Vec<u64>,
    pub(super) loss: Option<f64>,
    pub(super) local_loss: Option<f64>,
    pub(super) lr: Option<f64>,
    pub(super) grad_norm: Option<f64>,
}

/// One step as all its ranks tell it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Made {
    pub(super) parts: BTreeMap<Option<u32>, Part>,
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmp {
    Equal,
    Differs,
    Unknown,
}

/// The steps of one attempt, or of a final lineage.
pub(super) type Steps = BTreeMap<u64, Made>;

/// The steps of each attempt of a job; with `kept`, only those that its final state grew from.
pub(super) fn attempts(work: &Work<'_>, lineage: &Lineage, kept: bool) -> Vec<Steps> {
    let mut all = vec![Steps::new(); lineage.attempts.len()];
    for (attempt, rank, index) in lineage.rank_events() {
        let event = work.training[index].event;
        let Some(step) = event.step else { continue };
        let told = matches!(event.kind.as_str(), "step-end" | "sample-ids");
        if !told || (kept && !lineage.keeps(attempt, step)) {
            continue;
        }
        let part = all[attempt]
            .entry(step)
            .or_default()
            .parts
            .entry(rank)
            .or_default();
        if event.kind == "sample-ids" {
            part.ids.extend(event.ids.iter().flatten());
        } else {
            (part.loss, part.local_loss) = (event.loss, event.local_loss);
            (part.lr, part.grad_norm) = (event.lr, event.grad_norm);
        }
    }
    all
}

pub(super) fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= EQUAL * a.abs().max(b.abs())
}

impl Made {
    /// The samples that every rank used.
    pub(super) fn data(&self, twin: &Made) -> Cmp {
        self.compare(twin, |mine, theirs| {
            (!mine.ids.is_empty() && !theirs.ids.is_empty()).then(|| mine.ids == theirs.ids)
        })
    }

    /// A number that the ranks tell.
    pub(super) fn number(&self, twin: &Made, of: impl Fn(&Part) -> Option<f64>) -> Cmp {
        self.compare(twin, |mine, theirs| Some(equal(of(mine)?, of(theirs)?)))
    }

    /// Ranks whose own loss is as in the other making, and those whose is not. Empty when the ranks tell only of a
    /// loss they share.
    pub(super) fn ranks(&self, twin: &Made) -> (Vec<u32>, Vec<u32>) {
        let (mut same, mut other) = (Vec::new(), Vec::new());
        for (rank, mine) in &self.parts {
            let theirs = twin.parts.get(rank);
            let pair = theirs.and_then(|theirs| Some((self.own(mine)?, twin.own(theirs)?)));
            if let (Some(rank), Some((mine, theirs))) = (rank, pair) {
                if equal(mine, theirs) {
                    same.push(*rank);
                } else {
                    other.push(*rank);
                }
            }
        }
        (same, other)
    }

    /// The mean over ranks of the loss.
    pub(super) fn loss(&self) -> Option<f64> {
        let losses: Vec<f64> = self.parts.values().filter_map(|it| it.loss).collect();
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    }

    /// The first value that a rank tells.
    pub(super) fn told(&self, of: impl Fn(&Part) -> Option<f64>) -> Option<f64> {
        self.parts.values().find_map(of)
    }

    /// A rank's own loss: told as such, or told as the loss where the ranks' differ.
    fn own(&self, part: &Part) -> Option<f64> {
        let mut losses = self.parts.values().filter_map(|it| it.loss);
        let first = losses.next();
        let shared = first.is_some_and(|first| losses.all(|it| equal(it, first)));
        part.local_loss.or(part.loss.filter(|_| !shared))
    }

    /// `Differs` when any rank does; `Equal` when at least one rank can be compared and all that can are.
    fn compare(&self, twin: &Made, same: impl Fn(&Part, &Part) -> Option<bool>) -> Cmp {
        let both = self
            .parts
            .iter()
            .filter_map(|(rank, mine)| same(mine, twin.parts.get(rank)?));
        both.fold(Cmp::Unknown, |so_far, same| match (so_far, same) {
            (Cmp::Differs, _) | (_, false) => Cmp::Differs,
            _ => Cmp::Equal,
        })
    }
}
