//! What the recovery that was measured would cost a job on many more GPUs, and how often it should save.
//!
//! ETTR(N) = 1 / (1 + δ/Δt + E\[L\]/MTTF(N)) with δ the time that training waits for a save, Δt the time between saves,
//! E\[L\] = E\[back to work\] + Δt/2 and MTTF(N) = 1/(N·r_f): a renewal argument, to first order in E\[L\]/MTTF. Failures
//! are taken to come at random at a constant rate, one at a time; what grows with N beyond their number (start-up of a
//! larger job, a longer save) is not in it.

use crate::diagnosis::{Diagnosis, Mistake};
use crate::expect::Findings;
use crate::interval::{Interval, bootstrap, mean};
use crate::lineage::median;
use crate::models::formulas::{daly, mttf, projected_ettr, young};
use crate::models::{Input, Origin, measured};
use crate::num;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sizes that are projected to, in GPUs.
const SIZES: [u64; 4] = [1_024, 4_096, 16_384, 131_072];
const GPUS_PER_NODE: f64 = 8.0;
/// Failures per 1000 node-days.
const FAILURE_RATE: f64 = 6.5;
const FAILURE_SOURCE: &str =
    "6.5 failures per 1000 node-days, as on Meta's RSC-1 (arXiv 2410.21680)";
const YOUNG: &str = "J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17 (9), 1974";
const DALY: &str = "J. T. Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22 (3), 2006";
const S: f64 = 1e9;

/// One size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Projected {
    /// GPUs of the job.
    pub gpus: u64,
    /// Mean time to failure of the job, in seconds.
    pub mttf_s: f64,
    /// ETTR with the checkpoint interval as measured, 0 to 1.
    pub ettr: f64,
    /// Where it lies, given how much the measured recoveries differ; 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Daly's best time between checkpoints, in seconds; absent when no save that training waits for was seen.
    pub best_interval_s: Option<f64>,
    /// The same in steps as long as those measured.
    pub best_interval_steps: Option<u64>,
    /// Young's, to first order, in seconds.
    pub young_s: Option<f64>,
    /// ETTR at the best interval, 0 to 1.
    pub ettr_at_best: Option<f64>,
}

/// The projection with everything that went in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Projection {
    /// The formula.
    pub formula: String,
    /// What went in.
    pub inputs: Vec<Input>,
    /// One entry a size.
    pub sizes: Vec<Projected>,
    /// What is taken for granted, each a sentence.
    pub assumptions: Vec<String>,
    /// Where formulas and rates are from.
    pub sources: Vec<String>,
}

/// Something to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// What to do, in one sentence.
    pub text: String,
    /// What it rests on, each a sentence.
    pub evidence: Vec<String>,
    /// What is taken for granted, each a sentence.
    pub assumptions: Vec<String>,
    /// Where formulas and rates are from.
    pub sources: Vec<String>,
}

/// Everything measured that a projection needs, in seconds.
struct Measured {
    step: f64,
    /// Steps between saves.
    every: u64,
    /// Training waits this long for a save; 0 when it does not wait, `None` when no save was timed.
    save: Option<f64>,
    back: Vec<f64>,
    seed: u64,
}

/// The projection of a run; `None` when no recovery, step time or checkpoint interval was measured.
pub(crate) fn projection(findings: &Findings<'_>) -> Option<Projection> {
    let it = Measured::of(findings)?;
    let back = mean(&mut it.back.iter().copied());
    let interval = it.every as f64 * it.step;
    let sizes = SIZES.iter().map(|gpus| it.at(*gpus, back, interval));
    let n = it.back.len();
    let mut inputs = vec![
        measured(
            "E[back to work]",
            back,
            "s",
            format!(
                "mean time from an injection to the first new step ({})",
                num::plural(n, "restart", "restarts")
            ),
        ),
        measured(
            "Δt",
            interval,
            "s",
            format!(
                "{} steps between checkpoints × the usual step time",
                it.every
            ),
        ),
    ];
    if let Some(save) = it.save {
        inputs.push(measured(
            "δ",
            save,
            "s",
            "training waits this long for a save (middle one)",
        ));
    }
    inputs.push(assumed(
        "r_f",
        FAILURE_RATE,
        "per 1000 node-days",
        FAILURE_SOURCE,
    ));
    inputs.push(assumed(
        "GPUs per node",
        GPUS_PER_NODE,
        "",
        "as in most published clusters",
    ));
    Some(Projection {
        formula: "ETTR(N) = 1 / (1 + δ/Δt + (E[back to work] + Δt/2) / MTTF(N)), MTTF(N) = 1 / (nodes · r_f)".into(),
        sizes: sizes.collect(),
        inputs,
        assumptions: assumptions(it.save.is_none()),
        sources: vec![FAILURE_SOURCE.into(), YOUNG.into(), DALY.into()],
    })
}

fn assumptions(unsaved: bool) -> Vec<String> {
    let mut all = vec![
        format!("Nodes have {GPUS_PER_NODE} GPUs and {FAILURE_SOURCE}; put in your own rate."),
        "Steps, saves and restarts take as long at the larger size as they did here.".to_owned(),
        "Failures come at random, at a constant rate, one at a time.".to_owned(),
        "Replacing a node takes no time beyond the restart that was measured.".to_owned(),
    ];
    if unsaved {
        all.push("A save costs nothing: none was timed.".to_owned());
    }
    all
}

fn assumed(symbol: &str, value: f64, unit: &str, what: &str) -> Input {
    Input {
        origin: Origin::Assumed,
        ..measured(symbol, value, unit, what)
    }
}

