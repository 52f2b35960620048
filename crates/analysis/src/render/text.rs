//! Plain text for terminals and logs: verdict first, then the evidence, then how to do it again. 80 columns.

use super::page::Page;
use super::{clients, diagnosis, models};
use crate::expect::Judgement;
use crate::hang::Hang;
use crate::landing::Gone;
use crate::num;
use crate::recovery::{Outcome, Recovery, STRETCHES};
use crate::report::Report;
use crate::same_result::{self, Sameness};

/// The last lines of a run: verdict, figures, how to do it again. `path` is where the report lies, if it is stored.
pub fn ending(report: &Report, path: Option<&str>) -> String {
    let mut page = Page::default();
    verdict(&mut page, report);
    reproduce(&mut page, report, path);
    page.text
}

/// The whole report.
pub fn full(report: &Report, path: Option<&str>) -> String {
    let mut page = Page::default();
    header(&mut page, report);
    verdict(&mut page, report);
    requirement(&mut page, report);
    figures(&mut page, report);
    injections(&mut page, report);
    recoveries(&mut page, report);
    expectations(&mut page, report);
    same(&mut page, report);
    diagnosis::rows(&mut page, report);
    clients::rows(&mut page, report);
    shares(&mut page, report);
    models::models(&mut page, report);
    models::projection(&mut page, report);
    models::advice(&mut page, report);
    data(&mut page, report);
    policies(&mut page, report);
    reproduce(&mut page, report, path);
    page.text
}

fn header(page: &mut Page, report: &Report) {
    let radius = report.blast_radius;
    page.row("", &report.title);
    page.row(
        "",
        &format!(
            "run {} · {} · {} long · seed {} · blast radius {} · squall {}",
            report.run,
            report.started_utc,
            num::duration(report.length_ns),
            report.reproduce.seed,
            match radius.eligible {
                // Ranks and files that only come with the workload are not counted beforehand.
                0 => format!("at most {}", radius.at_most),
                all => format!("{} of {all}", radius.at_most),
            },
            report.reproduce.squall
        ),
    );
    page.gap();
}

fn verdict(page: &mut Page, report: &Report) {
    let verdict = &report.verdict;
    page.row(
        "verdict",
        &format!("{}: {}", verdict.word, verdict.sentence),
    );
    for because in &verdict.because {
        page.row("", because);
    }
    page.row("", &summary(report));
}

/// The figures in one line: `18 steps repeated · ETTR 78 % · goodput 74 % · worst recovery 6.6 s · everything undone (3 checks)`.
fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    for figure in &report.figures {
        let text = figure.text.as_str();
        match figure.label.as_str() {
            "still injected" => {}
            "effective training time (ETTR)" => {
                parts.push(format!("ETTR {text}"));
                parts.extend(goodput(report).map(|share| format!("goodput {share}")));
            }
            "slowest recovery" => parts.push(format!("slowest recovery {text}")),
            "injections landed" => parts.push(format!("{text} injections landed")),
            label if figure.value.is_none() => parts.push(format!("{label} {text}")),
            _ => parts.push(format!("{text} repeated")),
        }
    }
    parts.push(undone(report));
    parts.join(" · ")
}

const GOODPUT: &str =
    "steps that count × their median time ÷ wall time, so a stall inside a step is lost";

fn goodput(report: &Report) -> Option<String> {
    let effectiveness = report.training.as_ref()?.effectiveness.as_ref()?;
    effectiveness.goodput.map(num::percent)
}

fn undone(report: &Report) -> String {
    let left = report
        .injections
        .iter()
        .filter(|it| it.gone.is_left())
        .count();
    let unread = report
        .injections
        .iter()
        .filter(|it| it.gone == Gone::Unknown)
        .count();
    let checks: usize = report
        .injections
        .iter()
        .map(|it| it.gone_observations.len())
        .sum();
    let undone = report
        .injections
        .iter()
        .filter(|it| it.gone != Gone::NothingToUndo)
        .count();
    match (left, unread, undone) {
        (0, 0, 0) => "nothing to undo".into(),
        (0, 0, _) => format!(
            "everything undone ({})",
            num::plural(checks, "check", "checks")
        ),
        (0, _, _) => format!("{} not read back", num::plural(unread, "undo", "undos")),
        _ => format!(
            "{} NOT UNDONE",
            num::plural(left, "injection", "injections")
        ),
    }
}

