//! Runs that end in every way a run can end.

use crate::runs::{held, three_kills};
use crate::sim::{Bug, STEPS, Sim, seen};
use squall_analysis::run::Run;
use squall_model::event::{Body, Place, Precision, Presence, Stage};
use squall_model::exit::Exit;
use squall_model::experiment::Expect;
use squall_model::id::RuleId;
use squall_model::syntax::Class;

/// The kill could not be shown to have acted; training is undisturbed.
pub(crate) fn not_landed() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.begin();
    sim.train(8);
    let id = sim.begun(
        "process-kill",
        Class::OneShot,
        Place {
            epoch: Some(2),
            ..Place::default()
        },
    );
    sim.say(Body::NotLanded {
        injection: id,
        because: "the process had already ended".into(),
        observations: vec![seen(Presence::Absent, "pid 4711 was gone before")],
    });
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Inconclusive);
    sim.run()
}

/// The disk ran full while a rank was paused; the pause was undone.
pub(crate) fn aborted() -> Run {
    let mut sim = cut();
    sim.say(Body::AbortFired {
        check: "disk-free".into(),
        measured: "0.9 GiB free, 1 GiB wanted".into(),
    });
    undo_and_end(&mut sim, Exit::Aborted);
    sim.run()
}

/// Ctrl-C while a rank was paused; the pause was undone.
pub(crate) fn interrupted() -> Run {
    let mut sim = cut();
    sim.say(Body::Interrupted {
        signal: "SIGINT".into(),
    });
    undo_and_end(&mut sim, Exit::Interrupted);
    sim.run()
}

fn cut() -> Sim {
    let mut sim = Sim::new();
    sim.begin();
    sim.train(10);
    let id = sim.begun("process-pause", Class::Lasting, Place::default());
    sim.landed(
        &id,
        Place {
            step: Some(11),
            epoch: Some(3),
            ..Place::default()
        },
        Precision::NotAimed,
    );
    sim.wait(700);
    sim
}

fn undo_and_end(sim: &mut Sim, exit: Exit) {
    let id = squall_model::id::InjectionId("injectaa".into());
    sim.stage(Stage::Undo);
    sim.say(Body::UndoBegun {
        injection: id.clone(),
        because: "the run ends".into(),
        by: "agent".into(),
    });
    sim.wait(3);
    sim.say(Body::Undone {
        injection: id,
        by: "agent".into(),
        observations: vec![seen(Presence::Absent, "state S (sleeping)")],
    });
    sim.end_workload(None, Some(15));
    sim.say(Body::RunEnded {
        exit,
        by: "controller".into(),
    });
}

/// Three kills and nothing to compare with.
pub(crate) fn no_reference() -> Run {
    let mut run = three_kills(Sim::new(), Precision::Held).run();
    run.ask.reference = false;
    run
}

/// Holds that ran into their deadline.
pub(crate) fn late() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    three_kills(sim, Precision::Late).run()
}

/// The second kill hits while the first is being replayed, before any new checkpoint.
pub(crate) fn during_recovery() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.begin();
    sim.train(8);
    sim.kill(8, Precision::Held);
    sim.recover();
    sim.train(6);
    sim.kill(6, Precision::Observed);
    sim.recover();
    sim.train(8);
    sim.save(8);
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Held);
    sim.run()
}

/// The second kill hits before the restarted job has said anything.
pub(crate) fn while_down() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.begin();
    sim.train(8);
    sim.kill(8, Precision::Held);
    sim.notice();
    sim.kill(8, Precision::Observed);
    sim.wait(100);
    sim.start_again();
    sim.resume();
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Held);
    sim.run()
}

/// One kill and no restart: the supervisor gives up.
pub(crate) fn given_up() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.bug = Bug::GivesUp;
    sim.begin();
    sim.train(8);
    sim.kill(8, Precision::Held);
    sim.recover();
    sim.end_workload(Some(1), None);
    sim.close(Exit::Deviated);
    sim.run()
}

/// The baseline did not hold.
pub(crate) fn not_steady() -> Run {
    let mut sim = Sim::new();
    sim.stage(Stage::SteadyState);
    sim.say(Body::Probed {
        check: "steady-state/0".into(),
        held: false,
        measured: "no epoch for 31 s".into(),
        value: None,
    });
    sim.say(Body::Probed {
        check: "steady-state/disk".into(),
        held: true,
        measured: "12 GiB free".into(),
        value: None,
    });
    sim.say(Body::RunEnded {
        exit: Exit::NotSteady,
        by: "controller".into(),
    });
    let mut run = sim.run();
    run.ask.expect.clear();
    run
}

/// No occasion was taken.
pub(crate) fn nothing_injected() -> Run {
    let mut sim = Sim::new();
    sim.begin();
    sim.say(Body::Skipped {
        rule: RuleId(0),
        because: "probability 1 % was not met".into(),
    });
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Held);
    let mut run = sim.run();
    run.ask
        .expect
        .retain(|it| matches!(it, Expect::Completes(_)));
    run
}

/// Everything held, but training events were dropped on the way.
pub(crate) fn dropped() -> Run {
    let mut run = held();
    for event in &mut run.events {
        if let Body::Training {
            event: training,
            reference: false,
            ..
        } = &mut event.body
            && training.kind == "final-parameters"
        {
            training.digest = None;
            training.dropped = Some(3);
        }
    }
    run
}

/// A rank is stopped; the other one waits, says where, and gives up; the job starts again.
pub(crate) fn hung() -> Run {
    let mut sim = Sim::new();
    sim.reference();
    sim.begin();
    sim.train(10);
    let stack = |inner: &str| {
        format!(
            "thread MainThread:\n  {inner}\n  call (/v/lib/python3.11/site-packages/torch/y.py:1)\n  step (/w/train.py:7) loss.backward()\nthread loader:\n  run (/w/loader.py:1)"
        )
    };
    sim.training(Some(1), "stack", |it| {
        it.because = Some("held in backward".into());
        it.line = Some(stack(
            "backward (/v/lib/python3.11/site-packages/torch/x.py:3)",
        ));
    });
    let id = sim.begun("process-pause", Class::Lasting, Place::default());
    sim.say(Body::Landed {
        injection: id.clone(),
        place: Place {
            step: Some(11),
            epoch: Some(3),
            phase: Some("backward".into()),
            rank: Some(1),
        },
        precision: Precision::NotAimed,
        held_ns: None,
        observations: vec![seen(
            Presence::Present,
            "state T (stopped) in /proc/4711/stat",
        )],
    });
    sim.wait(5_000);
    sim.training(Some(0), "stack", |it| {
        it.because = Some("nothing happened for 5 s".into());
        it.line = Some(stack(
            "wait (/v/lib/python3.11/site-packages/torch/x.py:9) work.wait()",
        ));
    });
    sim.wait(7_000);
    sim.training(Some(0), "exit", |it| {
        it.code = Some(1);
        it.because = Some("RuntimeError: Timed out waiting 12000ms".into());
    });
    sim.notice();
    sim.say(Body::Undone {
        injection: id,
        by: "agent".into(),
        observations: vec![seen(Presence::Absent, "process 4711 is gone")],
    });
    sim.start_again();
    sim.resume();
    sim.train(STEPS);
    sim.finish();
    sim.end_workload(Some(0), None);
    sim.close(Exit::Held);
    sim.run()
}
