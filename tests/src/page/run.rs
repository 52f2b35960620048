//! A run as long as reports must bear: over an hour, a million samples in 26 signals, four killed ranks and one paused one, and in one of the
//! signals a single sample that stands out. What it trains is a formula.

use super::signals::series;
use squall_analysis::run::{Ask, Run};
use squall_model::event::{Body, Event, Observation, Place, Precision, Presence, Stage};
use squall_model::exit::Exit;
use squall_model::experiment::{Completes, Expect, Goal, LostSteps, Requirement, StepCount};
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId, RunId};
use squall_model::syntax::Class;
use std::collections::BTreeMap;

/// The signal with the planted spike, when it is, and how high.
pub const SPIKE: (&str, u64, f64) = ("process.cpu", 2_600 * S + 200 * MS, 412.0);
/// The title of the row it is drawn in.
pub const SPIKE_ROW: &str = "CPU";

const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1_000 * MS;
const STEP: u64 = 500 * MS;
const STEPS_PER_EPOCH: u64 = 100;
pub(super) const LENGTH: u64 = 4_000 * S;
/// Epochs after which rank 1 is killed.
const KILLS: [u64; 4] = [10, 25, 40, 55];
pub(super) const RANKS: u64 = 4;

/// Time of training and of its outages.
struct Sim {
    events: Vec<Event>,
    t_ns: u64,
    /// When nothing trained: from, to.
    outages: Vec<(u64, u64)>,
}

/// The run.
pub fn long_run() -> Run {
    let mut sim = Sim {
        events: Vec::new(),
        t_ns: 0,
        outages: Vec::new(),
    };
    sim.start();
    sim.train();
    sim.end();
    let series = series(&sim.outages);
    Run {
        id: RunId("01a20d59-7f64-710f-a305-cf1a65b09ac3".into()),
        ask: ask(),
        events: sim.events,
        series,
        checkpoints: Vec::new(),
        policies: BTreeMap::new(),
    }
}

fn ask() -> Ask {
    Ask {
        title: "a long training job loses ranks, and one of them stalls".into(),
        file: "long-job.yaml".into(),
        requirement: Some(Requirement {
            goal: Goal::TrainingReliability,
            because: Some("a job of this size loses a node each day".into()),
            accept: Some("back at work within two minutes each time".into()),
        }),
        expect: vec![
            Expect::RecoveredWithin("2m".parse().unwrap_or_default()),
            Expect::LostSteps(LostSteps {
                at_most: StepCount::CheckpointIntervals(1),
            }),
            Expect::Completes(Completes { exit: 0 }),
        ],
        seed: 7,
        reference: false,
        checkpoint_interval: Some(STEPS_PER_EPOCH),
        eligible: RANKS,
        at_most: 1,
    }
}

impl Sim {
    fn say(&mut self, body: Body) {
        let seq = self.events.len() as u64 + 1;
        let t_ns = self.t_ns;
        self.events.push(Event { seq, t_ns, body });
    }

    fn training(&mut self, rank: Option<u32>, restart: u32, event: TrainingEvent) {
        self.say(Body::Training {
            reference: false,
            rank,
            restart,
            pid: rank.map(|rank| 4_000 + restart * 10 + rank),
            source: "hook".into(),
            event,
        });
    }

    fn start(&mut self) {
        self.say(Body::RunStarted {
            version: 1,
            run: RunId("01a20d59-7f64-710f-a305-cf1a65b09ac3".into()),
            title: ask().title,
            seed: 7,
            started_utc: "2026-11-24T10:00:00Z".into(),
            boot_ns: 0,
            boot_id: "boot".into(),
            squall: env!("CARGO_PKG_VERSION").into(),
            experiment: "5d".repeat(32),
            host: BTreeMap::from([
                ("cores".into(), "8".into()),
                ("kernel".into(), "6.12.0".into()),
            ]),
        });
        for stage in [Stage::Plan, Stage::Start] {
            self.say(Body::StageEntered { stage });
        }
        self.t_ns = S;
        self.say(Body::WorkloadStarted {
            reference: false,
            command: "torchrun train.py".into(),
            process: None,
            out: "/out".into(),
        });
        for stage in [Stage::SteadyState, Stage::Method] {
            self.say(Body::StageEntered { stage });
        }
        for (rule, kind, aim) in [
            (0, "process-kill", "after epochs 10 25 40 55"),
            (1, "process-pause", "in epoch 33"),
        ] {
            self.say(Body::Armed {
                rule: RuleId(rule),
                kind: kind.into(),
                name: None,
                aim: aim.into(),
            });
        }
        self.t_ns = 9 * S;
    }

    /// Steps, checkpoints and what is done to them, until the time is over.
    fn train(&mut self) {
        let (mut step, mut saved, mut restart) = (0, 0, 0);
        let mut kills = KILLS.iter().copied().peekable();
        self.loaded(0, 0);
        while self.t_ns < LENGTH - 20 * S {
            step += 1;
            self.t_ns += STEP + step * 7_919 % 41 * MS;
            let epoch = step.div_ceil(STEPS_PER_EPOCH);
            let noise = (step * 2_654_435_761 % 1_000) as f64 / 8_000.0;
            let loss = 0.9 + 3.4 / (1.0 + step as f64 / 160.0) + noise;
            self.training(
                Some(0),
                restart,
                TrainingEvent {
                    kind: "step-end".into(),
                    step: Some(step),
                    epoch: Some(epoch),
                    loss: Some(loss),
                    ..TrainingEvent::default()
                },
            );
            if epoch == 33 && step % STEPS_PER_EPOCH == 20 {
                self.pause(step, epoch);
            }
            if step % STEPS_PER_EPOCH == 60 && kills.next_if_eq(&epoch).is_some() {
                self.kill(step, epoch);
                restart += 1;
                step = saved;
                self.loaded(restart, saved);
            } else if step % STEPS_PER_EPOCH == 0 {
                saved = step;
                self.save(restart, step);
            }
        }
    }

