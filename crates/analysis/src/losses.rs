//! The losses of both runs side by side: the trajectory rung, and where the losses part.

use crate::lineage::{Attempt, Lineage};
use crate::log::Work;
use crate::num;
use crate::pair::Pair;
use crate::same_result::{Rung, Sameness, dropped, rung};
use crate::trajectory::{self, Curve};
use std::collections::BTreeMap;

/// Loss of each step in the final lineage, as the lowest rank reports it, with the time of its end.
type Losses = BTreeMap<u64, (f64, u64)>;

impl Pair<'_> {
    pub(crate) fn trajectory(&self) -> Rung {
        if !self.log.repeats.is_empty() {
            return self.among_repeats();
        }
        let comparison = match (self.losses(false), self.losses(true)) {
            (Some(mine), Some(theirs)) => compare_losses(&mine, &theirs),
            _ => "no losses were reported".into(),
        };
        rung(
            "trajectory",
            Sameness::NotMeasured,
            format!(
                "it takes at least {} undisturbed repeats, and there is 1 reference; {comparison}",
                trajectory::REPEATS
            ),
        )
    }

    /// The run's losses among those of the repeats that came to a good end.
    fn among_repeats(&self) -> Rung {
        let decide = |sameness, evidence| rung("trajectory", sameness, evidence);
        let not = |why: String| decide(Sameness::NotMeasured, why);
        let Some(lineage) = self.lineage else {
            return not("no completed steps were seen".into());
        };
        let mut curves: Vec<Curve> = Vec::new();
        let mut lengths = Vec::new();
        for work in std::iter::once(&self.log.reference).chain(&self.log.repeats) {
            let good = work.ended.is_some_and(|ended| ended.exit == Some(0));
            let Some(repeat) = Lineage::of(work).filter(|it| good && it.problem.is_none()) else {
                continue;
            };
            if let Some(losses) = losses(work, &repeat) {
                lengths.push(repeat.attempts.last().and_then(Attempt::completed));
                curves.push(curve(&losses));
            }
        }
        let asked = self.log.repeats.len() + 1;
        let dropped = dropped(self.log) + self.log.repeats.iter().map(Work::dropped).sum::<u64>();
        if dropped > 0 {
            return not(format!(
                "{} training records were dropped, so the losses have holes",
                num::thousands(dropped)
            ));
        }
        if curves.len() < trajectory::REPEATS {
            return not(format!(
                "it takes at least {} undisturbed repeats; of {asked}, {} ended well and told {} losses",
                trajectory::REPEATS,
                curves.len(),
                if curves.len() == 1 { "its" } else { "their" }
            ));
        }
        if let Some(problem) = &lineage.problem {
            return not(problem.clone());
        }
        let Some(mine) = losses(&self.log.work, lineage) else {
            return not("the run told no losses".into());
        };
        let end = lineage.attempts.last().and_then(Attempt::completed);
        let longest = lengths.into_iter().flatten().max().unwrap_or(0);
        if end.is_none_or(|end| end < longest) {
            return not(format!(
                "the run ended after {}, the repeats after {}",
                lineage.unit.count(end.unwrap_or(0)),
                lineage.unit.count(longest)
            ));
        }
        if let Some(why) = self.untold(&mine, &curves, longest) {
            return not(why);
        }
        let compared = trajectory::compare(&curve(&mine), &curves);
        decide(compared.sameness, compared.words)
    }

    /// Why the losses that the run and all repeats tell do not show what the fault did: they must go on to the last step, and
    /// at least half of those after the first injection must be there.
    fn untold(&self, mine: &Losses, repeats: &[Curve], end: u64) -> Option<String> {
        let (first, others) = repeats.split_first()?;
        let by_all = |step: &u64| others.iter().all(|it| it.contains_key(step));
        let told: Vec<u64> = first.keys().copied().filter(by_all).collect();
        let [.., before_last, last] = told[..] else {
            return Some("the repeats tell no losses of the same steps".into());
        };
        // Losses told every tenth step reach the end within ten steps.
        if last + (last - before_last) <= end {
            return Some(format!(
                "the repeats tell losses up to step {} of {} only",
                num::thousands(last),
                num::thousands(end)
            ));
        }
        if !mine.contains_key(&last) {
            return Some(format!(
                "the run does not tell the loss of step {}, the last of which all repeats tell",
                num::thousands(last)
            ));
        }
        let injected = self.log.injections.iter().map(|it| it.begun_ns).min()?;
        let common = || {
            told.iter()
                .filter_map(|step| Some((step, mine.get(step)?.1)))
        };
        let after = common().filter(|(_, t_ns)| *t_ns > injected).count();
        let before = common().filter(|(_, t_ns)| *t_ns <= injected);
        let until = before.map(|(step, _)| *step).max().unwrap_or(0);
        let wanted = told.iter().filter(|step| **step > until).count();
        (after == 0 || after * 2 < wanted).then(|| {
            format!(
                "after the first injection the run tells the losses of {after} of {}",
                num::plural(wanted, "step", "steps")
            )
        })
    }

    fn losses(&self, reference: bool) -> Option<Losses> {
        let lineage = if reference {
            self.reference
        } else {
            self.lineage
        }?;
        losses(self.work(reference), lineage)
    }

    pub(crate) fn first_other_loss(&self) -> String {
        let (Some(mine), Some(theirs)) = (self.losses(false), self.losses(true)) else {
            return String::new();
        };
        match first_other(&mine, &theirs) {
            Some(step) => format!("; the losses part at step {}", num::thousands(step)),
            None => "; all reported losses are equal".into(),
        }
    }

    /// The first step at which losses differ though nothing had been injected yet.
    pub(crate) fn apart_before_any_fault(&self) -> Option<u64> {
        let first = self
            .log
            .injections
            .iter()
            .map(|it| it.begun_ns)
            .min()
            .unwrap_or(u64::MAX);
        let mut mine = self.losses(false)?;
        mine.retain(|_, (_, t_ns)| *t_ns < first);
        let theirs = self.losses(true)?;
        first_other(&mine, &theirs)
    }
}

