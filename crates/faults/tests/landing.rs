//! Faults land where they are aimed at, in a real process tree.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod run;

use run::{Run, until};
use serde_json::{Value, json};

fn truth(run: &Run) -> Vec<String> {
    let text = std::fs::read_to_string(run.out().join("truth")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_held_rank_dies_in_the_aimed_step_and_phase_and_training_goes_on() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"at": {"step": 6, "phase": "backward"}}),
    );
    run.event("armed");
    run.train(json!({}));
    let landed = run.event("landed");
    assert_eq!(
        landed["place"],
        json!({"step": 6, "epoch": 2, "phase": "backward", "rank": 1})
    );
    assert_eq!(landed["precision"], "held");
    let ended = run.event("workload-ended");
    assert_eq!(ended["exit"], 0, "{ended}");
    let truth = truth(&run);
    let killed = truth
        .iter()
        .position(|line| line == "begin 2 6 backward")
        .unwrap();
    assert_eq!(
        truth[killed + 1],
        "begin 2 5 forward",
        "it died inside the phase and went on from its checkpoint"
    );
    assert_eq!(
        run.events("landed").len(),
        1,
        "the repeated step is not aimed at again"
    );
    run.send(json!({"finish": {"because": "the test is over"}}));
    assert_eq!(run.message("finished"), json!({"outstanding": []}));
    run.ends_with_nothing_left();
}

fn second_backward() -> Value {
    let keys = json!({"at": {"step": 2, "phase": "backward"}});
    run::rule(0, "process-kill", json!({}), json!({"rank": 1}), keys)
}

#[test]
fn a_place_that_is_reached_before_its_rule_is_armed_is_held_for_it() {
    let mut run = Run::start();
    run.first = vec![second_backward()];
    run.train(json!({}));
    let held = run.event("held");
    assert_eq!(held["place"]["step"], 2, "{held}");
    run.send(json!({"arm": second_backward()}));
    let landed = run.event("landed");
    assert_eq!(landed["precision"], "held", "{landed}");
    assert_eq!(
        landed["place"],
        json!({"step": 2, "epoch": 1, "phase": "backward", "rank": 1})
    );
    let note = run.event("note");
    assert!(
        note["text"].as_str().unwrap().starts_with(
            "rank 1 reached its aim (epoch 1, step 2, phase backward) before the method began"
        ),
        "{note}"
    );
    assert_eq!(run.event("workload-ended")["exit"], 0);
    assert_eq!(run.events("landed").len(), 1);
    let order: Vec<String> = run.story();
    let at = |kind: &str| {
        order
            .iter()
            .position(|one| one.contains(&format!("{{\"{kind}\":")))
    };
    assert!(at("armed") < at("injection-begun"), "{order:#?}");
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn an_early_hold_that_ended_by_itself_is_an_aim_that_has_passed() {
    let mut run = Run::start();
    run.first = vec![second_backward()];
    run.train(json!({"PATIENCE_MS": "1", "STEP_MS": "20"}));
    run.until_line("begin 1 4 forward");
    run.send(json!({"arm": second_backward()}));
    let ended = run.event("rule-ended");
    assert_eq!(
        ended["because"], "what it aims at had passed when this step was reached",
        "{ended}"
    );
    assert_eq!(run.event("workload-ended")["exit"], 0);
    assert_eq!(run.events("injection-begun").len(), 0);
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn a_flood_of_holds_is_answered_and_leaves_no_more_records_than_are_bounded() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"at": {"step": 999, "phase": "forward"}}),
    );
    let begun = std::time::Instant::now();
    run.train(json!({"FLOOD": "9", "EPOCHS": "1"}));
    assert_eq!(run.event("workload-ended")["exit"], 0);
    // What was dropped is told within a second.
    let (kept, dropped) = until("every hold recorded or counted", || {
        let kept = (run.events("held").len() + run.events("skipped").len()) as u64;
        let dropped: u64 = run
            .events("dropped")
            .iter()
            .filter(|one| one["what"] == "records of holds and of skipped occasions")
            .filter_map(|one| one["count"].as_u64())
            .sum();
        (kept + dropped == 18_000).then_some((kept, dropped))
    });
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(
        kept <= seconds * 2_000,
        "{kept} records in at most {seconds} s, {dropped} dropped"
    );
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn every_two_epochs_fires_once_each_although_epochs_are_repeated() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"every": {"epochs": 2}}),
    );
    run.train(json!({"EPOCHS": "7"}));
    assert_eq!(run.event("workload-ended")["exit"], 0);
    let landed = run.events("landed");
    let epochs: Vec<_> = landed
        .iter()
        .map(|one| (one["place"]["epoch"].clone(), one["precision"].clone()))
        .collect();
    let held = |epoch: u64| (json!(epoch), json!("held"));
    assert_eq!(epochs, [held(2), held(4), held(6)], "{:#?}", run.story());
    // Killed before its checkpoint began, so each of these epochs was trained twice.
    let truth = truth(&run);
    for epoch in 1..=7 {
        let begun = truth
            .iter()
            .filter(|line| {
                line.starts_with(&format!("begin {epoch} ")) && line.ends_with("epoch-end")
            })
            .count();
        assert_eq!(begun, if epoch % 2 == 0 { 2 } else { 1 }, "epoch {epoch}");
    }
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn a_hold_that_expires_before_the_fault_has_landed_is_late() {
    let mut run = Run::start();
    // The fault itself takes longer than this trainer waits.
    let pressure = json!({"size": "128MiB"});
    run.arm(
        0,
        "memory-pressure",
        pressure,
        json!({"host": true}),
        json!({"at": {"step": 3, "phase": "forward"}, "for": "100ms"}),
    );
    run.train(json!({"PATIENCE_MS": "1", "STEP_MS": "30"}));
    let landed = run.event("landed");
    assert_eq!(landed["precision"], "late", "{landed}");
    assert_eq!(landed["observations"][0]["presence"], "present", "{landed}");
    let undone = run.event("undone");
    assert_eq!(undone["observations"][0]["presence"], "absent", "{undone}");
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn without_a_hold_the_place_is_the_last_one_seen() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"at": {"log": "epoch 2 step 6 done"}}),
    );
    run.train(json!({"STEP_MS": "20"}));
    let landed = run.event("landed");
    assert_eq!(
        landed["precision"], "not-aimed",
        "a line is no place in training: {landed}"
    );
    assert_eq!(landed["place"]["epoch"], 2, "{landed}");
    assert_eq!(run.event("workload-ended")["exit"], 0);
}

