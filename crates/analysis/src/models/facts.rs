//! What the models are given, read from a run.

use super::{
    Model, Models, detection_probability, elasticity, expected_impact, fault_probability, measured,
    model,
};
use crate::expect::Findings;
use crate::interval::mean;
use crate::landing::InjectionReport;
use crate::lineage::Lineage;
use crate::recovery::{Outcome, Recovery};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const S: f64 = 1e9;
/// A run breaks things on purpose: its rates are the experiment's.
pub(super) const INJECTED: &str =
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

pub(super) struct Facts<'a> {
    pub(super) findings: &'a Findings<'a>,
    pub(super) lineage: &'a Lineage,
    landed: Vec<&'a InjectionReport>,
    pub(super) window: (u64, u64, String),
    pub(super) seed: u64,
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

    pub(super) fn length_s(&self) -> f64 {
        (self.window.1 - self.window.0) as f64 / S
    }

    /// Recoveries that ended, with the time of the figure asked for, in seconds.
    pub(super) fn times(&self, of: impl Fn(&Recovery) -> Option<u64>) -> Vec<f64> {
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
}
