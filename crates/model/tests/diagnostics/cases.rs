//! One row per mistake: what a person wrote, the code it must give, and the text after the remedy was applied.

mod timing;
mod words;

/// A sound experiment; each row replaces one part of it.
pub(crate) const BASE: &str = "\
version: 1
title: the job survives
workload:
  training: {run: train --epochs 40, reference: true}
targets:
  second: {rank: 1}
  all-data: {file: '{out}/*.bin'}
steady-state:
  - probe: {training-event: {every: epoch, within: 30s}}
method:
  - process-kill: {target: {name: second}, at: {time: 10s}}
expect:
  - recovered-within: 60s
";

pub(crate) struct Case {
    pub(crate) code: &'static str,
    /// The part of the base that is replaced.
    pub(crate) part: &'static str,
    pub(crate) broken: &'static str,
    pub(crate) fixed: &'static str,
}

const fn case(
    code: &'static str,
    part: &'static str,
    broken: &'static str,
    fixed: &'static str,
) -> Case {
    Case {
        code,
        part,
        broken,
        fixed,
    }
}

pub(super) const TITLE: &str = "title: the job survives";
pub(super) const TRAINING: &str = "training: {run: train --epochs 40, reference: true}";
pub(super) const TARGET: &str = "second: {rank: 1}";
pub(super) const PROBE: &str = "training-event: {every: epoch, within: 30s}";
pub(super) const FAULT: &str = "process-kill: {target: {name: second}, at: {time: 10s}}";
pub(super) const KEYS: &str = "{target: {name: second}, at: {time: 10s}}";
pub(super) const AT: &str = "at: {time: 10s}";
pub(super) const EXPECT: &str = "recovered-within: 60s";

/// All of them.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    words::CASES.iter().chain(timing::CASES)
}