#[test]
fn log_patterns_become_training_events_and_triggers() {
    let mut run = Run::start();
    let patterns =
        json!([{"event": "step-end", "pattern": r"epoch (?<epoch>\d+) step (?<step>\d+)"}]);
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"workload": true}),
        json!({"at": {"step": 3}}),
    );
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo epoch 1 step $i; sleep 0.1; done";
    run.start_workload(&["sh", "-c", script], json!({}), patterns);
    let landed = run.event("landed");
    assert_eq!(
        (&landed["precision"], &landed["place"]["step"]),
        (&json!("observed"), &json!(3)),
        "{landed}"
    );
    let training = run.event("training");
    assert_eq!(
        (&training["source"], &training["event"]["step"]),
        (&json!("log"), &json!(1))
    );
    assert_eq!(run.event("workload-ended")["signal"], 9);
    let log = std::fs::read_to_string(run.folder.join("logs/workload.log")).unwrap();
    assert!(
        log.lines().next().unwrap().ends_with(" epoch 1 step 1"),
        "{log}"
    );
}

#[test]
fn a_trainer_is_ended_at_its_own_request_only_where_the_experiment_says_so() {
    let mut run = Run::start();
    run.train(json!({"ASK_AT": "2", "EPOCHS": "3"}));
    assert_eq!(run.event("workload-ended")["exit"], 0);
    let answer = std::fs::read_to_string(run.out().join("answer")).unwrap();
    assert!(answer.contains("refused"), "{answer}");
    assert!(run.events("landed").is_empty());

    std::fs::remove_dir_all(run.out()).unwrap();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 1}),
        json!({"at": {"epoch": 99}}),
    );
    run.train(json!({"ASK_AT": "2", "EPOCHS": "3"}));
    run.nth("workload-ended", 1);
    let landed = run.events("landed");
    assert_eq!(landed.len(), 1);
    assert_eq!(
        (&landed[0]["precision"], &landed[0]["place"]["epoch"]),
        (&json!("held"), &json!(2)),
        "{}",
        landed[0]
    );
    let answer = std::fs::read_to_string(run.out().join("answer")).unwrap();
    assert!(
        answer.contains("release"),
        "after its restart it passed the same epoch again: {answer}"
    );
}

