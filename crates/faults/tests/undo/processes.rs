//! The process faults and their undos on real processes, through the real door and journal.

use crate::common::{Fixture, Sleeper, wait_for};
use squall_faults::fault::{Fault, FaultError, FaultKind};
use squall_faults::journal::state::Phase;
use squall_faults::process_kill::ProcessKill;
use squall_faults::process_pause::ProcessPause;
use squall_faults::process_terminate::ProcessTerminate;
use squall_faults::sys::process;
use squall_faults::undo::perform::undo_injection;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use squall_model::units::Span;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

#[test]
fn a_paused_process_is_stopped_until_it_is_undone_and_undoing_twice_is_fine() {
    let fixture = Fixture::new("pause");
    let sleeper = Sleeper::start();
    let mut host = fixture.host::<ProcessPause>(0);
    let fault = ProcessPause::default();
    fault.inject(&sleeper.target(), &mut host).unwrap();
    assert_eq!(sleeper.state(), 'T');
    let changes = host.changes();
    let seen = fault.observe(&sleeper.target(), &changes);
    assert_eq!(seen[0].presence, Presence::Present);
    assert_eq!(
        seen[0].evidence,
        format!("state T (stopped) in /proc/{}/stat", sleeper.pid())
    );
    host.land(None, seen).unwrap();
    let outcome = undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();
    assert_eq!(outcome.stuck, None);
    assert_ne!(sleeper.state(), 'T');
    for undo in &changes {
        revert(undo).unwrap();
    }
    let again = undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();
    assert_eq!(again.stuck, None);
    assert_eq!(fixture.phase(0), Phase::Undone);
}

#[test]
fn two_undos_at_once_both_succeed() {
    let fixture = Fixture::new("two");
    let sleeper = Sleeper::start();
    let mut host = fixture.host::<ProcessPause>(0);
    ProcessPause::default()
        .inject(&sleeper.target(), &mut host)
        .unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let both = [(), ()].map(|()| {
            scope.spawn(|| undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap())
        });
        both.map(|one| one.join().unwrap()).into()
    });
    for outcome in outcomes {
        assert_eq!((outcome.stuck, outcome.unrecorded), (None, None));
    }
    assert_eq!(fixture.phase(0), Phase::Undone);
    assert_ne!(sleeper.state(), 'T');
}

#[test]
fn a_process_that_somebody_else_has_stopped_is_refused_and_left_stopped() {
    let fixture = Fixture::new("stopped");
    let sleeper = Sleeper::start();
    sleeper.stop();
    let mut host = fixture.host::<ProcessPause>(0);
    let error = ProcessPause::default()
        .inject(&sleeper.target(), &mut host)
        .unwrap_err();
    assert!(matches!(error, FaultError::Target { .. }), "{error}");
    assert!(host.changes().is_empty());
    assert_eq!(sleeper.state(), 'T');
}

#[test]
fn a_reused_pid_is_neither_stopped_nor_continued_nor_ended() {
    let fixture = Fixture::new("reused");
    let sleeper = Sleeper::start();
    let mut old = sleeper.identity.clone();
    old.start_time -= 1;
    let target = crate::common::target(&old);
    let mut host = fixture.host::<ProcessPause>(0);
    assert!(ProcessPause::default().inject(&target, &mut host).is_err());
    assert!(ProcessKill::default().inject(&target, &mut host).is_err());
    sleeper.stop();
    let undo = Undo::Continue {
        process: old.clone(),
    };
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    assert_eq!(sleeper.state(), 'T');
    let rebooted = squall_model::process::ProcessIdentity {
        boot_id: "old".into(),
        ..sleeper.identity.clone()
    };
    revert(&Undo::Continue {
        process: rebooted.clone(),
    })
    .unwrap();
    revert(&Undo::EndProcess {
        process: rebooted,
        grace_ms: 0,
        what: "x".into(),
    })
    .unwrap();
    revert(&Undo::EndProcess {
        process: old,
        grace_ms: 0,
        what: "x".into(),
    })
    .unwrap();
    assert_eq!(sleeper.state(), 'T');
}

#[test]
fn a_whole_tree_is_stopped_and_continued() {
    let fixture = Fixture::new("tree");
    let shell = Sleeper::command(&["sh", "-c", "sleep 60 & sleep 60 & wait"]);
    wait_for("two children", || shell.below().len() == 2);
    let mut host = fixture.host::<ProcessPause>(0);
    ProcessPause { tree: true }
        .inject(&shell.target(), &mut host)
        .unwrap();
    let states = |wanted: bool| {
        shell
            .below()
            .iter()
            .all(|pid| (process::stat(*pid).unwrap().unwrap().state == 'T') == wanted)
    };
    assert!(states(true) && host.changes().len() == 3);
    undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();
    assert!(states(false));
}

#[test]
fn a_killed_process_is_dead_by_that_signal_and_leaves_nothing_to_undo() {
    let fixture = Fixture::new("kill");
    let mut sleeper = Sleeper::start();
    let mut host = fixture.host::<ProcessKill>(0);
    let fault = ProcessKill::default();
    fault.inject(&sleeper.target(), &mut host).unwrap();
    let seen = fault.observe(&sleeper.target(), &host.changes());
    assert_eq!(seen[0].presence, Presence::Present, "{seen:?}");
    host.land(None, seen).unwrap();
    assert_eq!(
        fixture
            .journal
            .lock()
            .unwrap()
            .state()
            .outstanding()
            .count(),
        0
    );
    assert_eq!(sleeper.child.wait().unwrap().signal(), Some(9));
}

