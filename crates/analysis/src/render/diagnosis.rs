//! Why a result is different, in lines of text.

use super::page::Page;
use crate::diagnosis::{Standing, Suspect};
use crate::report::Report;

/// The sentence, what to look at, and every mistake that was considered.
pub(super) fn rows(page: &mut Page, report: &Report) {
    let Some(it) = &report.diagnosis else {
        return;
    };
    page.gap();
    page.row("cause", &it.sentence);
    if let Some(remedy) = &it.remedy {
        page.row("", &format!("to do: {remedy}"));
    }
    for suspect in &it.suspects {
        page.row("", &line(suspect));
    }
}

fn line(it: &Suspect) -> String {
    let mark = standing(it.standing);
    format!("{mark}: {} · {}", it.mistake.words(), it.evidence)
}

/// The mark and the word of a suspicion.
pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Fits => "✓ fits",
        Standing::Open => "? open",
        Standing::RuledOut => "✗ ruled out",
    }
}
