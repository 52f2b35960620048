//! From a stored run to its report.

use crate::chart::{self, SeriesReport};
use crate::clients::{Clients, Known, judge, users};
use crate::diagnosis::diagnose;
use crate::ettr::effectiveness;
use crate::expect::{Findings, Judged, Judgement};
use crate::landing::{self, InjectionReport, Landed};
use crate::lineage::{Lineage, median};
use crate::log::Log;
use crate::models::models;
use crate::num;
use crate::projection::{advice, projection};
use crate::recovery::Outcome;
use crate::report::{
    Answered, Band, BlastRadius, DataQuality, FORMAT, MarkKind, Policy, Report, Reproduce,
    Timeline, TimelineMark, Training,
};
use crate::run::Run;
use crate::same_result::{self, Sameness};
use crate::verdict;
use crate::{figures, signals, story, words};
use squall_model::event::Stage;
use squall_model::exchange::{Ended::Left, Exchange, LOST as EXCHANGES};
use squall_model::experiment::Goal;
use std::collections::{BTreeMap, BTreeSet};

/// What a stored run means. Deterministic: the same run gives the same report.
pub fn conclude(run: &Run) -> Report {
    let log = Log::of(run);
    let lineage = Lineage::of(&log.work);
    let reference = Lineage::of(&log.reference);
    let same = same_result::same_result(run, &log, lineage.as_ref(), reference.as_ref());
    let effectiveness = lineage
        .as_ref()
        .and_then(|lineage| effectiveness(&log.work, lineage, log.end_ns));
    let findings = Findings {
        run,
        log: &log,
        lineage: lineage.as_ref(),
        reference: reference.as_ref(),
        injections: &landing::injections(&log, lineage.as_ref()),
        recoveries: &story::recoveries(&log, lineage.as_ref()),
        same: &same,
        effectiveness: effectiveness.as_ref(),
    };
    let expectations = findings.judge();
    let verdict = verdict::verdict(&findings, &expectations);
    let training = lineage.as_ref().map(|lineage| training(&findings, lineage));
    let diagnosis = diagnose(&log, lineage.as_ref(), reference.as_ref(), &same);
    let projection = projection(&findings);
    let mut series: Vec<SeriesReport> = signals::training(&log, lineage.as_ref())
        .iter()
        .map(chart::report)
        .collect();
    series.extend(signals::sampled(run, &log).map(|it| chart::report(&it)));
    Report {
        format: FORMAT.into(),
        run: run.id.clone(),
        title: run.ask.title.clone(),
        started_utc: log
            .start
            .map_or(String::new(), |start| start.started_utc.to_owned()),
        ended_utc: utc(&log, log.end_ns),
        length_ns: log.end_ns,
        requirement: run.ask.requirement.as_ref().map(|asked| Answered {
            goal: goal(asked.goal).into(),
            answer: format!("{}: {}", verdict.word, verdict.sentence),
            asked: asked.clone(),
        }),
        figures: figures::figures(&findings, training.as_ref()),
        blast_radius: BlastRadius {
            eligible: run.ask.eligible,
            at_most: run.ask.at_most,
        },
        timeline: timeline(&findings),
        data_quality: data_quality(&findings, &expectations, &series),
        policies: policies(run),
        reproduce: reproduce(run, &log),
        injections: findings.injections.to_vec(),
        recoveries: findings.recoveries.to_vec(),
        expectations,
        training,
        series,
        verdict,
        clients: clients(&log),
        models: models(&findings),
        advice: advice(projection.as_ref(), diagnosis.as_ref()),
        projection,
        diagnosis,
        same_result: same.clone(),
    }
}

fn clients(log: &Log<'_>) -> Option<Clients> {
    // What a client left open when we ended it says nothing of it.
    let ending = log
        .entered(Stage::Undo)
        .filter(|_| log.work.ended.as_ref().is_some_and(|ended| ended.by_squall));
    let is_ours = |t_ns: u64, one: &Exchange| {
        one.ended == Some(Left) && ending.is_some_and(|from| t_ns >= from)
    };
    let exchanges: Vec<Exchange> = log
        .exchanges
        .iter()
        .filter(|(t_ns, one)| !is_ours(*t_ns, one))
        .map(|(_, one)| (*one).clone())
        .collect();
    let of_proxy = |what: &str| what.starts_with(EXCHANGES);
    let lost = log.dropped.iter().filter(|(what, _)| of_proxy(what));
    let lost = lost.map(|(_, count)| count).sum();
    if exchanges.is_empty() && lost == 0 {
        return None;
    }
    let started = log
        .start
        .and_then(|start| start.started_utc.parse::<jiff::Timestamp>().ok());
    let known = Known {
        lost,
        from_ns: started.map_or(0, |at| u64::try_from(at.as_nanosecond()).unwrap_or(0)),
    };
    Some(Clients {
        users: users(&exchanges, lost),
        findings: judge(&exchanges, known),
    })
}

fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::TrainingReliability => "training reliability",
        Goal::InferenceReliability => "inference reliability",
        Goal::Elasticity => "elasticity",
        Goal::DataSafety => "data safety",
        Goal::Performance => "performance",
    }
}

/// A moment of the run as UTC, RFC 3339, to the millisecond; empty when the log does not say when it started.
pub(crate) fn utc(log: &Log<'_>, t_ns: u64) -> String {
    let start = log
        .start
        .and_then(|start| start.started_utc.parse::<jiff::Timestamp>().ok());
    let nanos = i64::try_from(t_ns).unwrap_or(i64::MAX);
    start
        .and_then(|start| {
            start
                .checked_add(jiff::SignedDuration::from_nanos(nanos))
                .ok()
        })
        .map_or(String::new(), |at| format!("{at:.3}"))
}

fn training(findings: &Findings<'_>, lineage: &Lineage) -> Training {
    let (kept, wasted) = lineage.kept_and_wasted();
    let times: Vec<u64> = lineage.step_times().iter().map(|(_, t)| *t).collect();
    let interval = findings.checkpoint_interval();
    Training {
        unit: lineage.unit,
        high_water: lineage.high_water(),
        attempts: lineage.attempts.len() as u64,
        kept,
        wasted,
        step_time_ns: median(&times),
        checkpoint_interval: interval.map(|(n, _)| n),
        checkpoint_interval_source: interval.map(|(_, source)| source.to_owned()),
        unexplained_restarts: story::unexplained(findings.log, Some(lineage)) as u64,
        effectiveness: findings.effectiveness.cloned(),
    }
}

fn timeline(findings: &Findings<'_>) -> Timeline {
    let log = findings.log;
    let mut marks = Vec::new();
    let mut mark =
        |kind, t_ns, injection: Option<&squall_model::id::InjectionId>, words: String| {
            marks.push(TimelineMark {
                kind,
                t_ns,
                utc: utc(log, t_ns),
                injection: injection.cloned(),
                words,
            });
        };
    for it in findings.injections.iter().filter(|it| it.landed.acted()) {
        let at = it.landed_ns.unwrap_or(it.begun_ns);
        mark(
            MarkKind::Landed,
            at,
            Some(&it.id),
            format!("{} on {} {}", it.kind, it.target, it.landed_words),
        );
    }
    for (t_ns, rule, place) in &log.holds {
        let kind = log.rules.get(rule).map_or("an injection", |rule| rule.kind);
        let at = landing::place_words(place);
        mark(
            MarkKind::Held,
            *t_ns,
            None,
            format!("held in {at} for {kind}"),
        );
    }
    for it in findings.recoveries {
        for moment in &it.marks {
            let (kind, what) = match moment.what.as_str() {
                "detected" => (MarkKind::Detected, "detected"),
                "caught-up" => (MarkKind::Recovered, "caught up"),
                // A job that did not restart has nothing to catch up with.
                "back-to-work" if it.outcome == Outcome::WentOn => (MarkKind::Recovered, "went on"),
                _ => continue,
            };
            let words = format!(
                "{what} {} after it, by {}",
                num::duration(moment.after_ns),
                moment.source
            );
            mark(kind, moment.t_ns, Some(&it.injection), words);
        }
    }
    for saved in findings
        .lineage
        .iter()
        .flat_map(|it| &it.attempts)
        .flat_map(|it| &it.saved)
    {
        let words = format!(
            "checkpoint of step {} put in place",
            num::thousands(saved.step)
        );
        mark(MarkKind::Checkpoint, saved.renamed_ns, None, words);
    }
    marks.sort_by_key(|mark| mark.t_ns);
    Timeline {
        from_ns: findings.log.work.started_ns.unwrap_or(0),
        to_ns: log.end_ns,
        bands: findings
            .injections
            .iter()
            .filter(|it| it.landed.acted())
            .map(|it| band(it, log))
            .collect(),
        marks,
    }
}

fn band(it: &InjectionReport, log: &Log<'_>) -> Band {
    let once = it.class == squall_model::syntax::Class::OneShot;
    let from_ns = it.landed_ns.unwrap_or(it.begun_ns);
    Band {
        injection: it.id.clone(),
        label: format!("{} {}", it.kind, it.target),
        from_ns,
        // What could not be undone still acts when the record ends.
        to_ns: match it.gone_ns {
            _ if once => from_ns,
            Some(gone) if !it.gone.is_left() => gone,
            _ => log.end_ns,
        },
    }
}

