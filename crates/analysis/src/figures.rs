//! The four figures that a reader looks at first. A figure that is not measured says so; it is never 0.

use crate::ettr::Effectiveness;
use crate::expect::Findings;
use crate::landing::Gone;
use crate::num;
use crate::recovery::Recovery;
use crate::report::{Figure, Training};

/// For training: steps lost, effective time, slowest recovery, what was rolled back. For anything else: injections
/// that landed, what was rolled back, expectations are in their own table.
pub(crate) fn figures(findings: &Findings<'_>, training: Option<&Training>) -> Vec<Figure> {
    match training {
        Some(training) => vec![
            lost(findings, training),
            ettr(training),
            slowest(findings.recoveries),
            rolled_back(findings),
        ],
        None => vec![landed(findings), rolled_back(findings)],
    }
}

fn measured(label: &str, value: f64, unit: &str, text: String, definition: String) -> Figure {
    Figure {
        label: label.into(),
        value: Some(value),
        unit: unit.into(),
        text,
        definition,
    }
}

fn unmeasured(label: &str, unit: &str, why: &str) -> Figure {
    Figure {
        label: label.into(),
        value: None,
        unit: unit.into(),
        text: "not measured".into(),
        definition: why.into(),
    }
}

fn lost(findings: &Findings<'_>, training: &Training) -> Figure {
    let unit = training.unit;
    let label = format!("{}s repeated", unit.word());
    let known: Vec<u64> = findings
        .recoveries
        .iter()
        .filter_map(|it| it.repeated)
        .collect();
    if known.is_empty() {
        return unmeasured(&label, unit.word(), "no injection has a measured recovery");
    }
    let all = known.len() == findings.recoveries.len();
    let total: u64 = known.iter().sum();
    let note = if all {
        ""
    } else {
        "; not known for every injection"
    };
    let definition = format!(
        "{}s made again because of the injections{note}",
        unit.word()
    );
    let text = if all {
        unit.count(total)
    } else {
        format!("at least {}", unit.count(total))
    };
    measured(&label, total as f64, unit.word(), text, definition)
}

fn ettr(training: &Training) -> Figure {
    let label = "effective training time (ETTR)";
    match &training.effectiveness {
        Some(it) => measured(
            label,
            it.ettr * 100.0,
            "%",
            num::percent(it.ettr),
            format!("{}; {}", it.definition, beside(it)),
        ),
        None => unmeasured(label, "%", "no completed steps, or no wall time"),
    }
}

/// What ETTR counts by its definition (as in ByteRobust, arXiv 2509.16293), and the figure that does not: [`crate::ettr`].
fn beside(it: &Effectiveness) -> String {
    let goodput = it.goodput.map_or("not measured".into(), num::percent);
    format!("a stall inside a step counts. Goodput, without such stalls: {goodput}")
}

fn slowest(recoveries: &[Recovery]) -> Figure {
    let label = "slowest recovery";
    let times: Vec<u64> = recoveries.iter().filter_map(|it| it.caught_up_ns).collect();
    match times.iter().max() {
        Some(_) if times.len() < recoveries.len() => unmeasured(
            label,
            "s",
            "at least one injection was not followed by a measured recovery",
        ),
        Some(ns) => measured(
            label,
            *ns as f64 / 1e9,
            "s",
            num::duration(*ns),
            "from the injection to the first step beyond the last one completed before it".into(),
        ),
        None => unmeasured(
            label,
            "s",
            "no injection was followed by a measured recovery",
        ),
    }
}

fn landed(findings: &Findings<'_>) -> Figure {
    let all = findings.injections.len();
    let landed = findings
        .injections
        .iter()
        .filter(|it| it.landed.acted())
        .count();
    measured(
        "injections landed",
        landed as f64,
        "",
        format!("{landed} of {all}"),
        "injections that a reading of the world saw".into(),
    )
}

fn rolled_back(findings: &Findings<'_>) -> Figure {
    let label = "still injected";
    let of = findings.injections;
    let left = of.iter().filter(|it| it.gone.is_left()).count();
    let unread = of.iter().filter(|it| it.gone == Gone::Unknown).count();
    if left == 0 && unread > 0 {
        return unmeasured(label, "", "an undo could not be read back");
    }
    let checks: usize = of.iter().map(|it| it.gone_observations.len()).sum();
    let text = if left == 0 {
        "nothing".into()
    } else {
        num::thousands(left as u64)
    };
    let once = of.iter().all(|it| it.gone == Gone::NothingToUndo);
    let definition = if of.is_empty() {
        "nothing was injected".into()
    } else if once {
        "each injection acted once, so there was nothing to undo".into()
    } else if checks == 0 {
        "how many are not proved gone".into()
    } else {
        format!(
            "how many are not proved gone, by {}",
            num::plural(checks, "check", "checks")
        )
    };
    measured(label, left as f64, "", text, definition)
}
