//! Whoever dies, stops or hangs: nothing outlives its run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod run;

use run::{Run, carrying, signal, state, until};
use serde_json::{Value, json};

/// A run with a workload whose ranks have run away, one of them stopped by a fault, and a burner.
fn disturbed() -> (Run, u32) {
    let mut run = Run::start();
    // The second child leaves its session and its parent, as a daemon would.
    let script =
        "sleep 9001 & (setsid sh -c 'sleep 9002 & sleep 9003' & ) ; RANK=1 sleep 9004 & wait";
    run.start_workload(&["sh", "-c", script], json!({}), json!([]));
    let marked = format!("SQUALL_WORKLOAD={}", run.name);
    // A forked process that has not started its own program yet carries no rank.
    until("the whole tree", || {
        let tree = carrying(&marked);
        let ranked = carrying("RANK=1");
        (tree.len() == 6 && tree.iter().any(|pid| ranked.contains(pid))).then_some(())
    });
    run.arm(
        0,
        "process-pause",
        json!({}),
        json!({"rank": 1}),
        json!({"for": "1h"}),
    );
    let landed = run.event("landed");
    assert_eq!(landed["observations"][0]["presence"], "present", "{landed}");
    run.arm(
        1,
        "cpu-pressure",
        json!({"load": "5%", "cores": 1}),
        json!({"host": true}),
        json!({"for": "1h"}),
    );
    run.nth("landed", 1);
    let paused = run.event("injection-begun")["process"]["pid"]
        .as_u64()
        .unwrap() as u32;
    assert_eq!(state(paused), Some('T'));
    assert_eq!(burners(&run).len(), 1);
    (run, paused)
}

/// Children of the guard that serve a fault.
fn burners(run: &Run) -> Vec<u32> {
    let mine = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1))
            .map(str::to_owned);
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(run.guard.to_string()) && words.contains("serve-fault")
    };
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(mine).collect()
}

fn gone(mut run: Run, paused: u32, burner: &[u32]) {
    run.ends_with_nothing_left();
    assert_eq!(state(paused), None);
    for pid in burner {
        assert_eq!(state(*pid), None, "the burner is left");
    }
}

#[test]
fn the_guard_undoes_when_the_agent_is_killed() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    signal(run.agent, "KILL");
    assert_eq!(run.guard_says("lost")["what"], "agent");
    assert_eq!(run.guard_says("ended"), json!({"outstanding": []}));
    assert_eq!(undone(&run, "guard"), 3, "pause, burner and workload");
    gone(run, paused, &burner);
}

/// How many injections the journal says were undone by this one.
fn undone(run: &Run, by: &str) -> usize {
    let log = squall_faults::journal::read_all(&run.folder.join("journal")).unwrap();
    let records = log
        .records
        .iter()
        .map(|record| serde_json::to_value(record).unwrap());
    records
        .filter(|record: &Value| record["by"] == by && !record["entry"]["undone"].is_null())
        .count()
}

#[test]
fn the_agent_undoes_when_the_guard_is_killed() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    signal(run.guard, "KILL");
    assert_eq!(run.message("finished"), json!({"outstanding": []}));
    assert_eq!(run.event("lost")["what"], "guard");
    assert_eq!(undone(&run, "agent"), 3);
    gone(run, paused, &burner);
}

#[test]
fn guard_and_agent_end_the_run_when_the_controller_is_killed() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    run.controller.kill().unwrap();
    gone(run, paused, &burner);
}

#[test]
fn a_stopped_controller_loses_its_lease() {
    let (run, paused) = disturbed();
    let burner = burners(&run);
    signal(run.controller.id(), "STOP");
    gone(run, paused, &burner);
}

#[test]
fn a_stopped_agent_is_killed_and_undone() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    signal(run.agent, "STOP");
    assert_eq!(run.guard_says("ended"), json!({"outstanding": []}));
    assert_eq!(undone(&run, "guard"), 3);
    gone(run, paused, &burner);
}