fn requirement(page: &mut Page, report: &Report) {
    let Some(it) = &report.requirement else {
        return;
    };
    page.gap();
    let because = it
        .asked
        .because
        .as_ref()
        .map_or(String::new(), |it| format!(", because {it}"));
    page.row("asked", &format!("{}{because}", it.goal));
    if let Some(accept) = &it.asked.accept {
        page.row("accepted", accept);
    }
}

fn figures(page: &mut Page, report: &Report) {
    page.gap();
    let mut label = "figures";
    for it in &report.figures {
        page.row(
            label,
            &format!("{}: {} ({})", it.label, it.text, it.definition),
        );
        label = "";
    }
}

fn injections(page: &mut Page, report: &Report) {
    for it in &report.injections {
        page.gap();
        page.row(
            &it.id.0,
            &format!(
                "{} on {} · {} · {}",
                it.kind, it.target, it.aim, it.mechanism
            ),
        );
        let at = it.landed_ns.unwrap_or(it.begun_ns);
        let mark = if it.landed.as_aimed() { "✓" } else { "?" };
        page.row("", &format!("{mark} {} · {}", seconds(at), it.landed_words));
        let mark = if it.gone.is_left() { "✗" } else { "✓" };
        let mark = if it.gone == Gone::Unknown { "?" } else { mark };
        let at = it
            .gone_ns
            .map_or(String::new(), |t_ns| format!("{} · ", seconds(t_ns)));
        page.row("", &format!("{mark} {at}{}", it.gone_words));
        if let Some(remedy) = &it.remedy {
            page.row("", &format!("to do: {remedy}"));
        }
        for recovery in report
            .recoveries
            .iter()
            .filter(|other| other.injection == it.id)
        {
            page.row("", &format!("▲ {}", recovery_words(recovery)));
            recovery.hang.iter().for_each(|it| hang(page, it));
        }
    }
}

fn hang(page: &mut Page, it: &Hang) {
    for stood in &it.stood {
        let (who, calls) = (stood.who(), stood.calls.join(" ← "));
        page.row("", &format!("{who} ({}) stood in {calls}", stood.because));
    }
    if let Some(it) = &it.gave_up {
        page.row("", &it.words());
    }
}

/// One recovery in one line, with all there is to remark.
pub(crate) fn recovery_words(it: &Recovery) -> String {
    let mut parts = vec![outcome_words(it)];
    parts.extend(it.notes.iter().cloned());
    parts.join(" · ")
}

/// How a recovery went.
pub(crate) fn outcome_words(it: &Recovery) -> String {
    let mut parts = Vec::new();
    let because = || it.because.clone().unwrap_or_default();
    match it.outcome {
        Outcome::NotMeasured => return format!("recovery not measured: {}", because()),
        Outcome::NotCaughtUp => parts.push(format!("not recovered: {}", because())),
        Outcome::WentOn => {
            let stall = it.stall_ns.map_or(String::new(), num::duration);
            parts.push(format!("went on without a restart · longest step {stall}"));
        }
        Outcome::CaughtUp => {
            let after = it.caught_up_ns.map_or(String::new(), num::duration);
            parts.push(format!("caught up {after} after it"));
        }
    }
    if it.restarts > 1 {
        parts.push(format!("{} restarts", it.restarts));
    }
    match it.lost {
        Some(lost) => parts.push(format!("{} lost", it.unit.count(lost))),
        None => parts.push(format!("lost {}s not measured", it.unit.word())),
    }
    if let (Some(repeated), Some(lost)) = (it.repeated, it.lost)
        && repeated != lost
    {
        parts.push(format!("{} repeated", it.unit.count(repeated)));
    }
    parts.join(" · ")
}

