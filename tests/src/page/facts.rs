//! What a reader must be able to read on every form of the page, taken from the report itself.

use squall_analysis::num;
use squall_analysis::report::Report;

/// Every fact in words, as the page writes it.
pub(super) fn facts(report: &Report) -> Vec<String> {
    let mut facts = vec![
        report.title.clone(),
        report.verdict.word.clone(),
        report.verdict.sentence.clone(),
        report.run.0.clone(),
        report.started_utc.clone(),
        report.reproduce.command.clone(),
        report.reproduce.seed.to_string(),
        report.reproduce.squall.clone(),
        report.reproduce.experiment_sha256.clone(),
    ];
    facts.extend(report.verdict.because.iter().cloned());
    for it in &report.figures {
        facts.extend([it.label.clone(), it.text.clone(), it.definition.clone()]);
    }
    for it in &report.injections {
        facts.extend([
            it.target.clone(),
            it.aim.clone(),
            it.mechanism.clone(),
            it.landed_words.clone(),
            it.gone_words.clone(),
        ]);
    }
    for it in &report.recoveries {
        let parts = it.segments.iter();
        facts.extend(parts.map(|it| format!("{} {}", it.name, num::duration(it.duration_ns))));
        for stood in it.hang.iter().flat_map(|it| &it.stood) {
            facts.extend(stood.calls.iter().cloned());
            facts.push(stood.stack.clone());
        }
    }
    for it in &report.expectations {
        facts.extend([it.expected.clone(), it.measured.clone()]);
    }
    for it in &report.same_result.rungs {
        facts.extend([it.name.clone(), it.evidence.clone()]);
    }
    for it in &report.advice {
        facts.push(it.text.clone());
        facts.extend(it.evidence.iter().cloned());
    }
    for it in report.projection.iter().flat_map(|it| &it.sizes) {
        facts.push(num::duration((it.mttf_s * 1e9) as u64));
    }
    if let Some(models) = &report.models {
        for it in models.basic.iter().chain(&models.beside) {
            facts.extend([it.formula.clone(), it.worked.clone()]);
            facts.extend(it.inputs.iter().map(|it| it.what.clone()));
        }
    }
    let data = &report.data_quality;
    facts.extend(data.not_concluded.iter().chain(&data.notes).cloned());
    facts
}

/// Those of them that a text does not say; spaces and line breaks do not count.
pub(super) fn missing(facts: &[String], text: &str) -> Vec<String> {
    let pressed = |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let text = pressed(text);
    facts
        .iter()
        .filter(|fact| !text.contains(&pressed(fact)))
        .cloned()
        .collect()
}