#[test]
fn a_stopped_guard_and_controller_leave_it_to_the_agent() {
    let (run, paused) = disturbed();
    let burner = burners(&run);
    signal(run.guard, "STOP");
    signal(run.controller.id(), "STOP");
    let agent = run.agent;
    until("the agent's end", || state(agent).is_none().then_some(()));
    assert_eq!(undone(&run, "agent"), 3);
    signal(run.guard, "CONT");
    gone(run, paused, &burner);
}

#[test]
fn signals_to_guard_and_agent_undo() {
    for (name, to_guard) in [("TERM", true), ("INT", false), ("HUP", true)] {
        let (mut run, paused) = disturbed();
        let burner = burners(&run);
        signal(if to_guard { run.guard } else { run.agent }, name);
        assert_eq!(
            run.message("finished"),
            json!({"outstanding": []}),
            "{name}"
        );
        assert_eq!(undone(&run, "agent"), 3);
        gone(run, paused, &burner);
    }
}

#[test]
fn a_second_command_leaves_a_live_run_alone_and_undoes_it_when_all_are_killed() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    let refused = squall_faults::recover::recover_run(&run.folder, false).unwrap_err();
    assert!(
        matches!(refused, squall_faults::recover::RecoverError::Live { .. }),
        "{refused}"
    );
    signal(run.guard, "STOP");
    signal(run.agent, "KILL");
    signal(run.guard, "KILL");
    run.controller.kill().unwrap();
    let (guard, agent) = (run.guard, run.agent);
    until("their deaths", || {
        (state(guard).is_none() && state(agent).is_none()).then_some(())
    });
    let marked = format!("SQUALL_WORKLOAD={}", run.name);
    assert!(!carrying(&marked).is_empty());
    let recovered = squall_faults::recover::recover_run(&run.folder, false).unwrap();
    assert_eq!(recovered.stuck().count(), 0);
    gone(run, paused, &burner);
}

#[test]
fn a_finished_run_reports_its_workloads_end_and_leaves_nothing() {
    let (mut run, paused) = disturbed();
    let burner = burners(&run);
    run.send(json!({"finish": {"because": "the test is over"}}));
    assert_eq!(run.message("finished"), json!({"outstanding": []}));
    let ended = run.event("workload-ended");
    assert_eq!(ended["signal"], 15, "{ended}");
    assert!(
        ended["evidence"]
            .as_str()
            .unwrap()
            .contains("full scan of /proc"),
        "{ended}"
    );
    let by: Vec<Value> = run
        .events("undone")
        .iter()
        .map(|one| one["by"].clone())
        .collect();
    assert_eq!(by, ["agent", "agent"]);
    gone(run, paused, &burner);
}

#[test]
fn an_injection_ends_after_its_time_and_its_absence_is_read_back() {
    let mut run = Run::start();
    run.start_workload(&["sleep", "9005"], json!({}), json!([]));
    let target = json!({"workload": true});
    run.arm(
        0,
        "process-pause",
        json!({}),
        target.clone(),
        json!({"name": "pause", "for": "100ms"}),
    );
    run.arm(
        1,
        "process-kill",
        json!({}),
        target,
        json!({"after": {"injection": "pause"}}),
    );
    let undone = run.event("undone");
    assert_eq!(undone["observations"][0]["presence"], "absent", "{undone}");
    let ended = run.event("workload-ended");
    assert_eq!(
        ended["signal"], 9,
        "the second rule acts when the first has ended"
    );
    run.hang_up();
    run.ends_with_nothing_left();
}

/// What a probe of this run's controller has started, by its mark; it is nobody's child but this test's.
fn probing(run: &Run) -> std::process::Child {
    let mark = format!("{}-{}-0", run.name, run.controller.id());
    let child = std::process::Command::new("sleep")
        .arg("9007")
        .env("SQUALL_PROBE", &mark)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the mark", || {
        (!carrying(&format!("SQUALL_PROBE={mark}")).is_empty()).then_some(())
    });
    child
}

