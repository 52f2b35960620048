//! What a set of cells shows, for people and machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::cell::{Ended, Moment, Verdict};

/// The sum of many cells.
#[derive(Debug)]
pub struct Report<'a> {
    ended: &'a [Ended],
    /// By the last move in the journal when the run was struck, split into coordinated and not.
    states: BTreeMap<&'a str, [usize; 2]>,
    faults: BTreeMap<&'a str, [usize; 2]>,
}

impl<'a> Report<'a> {
    /// Counts.
    pub fn of(ended: &'a [Ended]) -> Self {
        let (mut states, mut faults) = (BTreeMap::new(), BTreeMap::new());
        for one in ended {
            let column = usize::from(matches!(one.cell.moment, Moment::Microseconds(_)));
            let state = if one.state.is_empty() {
                "?"
            } else {
                one.state.as_str()
            };
            states.entry(state).or_insert([0, 0])[column] += 1;
            faults.entry(one.cell.fault.as_str()).or_insert([0, 0])[column] += 1;
        }
        Self {
            ended,
            states,
            faults,
        }
    }

    fn count(&self, is_it: impl Fn(&Verdict) -> bool) -> usize {
        self.ended.iter().filter(|one| is_it(&one.verdict)).count()
    }

    /// Cells that left something.
    pub fn leftovers(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Left(_)))
    }

    /// Cells that prove nothing.
    pub fn failures(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// Cells that were really decided.
    pub fn decided(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Clean | Verdict::Left(_)))
    }

    /// No leftover, and every cell proves something or is skipped by name.
    pub fn passed(&self) -> bool {
        self.leftovers() == 0 && self.failures() == 0 && self.decided() > 0
    }

    /// `0 of 1000 left something, i.e. < 0.3 %` (rule of three, 95 %).
    pub fn verdict(&self) -> String {
        let (left, decided) = (self.leftovers(), self.decided());
        let bound = match (left, decided) {
            (_, 0) => String::new(),
            (0, decided) => format!(
                ", i.e. < {:.2} % (rule of three, 95 %)",
                300.0 / decided as f64
            ),
            (left, decided) => format!(", i.e. {:.2} %", 100.0 * left as f64 / decided as f64),
        };
        format!("{left} of {decided} left something{bound}")
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).ok();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for (title, rows) in [
            ("state of the journal when struck", &self.states),
            ("fault", &self.faults),
        ] {
            writeln!(text, "\n{title:34} at a boundary   at any time   all")?;
            for (name, [held, free]) in rows {
                writeln!(text, "  {name:32} {held:13} {free:13} {:5}", held + free)?;
            }
        }
        let mut blind: BTreeMap<&String, &String> = BTreeMap::new();
        self.ended.iter().for_each(|one| blind.extend(&one.blind));
        for (kind, reason) in blind {
            writeln!(text, "not readable here: {kind}: {reason}")?;
        }
        for one in self.ended {
            if let Verdict::Skipped(reason) = &one.verdict {
                writeln!(text, "SKIPPED {}: {reason}", one.cell.name())?;
            }
        }
        for one in self.ended {
            match &one.verdict {
                Verdict::Left(left) => writeln!(
                    text,
                    "LEFT {} ({}):\n    {}",
                    one.cell.name(),
                    one.struck,
                    left.join("\n    ")
                )?,
                Verdict::Failed(why) => {
                    writeln!(text, "FAILED {} ({}): {why}", one.cell.name(), one.struck)?
                }
                Verdict::Clean | Verdict::Skipped(_) => {}
            }
        }
        let skipped = self.ended.len() - self.decided() - self.failures();
        writeln!(
            text,
            "{}; {} failed, {skipped} skipped",
            self.verdict(),
            self.failures()
        )
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "passed": self.passed(),
            "verdict": self.verdict(),
            "cells": self.ended.len(),
            "decided": self.decided(),
            "leftovers": self.leftovers(),
            "failures": self.failures(),
            "states": self.states,
            "faults": self.faults,
            "not-clean": self.ended.iter().filter(|one| one.verdict != Verdict::Clean).collect::<Vec<_>>(),
        })
    }
}
