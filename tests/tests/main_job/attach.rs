//! Attaching to what already runs: by pid, by pid file, by command. And a job that only writes a log.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use squall_tests::poll;
use squall_tests::product::shipped;
use squall_tests::snapshot::ProcessState;
use squall_tests::spawned::Spawned;

use super::{LIMIT, alone};

/// Stops a sleeper that is named in one of three ways, and sees it stop and go on.
fn attaches(test: &str, arguments: &str, selector: impl FnOnce(&Spawned) -> String, file: bool) {
    alone(test, |desk| {
        let mut sleeper = Spawned::start(Command::new("sleep").arg(arguments))?;
        if file {
            desk.write("sleeper.pid", &format!("{}\n", sleeper.pid()))?;
        }
        let text = format!(
            "version: 1\ntitle: a process stands still for a moment\nbaseline: 50ms\nsteady-state:\n  \
             - probe: {{process-alive: {{target: {{{0}}}}}}}\n    interval: 50ms\n\
             method:\n  - process-pause: {{target: {{{0}}}, for: 700ms}}\n",
            selector(&sleeper)
        );
        let experiment = desk.write("experiment.yaml", &text)?;
        let live = desk.start_run(&experiment)?;
        sleeper
            .reaches(ProcessState::Stopped, LIMIT)
            .with_context(|| live.said())?;
        sleeper.reaches(ProcessState::Live, Duration::from_secs(10))?;
        let ended = live.wait(LIMIT)?;
        let report = desk.report()?;
        ended.expect(0).context(report.told())?;
        ensure!(
            report.injections().len() == 1 && report.all_gone(),
            "{}",
            report.told()
        );
        ensure!(sleeper.state() == ProcessState::Live, "it sleeps as before");
        sleeper.end()
    });
}

#[test]
fn a_process_is_attached_by_pid() {
    attaches(
        "attach::a_process_is_attached_by_pid",
        "3611",
        |sleeper| format!("pid: {}", sleeper.pid()),
        false,
    );
}

#[test]
fn a_process_is_attached_by_pid_file() {
    attaches(
        "attach::a_process_is_attached_by_pid_file",
        "3612",
        |_| "pid-file: sleeper.pid".to_owned(),
        true,
    );
}

#[test]
fn a_process_is_attached_by_command() {
    attaches(
        "attach::a_process_is_attached_by_command",
        "3613",
        |_| "command: '^sleep 3613$'".to_owned(),
        false,
    );
}

#[test]
fn a_job_that_only_writes_a_log_shows_the_distance_from_the_aim() {
    alone(
        "attach::a_job_that_only_writes_a_log_shows_the_distance_from_the_aim",
        |desk| {
            let (ended, report) = desk.report_of(&shipped::text("log-only")?)?;
            ended.expect(0).context(report.told())?;
            let injection = &report.injections()[0];
            ensure!(injection["precision"] == "observed", "{}", report.told());
            let off = injection["steps_off"].as_i64().context(report.told())?;
            ensure!((0..20).contains(&off), "{off} steps off: {}", report.told());
            let words = injection["landed_words"].as_str().unwrap_or("");
            ensure!(words.contains("step"), "{words}");
            ensure!(report.sameness() == "same", "{}", report.told());
            poll::until(LIMIT, || Ok(super::others().is_empty()))
        },
    );
}