    fn loaded(&mut self, restart: u32, step: u64) {
        let event = TrainingEvent {
            kind: "checkpoint-loaded".into(),
            step: Some(step),
            ..TrainingEvent::default()
        };
        self.training(Some(0), restart, event);
    }

    fn save(&mut self, restart: u32, step: u64) {
        for kind in [
            "checkpoint-begin",
            "checkpoint-written",
            "checkpoint-renamed",
        ] {
            let event = TrainingEvent {
                kind: kind.into(),
                step: Some(step),
                path: Some(format!("/out/step-{step}")),
                ..TrainingEvent::default()
            };
            self.training(Some(0), restart, event);
            self.t_ns += 300 * MS;
        }
    }

    fn injection(
        &mut self,
        rule: u32,
        kind: &str,
        class: Class,
        target: &str,
        place: Place,
    ) -> InjectionId {
        let count = self
            .events
            .iter()
            .filter(|it| matches!(it.body, Body::InjectionBegun { .. }));
        let id = InjectionId(format!("inject{:02}", count.count() + 1));
        let mechanism = match class {
            Class::OneShot => "SIGKILL by pidfd",
            _ => "SIGSTOP by pidfd",
        };
        self.say(Body::InjectionBegun {
            injection: id.clone(),
            rule: RuleId(rule),
            kind: kind.into(),
            class,
            target: target.into(),
            process: None,
            aim: place.clone(),
            mechanism: mechanism.into(),
        });
        self.t_ns += 4 * MS;
        self.say(Body::Landed {
            injection: id.clone(),
            place,
            precision: Precision::Held,
            held_ns: Some(6 * MS),
            observations: vec![Observation {
                presence: Presence::Present,
                source: "process table".into(),
                evidence: format!("{target} is as it was to be"),
            }],
        });
        id
    }

    fn kill(&mut self, step: u64, epoch: u64) {
        let from = self.t_ns;
        let place = Place {
            step: Some(step),
            epoch: Some(epoch),
            phase: Some("backward".into()),
            rank: Some(1),
        };
        self.say(Body::Held {
            rule: RuleId(0),
            place: place.clone(),
        });
        self.injection(
            0,
            "process-kill",
            Class::OneShot,
            "rank 1 pid 4711 (train.py)",
            place,
        );
        for (stage, seconds) in [("detected", 10), ("torn-down", 3), ("started", 6)] {
            self.t_ns += (seconds + epoch % 7) * S;
            let event = TrainingEvent {
                kind: "recovery".into(),
                stage: Some(stage.into()),
                ..TrainingEvent::default()
            };
            self.training(None, 0, event);
        }
        self.t_ns += 8 * S;
        self.outages.push((from, self.t_ns));
    }

    /// Where a rank stands, as the hook sends it.
    fn stood(&mut self, rank: u32, because: &str, inner: &str) {
        let stack = format!(
            "thread MainThread:\n  {inner}\n  _wait (/env/lib/python3.12/site-packages/torch/distributed/distributed_c10d.py:83) work.wait()\n  train_step (/home/team/train.py:230) loss.backward()\n  epoch (/home/team/train.py:239) loss = train_step(batch)\nthread loader:\n  get (/usr/lib/python3.12/queue.py:171) self.not_empty.wait()"
        );
        let event = TrainingEvent {
            kind: "stack".into(),
            because: Some(because.into()),
            line: Some(stack),
            ..TrainingEvent::default()
        };
        self.training(Some(rank), 2, event);
    }

    fn pause(&mut self, step: u64, epoch: u64) {
        self.stood(
            3,
            "held in forward",
            "forward (/home/team/model.py:88) return self.head(x)",
        );
        let from = self.t_ns;
        let place = Place {
            step: Some(step),
            epoch: Some(epoch),
            phase: Some("forward".into()),
            rank: Some(3),
        };
        let target = "rank 3 pid 4713 (train.py)";
        let id = self.injection(1, "process-pause", Class::Lasting, target, place);
        self.t_ns += 5 * S;
        for rank in 0..3 {
            self.stood(rank, "nothing happened for 5 s", "run_backward (/env/lib/python3.12/site-packages/torch/autograd/graph.py:1113) return engine.run_backward(");
        }
        self.t_ns += 85 * S;
        self.say(Body::UndoBegun {
            injection: id.clone(),
            because: "90s are over".into(),
            by: "agent".into(),
        });
        self.say(Body::Undone {
            injection: id,
            by: "agent".into(),
            observations: vec![Observation {
                presence: Presence::Absent,
                source: "kernel state".into(),
                evidence: "state S (sleeping) in /proc/4713/stat".into(),
            }],
        });
        self.outages.push((from, self.t_ns));
    }

    fn end(&mut self) {
        let exit = TrainingEvent {
            kind: "exit".into(),
            code: Some(0),
            ..TrainingEvent::default()
        };
        self.training(Some(0), 4, exit);
        self.say(Body::WorkloadEnded {
            reference: false,
            exit: Some(0),
            signal: None,
            evidence: "the cgroup is empty".into(),
            by_squall: false,
        });
        for stage in [Stage::Undo, Stage::Recovery, Stage::Analyse] {
            self.say(Body::StageEntered { stage });
        }
        self.t_ns = LENGTH;
        self.say(Body::RunEnded {
            exit: Exit::Held,
            by: "controller".into(),
        });
    }
}
