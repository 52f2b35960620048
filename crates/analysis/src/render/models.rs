//! Models, projection and advice in lines of text.

use super::page::Page;
use crate::interval::FEW;
use crate::models::{Model, Models, Origin};
use crate::num;
use crate::projection::Projected;
use crate::report::Report;

/// The four models and the measures beside them, over their window.
pub(super) fn models(page: &mut Page, report: &Report) {
    let Some(it) = &report.models else {
        return;
    };
    page.gap();
    let length = num::duration(it.to_ns.saturating_sub(it.from_ns));
    page.row(
        "models",
        &format!("over {} ({length}); intervals at 95 %", it.window),
    );
    let all = || it.basic.iter().chain(&it.beside);
    for model in all() {
        page.row("", &line(model));
    }
    for words in cautions(it) {
        page.row("", &words);
    }
}

/// What the figures do not say: each caution once, with all it is about.
pub(super) fn cautions(it: &Models) -> Vec<String> {
    let all = || it.basic.iter().chain(&it.beside);
    let mut cautions: Vec<(&str, Vec<String>)> = Vec::new();
    for (model, caution) in all().flat_map(|it| it.cautions.iter().map(move |c| (it, c))) {
        let name = short(model);
        match cautions.iter_mut().find(|(words, _)| words == caution) {
            Some((_, names)) => names.push(name),
            None => cautions.push((caution, vec![name])),
        }
    }
    let rough = |it: &Model| {
        let interval = it.interval.as_ref();
        interval.is_some_and(|it| it.method.contains("rough"))
    };
    let mut lines: Vec<String> = cautions
        .iter()
        .map(|(words, names)| format!("{}: {words}", names.join(", ")))
        .collect();
    if all().any(rough) {
        lines.push(format!(
            "rough: from fewer than {FEW}; tends to be too narrow"
        ));
    }
    lines
}

/// `P(F)`, `MTTF`, `availability`.
pub(super) fn short(it: &Model) -> String {
    let last = it.name.rsplit(' ').next().unwrap_or(&it.name);
    last.trim_matches(|c| "()".contains(c) && last.starts_with('('))
        .to_owned()
}

/// A share as a percentage; one that is not whole never reads `100 %`.
pub(super) fn share(share: f64) -> String {
    let text = num::percent(share);
    if share < 1.0 && text == num::percent(1.0) {
        "above 99.9 %".into()
    } else {
        text
    }
}

fn line(it: &Model) -> String {
    let mut parts = vec![format!("{}: {}", it.name, it.worked)];
    if it.interval.is_some() {
        parts.push(it.interval_words());
    }
    if it
        .inputs
        .iter()
        .any(|input| input.origin == Origin::Assumed)
    {
        parts.push("with assumed inputs".into());
    }
    parts.join(" · ")
}

/// What the measured recovery would cost at other sizes.
pub(super) fn projection(page: &mut Page, report: &Report) {
    let Some(it) = &report.projection else {
        return;
    };
    page.gap();
    page.row("at size", &it.formula);
    for size in &it.sizes {
        page.row("", &sized(size));
    }
    page.row("", &it.assumptions.join(" "));
}

fn sized(it: &Projected) -> String {
    let mttf = num::duration((it.mttf_s * 1e9) as u64);
    let mut parts = vec![format!(
        "{} GPUs: fails every {mttf} · ETTR {}",
        num::thousands(it.gpus),
        share(it.ettr)
    )];
    if let Some(interval) = &it.interval {
        parts.push(format!(
            "{} to {} ({})",
            share(interval.low),
            share(interval.high),
            interval.method
        ));
    }
    if let (Some(best), Some(ettr)) = (it.best_interval_s, it.ettr_at_best) {
        parts.push(format!(
            "best: save every {}, ETTR {}",
            num::duration((best * 1e9) as u64),
            share(ettr)
        ));
    }
    parts.join(" · ")
}

/// What to change, with what it rests on.
pub(super) fn advice(page: &mut Page, report: &Report) {
    if report.advice.is_empty() {
        return;
    }
    page.gap();
    let mut label = "advice";
    for it in &report.advice {
        page.row(label, &it.text);
        for line in it.evidence.iter().chain(&it.assumptions) {
            page.row("", &format!("  {line}"));
        }
        label = "";
    }
}
