//! Processes of other users: those that may not be seen do not keep the rest of a tree alive.
//!
//! What an ordinary user does is done by this executable, run again as one.

use crate::common::{Sleeper, mark, wait_for};
use squall_faults::sys::process;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Child, Command};

/// Set for the second run; holds what it is to act on.
const INSIDE: &str = "SQUALL_TEST_INSIDE";
/// Opened first: not everybody may walk to where the executable lies.
const AS_NOBODY: &str = "exec 9<\"$0\"; setpriv --reuid 65534 --regid 65534 --clear-groups /proc/self/fd/9 --exact \"$1\"; exit $?";

/// Runs a test again as nobody, after `first` in namespaces of its own, when any are asked for.
fn again(namespaces: &[&str], first: &str, test: &str, inside: &str) -> Child {
    let mut words: Vec<&str> = Vec::new();
    if !namespaces.is_empty() {
        words.push("unshare");
        words.extend(namespaces);
    }
    let script = format!("{first}{AS_NOBODY}");
    words.extend(["sh", "-c", &script]);
    Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(INSIDE, inside)
        .spawn()
        .unwrap()
}

fn tree(mark: &str, cgroups: Vec<PathBuf>) -> Undo {
    Undo::EndTree {
        mark: mark.to_owned(),
        cgroups,
        grace_ms: 0,
    }
}

#[test]
fn a_tree_is_ended_where_the_processes_of_others_are_hidden() {
    if std::env::var_os(INSIDE).is_some() {
        let hidden = process::stat(1).unwrap_err();
        assert_eq!(hidden.kind(), ErrorKind::PermissionDenied);
        let mark = mark("hidden");
        let mut member = Sleeper::marked(&["sleep", "60"], &mark);
        let undo = tree(&mark, Vec::new());
        // A process that has just begun shows no environment yet.
        wait_for("the member", || {
            presence(&undo).presence == Presence::Present
        });
        revert(&undo).unwrap();
        assert_eq!(presence(&undo).presence, Presence::Absent);
        assert!(member.child.wait().unwrap().code().is_none());
        // One that is hidden and stands in a cgroup of ours is not said to be gone.
        let folder = std::env::temp_dir().join(&mark);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cgroup.procs"), "1\n").unwrap();
        let seen = presence(&tree(&mark, vec![folder.clone()]));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(seen.presence, Presence::Present, "{seen:?}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        crate::skip("a process table of its own needs root");
        return;
    }
    let mut inside = again(
        &["-mpf"],
        "mount -t proc -o hidepid=1 proc /proc && ",
        "others::a_tree_is_ended_where_the_processes_of_others_are_hidden",
        "hidden",
    );
    assert!(inside.wait().unwrap().success());
}
