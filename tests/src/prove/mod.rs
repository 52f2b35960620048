//! The promises that need many runs: aim, seeded bugs, clean kills. Small counts in the test command, large ones on demand.

pub mod aim;
pub mod bugs;
pub mod clean;
pub mod naming;
mod places;
mod pool;
pub mod unheld;

pub use places::Place;
pub use pool::each;

use serde_json::{Value, json};

/// What became of one promise.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The promise, in words.
    pub promise: String,
    /// How often it was tried.
    pub tried: usize,
    /// Each time it was not kept, in words.
    pub missed: Vec<String>,
    /// What was seen, a line each.
    pub table: Vec<String>,
    /// The same for machines.
    pub detail: Value,
}

impl Proof {
    /// Whether it was tried and always kept.
    pub fn holds(&self) -> bool {
        self.tried > 0 && self.missed.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mark = if self.holds() { "✓" } else { "✗" };
        let kept = self.tried.saturating_sub(self.missed.len());
        let mut lines = vec![format!("{mark} {}: {kept} of {}", self.promise, self.tried)];
        lines.extend(self.table.iter().map(|line| format!("    {line}")));
        lines.extend(self.missed.iter().map(|line| format!("  ✗ {line}")));
        lines.join("\n")
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "promise": self.promise,
            "tried": self.tried,
            "kept": self.tried.saturating_sub(self.missed.len()),
            "holds": self.holds(),
            "missed": self.missed,
            "detail": self.detail,
        })
    }
}
