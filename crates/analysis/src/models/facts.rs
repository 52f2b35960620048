//! What the models are given, read from a run.

use super::{
    Model, Models, detection_probability, elasticity, expected_impact, fault_probability, measured,
    model,
};
use crate::expect::Findings;
use crate::interval::{bootstrap, mean};
use crate::landing::InjectionReport;
use crate::lineage::{Lineage, median};
use crate::num;
use crate::recovery::{Outcome, Recovery};
use crate::story;
use std::collections::{BTreeMap, BTreeSet};

const S: f64 = 1e9;
/// A run breaks things on purpose: its rates are the experiment's.
const INJECTED: &str =
    "faults were injected on purpose: the rate is the experiment's, not that of your machines";

/// All models of a training run; `None` for anything else.
pub(crate) fn models(findings: &Findings<'_>) -> Option<Models> {
    let lineage = findings.lineage?;
    let facts = Facts::of(findings, lineage)?;
    let (from_ns, to_ns, window) = facts.window.clone();
    Some(Models {
        from_ns,
        to_ns,
        window,
        basic: vec![
            facts.fault_probability(),
            facts.impact(),
            facts.elasticity(),
            facts.detection(),
        ],
        beside: vec![
            facts.mttf(),
            facts.mttd(),
            facts.mttr(),
            facts.availability(),
            facts.ettr(),
            facts.goodput(),
        ],
    })
}

struct Facts<'a> {
    findings: &'a Findings<'a>,
    lineage: &'a Lineage,
    landed: Vec<&'a InjectionReport>,
    window: (u64, u64, String),
    seed: u64,
}

impl<'a> Facts<'a> {
    fn of(findings: &'a Findings<'a>, lineage: &'a Lineage) -> Option<Facts<'a>> {
        let log = findings.log;
        let window = match findings.effectiveness {
            Some(it) => (it.from_ns, it.to_ns, "the workload's wall time".to_owned()),
            None => {
                let to = log.work.ended.map_or(log.end_ns, |ended| ended.t_ns);
                (
                    lineage.attempts.first()?.start_ns,
                    to,
                    "from the first training event to the end of the workload".to_owned(),
                )
            }
        };
        let landed = findings.injections.iter().filter(|it| it.landed.acted());
        Some(Facts {
            findings,
            lineage,
            landed: landed.collect(),
            window,
            seed: log.start.map_or(findings.run.ask.seed, |start| start.seed),
        })
    }

    fn length_s(&self) -> f64 {
        (self.window.1 - self.window.0) as f64 / S
    }

    /// Recoveries that ended, with the time of the figure asked for, in seconds.
    fn times(&self, of: impl Fn(&Recovery) -> Option<u64>) -> Vec<f64> {
        let all = self.findings.recoveries.iter();
        all.filter_map(of).map(|ns| ns as f64 / S).collect()
    }

    fn fault_probability(&self) -> Model {
        let ranks: BTreeSet<u32> = self
            .lineage
            .attempts
            .iter()
            .flat_map(|it| &it.ranks)
            .copied()
            .flatten()
            .collect();
        let hit: BTreeSet<u32> = self
            .landed
            .iter()
            .filter_map(|it| it.place.as_ref()?.rank)
            .collect();
        if ranks.is_empty() {
            return model("fault-probability", "fault probability P(F)", "n_f / n")
                .without("%", "no event names its rank");
        }
        let failed = ranks.intersection(&hit).count();
        let mut it = fault_probability(
            measured(
                "n_f",
                failed as f64,
                "ranks",
                "ranks that an injection hit at least once",
            ),
            measured(
                "n",
                ranks.len() as f64,
                "ranks",
                "ranks that training events name: the component inventory",
            ),
        );
        it.cautions.push(INJECTED.into());
        it
    }

    fn impact(&self) -> Model {
        let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for it in &self.landed {
            let mut of = self
                .findings
                .recoveries
                .iter()
                .filter(|other| other.injection == it.id);
            let Some(ns) = of.next().and_then(|it| it.stall_ns.or(it.caught_up_ns)) else {
                let why = "an injection was not followed by a measured recovery";
                return model("impact", "expected impact E(I)", "Σ w·i").without("s", why);
            };
            kinds.entry(&it.kind).or_default().push(ns as f64 / S);
        }
        if kinds.is_empty() {
            return model("impact", "expected impact E(I)", "Σ w·i")
                .without("s", "no injection landed");
        }
        let all = self.landed.len() as f64;
        let parts = kinds.iter().map(|(kind, times)| {
            (
                measured(
                    "w",
                    times.len() as f64 / all,
                    "",
                    format!("share of {kind} among the injections"),
                ),
                measured(
                    "i",
                    mean(&mut times.iter().copied()),
                    "s",
                    format!("mean time until caught up after {kind}, or its stall"),
                ),
            )
        });
        let mut it = expected_impact(parts.collect(), "s");
        it.cautions.push("the weights are this experiment's mixture of faults; with those of your machines it is your expected impact".into());
        it
    }

    fn elasticity(&self) -> Model {
        let back = self.findings.recoveries.iter().filter(|it| it.restarts > 0);
        let times: Vec<f64> = back
            .filter_map(|it| it.back_to_work_ns)
            .map(|ns| ns as f64 / S)
            .collect();
        let ranks = self.lineage.attempts.last().map_or(0, |it| it.ranks.len());
        if times.is_empty() {
            return model("elasticity", "elasticity E(S)", "C(R) / T(R)").without(
                "ranks per s",
                "the job was not restarted, so no capacity was brought back",
            );
        }
        let mut it = elasticity(
            measured(
                "C(R)",
                (ranks * times.len()) as f64,
                "ranks",
                "ranks that were started again",
            ),
            measured(
                "T(R)",
                times.iter().sum(),
                "s",
                "from each injection to the first new step, added up",
            ),
            "ranks per s",
        );
        it.cautions.push(
            "the job was brought back to the size it had; scaling beyond it was not tried".into(),
        );
        it
    }

    fn detection(&self) -> Model {
        let measured_ones = self
            .findings
            .recoveries
            .iter()
            .filter(|it| it.outcome != Outcome::NotMeasured);
        let of: Vec<&Recovery> = measured_ones.collect();
        let noticed = of
            .iter()
            .filter(|it| it.marks.iter().any(|mark| mark.what == "detected"))
            .count();
        let name = "detection probability P(D)";
        if of.is_empty() {
            return model("detection-probability", name, "N(D) / N(T)")
                .without("%", "no injection landed while training could be seen");
        }
        let mut it = detection_probability(
            measured(
                "N(D)",
                noticed as f64,
                "injections",
                "injections that the supervisor or a rank noticed",
            ),
            measured(
                "N(T)",
                of.len() as f64,
                "injections",
                "injections that landed while training could be seen",
            ),
        );
        it.cautions.push(
            "an injection that changed nothing anyone would look for counts as not noticed".into(),
        );
        it
    }

    /// Times that the job stopped, whoever was at fault.
    fn failures(&self) -> u64 {
        let stopped = |it: &&Recovery| it.restarts > 0 || it.outcome == Outcome::NotCaughtUp;
        let ours = self.findings.recoveries.iter().filter(stopped).count();
        (ours + story::unexplained(self.findings.log, Some(self.lineage))) as u64
    }

    fn mttf(&self) -> Model {
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

    fn mttd(&self) -> Model {
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

    fn mttr(&self) -> Model {
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

    fn availability(&self) -> Model {
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

    fn ettr(&self) -> Model {
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

    fn goodput(&self) -> Model {
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
