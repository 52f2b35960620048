//! The rungs of the same-result ladder: what the disturbed run and its reference left, side by side.

use crate::ledger::Ledger;
use crate::lineage::{Attempt, Lineage};
use crate::log::{Log, Work};
use crate::num;
use crate::run::{Checkpoint, Run};
use crate::same_result::{Rung, Sameness, dropped, rung};
use std::collections::BTreeMap;

/// What a rung says that compared whole files.
pub(crate) const BY_FILES: &str = "file, not parameters";

/// What both runs of the workload left, side by side.
pub(crate) struct Pair<'a> {
    pub(crate) run: &'a Run,
    pub(crate) log: &'a Log<'a>,
    pub(crate) lineage: Option<&'a Lineage>,
    pub(crate) reference: Option<&'a Lineage>,
}

/// A digest with what it is a digest of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Final {
    digest: String,
    step: Option<u64>,
    /// Said by the trainer at its end; else it is of the last checkpoint found.
    at_end: bool,
}

/// What each rank told last.
type Finals = BTreeMap<Option<u32>, Final>;

fn name(rank: Option<u32>) -> String {
    rank.map_or("a process".into(), |rank| format!("rank {rank}"))
}

/// Two ranks of one run that ended with different parameters, if there are.
fn differing(finals: &Finals) -> Option<(Option<u32>, Option<u32>)> {
    let (rank, first) = finals.first_key_value()?;
    let (other, _) = finals.iter().find(|(_, it)| it.digest != first.digest)?;
    Some((*rank, *other))
}

