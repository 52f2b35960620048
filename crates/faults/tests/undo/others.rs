//! Processes of other users: neither those that may not be seen nor those that may not be signalled keep the rest of a tree alive.
//!
//! What an ordinary user does is done by this executable, run again as one.

use crate::common::{Sleeper, mark, wait_for};
use squall_faults::sys::process;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Set for the second run; holds what it is to act on.
const INSIDE: &str = "SQUALL_TEST_INSIDE";
const NOBODY: u32 = 65534;
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

/// A cgroup that a user may use, with these processes in it: a real one where there is the freezer of version 1, else a folder with the list
/// of them. Of version 2's, `cgroup.kill` ends everybody's.
struct Group(PathBuf);

impl Group {
    fn of(pids: &[u32]) -> Group {
        let name = format!("squall-test-others-{}", std::process::id());
        let freezer = Path::new("/sys/fs/cgroup/freezer");
        let list: Vec<String> = pids.iter().map(|pid| format!("{pid}\n")).collect();
        if freezer.join("cgroup.procs").exists() {
            let folder = freezer.join(name);
            std::fs::create_dir(&folder).unwrap();
            for one in &list {
                std::fs::write(folder.join("cgroup.procs"), one).unwrap();
            }
            chown(folder.join("freezer.state"), Some(NOBODY), None).unwrap();
            return Group(folder);
        }
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("cgroup.procs"), list.concat()).unwrap();
        Group(folder)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.0.starts_with("/sys") {
            let removed = || std::fs::remove_dir(&self.0).is_ok();
            wait_for("the cgroup to be empty", removed);
        } else {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }
}

#[test]
fn a_member_that_may_not_be_signalled_does_not_keep_the_others_alive() {
    let mark = mark("others");
    if let Some(folder) = std::env::var_os(INSIDE) {
        let undo = tree(&mark, vec![folder.into()]);
        revert(&undo).unwrap();
        assert_eq!(presence(&undo).presence, Presence::Absent);
        return;
    }
    if !rustix::process::geteuid().is_root() {
        crate::skip("processes of several users need root");
        return;
    }
    let mut foreign = Sleeper::start();
    let ours = Sleeper::spawn(Command::new("setpriv").args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sleep",
        "60",
    ]));
    wait_for("the user's own", || {
        process::command(ours.pid()) == "sleep 60"
    });
    let group = Group::of(&[foreign.pid(), ours.pid()]);
    let mut inside = again(
        &[],
        "",
        "others::a_member_that_may_not_be_signalled_does_not_keep_the_others_alive",
        group.0.to_str().unwrap(),
    );
    let dead = || process::identity(ours.pid()).unwrap().is_none();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(8);
    while !dead() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let (ended, other) = (dead(), process::identity(foreign.pid()).unwrap());
    foreign.child.kill().unwrap();
    foreign.child.wait().unwrap();
    let undone = inside.wait().unwrap();
    drop((foreign, ours, group));
    assert!(ended, "the other one's member kept it alive");
    assert!(other.is_some(), "it is not ours to end");
    assert!(undone.success());
}
