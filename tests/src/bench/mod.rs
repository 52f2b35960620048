//! What Squall costs: interleaved runs, medians, and a goal for each figure.

mod hook;
mod latency;
mod load;
mod monitor;
pub mod network;
pub mod proxy;
pub mod report;
mod start;
pub mod torch;

pub use monitor::{CHILD, child};

use std::time::Duration;

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// How much; none when it could not be measured.
    pub value: Option<f64>,
    /// In which unit.
    pub unit: &'static str,
    /// The same for what it is compared with, in words with a unit.
    pub against: Option<String>,
    /// The most it may be; none when it is only shown.
    pub goal: Option<f64>,
    /// Whether the goal is met; none without a goal or a value.
    pub met: Option<bool>,
    /// How it was measured, or why it was not.
    pub how: String,
}

impl Figure {
    /// A figure that is to be at most `goal`.
    pub fn at_most(
        name: &str,
        value: f64,
        unit: &'static str,
        goal: f64,
        how: impl Into<String>,
    ) -> Self {
        Self {
            goal: Some(goal),
            met: Some(value <= goal),
            ..Self::shown(name, value, unit, how)
        }
    }

    /// A figure without a goal.
    pub fn shown(name: &str, value: f64, unit: &'static str, how: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value),
            unit,
            against: None,
            goal: None,
            met: None,
            how: how.into(),
        }
    }

    /// A figure that could not be measured: its goal is not met.
    pub fn missing(name: &str, unit: &'static str, goal: f64, why: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: None,
            unit,
            against: None,
            goal: Some(goal),
            met: Some(false),
            how: why.into(),
        }
    }

    /// The same, compared with something.
    pub fn against(mut self, what: impl Into<String>) -> Self {
        self.against = Some(what.into());
        self
    }

    /// For people.
    pub fn text(&self) -> String {
        let mark = match self.met {
            Some(true) => "✓",
            Some(false) => "✗",
            None => " ",
        };
        let value = self
            .value
            .map_or("not measured".to_owned(), |value| format!("{value:.3}"));
        let goal = self
            .goal
            .map_or(String::new(), |goal| format!(" (goal ≤ {goal})"));
        let against = self
            .against
            .as_ref()
            .map_or(String::new(), |against| format!(" against {against}"));
        format!(
            "{mark} {:38} {value:>12} {}{goal}{against}\n      {}",
            self.name, self.unit, self.how
        )
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Pairs of interleaved short runs.
    pub rounds: usize,
    /// How long monitor and store are measured.
    pub length: Duration,
}

/// All figures of the engine. A part that fails is a figure that was not measured.
pub fn engine(effort: Effort) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(start::figures(effort.rounds));
    figures.extend(monitor::figures(effort.length));
    figures.extend(hook::figures());
    figures.extend(latency::figures());
    figures
}

/// The middle of some values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
