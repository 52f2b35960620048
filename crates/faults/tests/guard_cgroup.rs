//! The guard is in a cgroup of its own, nobody else is, and nothing of it outlives the run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod run;

use run::{Run, signal, state, until};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The paths of a process in the hierarchies by which others end a tree, as the kernel tells them.
fn places(pid: u32) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let split = text.lines().map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let name = parts.next().unwrap().to_owned();
        (name, parts.next().unwrap().to_owned())
    });
    split
        .filter(|(name, _)| ["", "freezer", "name=systemd"].contains(&name.as_str()))
        .collect()
}

/// Every folder below the mounted hierarchies whose name is that of the guard's own.
fn folders(name: &str) -> Vec<PathBuf> {
    let found = std::process::Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-maxdepth",
            "8",
            "-type",
            "d",
            "-name",
            name,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    text.lines().map(PathBuf::from).collect()
}

/// A run, and the name of its guard's cgroup; `None` where this user may make none.
fn guarded() -> Option<(Run, String)> {
    let mut run = Run::start();
    run.start_workload(&["sleep", "9006"], json!({}), json!([]));
    let own = places(run.guard).into_iter().find_map(|(_, path)| {
        let name = Path::new(&path).file_name()?.to_str()?.to_owned();
        name.starts_with("squall-").then_some(name)
    });
    match own {
        Some(name) => Some((run, name)),
        None => {
            let root = rustix::process::geteuid().is_root();
            let roots = ["", "/unified", "/freezer"];
            let any = roots
                .iter()
                .any(|root| Path::new(&format!("/sys/fs/cgroup{root}/cgroup.procs")).exists());
            assert!(!(root && any), "root has no cgroup for the guard");
            run::skip::skip("this user may make no cgroup beside its own");
            run.hang_up();
            run.ends_with_nothing_left();
            None
        }
    }
}

fn nothing_left(run: &mut Run, name: &str) {
    run.ends_with_nothing_left();
    assert_eq!(folders(name), Vec::<PathBuf>::new());
    assert!(!run.folder.join("guard-cgroup.json").exists());
}

#[test]
fn the_guard_is_out_of_reach_of_what_ends_the_caller_and_its_children_are_not() {
    let Some((mut run, name)) = guarded() else {
        return;
    };
    let caller = places(run.controller.id());
    let mut apart = 0;
    for ((hierarchy, guard), (_, caller)) in places(run.guard).iter().zip(&caller) {
        if guard == caller {
            continue;
        }
        apart += 1;
        assert!(guard.ends_with(&name), "{hierarchy}: {guard}");
        let below = format!("{}/", caller.trim_end_matches('/'));
        // Below a root that nobody can end is as good as beside.
        assert!(
            caller == "/" || !guard.starts_with(&below),
            "{guard} is below {caller}"
        );
    }
    assert!(apart > 0 && folders(&name).len() == apart);
    assert_eq!(places(run.agent), caller);
    let workload = run.event("workload-started")["process"]["pid"]
        .as_u64()
        .unwrap();
    for (hierarchy, path) in places(workload as u32) {
        assert!(
            !path.contains(&name),
            "{hierarchy}: the workload is in {path}"
        );
    }
    run.hang_up();
    nothing_left(&mut run, &name);
}

#[test]
fn whoever_of_guard_and_agent_is_left_removes_it() {
    for agent_dies in [true, false] {
        let Some((mut run, name)) = guarded() else {
            return;
        };
        signal(if agent_dies { run.agent } else { run.guard }, "KILL");
        nothing_left(&mut run, &name);
    }
}

#[test]
fn the_next_command_removes_it_when_nobody_is_left() {
    let Some((mut run, name)) = guarded() else {
        return;
    };
    signal(run.guard, "STOP");
    signal(run.agent, "KILL");
    signal(run.guard, "KILL");
    run.controller.kill().unwrap();
    let (guard, agent) = (run.guard, run.agent);
    until("their deaths", || {
        (state(guard).is_none() && state(agent).is_none()).then_some(())
    });
    assert!(!folders(&name).is_empty());
    squall_faults::recover::recover_run(&run.folder, false).unwrap();
    nothing_left(&mut run, &name);
}
