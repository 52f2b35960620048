//! What people and machines read about each kind of run, word for word.

use crate::sim::*;
use squall_analysis::conclude;
use squall_analysis::render::text;

#[test]
fn peek() {
    for run in [
        held(),
        buggy(Bug::Samples),
        log_only(),
        paused(Undo::Works),
        paused(Undo::Sticks),
    ] {
        let report = conclude(&run);
        println!("{}", text::full(&report, Some("/state/report.html")));
    }
}
