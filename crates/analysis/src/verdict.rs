//! The answer: one sentence for someone who does not run the system, and the exit code.
//!
//! Two judgements that are never mixed: what the system under test did (held, deviated, inconclusive) and what Squall's
//! own acts did (landed, gone). The rollback's verdict outranks the experiment's; then 1 > 13 > 12 > 11 > 10 > 14 > 0.

use crate::expect::{Findings, Judged, Judgement};
use crate::landing::{Gone, InjectionReport, Landed};
use crate::num;
use crate::recovery::Outcome;
use crate::same_result::Sameness;
use crate::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::Stage;
use squall_model::exit::Exit;
use std::collections::BTreeMap;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// How the run ends.
    pub exit: Exit,
    /// The number the process exits with.
    pub code: u8,
    /// The verdict in one or two words: `HELD`, `DEVIATED`, `INCONCLUSIVE`, `NOT ROLLED BACK`, …
    pub word: String,
    /// One sentence, the word not included.
    pub sentence: String,
    /// Further reasons, each a sentence.
    pub because: Vec<String>,
    /// What the system under test did, whatever else happened; absent when it was not tested.
    pub experiment: Option<Judgement>,
}

/// The holder of a run without which it does not go on.
const CONTROLLER: &str = "controller";
/// Who ends the log of a run that was cut off.
const RECOVERY: &str = "recovery";

/// A reason to end in a certain way.
struct Reason {
    exit: Exit,
    words: String,
}

/// Concludes from all findings.
pub(crate) fn verdict(findings: &Findings<'_>, expectations: &[Judged]) -> Verdict {
    let experiment = experiment(findings, expectations);
    let mut reasons = rollback(findings.injections);
    reasons.extend(life(findings));
    if !findings.cut_short() {
        reasons.extend(aims(findings));
    }
    reasons.extend(outcomes(findings, expectations));
    let mut exit = reasons
        .iter()
        .fold(Exit::Held, |exit, it| exit.outranking(it.exit));
    if let Some((ended, by)) = findings.log.ended {
        // What analysis derives itself is derived anew; the rest only the run knows. Runs that were cut off once closed as bugs.
        let derived = matches!(ended, Exit::Held | Exit::Deviated | Exit::Inconclusive)
            || (ended == Exit::Bug && by == RECOVERY);
        if !derived && exit.outranking(ended) != exit {
            exit = ended;
            let words = findings.log.told_before_its_end().map_or_else(
                || format!("the run was closed as `{}`", word(ended).to_lowercase()),
                str::to_owned,
            );
            reasons.push(Reason { exit, words });
        }
    }
    // Stable: reasons of one rank stay in order.
    reasons.sort_by_key(|it| if it.exit == exit { 0 } else { 1 });
    let mut reasons = reasons.into_iter().map(|it| it.words);
    let sentence = if exit == Exit::Held {
        None
    } else {
        reasons.next()
    };
    Verdict {
        exit,
        code: exit.code(),
        word: word(exit).into(),
        sentence: words::sentence(&sentence.unwrap_or_else(|| survived(findings))) + ".",
        because: reasons.map(|it| words::sentence(&it) + ".").collect(),
        experiment,
    }
}

/// The word that stands for an exit.
pub fn word(exit: Exit) -> &'static str {
    match exit {
        Exit::Held => "HELD",
        Exit::Bug => "BUG",
        Exit::Usage => "USAGE",
        Exit::Invalid => "INVALID",
        Exit::Deviated => "DEVIATED",
        Exit::NotSteady => "NOT STEADY",
        Exit::Aborted => "ABORTED",
        Exit::Interrupted => "INTERRUPTED",
        Exit::Inconclusive => "INCONCLUSIVE",
        Exit::NoTarget => "NO TARGET",
        Exit::Unmet => "UNMET",
        Exit::Unreachable => "UNREACHABLE",
        Exit::Refused => "REFUSED",
        Exit::NotRolledBack => "NOT ROLLED BACK",
    }
}

fn experiment(findings: &Findings<'_>, expectations: &[Judged]) -> Option<Judgement> {
    let acted = findings.injections.iter().any(|it| it.landed.acted());
    if !acted {
        return None;
    }
    let any = |judgement| expectations.iter().any(|it| it.judgement == judgement);
    Some(if any(Judgement::Deviated) {
        Judgement::Deviated
    } else if any(Judgement::Inconclusive) || !aims(findings).is_empty() {
        Judgement::Inconclusive
    } else {
        Judgement::Held
    })
}

