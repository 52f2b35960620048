//! A simulated trainer with its supervisor that writes event logs like real ones: two ranks, a checkpoint each epoch,
//! kills, restarts, replays. What it trains is a formula, so that the truth about each run is known.

use crate::kills::ask;
use squall_analysis::run::Run;
use squall_model::event::{Body, Event, Observation, Presence, Stage};
use squall_model::exit::Exit;
use squall_model::hook::TrainingEvent;
use squall_model::id::{RuleId, RunId};
use std::collections::BTreeMap;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const STEPS_PER_EPOCH: u64 = 4;
pub(crate) const EPOCHS: u64 = 8;
pub(crate) const STEPS: u64 = STEPS_PER_EPOCH * EPOCHS;
const PER_RANK: u64 = 2;

/// What is wrong with the trainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// After a restart the first samples of each epoch are skipped and its last ones used twice.
    Samples,
    /// Optimiser state is forgotten on resume: losses and parameters part.
    Optimizer,
    /// Restarts never come.
    GivesUp,
}

/// A log under construction.
pub(crate) struct Sim {
    pub(crate) events: Vec<Event>,
    pub(crate) t_ns: u64,
    pub(crate) hook: bool,
    pub(crate) bug: Bug,
    pub(crate) sample_ids: bool,
    pub(crate) injections: u32,
    /// Step of the newest checkpoint, and whether the state was ever wrong after a resume.
    pub(crate) checkpoint: u64,
    pub(crate) spoilt: bool,
    pub(crate) restart: u32,
    pub(crate) reference: bool,
}

impl Sim {
    pub(crate) fn new() -> Sim {
        let mut sim = Sim {
            events: Vec::new(),
            t_ns: 0,
            hook: true,
            bug: Bug::None,
            sample_ids: true,
            injections: 0,
            checkpoint: 0,
            spoilt: false,
            restart: 0,
            reference: false,
        };
        sim.say(Body::RunStarted {
            version: 1,
            run: RunId("0198f2aa-0000-7000-8000-000000000001".into()),
            title: ask().title,
            seed: 7,
            started_utc: "2026-11-24T10:00:00Z".into(),
            boot_ns: 5_000_000_000,
            boot_id: "boot".into(),
            squall: "0.1.0".into(),
            experiment: "e".repeat(64),
            host: BTreeMap::from([
                ("kernel".into(), "6.1.0".into()),
                ("cores".into(), "2".into()),
            ]),
        });
        sim.stage(Stage::Plan);
        sim
    }