#[test]
fn a_probes_command_ends_with_its_controller_and_not_before() {
    for guard_dies in [false, true] {
        let mut run = Run::start();
        let mut probe = probing(&run);
        assert_eq!(probe.try_wait().unwrap(), None);
        if guard_dies {
            signal(run.guard, "STOP");
        }
        run.controller.kill().unwrap();
        until("the end of the probe's command", || {
            probe.try_wait().unwrap()
        });
        if guard_dies {
            signal(run.guard, "KILL");
            let both = [run.guard, run.agent];
            until("the end of both", || {
                both.iter().all(|one| state(*one).is_none()).then_some(())
            });
            // The agent may have ended before the guard did, and then its cgroup is the next command's.
            squall_faults::recover::recover_run(&run.folder, false).unwrap();
        }
        run.ends_with_nothing_left();
    }
}

#[test]
fn a_probes_command_outlives_a_lost_agent_and_ends_with_the_next_command() {
    let mut run = Run::start();
    let mut probe = probing(&run);
    signal(run.agent, "KILL");
    run.ends_with_nothing_left();
    // As the next command sees it: among the runs of a state folder.
    let state = run.folder.with_extension("state");
    std::fs::create_dir_all(state.join("runs")).unwrap();
    let folder = state.join("runs").join(&run.name);
    std::fs::rename(&run.folder, &folder).unwrap();
    run.folder = folder;
    let recover = || {
        for (_, recovered) in squall_faults::recover::recover_all(&state, false).unwrap() {
            recovered.unwrap();
        }
    };
    recover();
    assert_eq!(probe.try_wait().unwrap(), None, "its controller is alive");
    assert!(!run.folder.join("journal.settled").exists());
    run.controller.kill().unwrap();
    run.controller.wait().unwrap();
    recover();
    until("the end of the probe's command", || {
        probe.try_wait().unwrap()
    });
    drop(run);
    std::fs::remove_dir_all(state).unwrap();
}

#[test]
fn an_agent_without_its_guard_still_names_the_controller_in_the_lease() {
    let mut run = Run::start();
    signal(run.guard, "KILL");
    run.event("lost");
    run.ends_with_nothing_left();
    let lease = squall_faults::lease::read(&run.folder).unwrap().unwrap();
    assert!(lease.guard.is_none(), "the agent's own lease");
    assert_eq!(lease.controller.unwrap().pid, run.controller.id());
}

/// Lets every boundary pass but where an agent's injection has just become active: there it is held as long as what comes from here lives.
#[cfg(feature = "crash-points")]
fn held_when_active(
    socket: &std::path::Path,
) -> std::sync::mpsc::Receiver<std::os::unix::net::UnixStream> {
    use std::io::BufRead;
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let (sender, held) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let mut reader = std::io::BufReader::new(&stream);
            reader.read_line(&mut line).unwrap_or_default();
            if line.starts_with("agent after-active cpu-pressure") {
                sender.send(stream).unwrap_or_default();
            }
        }
    });
    held
}

#[cfg(feature = "crash-points")]
#[test]
fn a_served_child_that_ends_before_its_injection_is_known_to_last_is_not_forgotten() {
    let socket = std::env::temp_dir().join(format!("squall-early-{}", std::process::id()));
    let held = held_when_active(&socket);
    let mut run = Run::start_with(&[("SQUALL_CRASH_SOCKET", &socket)]);
    let burn = |run: &mut Run, rule: u32| {
        let config = json!({"load": "5%", "cores": 1});
        run.arm(
            rule,
            "cpu-pressure",
            config,
            json!({"host": true}),
            json!({"for": "1h"}),
        );
        held.recv_timeout(run::PATIENCE).unwrap()
    };
    let first = burn(&mut run, 0);
    let burner = burners(&run)[0];
    signal(burner, "KILL");
    until("the burner's end", || state(burner).is_none().then_some(()));
    // The guard's answer to the second comes behind its word of the first one's end: the agent has heard both.
    drop(burn(&mut run, 1));
    run.event("landed");
    drop(first);
    run.event("undone");
    assert_eq!(burners(&run).len(), 1, "the second goes on");
    run.hang_up();
    run.ends_with_nothing_left();
    std::fs::remove_file(socket).unwrap();
}