fn rollback(injections: &[InjectionReport]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for it in injections.iter().filter(|it| it.gone.is_left()) {
        let remedy = it
            .remedy
            .as_ref()
            .map_or(String::new(), |remedy| format!("; to do: {remedy}"));
        reasons.push(Reason {
            exit: Exit::NotRolledBack,
            words: format!(
                "something is still injected: {} on {} ({}): {}{remedy}",
                it.kind, it.target, it.id, it.gone_words
            ),
        });
    }
    for it in injections.iter().filter(|it| it.gone == Gone::Unknown) {
        reasons.push(Reason {
            exit: Exit::Inconclusive,
            words: format!(
                "{} on {} ({}): {}",
                it.kind, it.target, it.id, it.gone_words
            ),
        });
    }
    reasons
}

/// What ended the run before its time.
fn life(findings: &Findings<'_>) -> Vec<Reason> {
    let log = findings.log;
    let mut reasons = Vec::new();
    let done = || {
        let n = findings
            .injections
            .iter()
            .filter(|it| it.landed.acted())
            .count();
        num::plural(n, "injection", "injections")
    };
    if let Some((t_ns, signal)) = log.interrupted {
        reasons.push(Reason {
            exit: Exit::Interrupted,
            words: format!(
                "{signal} ended the run after {} and {}",
                num::duration(t_ns),
                done()
            ),
        });
    }
    if let Some((t_ns, check, measured)) = log.abort {
        reasons.push(Reason {
            exit: Exit::Aborted,
            words: format!(
                "the abort condition {check} fired after {} and {}: {measured}",
                num::duration(t_ns),
                done()
            ),
        });
    }
    for (t_ns, what, because) in &log.lost {
        // Without a controller the run ended there, as by a signal.
        if *what == CONTROLLER {
            reasons.push(Reason {
                exit: Exit::Interrupted,
                words: format!(
                    "the controller was lost after {} and {}: {because}",
                    num::duration(*t_ns),
                    done()
                ),
            });
            continue;
        }
        reasons.push(Reason {
            exit: Exit::Inconclusive,
            words: format!("the {what} was lost: {because}"),
        });
    }
    if !log.reached(Stage::Method) {
        // The last probe of each check decides.
        let mut last = BTreeMap::new();
        let probes = log.probes.iter();
        for probe in probes.filter(|it| it.stage == Some(Stage::SteadyState)) {
            last.insert(probe.check, probe);
        }
        reasons.extend(last.values().filter(|it| !it.held).map(|it| Reason {
            exit: Exit::NotSteady,
            words: format!(
                "the system was not steady, so nothing was injected: {}: {}",
                it.check, it.measured
            ),
        }));
    }
    reasons
}

/// What the expectations say. What a run that was cut short could not show is in their own table, not here.
fn outcomes(findings: &Findings<'_>, expectations: &[Judged]) -> Vec<Reason> {
    let subject = subject(findings);
    let acted: Vec<&InjectionReport> = findings
        .injections
        .iter()
        .filter(|it| it.landed.acted())
        .collect();
    let after = match acted.is_empty() {
        true => String::new(),
        false => format!("after {} ", faults(&acted)),
    };
    let mut reasons = Vec::new();
    for it in expectations {
        let (verb, rest) = phrase(it);
        match it.judgement {
            Judgement::Deviated => reasons.push(Reason {
                exit: Exit::Deviated,
                words: format!("{after}{subject} did not {verb} {rest}: {}", it.measured),
            }),
            Judgement::Inconclusive if !findings.cut_short() => reasons.push(Reason {
                exit: Exit::Inconclusive,
                words: format!(
                    "it cannot be said whether {subject} would {verb} {rest}: {}",
                    it.measured
                ),
            }),
            _ => {}
        }
    }
    reasons
}

/// Each expectation for someone who has not read the file, as a verb and what follows it.
fn phrase(it: &Judged) -> (&'static str, &str) {
    match it.key.as_str() {
        "same-result" => ("end", "with the result of the undisturbed run"),
        "recovered-within" => ("recover", "in the time allowed"),
        "lost-steps" => ("keep", "what it repeats within the bound"),
        "completes" => ("come", "to its proper end"),
        "ettr" => ("spend", "enough of its time on work that counts"),
        "steady-again-within" | "steady-state" => ("become", "steady again"),
        _ => ("meet", &it.expected),
    }
}