fn data_quality(
    findings: &Findings<'_>,
    expectations: &[Judged],
    series: &[SeriesReport],
) -> DataQuality {
    let log = findings.log;
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    for (what, count) in &log.dropped {
        *dropped.entry((*what).to_owned()).or_default() += count;
    }
    for (name, work) in [
        ("training events, by their sender", &log.work),
        (
            "training events of the reference, by their sender",
            &log.reference,
        ),
    ] {
        if work.dropped() > 0 {
            dropped.insert(name.into(), work.dropped());
        }
    }
    let sampled = series.iter().filter(|it| !it.name.starts_with("training."));
    let sources: BTreeSet<&str> = log.work.training.iter().map(|seen| seen.source).collect();
    DataQuality {
        sources: sources.into_iter().map(str::to_owned).collect(),
        dropped,
        gaps: sampled.map(|it| it.gap_count).sum(),
        not_concluded: not_concluded(findings, expectations),
        notes: notes(findings, series),
    }
}

fn not_concluded(findings: &Findings<'_>, expectations: &[Judged]) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(problem) = findings.lineage.and_then(|it| it.problem.as_ref()) {
        all.push(format!("lost steps and recoveries: {problem}"));
    }
    if findings.lineage.is_none() {
        all.push("what training did: no event tells of completed steps or epochs".into());
    }
    for rung in findings
        .same
        .rungs
        .iter()
        .filter(|it| it.sameness == Sameness::NotMeasured)
    {
        all.push(format!("same result by {}: {}", rung.name, rung.evidence));
    }
    for it in expectations
        .iter()
        .filter(|it| it.judgement == Judgement::Inconclusive)
    {
        all.push(format!("{}: {}", it.expected, it.measured));
    }
    for it in findings
        .recoveries
        .iter()
        .filter(|it| it.outcome == Outcome::NotMeasured)
    {
        all.push(format!(
            "recovery after {}: {}",
            it.injection,
            it.because.clone().unwrap_or_default()
        ));
    }
    let mut seen = BTreeSet::new();
    all.retain(|line| seen.insert(line.clone()));
    all.iter().map(|line| words::sentence(line) + ".").collect()
}

fn notes(findings: &Findings<'_>, series: &[SeriesReport]) -> Vec<String> {
    let log = findings.log;
    let mut all: Vec<String> = log
        .notes
        .iter()
        .map(|(_, text)| (*text).to_owned())
        .collect();
    let unexplained = story::unexplained(log, findings.lineage);
    if unexplained > 0 {
        all.push(format!(
            "{} of the job that no injection explains",
            num::plural(unexplained, "restart", "restarts")
        ));
    }
    if let Some(it) = findings.effectiveness.filter(|it| it.unmeasured_steps > 0) {
        all.push(format!(
            "the beginning of {} is not known; their time counts as start-up or restart",
            num::plural(it.unmeasured_steps as usize, "first step", "first steps")
        ));
    }
    for it in series.iter().filter(|it| it.not_finite > 0) {
        all.push(format!(
            "{} has {} that are not finite numbers",
            it.name,
            num::plural(it.not_finite as usize, "value", "values")
        ));
    }
    for (rule, because) in &log.skipped {
        let kind = log.rules.get(rule).map_or("a rule", |rule| rule.kind);
        all.push(format!("an occasion for {kind} was not taken: {because}"));
    }
    let near = findings
        .injections
        .iter()
        .filter(|it| it.landed == Landed::Near)
        .count();
    if near > 0 {
        all.push(format!(
            "{} landed near the aim: nothing could hold the process there",
            num::plural(near, "injection", "injections")
        ));
    }
    all.iter()
        .map(|line| words::sentence(line.trim_end_matches('.')) + ".")
        .collect()
}

fn policies(run: &Run) -> Vec<Policy> {
    let policies = run.policies.iter();
    policies
        .map(|(file, sha256)| Policy {
            file: file.clone(),
            sha256: sha256.clone(),
        })
        .collect()
}

fn reproduce(run: &Run, log: &Log<'_>) -> Reproduce {
    let seed = log.start.map_or(run.ask.seed, |start| start.seed);
    Reproduce {
        command: format!("squall run {} --seed {seed}", quoted(&run.ask.file)),
        seed,
        experiment_sha256: log
            .start
            .map_or(String::new(), |it| it.experiment.to_owned()),
        squall: log.start.map_or(String::new(), |it| it.squall.to_owned()),
        host: log.start.map_or(BTreeMap::new(), |it| it.host.clone()),
    }
}

/// A word of a command line, in quotes when a shell would split it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
