//! A run as it happens: the same words at a terminal (with a few live lines below) and in a log.

use crate::arguments::Format;
use crate::output::{Paint, Stream, is_styled, style};
use squall_control::run::{Live, Observer};
use squall_model::event::{Body, Event, Place, Precision, Presence, Stage};
use squall_model::id::{InjectionId, RunId};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Prints a run to standard error (for people) or standard output (for machines).
#[derive(Debug)]
pub(crate) struct Printer {
    format: Format,
    /// Lines of the live area that stand on the terminal now.
    area: usize,
    terminal: bool,
    /// What each injection is, so that later lines can name it.
    names: BTreeMap<InjectionId, String>,
    reference: bool,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Printer {
        let terminal = format == Format::Text
            && std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Printer {
            format,
            area: 0,
            terminal,
            names: BTreeMap::new(),
            reference: false,
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    /// Takes the live area off the terminal.
    pub(crate) fn clear(&mut self) {
        if self.area > 0 {
            // Up to the first line of the area, then clear to the end of the screen.
            eprint!("\x1b[{}A\x1b[J", self.area);
            self.area = 0;
        }
    }
}

impl Observer for Printer {
    fn started(&mut self, run: &RunId, run_dir: &Path) {
        match self.format {
            Format::Text => self.say(&format!(" run      {run}\n          {}", run_dir.display())),
            Format::Json => print_json(&serde_json::json!({"run": run, "dir": run_dir})),
        }
    }

    fn event(&mut self, event: &Event) {
        if self.format == Format::Json {
            print_json(event);
            return;
        }
        if let Body::InjectionBegun {
            injection,
            kind,
            target,
            ..
        } = &event.body
        {
            self.names
                .insert(injection.clone(), format!("{kind}   {target}"));
        }
        if let Body::StageEntered { stage } = event.body {
            self.reference = stage == Stage::Reference;
        }
        if let Some(text) = line(event, &self.names, self.reference) {
            self.say(&text);
        }
    }

    fn tick(&mut self, live: &Live) {
        if !self.terminal {
            return;
        }
        self.clear();
        let text = area(live);
        self.area = text.lines().count();
        eprint!("{text}");
        std::io::stderr().flush().unwrap_or_default();
    }

    fn remains(&mut self, what: &str) {
        if self.format == Format::Text {
            self.say(&format!(
                " {} still to do: {what}",
                style(Paint::Warn, "▲", Stream::Error)
            ));
        }
    }
}

fn print_json(value: &impl serde::Serialize) {
    // A closed pipe must not stop a run that has faults to undo.
    if let Ok(text) = serde_json::to_string(value) {
        writeln!(std::io::stdout(), "{text}").unwrap_or_default();
    }
}

/// What an event says to a person; most say nothing.
fn line(event: &Event, names: &BTreeMap<InjectionId, String>, reference: bool) -> Option<String> {
    let at = format!(" {:<8.1} ", event.t_ns as f64 / 1e9);
    let name = |id: &InjectionId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    let text = match &event.body {
        Body::StageEntered { stage } => stage_words(*stage)?.to_owned(),
        Body::WorkloadStarted { reference, .. } if *reference => {
            "the undisturbed reference run starts".to_owned()
        }
        Body::WorkloadStarted { .. } => "the workload starts".to_owned(),
        Body::WorkloadEnded { exit, signal, .. } => match (exit, signal) {
            (Some(0), _) => "the workload ended by itself, exit status 0".to_owned(),
            (Some(code), _) => format!(
                "{} the workload ended with exit status {code}",
                mark(Paint::Warn, "▲")
            ),
            (_, Some(signal)) => format!("the workload ended by signal {signal}"),
            _ => "the workload ended".to_owned(),
        },
        Body::Probed {
            check,
            held,
            measured,
            ..
        } if !reference => {
            let mark = if *held {
                mark(Paint::Good, "✓")
            } else {
                mark(Paint::Error, "✗")
            };
            format!("{mark} {check}: {measured}")
        }
        Body::Armed {
            kind, name, aim, ..
        } => {
            let name = name
                .as_deref()
                .map(|name| format!(" `{name}`"))
                .unwrap_or_default();
            format!("armed    {kind}{name}, {aim}")
        }
        Body::Landed {
            injection,
            place,
            precision,
            observations,
            ..
        } => {
            let evidence = observations
                .first()
                .map_or("", |seen| seen.evidence.as_str());
            format!(
                "{} {}   landed{}   {evidence}",
                mark(Paint::Warn, "▼"),
                name(injection),
                place_words(place, *precision)
            )
        }
        Body::NotLanded {
            injection, because, ..
        } => {
            format!(
                "{} {}   did not land: {because}",
                mark(Paint::Error, "✗"),
                name(injection)
            )
        }
        Body::Undone {
            injection,
            by,
            observations,
        } => {
            let gone = observations
                .iter()
                .all(|seen| matches!(seen.presence, Presence::Absent | Presence::Superseded));
            let mark = if gone {
                mark(Paint::Good, "✓")
            } else {
                mark(Paint::Warn, "▲")
            };
            let evidence = observations
                .first()
                .map_or("", |seen| seen.evidence.as_str());
            format!("{mark} {}   undone by {by}   {evidence}", name(injection))
        }
        Body::Stuck {
            injection,
            because,
            remedy,
            ..
        } => format!(
            "{} {}   could not be undone: {because}\n          type: {remedy}",
            mark(Paint::Error, "✗"),
            name(injection)
        ),
        Body::Training {
            event,
            reference: false,
            ..
        } if event.kind == "recovery" => {
            let because = event
                .because
                .as_deref()
                .map(|because| format!(": {because}"))
                .unwrap_or_default();
            format!(
                "  recovery {}{because}",
                event.stage.as_deref().unwrap_or("?")
            )
        }
        Body::Skipped { because, .. } => format!("  an occasion was not taken: {because}"),
        Body::AbortFired { check, measured } => {
            format!("{} abort: {check}: {measured}", mark(Paint::Error, "✗"))
        }
        Body::Interrupted { signal } => {
            format!("{} {signal}: undoing everything", mark(Paint::Warn, "▲"))
        }
        Body::Lost { what, because } => {
            format!("{} lost {what}: {because}", mark(Paint::Error, "✗"))
        }
        Body::Dropped { what, count } => {
            format!("{} {count} records lost: {what}", mark(Paint::Warn, "▲"))
        }
        Body::Note { text } => format!("  {text}"),
        _ => return None,
    };
    Some(format!("{at}{text}"))
}

fn mark(paint: Paint, mark: &str) -> String {
    style(paint, mark, Stream::Error)
}

fn stage_words(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::SteadyState => Some("watching the steady state"),
        Stage::Method => Some("method"),
        Stage::Undo => Some("undoing"),
        Stage::Recovery => Some("watching the recovery"),
        Stage::Plan | Stage::Reference | Stage::Start | Stage::Analyse => None,
    }
}

fn place_words(place: &Place, precision: Precision) -> String {
    let mut parts = Vec::new();
    if let Some(step) = place.step {
        parts.push(format!("step {step}"));
    }
    if let Some(epoch) = place.epoch {
        parts.push(format!("epoch {epoch}"));
    }
    if let Some(phase) = &place.phase {
        parts.push(format!("phase {phase}"));
    }
    let how = match precision {
        Precision::Held => ", held",
        Precision::Late => ", LATE",
        Precision::Observed => ", not held",
        Precision::NotAimed => "",
    };
    if parts.is_empty() {
        String::new()
    } else {
        format!(" in {}{how}", parts.join(", "))
    }
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A picture of the last values in `width` characters, lowest to highest.
fn sparkline(values: &[f64], width: usize) -> String {
    let values: Vec<f64> = values
        .iter()
        .rev()
        .take(width)
        .rev()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let span = if high > low { high - low } else { 1.0 };
    values
        .iter()
        .map(|value| BARS[(((value - low) / span) * 7.0).round() as usize % 8])
        .collect()
}

/// The live lines.
fn area(live: &Live) -> String {
    let mut parts = vec![format!(" {:<8.1}", live.elapsed.as_secs_f64())];
    if live.step > 0 {
        parts.push(format!("epoch {} step {}", live.epoch, live.step));
    }
    if let Some(loss) = live.loss.last() {
        parts.push(format!("loss {} {loss:.3}", sparkline(&live.loss, 24)));
    }
    if let Some(rate) = live.steps_per_second {
        parts.push(format!("steps/s {rate:.1}"));
    }
    parts.push(format!("lease {:.1} s", live.lease_left.as_secs_f64()));
    if live.outstanding > 0 {
        parts.push(format!("injected {}", live.outstanding));
    }
    let mut text = parts.join("   ");
    text.push('\n');
    if let Some(next) = live.next.first() {
        text.push_str(&format!("          next: {next}\n"));
    }
    if is_styled(Stream::Error) {
        text
    } else {
        text.replace('\t', " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_the_last_values_from_lowest_to_highest() {
        assert_eq!(sparkline(&[9.0, 0.0, 7.0], 2), "▁█");
        assert_eq!(sparkline(&[1.0, 1.0], 8), "▁▁");
        assert_eq!(sparkline(&[f64::NAN], 8), "");
    }

    #[test]
    fn a_landing_says_where_and_whether_the_process_was_held() {
        let place = Place {
            step: Some(640),
            epoch: Some(10),
            phase: Some("epoch-end".into()),
            rank: Some(1),
        };
        assert_eq!(
            place_words(&place, Precision::Held),
            " in step 640, epoch 10, phase epoch-end, held"
        );
        assert_eq!(place_words(&Place::default(), Precision::NotAimed), "");
    }
}
