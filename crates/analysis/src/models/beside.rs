//! The field's own measures, which stand beside the four models.

use super::facts::{Facts, INJECTED, S};
use super::{Model, measured, model};
use crate::interval::{bootstrap, mean};
use crate::lineage::median;
use crate::num;
use crate::recovery::{Outcome, Recovery};
use crate::story;

impl Facts<'_> {
    /// Times that the job stopped, whoever was at fault.
    fn failures(&self) -> u64 {
        let stopped = |it: &&Recovery| it.restarts > 0 || it.outcome == Outcome::NotCaughtUp;
        let ours = self.findings.recoveries.iter().filter(stopped).count();
        (ours + story::unexplained(self.findings.log, Some(self.lineage))) as u64
    }

    pub(super) fn mttf(&self) -> Model {
        let name = "mean time to failure (MTTF)";
        let (failures, length) = (self.failures(), self.length_s());
        let mut it = model("mttf", name, "window / failures");
        it.inputs = vec![
            measured("window", length, "s", self.window.2.clone()),
            measured(
                "failures",
                failures as f64,
                "",
                "times that the job stopped",
            ),
        ];
        it.cautions.push(INJECTED.into());
        if failures == 0 {
            return it.without("s", "the job did not stop");
        }
        it.give(
            Some(length / failures as f64),
            "s",
            &format!("{} s / {failures}", num::significant(length)),
        )
    }

    fn mean_of(&self, key: &str, name: &str, what: &str, times: &[f64]) -> Model {
        let mut it = model(key, name, "mean");
        if times.is_empty() {
            return it.without("s", &format!("no {what}"));
        }
        it.interval = bootstrap(times, self.seed, mean);
        if it.interval.is_none() {
            it.cautions.push(format!(
                "{} only: too few for an interval",
                num::plural(times.len(), "observation", "observations")
            ));
        }
        it.inputs = times
            .iter()
            .map(|time| measured("t", *time, "s", what))
            .take(20)
            .collect();
        let worked = format!("mean of {}", num::plural(times.len(), "time", "times"));
        it.give(Some(mean(&mut times.iter().copied())), "s", &worked)
    }

    pub(super) fn mttd(&self) -> Model {
        let detected = |it: &Recovery| {
            it.marks
                .iter()
                .find(|mark| mark.what == "detected")
                .map(|mark| mark.after_ns)
        };
        self.mean_of(
            "mttd",
            "mean time to detect (MTTD)",
            "time from an injection to the first sign of it",
            &self.times(detected),
        )
    }

    pub(super) fn mttr(&self) -> Model {
        let name = "mean time to recover (MTTR)";
        let open = self
            .findings
            .recoveries
            .iter()
            .any(|it| it.outcome == Outcome::NotCaughtUp);
        if open {
            return model("mttr", name, "mean").without(
                "s",
                "a recovery had not ended when the record did, so a mean would be too small",
            );
        }
        self.mean_of(
            "mttr",
            name,
            "time from an injection until training had caught up",
            &self.times(|it| it.caught_up_ns),
        )
    }

    pub(super) fn availability(&self) -> Model {
        let name = "availability";
        let to = self.window.1;
        let mut spans: Vec<(u64, u64)> = self
            .findings
            .recoveries
            .iter()
            .filter(|it| it.restarts > 0 || it.outcome == Outcome::NotCaughtUp)
            .map(|it| {
                (
                    it.start_ns,
                    it.back_to_work_ns.map_or(to, |ns| it.start_ns + ns).min(to),
                )
            })
            .collect();
        spans.sort_unstable();
        let (mut down, mut until) = (0, 0);
        for (start, end) in spans {
            down += end.saturating_sub(start.max(until));
            until = until.max(end);
        }
        let (down, length) = (down as f64 / S, self.length_s());
        let mut it = model("availability", name, "1 − down / window");
        it.inputs = vec![
            measured(
                "down",
                down,
                "s",
                "from each injection that stopped the job to its first new step, overlaps once",
            ),
            measured("window", length, "s", self.window.2.clone()),
        ];
        it.cautions.push(INJECTED.into());
        if length <= 0.0 {
            return it.without("%", "the window is empty");
        }
        let worked = format!(
            "1 − {} s / {} s",
            num::significant(down),
            num::significant(length)
        );
        it.give(Some((1.0 - down / length) * 100.0), "%", &worked)
    }

    pub(super) fn ettr(&self) -> Model {
        let it = model(
            "ettr",
            "effective training time ratio (ETTR)",
            "productive time / wall time",
        );
        let Some(effective) = self.findings.effectiveness else {
            return it.without("%", "no completed steps, or no wall time");
        };
        let mut it = it;
        let productive = effective
            .shares
            .iter()
            .filter(|share| share.name == "productive")
            .map(|share| share.duration_ns as f64 / S)
            .sum::<f64>();
        let wall = self.length_s();
        it.inputs = vec![
            measured(
                "productive",
                productive,
                "s",
                "steps that the final state grew from",
            ),
            measured("wall", wall, "s", effective.definition.clone()),
        ];
        let costs = self.costs();
        let paid: f64 = costs.iter().sum();
        it.interval = bootstrap(&costs, self.seed, |drawn| {
            productive / (wall - paid + drawn.sum::<f64>()) * 100.0
        });
        match &mut it.interval {
            Some(interval) => {
                interval.high = interval.high.min(100.0);
                interval.method += ", over what each recovery cost";
            }
            None => it.cautions.push(format!(
                "{}: too few for an interval",
                num::plural(costs.len(), "recovery", "recoveries")
            )),
        }
        let worked = format!(
            "{} s / {} s",
            num::significant(productive),
            num::significant(wall)
        );
        it.give(Some(effective.ettr * 100.0), "%", &worked)
    }

    /// What each recovery that lies in no other one cost: from the injection until caught up, less one usual step.
    fn costs(&self) -> Vec<f64> {
        let steps: Vec<u64> = self.lineage.step_times().iter().map(|(_, t)| *t).collect();
        let usual = median(&steps).unwrap_or(0);
        let mut until = 0;
        let mut costs = Vec::new();
        for it in self.findings.recoveries {
            let Some(ns) = it.stall_ns.or(it.caught_up_ns) else {
                continue;
            };
            if it.start_ns >= until {
                costs.push(ns.saturating_sub(usual) as f64 / S);
                until = it.start_ns + ns;
            }
        }
        costs
    }

    pub(super) fn goodput(&self) -> Model {
        let it = model(
            "goodput",
            "goodput",
            "steps that count · usual step time / wall time",
        );
        let goodput = self.findings.effectiveness.and_then(|it| it.goodput);
        let Some(goodput) = goodput else {
            return it.without("%", "no step time is known");
        };
        let (kept, _) = self.lineage.kept_and_wasted();
        let mut it = it;
        it.inputs = vec![measured(
            "steps",
            kept as f64,
            "",
            "steps in the final lineage",
        )];
        let worked = format!(
            "{} in {} s",
            self.lineage.unit.count(kept),
            num::significant(self.length_s())
        );
        it.give(Some(goodput * 100.0), "%", &worked)
    }
}
