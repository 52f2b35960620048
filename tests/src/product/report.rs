//! A report, read as JSON.

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// A `squall.report/1`.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Report {
    /// Reads one.
    ///
    /// # Errors
    /// When it is no report.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text)
            .with_context(|| format!("no JSON: {}", text.chars().take(400).collect::<String>()))?;
        ensure!(value["format"] == "squall.report/1", "no report: {value}");
        Ok(Self(value))
    }

    /// A text at a JSON pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// The code that the run ended with.
    pub fn code(&self) -> u64 {
        self.0["verdict"]["code"].as_u64().unwrap_or(u64::MAX)
    }

    /// The id of the run.
    pub fn run(&self) -> &str {
        self.text("/run")
    }

    /// `same`, `different`, `not-measured`.
    pub fn sameness(&self) -> &str {
        self.text("/same_result/sameness")
    }

    /// Every injection.
    pub fn injections(&self) -> &[Value] {
        self.0["injections"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Whether every injection was held at its aim until it had landed.
    pub fn all_held(&self) -> bool {
        let held = |it: &Value| it["precision"] == "held" && it["landed"] == "on-aim";
        self.injections().iter().all(held)
    }

    /// Whether every change is known to be out of the world.
    pub fn all_gone(&self) -> bool {
        let gone = ["nothing-to-undo", "gone", "superseded"];
        let is_gone = |it: &Value| it["gone"].as_str().is_some_and(|word| gone.contains(&word));
        self.injections().iter().all(is_gone)
    }

    /// Verdict and reasons, for people.
    pub fn told(&self) -> String {
        let injections: Vec<String> = self
            .injections()
            .iter()
            .map(|it| {
                format!(
                    "  {} on {}: {}; {}",
                    it["kind"], it["target"], it["landed_words"], it["gone_words"]
                )
            })
            .collect();
        format!(
            "{} {} {}\n{}\n  {}",
            self.text("/verdict/word"),
            self.text("/verdict/sentence"),
            self.0["verdict"]["because"],
            injections.join("\n"),
            self.text("/same_result/sentence")
        )
    }
}
