//! Did the disturbed run end where the undisturbed one did? A ladder, strongest rung first.
//!
//! - *bit-equal*: the digests of the final parameters are equal.
//! - *samples*: each sample was used in each epoch as often as in the reference, counting the final lineage over ranks
//!   and restarts.
//! - *trajectory*: losses stay within k·σ of at least three undisturbed repeats.
//!
//! Equal bits decide at once; otherwise a rung that is disproved does, and then the highest that is proved. A rung that
//! cannot be decided says why. Without a reference the answer is 'not measured', never 'same'. Where the losses part before
//! anything was injected, training is not reproducible and other parameters are nobody's proof; other samples are.

use crate::lineage::Lineage;
use crate::log::Log;
use crate::num;
use crate::pair::Pair;
use crate::run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a rung, or the whole ladder, says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sameness {
    /// Proved equal.
    Same,
    /// Proved different.
    Different,
    /// Could not be decided.
    NotMeasured,
}

/// One rung of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// `bit-equal`, `samples`, `trajectory`.
    pub name: String,
    /// What it says.
    pub sameness: Sameness,
    /// The evidence, or why there is none, in words.
    pub evidence: String,
}

/// The ladder with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SameResult {
    /// The verdict.
    pub sameness: Sameness,
    /// The rung that decided it; absent when none could.
    pub decided_by: Option<String>,
    /// The verdict in one sentence.
    pub sentence: String,
    /// All rungs, strongest first.
    pub rungs: Vec<Rung>,
}

impl SameResult {
    /// Whether whole files were compared, because nobody told the digest of the parameters.
    pub(crate) fn by_files(&self) -> bool {
        self.sentence.contains(crate::pair::BY_FILES)
    }
}

/// Compares the disturbed run with its reference.
pub(crate) fn same_result(
    run: &Run,
    log: &Log<'_>,
    lineage: Option<&Lineage>,
    reference: Option<&Lineage>,
) -> SameResult {
    let pair = Pair {
        run,
        log,
        lineage,
        reference,
    };
    let exists =
        !log.reference.training.is_empty() || run.checkpoints.iter().any(|it| it.reference);
    if !exists {
        let why = if run.ask.reference {
            "the reference run left neither training events nor checkpoints"
        } else {
            "no reference run"
        };
        return without(why);
    }
    let rungs = vec![pair.bits(), pair.samples(), pair.trajectory()];
    let apart = pair.apart_before_any_fault();
    let decided = decide(&rungs, apart);
    if decided.is_none()
        && let Some(step) = apart
        && rungs.iter().any(|it| it.sameness == Sameness::Different)
    {
        return SameResult {
            rungs,
            ..without(&format!(
                "the losses of the two runs part at step {} already, before the first injection: this training is not reproducible, so a difference cannot be put down to a fault",
                num::thousands(step)
            ))
        };
    }
    let sameness = decided.map_or(Sameness::NotMeasured, |rung| rung.sameness);
    let sentence = match decided {
        Some(rung) => format!("{}: {}", word(sameness), rung.evidence),
        None => "not measured: no rung of the comparison could be decided".into(),
    };
    SameResult {
        sameness,
        decided_by: decided.map(|rung| rung.name.clone()),
        sentence,
        rungs,
    }
}

/// The rung that decides. Where training parts by itself before any fault, equal bits cannot be asked for; equal samples and
/// the spread of repeats can.
fn decide(rungs: &[Rung], apart: Option<u64>) -> Option<&Rung> {
    let says = |name: &str, sameness| {
        let mut all = rungs.iter();
        all.find(|it| it.name == name && it.sameness == sameness)
    };
    let of = |sameness| rungs.iter().find(|it| it.sameness == sameness);
    if let Some(equal) = says("bit-equal", Sameness::Same) {
        return Some(equal);
    }
    if apart.is_none() {
        return of(Sameness::Different).or_else(|| of(Sameness::Same));
    }
    let disproved =
        says("samples", Sameness::Different).or_else(|| says("trajectory", Sameness::Different));
    disproved.or_else(|| match of(Sameness::Different) {
        Some(_bits) => says("trajectory", Sameness::Same),
        None => of(Sameness::Same),
    })
}

/// `same`, `different`, `not measured`.
pub fn word(sameness: Sameness) -> &'static str {
    match sameness {
        Sameness::Same => "same",
        Sameness::Different => "different",
        Sameness::NotMeasured => "not measured",
    }
}

fn without(why: &str) -> SameResult {
    SameResult {
        sameness: Sameness::NotMeasured,
        decided_by: None,
        sentence: format!("not measured: {why}"),
        rungs: ["bit-equal", "samples", "trajectory"]
            .into_iter()
            .map(|name| rung(name, Sameness::NotMeasured, why.to_owned()))
            .collect(),
    }
}

pub(crate) fn rung(name: &str, sameness: Sameness, evidence: String) -> Rung {
    Rung {
        name: name.into(),
        sameness,
        evidence,
    }
}

/// Training records that were not kept, in the disturbed run and in its reference: what needs all of them cannot be
/// decided.
pub(crate) fn dropped(log: &Log<'_>) -> u64 {
    dropped_in_run(log) + log.reference.dropped()
}

/// Those that may be of the disturbed run. Samples of monitors and lines of output carry no training events of ranks with a hook.
pub(crate) fn dropped_in_run(log: &Log<'_>) -> u64 {
    const HARMLESS: [&str; 6] = [
        "monitor",
        "series",
        "could not take",
        "instants of samples",
        "for probes",
        "workload's log",
    ];
    let recorded: u64 = log
        .dropped
        .iter()
        .filter(|(what, _)| !HARMLESS.iter().any(|word| what.contains(word)))
        .map(|(_, count)| count)
        .sum();
    recorded + log.work.dropped()
}