#[test]
fn the_evidence_of_a_termination_says_which_signal_ended_it() {
    let fixture = Fixture::new("terminate");
    let mild = Sleeper::start();
    let fault = ProcessTerminate::default();
    let mut host = fixture.host::<ProcessTerminate>(0);
    fault.inject(&mild.target(), &mut host).unwrap();
    let seen = fault.observe(&mild.target(), &host.changes());
    assert!(
        seen[0]
            .evidence
            .contains("of SIGTERM, within the grace of 5s"),
        "{seen:?}"
    );

    let deaf = Sleeper::command(&[
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    ]);
    deaf.ready();
    let fault = ProcessTerminate {
        grace: Span(Duration::from_millis(100)),
    };
    let mut host = fixture.host::<ProcessTerminate>(1);
    fault.inject(&deaf.target(), &mut host).unwrap();
    let seen = fault.observe(&deaf.target(), &host.changes());
    assert_eq!(seen[0].presence, Presence::Present);
    assert!(
        seen[0]
            .evidence
            .contains("of SIGKILL, after the grace of 100ms"),
        "{seen:?}"
    );
}

#[test]
fn a_cancelled_run_changes_nothing_more() {
    let fixture = Fixture::new("cancelled");
    let sleeper = Sleeper::start();
    let mut host = fixture.host::<ProcessPause>(0);
    fixture
        .cancelled
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let error = ProcessPause::default()
        .inject(&sleeper.target(), &mut host)
        .unwrap_err();
    assert!(matches!(error, FaultError::Cancelled));
    assert_ne!(sleeper.state(), 'T');
}

#[test]
fn init_and_squall_itself_are_never_targets() {
    let fixture = Fixture::new("init");
    for pid in [1, std::process::id()] {
        let target = crate::common::target(&process::identity(pid).unwrap().unwrap());
        let mut host = fixture.host::<ProcessKill>(0);
        let error = ProcessKill::default()
            .inject(&target, &mut host)
            .unwrap_err();
        assert!(matches!(error, FaultError::Target { .. }), "{error}");
    }
}

#[test]
fn a_served_child_is_ended_even_when_stopped_and_deaf_to_term() {
    let deaf = Sleeper::command(&[
        "sh",
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 1; done",
    ]);
    deaf.ready();
    deaf.stop();
    let undo = Undo::EndProcess {
        process: deaf.identity.clone(),
        grace_ms: 50,
        what: "a burner".into(),
    };
    assert_eq!(presence(&undo).presence, Presence::Present);
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    revert(&undo).unwrap();
}

#[test]
fn a_rank_that_forks_twice_and_calls_setsid_is_found_and_ended_by_its_mark() {
    let mark = crate::common::mark("tree");
    let undo = Undo::EndTree {
        mark: mark.clone(),
        cgroups: vec![],
        grace_ms: 200,
    };
    assert_eq!(presence(&undo).presence, Presence::Absent);
    // The middle shells end at once, so the sleepers have no parent of ours; one ignores TERM, one drops its environment.
    let script = "(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; (setsid sh -c 'env -i sleep 61; true' &) ; exec sleep 60";
    let _root = Sleeper::marked(&["sh", "-c", script], &mark);
    let members = || squall_faults::undo::tree::members(&mark, &[]).unwrap();
    wait_for("all of the tree", || {
        let commands: Vec<String> = members().iter().map(|pid| process::command(*pid)).collect();
        ["sleep 60", "sleep 61", "sleep 1"]
            .iter()
            .all(|wanted| commands.iter().any(|one| one == wanted))
    });
    assert_eq!(presence(&undo).presence, Presence::Present);
    let before = members();
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    for pid in before {
        assert!(
            process::identity(pid).unwrap().is_none(),
            "{pid} lives: {}",
            process::command(pid)
        );
    }
    revert(&undo).unwrap();
}

#[test]
fn every_process_fault_tells_what_it_needs() {
    for info in [
        ProcessPause::INFO,
        ProcessKill::INFO,
        ProcessTerminate::INFO,
    ] {
        assert!(!info.summary.is_empty() && info.example.starts_with(info.kind));
    }
}

#[test]
fn an_undo_that_comes_between_the_record_and_the_act_waits_for_the_act() {
    use squall_faults::fault::Door;
    let fixture = Fixture::new("between");
    let sleeper = Sleeper::start();
    let mut host = fixture.host::<ProcessPause>(0);
    let undo = Undo::Continue {
        process: sleeper.identity.clone(),
    };
    let (recorded, is_recorded) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let (sleeper, undo) = (&sleeper, &undo);
    std::thread::scope(|scope| {
        let change = scope.spawn(move || {
            host.change(undo.clone(), "SIGSTOP", &mut || {
                recorded.send(()).unwrap();
                may_go_on.recv().unwrap();
                sleeper.stop();
                Ok(())
            })
            .unwrap();
            // The undo has begun: nothing more is changed.
            host.change(undo.clone(), "SIGSTOP", &mut || {
                sleeper.stop();
                Ok(())
            })
        });
        is_recorded.recv().unwrap();
        let undoing =
            scope.spawn(|| undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap());
        // Long enough for an undo that does not wait to be over.
        let deadline = std::time::Instant::now() + Duration::from_millis(100);
        while std::time::Instant::now() < deadline && !undoing.is_finished() {
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        assert_eq!(undoing.join().unwrap().stuck, None);
        match change.join().unwrap() {
            Err(FaultError::Journal { .. }) => {}
            // The second change came before the undo got its turn, and was undone with the first.
            Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
    });
    assert_ne!(sleeper.state(), 'T');
}
