//! The four basic models and the field's own measures beside them, each with its inputs, where they are from, and what
//! it does not say. All are computed from one run over one stated window.
//!
//! | model | formula | of a training run |
//! |---|---|---|
//! | fault probability | P(F) = n_f / n | ranks that an injection hit or that vanished ÷ ranks |
//! | impact | E(I) = Σ wᵢ·iᵢ | per kind of fault: its share of the injections × mean time until caught up |
//! | elasticity | E(S) = C(R) / T(R) | ranks brought back ÷ time that it took |
//! | detection probability | P(D) = N(D) / N(T) | injections that the job or its supervisor noticed ÷ injections |

mod beside;
mod facts;
pub mod formulas;

use crate::interval::Interval;
use crate::num;
pub(crate) use facts::models;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an input is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// This run.
    Measured,
    /// Nobody said; a usual value was taken.
    Assumed,
}

/// One input of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// As the formula calls it.
    pub symbol: String,
    /// Its value.
    pub value: f64,
    /// Unit of the value.
    pub unit: String,
    /// What it is.
    pub what: String,
    /// Where it is from.
    pub origin: Origin,
}

/// One model or measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    /// `fault-probability`, `impact`, `elasticity`, `detection-probability`, `mttf`, `mttd`, `mttr`, `availability`, `ettr`, `goodput`.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Its formula.
    pub formula: String,
    /// What went in.
    pub inputs: Vec<Input>,
    /// What came out, in `unit`; absent when it is not measured.
    pub value: Option<f64>,
    /// Unit of the value.
    pub unit: String,
    /// The formula with its numbers, or why there is no value.
    pub worked: String,
    /// Where the true value lies, when that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What it does not say.
    pub cautions: Vec<String>,
}

/// All of them, over one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Models {
    /// Start of the window: nanoseconds since the run started.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// What the window is.
    pub window: String,
    /// The four basic models.
    pub basic: Vec<Model>,
    /// MTTF, MTTD, MTTR, availability, ETTR, goodput.
    pub beside: Vec<Model>,
}

/// A measured input.
pub fn measured(symbol: &str, value: f64, unit: &str, what: impl Into<String>) -> Input {
    Input {
        symbol: symbol.into(),
        value,
        unit: unit.into(),
        what: what.into(),
        origin: Origin::Measured,
    }
}

/// The share of components that failed at least once.
pub fn fault_probability(failed: Input, components: Input) -> Model {
    let (f, n) = (failed.value as u64, components.value as u64);
    let value = formulas::fault_probability(f, n);
    let worked = format!("P(F) = {f} / {n}");
    let mut model = model("fault-probability", "fault probability P(F)", "n_f / n");
    model.inputs = vec![failed, components];
    model.give(value.map(|it| it * 100.0), "%", &worked)
}

/// The expected impact of one fault; inputs come in pairs of weight and impact.
pub fn expected_impact(parts: Vec<(Input, Input)>, unit: &str) -> Model {
    let pairs: Vec<(f64, f64)> = parts.iter().map(|(w, i)| (w.value, i.value)).collect();
    let terms: Vec<String> = pairs
        .iter()
        .map(|(w, i)| format!("{}·{}", plain(*w), plain(*i)))
        .collect();
    let mut model = model("impact", "expected impact E(I)", "Σ w·i");
    model.inputs = parts.into_iter().flat_map(|(w, i)| [w, i]).collect();
    let worked = format!("E(I) = {}", terms.join(" + "));
    model.give(formulas::expected_impact(&pairs), unit, &worked)
}

/// Capacity changed per time; `unit` is that of the quotient.
pub fn elasticity(capacity: Input, time: Input, unit: &str) -> Model {
    let value = formulas::elasticity(capacity.value, time.value);
    let worked = format!(
        "E(S) = {} / {} {}",
        plain(capacity.value),
        plain(time.value),
        time.unit
    );
    let mut model = model("elasticity", "elasticity E(S)", "C(R) / T(R)");
    model.inputs = vec![capacity, time];
    model.cautions = vec![
        "larger is not better: more capacity changed in the same time gives a larger figure whether it was needed or not, and twice the change in twice the time gives the same one".into(),
    ];
    model.give(value, unit, &worked)
}

/// The share of faults that somebody noticed.
pub fn detection_probability(noticed: Input, faults: Input) -> Model {
    let (d, t) = (noticed.value as u64, faults.value as u64);
    let value = formulas::detection_probability(d, t);
    let worked = format!("P(D) = {d} / {t}");
    let mut model = model(
        "detection-probability",
        "detection probability P(D)",
        "N(D) / N(T)",
    );
    model.interval = formulas::wilson(d, t).map(wilson(t));
    model.inputs = vec![noticed, faults];
    model.give(value.map(|it| it * 100.0), "%", &worked)
}

/// An interval of a share, in percent.
fn wilson(n: u64) -> impl Fn((f64, f64)) -> Interval {
    move |(low, high)| Interval {
        low: low * 100.0,
        high: high * 100.0,
        level: 0.95,
        method: format!("Wilson, n = {n}"),
    }
}

/// A number as short as it can be written: `0.5`, `2`; three significant digits otherwise.
fn plain(value: f64) -> String {
    let short = value.to_string();
    if short.len() <= 5 {
        short
    } else {
        num::significant(value)
    }
}

/// A model without a value yet.
fn model(key: &str, name: &str, formula: &str) -> Model {
    Model {
        key: key.into(),
        name: name.into(),
        formula: formula.into(),
        inputs: Vec::new(),
        value: None,
        unit: String::new(),
        worked: String::new(),
        interval: None,
        cautions: Vec::new(),
    }
}

impl Input {
    /// Value and unit, a whole number without a fraction: `8`, `0.193 s`.
    pub fn words(&self) -> String {
        let whole = self.value.fract() == 0.0 && (0.0..1e15).contains(&self.value);
        let value = if whole {
            num::thousands(self.value as u64)
        } else {
            num::significant(self.value)
        };
        format!("{value} {}", self.unit).trim_end().to_owned()
    }
}

impl Model {
    /// Sets value, unit and the formula with its numbers; without a value the interval goes too.
    fn give(mut self, value: Option<f64>, unit: &str, worked: &str) -> Model {
        self.value = value;
        self.unit = unit.into();
        self.worked = match value {
            Some(value) => format!("{worked} = {} {unit}", num::significant(value)),
            None => format!("{worked}: not measured"),
        };
        if value.is_none() {
            self.interval = None;
        }
        self
    }

    /// Says why there is no value.
    fn without(mut self, unit: &str, why: &str) -> Model {
        self.unit = unit.into();
        self.worked = format!("not measured: {why}");
        self
    }

    /// `23.1 to 88.2 % (Wilson, n = 5)`; empty without an interval.
    pub fn interval_words(&self) -> String {
        self.interval.as_ref().map_or(String::new(), |it| {
            format!(
                "{} to {} {} ({})",
                num::significant(it.low),
                num::significant(it.high),
                self.unit,
                it.method
            )
        })
    }
}