#[test]
fn hostile_clients_do_not_keep_the_agent_from_training_or_its_beat() {
    let mut run = Run::start();
    run.train(json!({"EPOCHS": "3", "STEP_MS": "20"}));
    let environment = |pid: u32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let pid = run.event("workload-started")["process"]["pid"]
        .as_u64()
        .unwrap() as u32;
    let environment = String::from_utf8(environment(pid)).unwrap();
    let socket = environment
        .split('\0')
        .find_map(|one| one.strip_prefix("SQUALL_HOOK_SOCKET="))
        .unwrap()
        .to_owned();
    let attack = std::thread::spawn(move || {
        let mut open = Vec::new();
        for round in 0..900u32 {
            use std::io::Write;
            let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else {
                break;
            };
            stream.set_nonblocking(true).unwrap();
            let hello =
                "{\"hello\":{\"v\":1,\"pid\":1,\"rank\":7,\"phases\":[],\"role\":\"rank\"}}\n";
            let flood = format!(
                "{hello}{}",
                "{\"event\":{\"kind\":\"step-end\",\"step\":1}}\n".repeat(2000)
            );
            let text = match round % 4 {
                0 => flood.as_bytes(),
                1 => b"rubbish\n",
                2 => &[b'x'; 20_000],
                _ => b"",
            };
            stream.write(text).unwrap_or_default();
            open.push(stream);
        }
        open.len()
    });
    assert_eq!(run.event("workload-ended")["exit"], 0);
    attack.join().unwrap();
    run.send(json!({"finish": {"because": "the test is over"}}));
    assert_eq!(run.message("finished"), json!({"outstanding": []}));
    run.ends_with_nothing_left();
}

#[test]
fn an_empty_selection_is_said_and_a_held_rank_goes_on() {
    let mut run = Run::start();
    run.arm(
        0,
        "process-kill",
        json!({}),
        json!({"rank": 5}),
        json!({"at": {"step": 1}}),
    );
    run.arm(
        1,
        "process-pause",
        json!({}),
        json!({"pid": 1}),
        json!({"at": {"step": 2, "phase": "forward"}, "for": "1s"}),
    );
    run.train(json!({"PATIENCE_MS": "20000", "STEP_MS": "20"}));
    run.arm(0, "process-kill", json!({}), json!({"rank": 5}), json!({}));
    let said = [run.event("skipped"), run.nth("skipped", 1)];
    assert!(
        said.iter().any(|one| one["because"]
            .as_str()
            .unwrap()
            .contains("no process of the workload carries RANK=5")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|one| one["because"] == "process 1 does not run"),
        "{said:?}"
    );
    let started = std::time::Instant::now();
    assert_eq!(run.event("workload-ended")["exit"], 0);
    assert!(
        started.elapsed().as_secs() < 10,
        "it was released at once, not left to its deadline"
    );
}

#[test]
fn a_served_child_that_is_never_let_go_touches_nothing() {
    use std::process::{Command, Stdio};
    for kind in ["cpu-pressure", "memory-pressure", "nonsense"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_squall-faults-harness"))
            .args(["serve-fault", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        if kind != "nonsense" {
            let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
            assert_ne!(score.trim(), "1000", "it waits untouched");
        }
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.success(), kind != "nonsense");
        assert!(output.stdout.is_empty(), "never ready");
    }
}

#[test]
fn burners_volunteer_to_be_killed_first_and_end_with_their_injection() {
    let mut run = Run::start();
    run.arm(
        0,
        "memory-pressure",
        json!({"size": "64MiB"}),
        json!({"host": true}),
        json!({"for": "300ms"}),
    );
    run.event("landed");
    let log = squall_faults::journal::read_all(&run.folder.join("journal")).unwrap();
    let undo = log
        .state
        .injections()
        .flat_map(|one| one.undos.clone())
        .next()
        .unwrap();
    let squall_faults::undo::Undo::EndProcess { process, .. } = undo else {
        panic!("{undo:?}")
    };
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", process.pid)).unwrap();
    assert_eq!(score.trim(), "1000");
    let undone = run.event("undone");
    assert_eq!(undone["observations"][0]["presence"], "absent", "{undone}");
    assert_eq!(run::state(process.pid), None);
    run.arm(
        1,
        "memory-pressure",
        json!({"size": "100TiB"}),
        json!({"host": true}),
        json!({"for": "300ms"}),
    );
    let skipped = run.event("skipped");
    assert!(
        skipped["because"]
            .as_str()
            .unwrap()
            .contains("memory available"),
        "{skipped}"
    );
    run.hang_up();
    run.ends_with_nothing_left();
}
