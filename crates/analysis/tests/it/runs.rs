//! Whole runs of the simulated trainer.

use crate::sim::*;
use squall_analysis::run::Run;
use squall_model::event::{Body, Place, Precision, Presence};
use squall_model::exit::Exit;
use squall_model::experiment::Expect;
use squall_model::syntax::Class;
use std::time::Duration;

/// Three kills after epochs 2, 4 and 6, before their checkpoints; each costs one epoch.
pub(crate) fn three_kills(mut sim: Sim, precision: Precision) -> Sim {
    sim.begin();
    for epoch in [2, 4, 6] {
        let step = epoch * STEPS_PER_EPOCH;
        sim.train(step);
        sim.kill(step, precision);
        sim.recover();
        sim.train(step);
        sim.save(step);
    }
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Held);
    sim
}

/// The run that holds: reference and three kills.
pub(crate) fn held() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    three_kills(sim, Precision::Held).run()
}

/// The trainer has a bug that a restart brings out.
pub(crate) fn buggy(bug: Bug) -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.bug = bug;
    three_kills(sim, Precision::Held).run()
}

/// Only a log: no hook, one voice, no samples.
pub(crate) fn log_only() -> Run {
    let mut sim = Sim {
        hook: false,
        ..Sim::new()
    };
    sim.reference();
    three_kills(sim, Precision::Observed).run()
}

/// A pause that is undone after two seconds, or is not.
pub(crate) fn paused(undo: Undo) -> Run {
    let mut sim = Sim::new();
    sim.begin();
    sim.train(10);
    let id = sim.begun("process-pause", Class::Lasting, Place::default());
    sim.say(Body::Landed {
        injection: id.clone(),
        place: Place {
            step: Some(11),
            epoch: Some(3),
            phase: Some("forward".into()),
            rank: Some(1),
        },
        precision: Precision::NotAimed,
        held_ns: None,
        observations: vec![seen(
            Presence::Present,
            "state T (stopped) in /proc/4711/stat",
        )],
    });
    sim.wait(2000);
    match undo {
        Undo::Works => {
            sim.say(Body::UndoBegun {
                injection: id.clone(),
                because: "2s are over".into(),
                by: "agent".into(),
            });
            sim.say(Body::Undone {
                injection: id,
                by: "agent".into(),
                observations: vec![seen(
                    Presence::Absent,
                    "state S (sleeping) in /proc/4711/stat",
                )],
            });
        }
        Undo::Sticks => {
            sim.say(Body::UndoBegun {
                injection: id.clone(),
                because: "2s are over".into(),
                by: "agent".into(),
            });
            sim.say(Body::Stuck {
                injection: id,
                by: "agent".into(),
                because: "the process belongs to another user now".into(),
                remedy: "sudo kill -CONT 4711".into(),
            });
        }
        Undo::Missing => {}
    }
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(if undo == Undo::Works {
        Exit::Held
    } else {
        Exit::NotRolledBack
    });
    let mut run = sim.run();
    run.ask.reference = false;
    run.ask.expect = vec![Expect::RecoveredWithin(squall_model::units::Span(
        Duration::from_secs(5),
    ))];
    run
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    Works,
    Sticks,
    Missing,
}