fn losses(work: &Work<'_>, lineage: &Lineage) -> Option<Losses> {
    let mut losses = Losses::new();
    let mut rank = None;
    for (attempt, of, index) in lineage.rank_events() {
        let seen = &work.training[index];
        let (Some(step), Some(loss)) = (lineage.unit.completed(seen), seen.event.loss) else {
            continue;
        };
        if lineage.keeps(attempt, step) && *rank.get_or_insert(of) == of {
            losses.insert(step, (loss, seen.t_ns));
        }
    }
    (!losses.is_empty()).then_some(losses)
}

fn curve(losses: &Losses) -> Curve {
    losses
        .iter()
        .map(|(step, (loss, _))| (*step, *loss))
        .collect()
}

fn first_other(mine: &Losses, theirs: &Losses) -> Option<u64> {
    let differs = |step: &&u64| match (mine.get(step), theirs.get(step)) {
        (Some((a, _)), Some((b, _))) => a.to_bits() != b.to_bits(),
        _ => false,
    };
    mine.keys().find(differs).copied()
}

fn compare_losses(mine: &Losses, theirs: &Losses) -> String {
    let both = mine.keys().filter(|step| theirs.contains_key(step)).count();
    match first_other(mine, theirs) {
        None => format!(
            "the losses of {} reported by both are equal",
            num::plural(both, "step", "steps")
        ),
        Some(step) => {
            let largest = mine
                .iter()
                .filter_map(|(step, (a, _))| theirs.get(step).map(|(b, _)| (a - b).abs()))
                .fold(0.0, f64::max);
            format!(
                "of {} reported by both, losses part at step {} and differ by at most {}",
                num::plural(both, "step", "steps"),
                num::thousands(step),
                num::significant(largest)
            )
        }
    }
}
