//! Recorded runs of `examples/toy-trainer` with each seeded bug and without one: which mistake does the report name?
//!
//! Two ranks, four epochs of four steps, seed 3, one fault. Only what the ranks told is in the records: no command line and no log.
//! The count that matters, on many fresh seeds, is `cargo xtask prove naming`.

use crate::kills::ask;
use proptest::prelude::*;
use squall_analysis::conclude;
use squall_analysis::diagnosis::{Diagnosis, Mistake, Standing};
use squall_analysis::run::Run;
use squall_model::event::{Body, Event, Place};
use squall_model::hook::TrainingEvent;
use squall_model::id::RunId;
use std::collections::BTreeMap;

const RUNS: [(Option<Mistake>, &str); 10] = [
    (None, include_str!("recorded/naming/clean.json")),
    (None, include_str!("recorded/naming/preempted.json")),
    (
        Some(Mistake::TornCheckpoint),
        include_str!("recorded/naming/torn-checkpoint.json"),
    ),
    (
        Some(Mistake::OptimizerState),
        include_str!("recorded/naming/optimizer-state.json"),
    ),
    (
        Some(Mistake::Samples),
        include_str!("recorded/naming/samples.json"),
    ),
    (
        Some(Mistake::LearningRate),
        include_str!("recorded/naming/learning-rate.json"),
    ),
    (
        Some(Mistake::Rank0State),
        include_str!("recorded/naming/rank0-state.json"),
    ),
    (
        Some(Mistake::SaveHandler),
        include_str!("recorded/naming/save-handler.json"),
    ),
    // PyTorch, whose checkpoints are two files, with a note of the script's beside them.
    (
        Some(Mistake::TornCheckpoint),
        include_str!("recorded/naming/torch-torn-checkpoint.json"),
    ),
    (
        Some(Mistake::SaveHandler),
        include_str!("recorded/naming/torch-save-handler.json"),
    ),
];

fn diagnosed(events: Vec<Event>) -> Option<Diagnosis> {
    let run = Run {
        id: RunId("0198f2aa-0000-7000-8000-000000000003".into()),
        ask: ask(),
        events,
        series: Vec::new(),
        checkpoints: Vec::new(),
        policies: BTreeMap::new(),
    };
    conclude(&run).diagnosis
}

fn events(text: &str) -> Vec<Event> {
    serde_json::from_str(text).unwrap()
}

/// The same log as if trainers had told less.
fn told_less(events: Vec<Event>, less: impl Fn(&mut TrainingEvent) -> bool) -> Vec<Event> {
    let kept = events.into_iter().filter_map(|mut it| {
        if let Body::Training { event, .. } = &mut it.body
            && !less(event)
        {
            return None;
        }
        Some(it)
    });
    kept.collect()
}

fn without(events: Vec<Event>, what: &str) -> Vec<Event> {
    told_less(events, |it| {
        match what {
            "lr" => it.lr = None,
            "local loss" => it.local_loss = None,
            "gradient" => it.grad_norm = None,
            "loss" => it.loss = None,
            "samples" => it.ids = None,
            "path" => it.path = None,
            kind => return it.kind != kind,
        }
        true
    })
}

#[test]
fn every_bug_is_named_and_none_where_there_is_none() {
    for (truth, text) in RUNS {
        let found = diagnosed(events(text));
        assert_eq!(found.as_ref().map(|it| it.mistake), truth, "{found:#?}");
        let Some(found) = found else { continue };
        assert_eq!(found.suspects.len(), 6);
        let fits = |it: &Standing| *it == Standing::Fits;
        assert!(found.suspects.iter().all(|it| !it.evidence.is_empty()));
        assert_eq!(
            found
                .suspects
                .iter()
                .filter(|it| fits(&it.standing))
                .count(),
            1
        );
        assert!(found.remedy.is_some());
    }
}

#[test]
fn the_records_hold_no_flag_and_the_injections_are_not_needed() {
    for (truth, text) in RUNS {
        assert!(!text.contains("bug"));
        let mut blind = events(text);
        for it in &mut blind {
            // When it was stays: what is different before cannot be put down to it.
            if let Body::InjectionBegun {
                kind,
                target,
                aim,
                mechanism,
                ..
            } = &mut it.body
            {
                (*kind, *target, *mechanism) = ("x".into(), "y".into(), "z".into());
                *aim = Place::default();
            }
        }
        blind.retain(|it| !matches!(it.body, Body::Landed { .. } | Body::Armed { .. }));
        assert_eq!(diagnosed(blind).map(|it| it.mistake), truth);
    }
}

#[test]
fn without_the_learning_rate_two_mistakes_are_possible() {
    for (truth, text) in RUNS {
        if !matches!(truth, Some(Mistake::LearningRate | Mistake::OptimizerState)) {
            continue;
        }
        let found = diagnosed(without(events(text), "lr")).unwrap();
        assert_eq!(found.mistake, Mistake::Unknown);
        let open: Vec<Mistake> = found
            .suspects
            .iter()
            .filter(|it| it.standing == Standing::Open)
            .map(|it| it.mistake)
            .collect();
        assert_eq!(open, [Mistake::LearningRate, Mistake::OptimizerState]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A trainer that tells less may leave the mistake unknown, but never gets a wrong one named.
    #[test]
    fn telling_less_never_leads_to_a_wrong_name(
        run in 0..RUNS.len(),
        left_out in proptest::sample::subsequence(
            vec!["lr", "local loss", "gradient", "loss", "samples", "path", "exit", "checkpoint-begin", "checkpoint-renamed", "checkpoint-loaded", "recovery"], 0..=11),
    ) {
        let (truth, text) = RUNS[run];
        let less = left_out.iter().fold(events(text), |events, what| without(events, what));
        let named = diagnosed(less).map(|it| it.mistake).filter(|it| *it != Mistake::Unknown);
        prop_assert!(named.is_none() || named == truth, "{named:?} instead of {truth:?}");
    }

    /// Nor does the loss of any record.
    #[test]
    fn a_lost_record_never_leads_to_a_wrong_name(run in 0..RUNS.len(), lost in 0usize..400) {
        let (truth, text) = RUNS[run];
        let mut all = events(text);
        let at = lost % all.len();
        if let Body::Training { rank, reference, .. } = all[at].body.clone() {
            all.remove(at);
            // As senders do: the next record that gets through says so.
            let next = all[at..].iter_mut().find_map(|it| match &mut it.body {
                Body::Training { rank: of, reference: in_it, event, .. } if *of == rank && *in_it == reference => Some(event),
                _ => None,
            });
            if let Some(next) = next {
                next.dropped = Some(1);
            }
        }
        let named = diagnosed(all).map(|it| it.mistake).filter(|it| *it != Mistake::Unknown);
        prop_assert!(named.is_none() || named == truth, "{named:?} instead of {truth:?}");
    }
}