fn recoveries(page: &mut Page, report: &Report) {
    let with_parts: Vec<&Recovery> = report
        .recoveries
        .iter()
        .filter(|it| !it.segments.is_empty())
        .collect();
    if with_parts.is_empty() {
        return;
    }
    page.gap();
    let mut label = "recovery";
    for it in with_parts {
        let parts: Vec<String> = it
            .segments
            .iter()
            .map(|part| format!("{} {}", part.name, num::duration(part.duration_ns)))
            .collect();
        let total = num::duration(it.total_ns);
        page.row(
            label,
            &format!("{}: {} = {total}", it.injection, parts.join(" + ")),
        );
        if !it.overlapped_by.is_empty() {
            let ids: Vec<&str> = it.overlapped_by.iter().map(|id| id.0.as_str()).collect();
            page.row(
                "",
                &format!("its times contain those after {}", ids.join(", ")),
            );
        }
        label = "";
    }
}

/// What each stretch of these recoveries is: `detect: until somebody noticed`.
pub(crate) fn stretches(recoveries: &[Recovery]) -> Vec<String> {
    let named = |name: &str| {
        let mut parts = recoveries.iter().flat_map(|it| &it.segments);
        parts.any(|part| part.name.split(" + ").any(|one| one == name))
    };
    STRETCHES
        .iter()
        .filter(|(_, name, _)| named(name))
        .map(|(_, name, what)| format!("{name}: {what}"))
        .collect()
}

fn expectations(page: &mut Page, report: &Report) {
    if report.expectations.is_empty() {
        return;
    }
    page.gap();
    let mut label = "expected";
    for it in &report.expectations {
        let (mark, word) = judgement(it.judgement);
        page.row(
            label,
            &format!("{mark} {word}: {} · {}", it.expected, it.measured),
        );
        label = "";
    }
}

/// The mark and the word of a judgement.
pub(crate) fn judgement(judgement: Judgement) -> (&'static str, &'static str) {
    match judgement {
        Judgement::Held => ("✓", "held"),
        Judgement::Deviated => ("✗", "deviated"),
        Judgement::Inconclusive => ("?", "inconclusive"),
    }
}

fn same(page: &mut Page, report: &Report) {
    page.gap();
    page.row("same?", &report.same_result.sentence);
    for rung in &report.same_result.rungs {
        let mark = match rung.sameness {
            Sameness::Same => "✓",
            Sameness::Different => "✗",
            Sameness::NotMeasured => "?",
        };
        let word = same_result::word(rung.sameness);
        page.row(
            "",
            &format!("{mark} {}: {word} · {}", rung.name, rung.evidence),
        );
    }
}

fn shares(page: &mut Page, report: &Report) {
    let Some(it) = report
        .training
        .as_ref()
        .and_then(|it| it.effectiveness.as_ref())
    else {
        return;
    };
    let wall = it.to_ns.saturating_sub(it.from_ns).max(1);
    page.gap();
    let mut label = "time";
    for share in it.shares.iter().filter(|share| share.duration_ns > 0) {
        let part = num::percent(share.duration_ns as f64 / wall as f64);
        page.row(
            label,
            &format!("{part} {}: {}", share.name.replace('-', " "), share.meaning),
        );
        label = "";
    }
    if let Some(goodput) = goodput(report) {
        page.row("", &format!("goodput {goodput}: {GOODPUT}"));
    }
}

fn data(page: &mut Page, report: &Report) {
    let data = &report.data_quality;
    page.gap();
    let sources = if data.sources.is_empty() {
        "none".into()
    } else {
        data.sources.join(", ")
    };
    page.row(
        "data",
        &format!(
            "training events from: {sources} · {} in sampled series",
            num::plural(data.gaps as usize, "gap", "gaps")
        ),
    );
    for (what, count) in &data.dropped {
        page.row("", &format!("dropped: {} × {what}", num::thousands(*count)));
    }
    for line in data.not_concluded.iter().chain(&data.notes) {
        page.row("", line);
    }
}

fn policies(page: &mut Page, report: &Report) {
    for it in &report.policies {
        page.row("policy", &format!("{} (SHA-256 {})", it.file, it.sha256));
    }
}

fn reproduce(page: &mut Page, report: &Report, path: Option<&str>) {
    if let Some(path) = path {
        page.row("report", path);
    }
    page.row("again", &report.reproduce.command);
}

/// A moment in seconds since the run started.
pub(crate) fn seconds(t_ns: u64) -> String {
    format!("{:.1} s", t_ns as f64 / 1e9)
}
