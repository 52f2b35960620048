//! What waits for what, and for how long in all.

use super::super::problem::{At, Problem};
use super::super::words::short;
use super::Meaning;
use super::method::{Known, Names};
use crate::experiment::Step;
use crate::syntax::FaultList;
use crate::units::Span;
use std::collections::BTreeSet;
use std::time::Duration;

impl Meaning<'_> {
    /// Steps that wait for each other in a ring. Each step waits for at most one, so a walk that meets its own trail closes a ring.
    pub(super) fn check_cycles(&mut self, names: &Names) {
        let mut seen = BTreeSet::new();
        for start in names.keys() {
            let mut trail: Vec<&str> = Vec::new();
            let mut next = Some(start.as_str());
            while let Some((name, known)) = next.and_then(|name| names.get_key_value(name)) {
                if !seen.insert(name.as_str()) {
                    let ring = trail.iter().position(|earlier| earlier == name);
                    if let Some(ring) = ring
                        .map(|from| &trail[from..])
                        .filter(|ring| ring.len() > 1)
                    {
                        self.report_cycle(ring, known);
                    }
                    break;
                }
                trail.push(name);
                next = known.after.as_deref();
            }
        }
    }

    fn report_cycle(&mut self, ring: &[&str], first: &Known) {
        let mut words: Vec<String> = ring
            .iter()
            .take(8)
            .map(|step| format!("`{}`", short(step)))
            .collect();
        words.push(if ring.len() > 8 {
            "…".to_owned()
        } else {
            words[0].clone()
        });
        let message = format!("steps wait for each other: {}", words.join(" → "));
        self.problems.add_at(
            self.tree.place(&first.path).focus(),
            Problem::new("cycle", message)
                .label("one of the ring")
                .help("let one of them start by `at:` instead"),
        );
    }

    /// Waits that together are longer than the run.
    pub(super) fn check_waits<F: FaultList>(&mut self, method: &[Step<F>], at: At<'_>) {
        let waits = waited(method);
        let single = longest(method);
        if waits >= self.limit.0 && single < self.limit.0 {
            let limit = self.limit;
            self.key(
                at,
                Problem::new(
                    "impossible-window",
                    "the method does not end within the run",
                )
                .label(format!(
                    "waits {} in all, but the run is over after {limit}",
                    Span(waits)
                ))
                .help("shorten the waits or raise `time-limit`"),
            );
        }
    }
}

fn waited<F>(steps: &[Step<F>]) -> Duration {
    steps
        .iter()
        .map(|step| match step {
            Step::Wait(span) => span.0,
            Step::Sequence(steps) => waited(steps),
            Step::Parallel(steps) => steps
                .iter()
                .map(|step| waited(std::slice::from_ref(step)))
                .max()
                .unwrap_or_default(),
            Step::Fault(_) => Duration::ZERO,
        })
        .fold(Duration::ZERO, Duration::saturating_add)
}

fn longest<F>(steps: &[Step<F>]) -> Duration {
    steps
        .iter()
        .map(|step| match step {
            Step::Wait(span) => span.0,
            Step::Sequence(steps) | Step::Parallel(steps) => longest(steps),
            Step::Fault(_) => Duration::ZERO,
        })
        .max()
        .unwrap_or_default()
}
