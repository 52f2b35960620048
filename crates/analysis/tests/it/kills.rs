//! The question that the simulated runs answer, and what is done to the trainer.

use crate::sim::{Bug, MS, Sim, epoch_of, seen};
use squall_analysis::run::Ask;
use squall_model::event::{Body, Place, Precision, Presence};
use squall_model::experiment::{
    Completes, Expect, Goal, LostSteps, Reference, Requirement, ResultKind, SameResult, StepCount,
};
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;

pub(crate) fn ask() -> Ask {
    Ask {
        title: "the trainer survives losing a rank every two epochs".into(),
        file: "lose a rank.yaml".into(),
        requirement: Some(Requirement {
            goal: Goal::TrainingReliability,
            because: Some("nodes fail daily at our size".into()),
            accept: Some("same result, at most one checkpoint interval lost".into()),
        }),
        expect: vec![
            Expect::RecoveredWithin("60s".parse().unwrap()),
            Expect::SameResult(SameResult {
                reference: Reference::Reference,
                by: ResultKind::FinalParameters,
            }),
            Expect::LostSteps(LostSteps {
                at_most: StepCount::CheckpointIntervals(1),
            }),
            Expect::Completes(Completes { exit: 0 }),
        ],
        seed: 7,
        reference: true,
        checkpoint_interval: None,
        eligible: 2,
        at_most: 1,
    }
}

impl Sim {
    pub(crate) fn begun(&mut self, kind: &str, class: Class, aim: Place) -> InjectionId {
        let id = InjectionId(format!(
            "inject{}a",
            ["a", "b", "c", "d", "e", "f"][self.injections as usize]
        ));
        self.injections += 1;
        self.say(Body::InjectionBegun {
            injection: id.clone(),
            rule: RuleId(0),
            kind: kind.into(),
            class,
            target: "rank 1, pid 4711".into(),
            process: None,
            aim,
            mechanism: "SIGKILL by pidfd".into(),
        });
        self.wait(5);
        id
    }

    pub(crate) fn landed(&mut self, id: &InjectionId, place: Place, precision: Precision) {
        self.say(Body::Landed {
            injection: id.clone(),
            place,
            precision,
            held_ns: (precision == Precision::Held).then_some(6 * MS),
            observations: vec![seen(Presence::Present, "pid 4711 is gone")],
        });
    }

    /// Kills rank 1 after a step, held or not.
    pub(crate) fn kill(&mut self, step: u64, precision: Precision) -> InjectionId {
        let held = precision != Precision::Observed;
        let aim = Place {
            epoch: Some(epoch_of(step)),
            rank: Some(1),
            ..Place::default()
        };
        let place = Place {
            step: Some(step),
            epoch: Some(epoch_of(step)),
            phase: held.then(|| "epoch-end".into()),
            rank: Some(1),
        };
        if held {
            self.say(Body::Held {
                rule: RuleId(0),
                place: place.clone(),
            });
        }
        self.wait(1);
        let id = self.begun("process-kill", Class::OneShot, aim);
        self.landed(&id, place, precision);
        id
    }

    /// The supervisor notices, tears down, starts again, and the ranks load the newest checkpoint.
    pub(crate) fn recover(&mut self) {
        self.notice();
        if self.bug == Bug::GivesUp {
            return;
        }
        self.start_again();
        self.resume();
    }

    /// The restarted ranks load the newest checkpoint.
    pub(crate) fn resume(&mut self) {
        self.load();
        self.spoilt = self.bug != Bug::None;
    }

    pub(crate) fn notice(&mut self) {
        self.wait(155);
        self.training(None, "recovery", |it| it.stage = Some("detected".into()));
        self.wait(40);
        self.training(None, "recovery", |it| it.stage = Some("torn-down".into()));
    }

    pub(crate) fn start_again(&mut self) {
        self.wait(300);
        self.restart += 1;
        self.training(None, "recovery", |it| it.stage = Some("started".into()));
        self.wait(100);
    }
}
