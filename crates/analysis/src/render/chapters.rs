//! The parts of the report that are sentences, lists and tables: where the ranks stood, the cause, advice, other sizes, the models. The page
//! and the Markdown form show the same blocks, each in its own dress.

use super::clients;
use super::diagnosis;
use super::models;
use super::text;
use super::view::number;
use crate::diagnosis::Diagnosis;
use crate::hang::Hang;
use crate::models::{Input, Model, Origin};
use crate::num;
use crate::projection::{Advice, Projected, Projection};
use crate::report::Report;

/// One part of the report.
pub(super) struct Chapter {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// A piece of a part.
pub(super) enum Block {
    Sentence(String),
    /// What is said in passing: conditions, sources.
    Small(String),
    Heading(String),
    List(Vec<String>),
    Table(Table),
    /// Text that is shown as it is, folded away behind its title where the form can fold.
    Whole {
        title: String,
        text: String,
    },
}

/// Rows under heads. A folded one stands behind its title where the form can fold.
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) folded: bool,
    pub(super) head: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn open(
        title: &'static str,
        head: &'static [&'static str],
        rows: Vec<Vec<String>>,
    ) -> Block {
        Block::Table(Table {
            title,
            folded: false,
            head,
            rows,
        })
    }

    fn folded(title: &'static str, head: &'static [&'static str], rows: Vec<Vec<String>>) -> Block {
        Block::Table(Table {
            title,
            folded: true,
            head,
            rows,
        })
    }
}

/// Title of the part that the advice leans on.
const SIZES: &str = "At other sizes";

/// Where the ranks stood in each silence, if there was one. It stands below the recoveries.
pub(super) fn stacks(report: &Report) -> Option<Chapter> {
    let hangs = report
        .recoveries
        .iter()
        .filter_map(|it| Some((it, it.hang.as_ref()?)));
    let mut blocks = vec![Block::Small(
        "Python stacks that the hook sent while nothing happened: the innermost call first, then the script's own.".into(),
    )];
    for (recovery, hang) in hangs {
        let after = number(report, Some(&recovery.injection));
        blocks.push(Block::Heading(format!("After injection {after}")));
        blocks.extend(stood(hang));
    }
    (blocks.len() > 1).then_some(Chapter {
        id: "stacks",
        title: "Where the ranks stood",
        blocks,
    })
}

/// What the findings mean, as far as this report has it, in the order of every form.
pub(super) fn chapters(report: &Report) -> Vec<Chapter> {
    let all = [
        ("cause", "Cause", report.diagnosis.as_ref().map(cause)),
        (
            "clients",
            "Users and their clients",
            report.clients.as_ref().map(clients::blocks),
        ),
        ("advice", "Advice", advice(report)),
        ("sizes", SIZES, report.projection.as_ref().map(sizes)),
        (
            "models",
            "What models say",
            report.models.as_ref().map(measures),
        ),
    ];
    all.into_iter()
        .filter_map(|(id, title, blocks)| {
            Some(Chapter {
                id,
                title,
                blocks: blocks?,
            })
        })
        .collect()
}

fn stood(hang: &Hang) -> Vec<Block> {
    let told = match &hang.gave_up {
        Some(it) => format!("Who gave up: {}.", it.words()),
        None => "No process told of an error before it ended.".into(),
    };
    let rows = hang.stood.iter().map(|it| {
        let when = match it.after_ns {
            0 => "before the fault".into(),
            after => format!("{} after it", num::duration(after)),
        };
        vec![
            crate::words::sentence(&it.who()),
            format!("{when}, {}", it.because),
            it.calls.join("\n← "),
        ]
    });
    let mut blocks = vec![Block::Sentence(told)];
    blocks.push(Table::open(
        "",
        &["Who", "When it told", "Where it stood"],
        rows.collect(),
    ));
    blocks.extend(hang.stood.iter().map(|it| Block::Whole {
        title: format!("The whole stack of {} ({})", it.who(), it.because),
        text: it.stack.clone(),
    }));
    blocks
}

fn cause(it: &Diagnosis) -> Vec<Block> {
    let mut blocks = vec![Block::Sentence(it.sentence.clone())];
    if let Some(remedy) = &it.remedy {
        blocks.push(Block::Sentence(format!("To do: {remedy}")));
    }
    let resumed = it
        .resumed
        .map(|step| format!("The restart in question resumed from step {step}."));
    let parted = it
        .parted
        .map(|step| format!("The first step that differs from the undisturbed run is {step}."));
    let places: Vec<String> = resumed.into_iter().chain(parted).collect();
    if !places.is_empty() {
        blocks.push(Block::Small(places.join(" ")));
    }
    let rows = it.suspects.iter().map(|it| {
        vec![
            it.mistake.words().to_owned(),
            diagnosis::standing(it.standing).to_owned(),
            it.evidence.clone(),
        ]
    });
    blocks.push(Table::open(
        "What was considered",
        &["Mistake", "Stands", "Evidence"],
        rows.collect(),
    ));
    blocks
}