impl Pair<'_> {
    pub(crate) fn bits(&self) -> Rung {
        let decide = |sameness, evidence| rung("bit-equal", sameness, evidence);
        let missing = |evidence: &str| decide(Sameness::NotMeasured, evidence.to_owned());
        let reference = Self::told(&self.log.reference);
        if differing(&reference).is_some() {
            return self.rank_by_rank(&reference);
        }
        let run = Self::told(&self.log.work);
        if let Some((one, other)) = differing(&run) {
            let ended = format!(
                "{} and {} of the run ended with different parameters",
                name(one),
                name(other)
            );
            return if [one, other].iter().all(|rank| reference.contains_key(rank)) {
                decide(
                    Sameness::Different,
                    format!("{ended}, those of the reference with the same"),
                )
            } else {
                missing(&format!(
                    "{ended}, and the reference does not tell whether they should"
                ))
            };
        }
        let parameters = |told: Finals, of_reference| {
            let first = told.into_values().next();
            first.or_else(|| self.newest(of_reference, |it| it.parameters.clone()))
        };
        let (Some(mine), Some(theirs)) = (parameters(run, false), parameters(reference, true))
        else {
            return self.files();
        };
        match (mine.step, theirs.step) {
            // A run that says it is done elsewhere is different; one whose last checkpoint is older is not done.
            (Some(a), Some(b)) if a != b => decide(
                if mine.at_end && theirs.at_end {
                    Sameness::Different
                } else {
                    Sameness::NotMeasured
                },
                format!(
                    "the run's parameters are of step {}, the reference's of step {}",
                    num::thousands(a),
                    num::thousands(b)
                ),
            ),
            _ if mine.digest.is_empty() || theirs.digest.is_empty() => missing("a digest is empty"),
            _ if mine.digest != theirs.digest && self.repeats_disagree(&theirs.digest) => missing(
                "the undisturbed repeats end with different parameters themselves, so this training is not reproducible bit for bit",
            ),
            _ if mine.digest == theirs.digest => decide(
                Sameness::Same,
                format!(
                    "the parameters at the end are equal, bit for bit (SHA-256 {}…)",
                    short(&mine.digest)
                ),
            ),
            _ => decide(
                Sameness::Different,
                format!(
                    "the parameters at the end differ (SHA-256 {}… instead of {}…){}",
                    short(&mine.digest),
                    short(&theirs.digest),
                    self.first_other_loss()
                ),
            ),
        }
    }

    /// Where each rank has parameters of its own (sharded, or in parallel by tensor or pipeline): rank by rank.
    fn rank_by_rank(&self, reference: &Finals) -> Rung {
        let decide = |sameness, evidence| rung("bit-equal", sameness, evidence);
        let run = Self::told(&self.log.work);
        for (rank, theirs) in reference {
            let who = name(*rank);
            let Some(mine) = run.get(rank) else {
                return decide(
                    Sameness::NotMeasured,
                    format!(
                        "each rank has parameters of its own, and {who} of the run told none at its end"
                    ),
                );
            };
            if mine.step == theirs.step && mine.digest == theirs.digest && !mine.digest.is_empty() {
                continue;
            }
            let repeats = self.log.repeats.iter().map(Self::told);
            let mut others = repeats.filter_map(|it| it.get(rank).map(|one| one.digest.clone()));
            if mine.digest.is_empty()
                || theirs.digest.is_empty()
                || others.any(|other| other != theirs.digest)
            {
                return decide(
                    Sameness::NotMeasured,
                    format!(
                        "each rank has parameters of its own, and those of {who} are not the same in undisturbed runs"
                    ),
                );
            }
            return decide(
                Sameness::Different,
                format!(
                    "{who} ended with other parameters than in the reference (SHA-256 {}… instead of {}…){}",
                    short(&mine.digest),
                    short(&theirs.digest),
                    self.first_other_loss()
                ),
            );
        }
        decide(
            Sameness::Same,
            format!(
                "the parameters of each of {} ranks at the end are equal, bit for bit",
                reference.len()
            ),
        )
    }

    /// Whether another undisturbed run ended with other parameters than the first.
    fn repeats_disagree(&self, first: &str) -> bool {
        let told = self.log.repeats.iter().map(Self::told);
        told.flat_map(Finals::into_values)
            .any(|it| !it.digest.is_empty() && it.digest != first)
    }

    /// What ranks said at the end.
    fn told(work: &Work<'_>) -> Finals {
        let mut by_rank = Finals::new();
        for seen in &work.training {
            if let ("final-parameters", Some(digest)) =
                (seen.event.kind.as_str(), &seen.event.digest)
            {
                let digest = digest.to_ascii_lowercase();
                let step = seen.event.step;
                let at_end = true;
                by_rank.insert(
                    seen.rank,
                    Final {
                        digest,
                        step,
                        at_end,
                    },
                );
            }
        }
        by_rank
    }

    /// Whole files prove equality, never a difference: they hold more than parameters.
    fn files(&self) -> Rung {
        let file = |it: &Checkpoint| Some(it.file_sha256.clone());
        let decide = |sameness, evidence: String| rung("bit-equal", sameness, evidence);
        match (self.newest(false, file), self.newest(true, file)) {
            (Some(mine), Some(theirs)) if mine == theirs => decide(
                Sameness::Same,
                format!(
                    "the last checkpoint files are equal, byte for byte ({BY_FILES}; SHA-256 {}…)",
                    short(&mine.digest)
                ),
            ),
            (Some(_), Some(_)) => decide(
                Sameness::NotMeasured,
                format!(
                    "the last checkpoint files differ, but a file holds more than parameters ({BY_FILES})"
                ),
            ),
            (None, _) => decide(
                Sameness::NotMeasured,
                "the run left no digest of its final parameters".into(),
            ),
            (_, None) => decide(
                Sameness::NotMeasured,
                "the reference run left no digest of its final parameters".into(),
            ),
        }
    }

    fn newest(
        &self,
        reference: bool,
        digest: impl Fn(&Checkpoint) -> Option<String>,
    ) -> Option<Final> {
        let of_run = self
            .run
            .checkpoints
            .iter()
            .filter(|it| it.reference == reference);
        let understood = of_run.filter_map(|it| {
            let digest = digest(it)?.to_ascii_lowercase();
            Some((it.step, &it.path, digest))
        });
        let (step, _, digest) = understood.max_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)))?;
        let at_end = false;
        Some(Final {
            digest,
            step,
            at_end,
        })
    }

    pub(crate) fn samples(&self) -> Rung {
        let decide = |sameness, evidence| rung("samples", sameness, evidence);
        let (Some(lineage), Some(reference)) = (self.lineage, self.reference) else {
            return decide(Sameness::NotMeasured, "no completed steps were seen".into());
        };
        if let Some(problem) = lineage.problem.as_ref().or(reference.problem.as_ref()) {
            return decide(Sameness::NotMeasured, problem.clone());
        }
        let mine = Ledger::of(&self.log.work, lineage);
        let theirs = Ledger::of(&self.log.reference, reference);
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            return decide(
                Sameness::NotMeasured,
                "no event names the samples of a step".into(),
            );
        };
        if let Some(why) = self.ended_early(lineage, reference) {
            return decide(Sameness::NotMeasured, why);
        }
        let comparison = mine.compare(&theirs);
        let dropped = dropped(self.log);
        if dropped > 0 {
            return decide(
                Sameness::NotMeasured,
                format!(
                    "{} training records were dropped, so the ledger has holes",
                    num::thousands(dropped)
                ),
            );
        }
        let Some(first) = comparison.first else {
            let order = match mine.first_other_step(&theirs) {
                None => "in the same steps".to_owned(),
                Some(step) => format!("though in another order from step {}", num::thousands(step)),
            };
            return decide(
                Sameness::Same,
                format!(
                    "each sample was used in each epoch as often as in the reference, {order} ({} uses in {})",
                    num::thousands(mine.uses()),
                    num::plural(mine.epochs.len(), "epoch", "epochs")
                ),
            );
        };
        decide(
            Sameness::Different,
            format!(
                "{} uses too many and {} too few; first: sample {} in epoch {} was used {}× instead of {}×",
                num::thousands(comparison.repeated),
                num::thousands(comparison.missing),
                first.sample,
                first.epoch,
                first.uses,
                first.expected
            ),
        )
    }

    /// A run that ended before the reference did has no ledger to compare, unless it says itself that it is done.
    fn ended_early(&self, lineage: &Lineage, reference: &Lineage) -> Option<String> {
        let last = |lineage: &Lineage| lineage.attempts.last().and_then(Attempt::completed);
        let (mine, theirs) = (last(lineage)?, last(reference)?);
        let done = self
            .log
            .work
            .training
            .iter()
            .any(|seen| seen.event.kind == "final-parameters");
        let ended_well = self
            .log
            .work
            .ended
            .is_some_and(|ended| ended.exit == Some(0));
        (mine < theirs && !done && !ended_well).then(|| {
            format!(
                "the run ended after {}, the reference after {}",
                lineage.unit.count(mine),
                reference.unit.count(theirs)
            )
        })
    }

    pub(crate) fn work(&self, reference: bool) -> &Work<'_> {
        if reference {
            &self.log.reference
        } else {
            &self.log.work
        }
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
