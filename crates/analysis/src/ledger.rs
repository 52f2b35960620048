//! Which samples the final state was trained on: each one that a step of the final lineage consumed, on every rank,
//! by epoch, with how often. What was consumed by steps that were rolled back is taken out.

use crate::lineage::Lineage;
use crate::log::Work;
use std::collections::BTreeMap;

/// How often each sample was used, by epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ledger {
    /// Epoch → sample → uses.
    pub(crate) epochs: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// Step → sorted samples of all ranks.
    pub(crate) steps: BTreeMap<u64, Vec<u64>>,
}

/// One thing that is not as in the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) epoch: u64,
    pub(crate) sample: u64,
    pub(crate) uses: u64,
    pub(crate) expected: u64,
}

/// All differences between two ledgers, counted, and the first by epoch and sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Comparison {
    pub(crate) repeated: u64,
    pub(crate) missing: u64,
    pub(crate) first: Option<Difference>,
}

impl Ledger {
    /// Reads the ledger of a job; `None` when no event names samples.
    pub(crate) fn of(work: &Work<'_>, lineage: &Lineage) -> Option<Ledger> {
        let mut ledger = Ledger::default();
        for (attempt, _, index) in lineage.rank_events() {
            let event = work.training[index].event;
            let (Some(ids), Some(step)) = (&event.ids, event.step) else {
                continue;
            };
            if event.kind != "sample-ids" || !lineage.keeps(attempt, step) {
                continue;
            }
            let epoch = ledger.epochs.entry(event.epoch.unwrap_or(0)).or_default();
            for id in ids {
                *epoch.entry(*id).or_default() += 1;
            }
            ledger.steps.entry(step).or_default().extend(ids);
        }
        for ids in ledger.steps.values_mut() {
            ids.sort_unstable();
        }
        (!ledger.epochs.is_empty()).then_some(ledger)
    }

    /// Uses in all epochs.
    pub(crate) fn uses(&self) -> u64 {
        self.epochs.values().flat_map(BTreeMap::values).sum()
    }

    /// What differs from a reference, sample by sample.
    pub(crate) fn compare(&self, reference: &Ledger) -> Comparison {
        let empty = BTreeMap::new();
        let mut comparison = Comparison::default();
        let epochs: std::collections::BTreeSet<u64> = self
            .epochs
            .keys()
            .chain(reference.epochs.keys())
            .copied()
            .collect();
        for epoch in epochs {
            let mine = self.epochs.get(&epoch).unwrap_or(&empty);
            let theirs = reference.epochs.get(&epoch).unwrap_or(&empty);
            let samples: std::collections::BTreeSet<u64> =
                mine.keys().chain(theirs.keys()).copied().collect();
            for sample in samples {
                let uses = mine.get(&sample).copied().unwrap_or(0);
                let expected = theirs.get(&sample).copied().unwrap_or(0);
                comparison.repeated += uses.saturating_sub(expected);
                comparison.missing += expected.saturating_sub(uses);
                if uses != expected {
                    comparison.first.get_or_insert(Difference {
                        epoch,
                        sample,
                        uses,
                        expected,
                    });
                }
            }
        }
        comparison
    }

    /// The first step that used other samples than the same step of the reference.
    pub(crate) fn first_other_step(&self, reference: &Ledger) -> Option<u64> {
        let steps: std::collections::BTreeSet<u64> = self
            .steps
            .keys()
            .chain(reference.steps.keys())
            .copied()
            .collect();
        steps
            .into_iter()
            .find(|step| self.steps.get(step) != reference.steps.get(step))
    }
}
