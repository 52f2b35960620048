//! A job that loses processes ends with the same bits as one that does not.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::agent::{Action, Agent};
use crate::job::{Ended, Job, Running, poll_until, undisturbed};

/// Runs a job with one strike and demands the result of an undisturbed one.
fn recovers(options: &[&str], rank: u32, phase: &'static str, step: u64, action: Action) -> String {
    let agent = Agent::striking(rank, phase, step, action);
    let ended = Job::new(options).with(&agent).run();
    assert_eq!(
        agent.holds().len(),
        1,
        "{phase} {step}: not disturbed:\n{}",
        ended.log
    );
    let log = ended.log.clone();
    assert_eq!(
        ended.parameters(),
        undisturbed(options),
        "{phase} {step}:\n{log}"
    );
    log
}

#[test]
fn a_kill_of_rank_1_in_any_phase_leaves_no_trace_in_the_result() {
    let places = [
        ("data-wait", 1),
        ("forward", 8),
        ("backward", 9),
        ("all-reduce", 20),
        ("optimizer-step", 30),
        ("step-end", 24),
        ("epoch-end", 16),
        ("evaluation", 40),
        ("exit", 48),
    ];
    for (phase, step) in places {
        let log = recovers(&[], 1, phase, step, Action::Kill);
        assert!(log.contains("rank 1 died (signal 9)"), "{log}");
    }
}

#[test]
fn a_kill_of_the_writer_during_a_checkpoint_leaves_no_trace_in_the_result() {
    for phase in [
        "checkpoint-begin",
        "checkpoint-written",
        "checkpoint-renamed",
    ] {
        let log = recovers(&[], 0, phase, 24, Action::Kill);
        let resumed = if phase == "checkpoint-renamed" {
            24
        } else {
            16
        };
        assert!(
            log.contains(&format!("resumed from step {resumed}\n")),
            "{phase}:\n{log}"
        );
    }
    recovers(&[], 0, "checkpoint-written", 48, Action::Kill);
}

#[test]
fn a_kill_in_a_world_of_three_leaves_no_trace_in_the_result() {
    recovers(&["--world", "3"], 2, "all-reduce", 21, Action::Kill);
}

#[test]
fn sigterm_of_a_rank_saves_at_the_step_and_continues_from_it() {
    for (rank, phase, step) in [
        (1, "forward", 20),
        (0, "data-wait", 17),
        (1, "backward", 24),
    ] {
        let log = recovers(&[], rank, phase, step, Action::Terminate);
        assert!(log.contains("all ranks preempted\n"), "{log}");
        assert!(
            log.contains(&format!("resumed from step {step}\n")),
            "{log}"
        );
        assert!(!log.contains("repeating"), "{log}");
    }
}

#[test]
fn a_rank_that_stands_still_is_noticed_by_the_time_out() {
    let log = recovers(
        &["--peer-timeout-ms", "700"],
        1,
        "backward",
        20,
        Action::Stop,
    );
    assert!(log.contains("rank 0 died (exit code 70)"), "{log}");
}

#[test]
fn a_damaged_checkpoint_is_skipped_for_the_one_before() {
    let clean = undisturbed(&[]);
    for damage in [truncate as fn(&Path), flip] {
        let ended = Job::new(&[]).run();
        assert_eq!(ended.code, Some(0));
        damage(&ended.directory.join("out/ckpt-00000048.safetensors"));
        let again = Job::again(ended.directory, &[]).run();
        assert!(again.log.contains("checkpoint skipped "), "{}", again.log);
        assert!(
            again.log.contains("resumed from step 40\n"),
            "{}",
            again.log
        );
        assert_eq!(again.parameters(), clean);
    }
}

fn truncate(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn only_the_newest_three_checkpoints_are_kept() {
    let ended = Job::new(&[]).run();
    let mut names: Vec<String> = std::fs::read_dir(ended.directory.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("ckpt"))
        .collect();
    names.sort();
    let wanted = [
        "ckpt-00000032.safetensors",
        "ckpt-00000040.safetensors",
        "ckpt-00000048.safetensors",
    ];
    assert_eq!(names, wanted);
    ended.parameters();
}

#[test]
fn the_supervisor_gives_up_after_the_last_restart() {
    let agent = Agent::striking(1, "forward", 3, Action::Kill);
    let ended = Job::new(&["--max-restarts", "0"]).with(&agent).run();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains("giving up after 0 restarts\n"),
        "{}",
        ended.log
    );
    std::fs::remove_dir_all(ended.directory).unwrap();
}

/// A job slow enough to be met in the middle, once rank 0 has completed a step.
fn running_in_the_middle() -> (Running, Agent, Vec<Pid>) {
    let agent = Agent::new(&[]);
    let running = Job::new(&["--step-sleep-ms", "25"]).with(&agent).start();
    let started = poll_until(Duration::from_secs(30), || {
        agent.events("step-end").len() >= 4
    });
    assert!(started, "the job did not get going");
    let pids = agent
        .events("checkpoint-loaded")
        .iter()
        .map(|told| Pid::from_raw(told.hello["pid"].as_i64().unwrap() as i32).unwrap())
        .collect();
    (running, agent, pids)
}

fn all_gone(ranks: &[Pid]) -> bool {
    poll_until(Duration::from_secs(10), || {
        ranks.iter().all(|pid| test_kill_process(*pid).is_err())
    })
}

#[test]
fn sigterm_of_the_supervisor_saves_and_exits_143_and_a_new_start_continues() {
    let (running, _agent, ranks) = running_in_the_middle();
    kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
    let ended: Ended = running.wait();
    assert_eq!(ended.code, Some(143), "{}", ended.log);
    assert!(all_gone(&ranks), "no rank is left behind");
    let step = ended
        .log
        .lines()
        .find_map(|line| line.strip_prefix("preempted at step "))
        .unwrap()
        .to_owned();
    let again = Job::again(ended.directory, &[]).run();
    assert!(
        again.log.contains(&format!("resumed from step {step}\n")),
        "{}",
        again.log
    );
    assert_eq!(again.parameters(), undisturbed(&[]));
}

#[test]
fn ranks_leave_when_the_supervisor_is_killed() {
    let (running, _agent, ranks) = running_in_the_middle();
    kill_process(Pid::from_child(&running.child), Signal::KILL).unwrap();
    let ended = running.wait();
    assert!(all_gone(&ranks), "ranks outlived their supervisor");
    std::fs::remove_dir_all(ended.directory).unwrap();
}