impl Measured {
    fn of(findings: &Findings<'_>) -> Option<Measured> {
        let lineage = findings.lineage.filter(|it| it.problem.is_none())?;
        let times: Vec<u64> = lineage.step_times().iter().map(|(_, t)| *t).collect();
        let back = findings.recoveries.iter().filter(|it| it.restarts > 0);
        let back: Vec<f64> = back
            .filter_map(|it| it.back_to_work_ns)
            .map(|ns| ns as f64 / S)
            .collect();
        let (every, _) = findings.checkpoint_interval()?;
        (lineage.unit == crate::lives::Unit::Step && !back.is_empty() && every > 0).then_some(())?;
        Some(Measured {
            step: median(&times)? as f64 / S,
            every,
            save: save(lineage),
            back,
            seed: findings
                .log
                .start
                .map_or(findings.run.ask.seed, |it| it.seed),
        })
    }

    fn at(&self, gpus: u64, back: f64, interval: f64) -> Projected {
        let mttf = mttf(gpus as f64 / GPUS_PER_NODE, FAILURE_RATE);
        let save = self.save.unwrap_or(0.0);
        let ettr =
            |back: f64, interval: f64| projected_ettr(save, interval, back + interval / 2.0, mttf);
        let best = (save > 0.0).then(|| daly(save, mttf).max(self.step));
        Projected {
            gpus,
            mttf_s: mttf,
            ettr: ettr(back, interval),
            interval: bootstrap(&self.back, self.seed, |drawn| ettr(mean(drawn), interval)),
            best_interval_s: best,
            best_interval_steps: best.map(|best| (best / self.step).round().max(1.0) as u64),
            young_s: best.map(|_| young(save, mttf)),
            ettr_at_best: best.map(|best| ettr(back, best)),
        }
    }
}

/// The middle of the saves that lay wholly between two steps; 0 when saves were timed and none did.
fn save(lineage: &crate::lineage::Lineage) -> Option<f64> {
    let (mut waited, mut timed) = (Vec::new(), 0);
    for attempt in &lineage.attempts {
        for saved in &attempt.saved {
            let Some(begun) = saved.begun_ns else {
                continue;
            };
            timed += 1;
            let inside =
                |end: &crate::lineage::StepEnd| (begun..=saved.renamed_ns).contains(&end.t_ns);
            if !attempt.steps.iter().any(inside) {
                waited.push(saved.renamed_ns.saturating_sub(begun));
            }
        }
    }
    match (timed, median(&waited)) {
        (0, _) => None,
        (_, middle) => Some(middle.unwrap_or(0) as f64 / S),
    }
}

/// Advice from the projection and the diagnosis.
pub(crate) fn advice(
    projection: Option<&Projection>,
    diagnosis: Option<&Diagnosis>,
) -> Vec<Advice> {
    let mut all = Vec::new();
    if let Some(it) = diagnosis.filter(|it| it.mistake != Mistake::Unknown) {
        all.push(Advice {
            text: crate::words::sentence(it.remedy.as_deref().unwrap_or_default()) + ".",
            evidence: vec![crate::words::sentence(&it.sentence) + "."],
            assumptions: Vec::new(),
            sources: Vec::new(),
        });
    }
    all.extend(projection.and_then(interval));
    all
}

fn interval(it: &Projection) -> Option<Advice> {
    let first = it.sizes.first()?;
    let (best, steps, at_best) = (
        first.best_interval_s?,
        first.best_interval_steps?,
        first.ettr_at_best?,
    );
    Some(Advice {
        text: format!(
            "On {} GPUs save every {} (about {} steps as long as these): {} of the time would be lost instead of {}.",
            num::thousands(first.gpus),
            num::duration((best * S) as u64),
            num::thousands(steps),
            loss(at_best),
            loss(first.ettr)
        ),
        evidence: it
            .inputs
            .iter()
            .map(|it| {
                let origin = if it.origin == Origin::Measured {
                    "measured"
                } else {
                    "assumed"
                };
                format!("{} = {}, {origin}: {}.", it.symbol, it.words(), it.what)
            })
            .collect(),
        assumptions: it.assumptions.clone(),
        sources: vec![YOUNG.into(), DALY.into()],
    })
}

/// The share of the time that is no training.
fn loss(ettr: f64) -> String {
    num::percent(1.0 - ettr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job that fails at random, counted step by step, ends near what the formula says.
    #[test]
    fn the_formula_agrees_with_a_simulated_job() {
        let (save, interval, back, mttf) = (2.0, 100.0, 30.0, 2_000.0);
        let (mut wall, mut useful, mut done) = (0.0, 0.0, 0.0);
        let mut fails_at = 0.0;
        let mut draw = 0u64;
        let mut next = |now: f64| {
            draw += 1;
            now + squall_model::seed::exponential(7, &[&draw.to_le_bytes()], mttf)
        };
        fails_at += next(0.0);
        while useful < 2e6 {
            // One stretch: an interval of work and its save, unless a failure comes first.
            if wall + interval + save <= fails_at {
                wall += interval + save;
                done += interval;
                useful = done;
            } else {
                wall = fails_at + back;
                fails_at = next(wall);
            }
        }
        let (simulated, formula) = (
            useful / wall,
            projected_ettr(save, interval, back + interval / 2.0, mttf),
        );
        assert!((simulated - formula).abs() < 0.01, "{simulated} {formula}");
    }

    #[test]
    fn no_interval_is_better_than_the_best_one() {
        let (save, back, mttf) = (30.0, 300.0, 20_000.0);
        let at = |interval: f64| projected_ettr(save, interval, back + interval / 2.0, mttf);
        let best = daly(save, mttf);
        for factor in [0.25, 0.5, 0.8, 1.25, 2.0, 4.0] {
            assert!(at(best) > at(best * factor), "{factor}");
        }
    }
}