    pub(crate) fn say(&mut self, body: Body) {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Event {
            seq,
            t_ns: self.t_ns,
            body,
        });
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.t_ns += ms * MS;
    }

    pub(crate) fn stage(&mut self, stage: Stage) {
        self.say(Body::StageEntered { stage });
    }

    pub(crate) fn training(
        &mut self,
        rank: Option<u32>,
        kind: &str,
        fill: impl FnOnce(&mut TrainingEvent),
    ) {
        let mut event = TrainingEvent {
            kind: kind.into(),
            ..TrainingEvent::default()
        };
        fill(&mut event);
        let supervisor = kind == "recovery";
        let restart = if self.hook && !supervisor {
            self.restart
        } else {
            0
        };
        self.say(Body::Training {
            reference: self.reference,
            rank: if self.hook { rank } else { None },
            restart,
            pid: (self.hook && !supervisor).then(|| 1000 + restart * 10 + rank.unwrap_or(9)),
            source: if self.hook { "hook" } else { "log" }.into(),
            event,
        });
    }

    /// Ranks that speak: both with a hook, one in a log.
    fn ranks(&self) -> std::ops::Range<u32> {
        if self.hook { 0..2 } else { 0..1 }
    }

    pub(crate) fn start_workload(&mut self) {
        let reference = self.reference;
        self.say(Body::WorkloadStarted {
            reference,
            command: "toy-trainer".into(),
            process: None,
            out: "/out".into(),
        });
        self.wait(500);
    }

    pub(crate) fn end_workload(&mut self, exit: Option<i32>, signal: Option<i32>) {
        self.wait(50);
        let reference = self.reference;
        self.say(Body::WorkloadEnded {
            reference,
            exit,
            signal,
            evidence: "cgroup is empty".into(),
            by_squall: false,
        });
    }

    /// The undisturbed run.
    pub(crate) fn reference(&mut self) {
        self.stage(Stage::Reference);
        self.reference = true;
        self.start_workload();
        self.load();
        self.steps(STEPS);
        self.finish();
        self.end_workload(Some(0), None);
        self.reference = false;
        (self.checkpoint, self.restart) = (0, 0);
    }

    pub(crate) fn begin(&mut self) {
        self.stage(Stage::Start);
        self.start_workload();
        self.stage(Stage::SteadyState);
        self.load();
        self.say(Body::Probed {
            check: "steady-state/0".into(),
            held: true,
            measured: "an epoch 0.4 s ago".into(),
            value: Some(0.4),
        });
        self.stage(Stage::Method);
        self.say(Body::Armed {
            rule: RuleId(0),
            kind: "process-kill".into(),
            name: None,
            aim: "after epochs 2 4 6".into(),
        });
    }

    pub(crate) fn load(&mut self) {
        for rank in self.ranks() {
            let step = self.checkpoint;
            self.training(Some(rank), "checkpoint-loaded", |it| it.step = Some(step));
        }
        self.wait(20);
    }

    /// Trains from the loaded state up to and including a step.
    pub(crate) fn steps(&mut self, to: u64) {
        for step in self.checkpoint + 1..=to {
            self.step(step);
        }
    }

    /// One step of all ranks with its epoch's end and checkpoint.
    pub(crate) fn step(&mut self, step: u64) {
        self.samples(step);
        self.wait(90);
        let loss = 2.0 / (step as f64).sqrt() + if self.spoilt { 0.25 } else { 0.0 };
        let epoch = epoch_of(step);
        for rank in self.ranks() {
            self.wait(if rank == 0 { 9 } else { 1 });
            self.training(Some(rank), "step-end", |it| {
                (it.step, it.epoch, it.loss) = (Some(step), Some(epoch), Some(loss));
            });
        }
        if step.is_multiple_of(STEPS_PER_EPOCH) {
            self.training(Some(0), "epoch-end", |it| {
                (it.step, it.epoch) = (Some(step), Some(epoch))
            });
        }
    }

    pub(crate) fn samples(&mut self, step: u64) {
        if !self.hook || !self.sample_ids {
            return;
        }
        let epoch = epoch_of(step);
        let skips =
            self.spoilt && self.bug == Bug::Samples && !step.is_multiple_of(STEPS_PER_EPOCH);
        let shift = if skips { 1 } else { 0 };
        for rank in self.ranks() {
            self.training(Some(rank), "phase-begin", |it| {
                (it.step, it.epoch, it.phase) = (Some(step), Some(epoch), Some("data-wait".into()));
            });
            let first =
                (step + shift - 1) % STEPS_PER_EPOCH * PER_RANK * 2 + u64::from(rank) * PER_RANK;
            // An order of its own in each epoch.
            let ids = (first..first + PER_RANK)
                .map(|at| (at * 7 + epoch * 5) % (STEPS_PER_EPOCH * PER_RANK * 2))
                .collect();
            self.training(Some(rank), "sample-ids", |it| {
                (it.step, it.epoch, it.ids) = (Some(step), Some(epoch), Some(ids))
            });
        }
    }

    pub(crate) fn save(&mut self, step: u64) {
        let epoch = epoch_of(step);
        for (kind, ms) in [
            ("checkpoint-begin", 10),
            ("checkpoint-written", 5),
            ("checkpoint-renamed", 1),
        ] {
            self.training(Some(0), kind, |it| {
                (it.step, it.epoch, it.path) =
                    (Some(step), Some(epoch), Some(format!("/out/step-{step}")));
            });
            self.wait(ms);
        }
        self.checkpoint = step;
    }

    /// Trains to a step, saving at the end of each epoch but not at the last step.
    pub(crate) fn train(&mut self, to: u64) {
        let mut step = self.checkpoint;
        if let Some(done) = self.done() {
            step = done;
        }
        while step < to {
            step += 1;
            self.step(step);
            if step.is_multiple_of(STEPS_PER_EPOCH) && step < to {
                self.save(step);
            }
        }
    }

    /// The last step of the current attempt, if it made one.
    fn done(&self) -> Option<u64> {
        let restart = self.restart;
        self.events
            .iter()
            .rev()
            .take_while(|event| !matches!(&event.body, Body::Training { event, .. } if event.kind == "checkpoint-loaded"))
            .find_map(|event| match &event.body {
                Body::Training { event, restart: of, .. } if event.kind == "step-end" && (*of == restart || !self.hook) => event.step,
                _ => None,
            })
    }

    pub(crate) fn finish(&mut self) {
        let digest = match (self.spoilt, self.bug) {
            (true, _) => "b".repeat(64),
            _ => "a".repeat(64),
        };
        self.training(Some(0), "final-parameters", |it| {
            (it.digest, it.step) = (Some(digest), Some(STEPS))
        });
        for rank in self.ranks() {
            self.training(Some(rank), "exit", |it| it.code = Some(0));
        }
    }

    pub(crate) fn close(&mut self, exit: Exit) {
        self.stage(Stage::Undo);
        self.stage(Stage::Recovery);
        self.stage(Stage::Analyse);
        self.say(Body::RunEnded {
            exit,
            by: "controller".into(),
        });
    }

    pub(crate) fn run(self) -> Run {
        Run {
            id: RunId("0198f2aa-0000-7000-8000-000000000001".into()),
            ask: ask(),
            events: self.events,
            series: Vec::new(),
            checkpoints: Vec::new(),
            policies: BTreeMap::from([("/etc/squall/policy.yaml".into(), "c".repeat(64))]),
        }
    }
}

pub(crate) fn epoch_of(step: u64) -> u64 {
    step.div_ceil(STEPS_PER_EPOCH)
}

pub(crate) fn seen(presence: Presence, evidence: &str) -> Observation {
    Observation {
        presence,
        source: "process table".into(),
        evidence: evidence.into(),
    }
}