fn advice(report: &Report) -> Option<Vec<Block>> {
    let assumed = report.projection.as_ref().map(|it| &it.assumptions);
    let known = |line: &String| assumed.is_some_and(|lines| lines.contains(line));
    let blocks = report.advice.iter().flat_map(|it: &Advice| {
        let mut blocks = vec![Block::Sentence(it.text.clone())];
        let own = it.assumptions.iter().filter(|line| !known(line)).cloned();
        let lines: Vec<String> = it.evidence.iter().cloned().chain(own).collect();
        if !lines.is_empty() {
            blocks.push(Block::List(lines));
        }
        if it.assumptions.iter().any(known) {
            blocks.push(Block::Small(format!(
                "What it takes for granted stands under “{SIZES}”."
            )));
        }
        if !it.sources.is_empty() {
            blocks.push(Block::Small(sources(&it.sources)));
        }
        blocks
    });
    let blocks: Vec<Block> = blocks.collect();
    (!blocks.is_empty()).then_some(blocks)
}

fn sources(all: &[String]) -> String {
    format!("From: {}.", all.join("; "))
}

fn sizes(it: &Projection) -> Vec<Block> {
    let duration = |seconds: f64| num::duration((seconds * 1e9) as u64);
    let row = |it: &Projected| {
        let none = "none: fewer than 3 restarts".to_owned();
        let interval = it.interval.as_ref().map_or(none, |it| {
            format!(
                "{} to {}, {}",
                models::share(it.low),
                models::share(it.high),
                it.method
            )
        });
        vec![
            num::thousands(it.gpus),
            duration(it.mttf_s),
            models::share(it.ettr),
            interval,
            it.best_interval_s.map_or("not measured".into(), duration),
            it.ettr_at_best.map_or("not measured".into(), models::share),
        ]
    };
    vec![
        Block::Sentence(
            "What the measured recovery would cost a larger job: reckoned, not measured.".into(),
        ),
        Table::open(
            "",
            &[
                "GPUs",
                "Fails every",
                "ETTR as it saves now",
                "Interval at 95 %",
                "Best: save every",
                "ETTR then",
            ],
            it.sizes.iter().map(row).collect(),
        ),
        Block::Small(it.formula.clone()),
        Table::folded("What went in", INPUTS, inputs("", &it.inputs)),
        Block::List(it.assumptions.clone()),
        Block::Small(sources(&it.sources)),
    ]
}

const INPUTS: &[&str] = &["Of", "Symbol", "Value", "What it is", "From"];

fn measures(it: &crate::models::Models) -> Vec<Block> {
    let row = |it: &Model| {
        let name = crate::words::sentence(&it.name);
        let interval = it.interval_words();
        vec![name, it.formula.clone(), it.worked.clone(), interval]
    };
    let head = &["Model", "Formula", "With its numbers", "Interval at 95 %"];
    let all = || it.basic.iter().chain(&it.beside);
    let went_in = all().flat_map(|it| inputs(&models::short(it), &it.inputs));
    let length = num::duration(it.to_ns.saturating_sub(it.from_ns));
    vec![
        Block::Small(format!(
            "Over {} ({length}, from {} to {} after the start).",
            it.window,
            text::seconds(it.from_ns),
            text::seconds(it.to_ns)
        )),
        Table::open(
            "The four basic models",
            head,
            it.basic.iter().map(row).collect(),
        ),
        Table::open(
            "Measures beside them",
            head,
            it.beside.iter().map(row).collect(),
        ),
        Table::folded("What went in", INPUTS, went_in.collect()),
        Block::Heading("What they do not say".into()),
        Block::List(models::cautions(it)),
    ]
}

/// Inputs of one model; many of one kind share a row.
fn inputs(of: &str, all: &[Input]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let alike =
        |a: &Input, b: &Input| (&a.symbol, &a.what, a.origin) == (&b.symbol, &b.what, b.origin);
    for same in all.chunk_by(alike) {
        let first = &same[0];
        let values = match same {
            [one] => one.words(),
            few if few.len() <= SHOWN => {
                few.iter().map(Input::words).collect::<Vec<_>>().join(", ")
            }
            many => {
                let by = |a: &&Input, b: &&Input| a.value.total_cmp(&b.value);
                let ends = many.iter().min_by(by).zip(many.iter().max_by(by));
                let ends = ends.map_or(String::new(), |(low, high)| {
                    format!("{} to {}", low.words(), high.words())
                });
                format!("{} of them, {ends}", many.len())
            }
        };
        let origin = match first.origin {
            Origin::Measured => "measured",
            Origin::Assumed => "assumed",
        };
        rows.push(vec![
            of.to_owned(),
            first.symbol.clone(),
            values,
            first.what.clone(),
            origin.into(),
        ]);
    }
    rows
}

/// Values of one kind that are shown one by one.
const SHOWN: usize = 4;