fn subject(findings: &Findings<'_>) -> &'static str {
    if findings.lineage.is_some() {
        "the training job"
    } else {
        "the system"
    }
}

/// Injections that did not ask the question that the file asks, and the run that asked nothing.
fn aims(findings: &Findings<'_>) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = findings
        .injections
        .iter()
        .filter(|it| !it.landed.as_aimed())
        .map(|it| Reason {
            exit: Exit::Inconclusive,
            words: format!(
                "a fault was not applied as planned: {} on {} ({}) {}",
                it.kind,
                it.target,
                it.id,
                verb(it)
            ),
        })
        .collect();
    if findings.injections.is_empty() && findings.log.reached(Stage::Method) {
        let why = findings
            .log
            .skipped
            .last()
            .or(findings.log.rule_ends.last());
        let why = why.map_or(String::new(), |(_, because)| format!(": {because}"));
        reasons.push(Reason {
            exit: Exit::Inconclusive,
            words: format!("nothing was injected, so nothing was tested{why}"),
        });
    }
    reasons
}

fn verb(it: &InjectionReport) -> String {
    match it.landed {
        Landed::NotProven => "is said to have landed, but no reading of the world saw it".into(),
        Landed::Unknown => "is not known to have landed: the record ends before it says".into(),
        _ => it.landed_words.clone(),
    }
}

/// What a system that met all expectations did.
fn survived(findings: &Findings<'_>) -> String {
    let acted: Vec<&InjectionReport> = findings
        .injections
        .iter()
        .filter(|it| it.landed.acted())
        .collect();
    if acted.is_empty() {
        return "nothing was injected and everything that was expected is true".into();
    }
    let subject = subject(findings);
    let restarted = findings
        .recoveries
        .iter()
        .any(|it| it.outcome == Outcome::CaughtUp);
    let verb = if restarted {
        "recovered from"
    } else {
        "withstood"
    };
    let mut words = format!("{subject} {verb} {}", faults(&acted));
    if findings.same.sameness == Sameness::Same {
        words += match findings.same.decided_by.as_deref() {
            Some("bit-equal") if findings.same.by_files() => {
                " and left the same last checkpoint as the undisturbed run, byte for byte"
            }
            Some("bit-equal") => {
                " and ended with the same parameters as the undisturbed run, bit for bit"
            }
            Some("trajectory") => " and its losses stayed within the spread of undisturbed repeats",
            _ => " and used each sample as often as the undisturbed run did",
        };
    } else if findings.log.work.ended.is_some_and(|it| it.exit == Some(0)) {
        words += " and ran to its end";
    }
    if findings.run.ask.expect.is_empty() {
        words += "; the file expects nothing further";
    }
    words
}

/// `3 killed ranks`, `1 paused process and 2 damaged files`.
fn faults(injections: &[&InjectionReport]) -> String {
    let mut kinds: Vec<(&str, bool, usize)> = Vec::new();
    for it in injections {
        let rank = it.target.starts_with("rank ");
        match kinds
            .iter_mut()
            .find(|(kind, of_rank, _)| *kind == it.kind && *of_rank == rank)
        {
            Some((_, _, n)) => *n += 1,
            None => kinds.push((&it.kind, rank, 1)),
        }
    }
    let phrases: Vec<String> = kinds
        .iter()
        .map(|(kind, rank, n)| fault(kind, *rank, *n))
        .collect();
    words::list(&phrases)
}

fn fault(kind: &str, rank: bool, n: usize) -> String {
    let (what, one, many) = match kind {
        "process-kill" if rank => ("killed", "rank", "ranks"),
        "process-terminate" if rank => ("terminated", "rank", "ranks"),
        "process-pause" if rank => ("paused", "rank", "ranks"),
        "process-kill" => ("killed", "process", "processes"),
        "process-terminate" => ("terminated", "process", "processes"),
        "process-pause" => ("paused", "process", "processes"),
        "file-damage" => ("damaged", "file", "files"),
        "network-partition" => ("network", "partition", "partitions"),
        "network-delay" => ("network", "delay", "delays"),
        "network-rate" => ("network", "slowdown", "slowdowns"),
        "network-blackhole" => ("network", "black hole", "black holes"),
        "network-dns" => ("name", "fault", "faults"),
        "network-reset" => ("connection", "reset", "resets"),
        "network-loss" => ("packet", "loss", "losses"),
        "network-duplicate" => ("packet", "duplication", "duplications"),
        "network-reorder" => ("packet", "reordering", "reorderings"),
        "network-corrupt" => ("packet", "corruption", "corruptions"),
        "cpu-pressure" => ("CPU", "shortage", "shortages"),
        "memory-pressure" => ("memory", "shortage", "shortages"),
        _ => return format!("{} of {kind}", num::plural(n, "injection", "injections")),
    };
    num::plural(n, &format!("{what} {one}"), &format!("{what} {many}"))
}
