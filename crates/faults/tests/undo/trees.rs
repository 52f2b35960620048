//! A pause of a whole tree spares Squall: who is stopped cannot undo.

use crate::common::{Fixture, Sleeper, target, wait_for};
use squall_faults::fault::{Fault, FaultError};
use squall_faults::process_pause::ProcessPause;
use squall_faults::sys::process;
use squall_faults::undo::perform::undo_injection;
use std::process::Command;

/// Set for the second run of this executable.
const INSIDE: &str = "SQUALL_TEST_INSIDE";

fn state(pid: u32) -> Option<char> {
    process::stat(pid).unwrap().map(|stat| stat.state)
}

#[test]
fn a_tree_that_holds_squall_itself_is_refused_and_nothing_in_it_is_stopped() {
    if std::env::var_os(INSIDE).is_some() {
        let parent_of = |pid: u32| process::stat(pid).unwrap().unwrap().parent;
        let parent = parent_of(std::process::id());
        for root in [parent, parent_of(parent)] {
            let fixture = Fixture::new("ancestor");
            let mut host = fixture.host::<ProcessPause>(0);
            let root = target(&process::identity(root).unwrap().unwrap());
            let error = ProcessPause { tree: true }
                .inject(&root, &mut host)
                .unwrap_err();
            assert!(matches!(error, FaultError::Target { .. }), "{error}");
            assert!(error.to_string().contains("Squall itself"), "{error}");
            assert!(host.changes().is_empty());
        }
        return;
    }
    let script = "sleep 60 & sh -c '\"$0\" --exact \"$1\"; exit $?' \"$0\" \"$1\"; code=$?; kill $!; exit $code";
    let mut shell = Sleeper::spawn(
        Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg("trees::a_tree_that_holds_squall_itself_is_refused_and_nothing_in_it_is_stopped")
            .env(INSIDE, "attack"),
    );
    let mut ended = None;
    wait_for("the attack on itself to end", || {
        for pid in shell.below().into_iter().chain([shell.pid()]) {
            assert_ne!(state(pid), Some('T'), "{pid} is stopped");
        }
        ended = shell.child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
}

#[test]
fn a_process_of_ours_inside_a_tree_goes_on() {
    if std::env::var_os(INSIDE).is_some() {
        loop {
            std::thread::park();
        }
    }
    let shell = Sleeper::spawn(
        Command::new("sh")
            .args(["-c", "sleep 60 & \"$0\" --exact \"$1\"; exit $?"])
            .arg(std::env::current_exe().unwrap())
            .arg("trees::a_process_of_ours_inside_a_tree_goes_on")
            .env(INSIDE, "wait"),
    );
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(std::process::id());
    let (mut ours, mut foreign) = (None, None);
    wait_for("both children", || {
        let below = shell.below();
        ours = below.iter().copied().find(|pid| program(*pid) == own);
        foreign = below
            .iter()
            .copied()
            .find(|pid| process::command(*pid) == "sleep 60");
        ours.is_some() && foreign.is_some()
    });
    let fixture = Fixture::new("inside");
    let mut host = fixture.host::<ProcessPause>(0);
    ProcessPause { tree: true }
        .inject(&shell.target(), &mut host)
        .unwrap();
    assert_eq!(state(foreign.unwrap()), Some('T'));
    assert_ne!(state(ours.unwrap()), Some('T'));
    assert_eq!(host.changes().len(), 2);
    let outcome = undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();
    assert_eq!(outcome.stuck, None);
    assert_ne!(state(foreign.unwrap()), Some('T'));
}
