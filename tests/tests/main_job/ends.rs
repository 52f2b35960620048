//! Every way in which a run can end before its time: it is rolled back, it says so, and nothing is left.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use squall_tests::poll;
use squall_tests::product::{Desk, Live, is_alive};
use squall_tests::snapshot::{ProcessState, process_state};
use squall_tests::spawned::Spawned;

use super::{LIMIT, alone, endless, rank};

/// A rank that is stopped for longer than any test runs.
const PAUSE: &str = "method:\n  - process-pause: {target: {rank: 1}, at: {epoch: 3}, for: 10m}\n";

/// Starts a run and waits until its rank 1 is stopped. Returns the run and the pid of the rank.
pub(super) fn paused(desk: &Desk, lines: &str) -> anyhow::Result<(Live, u32)> {
    let file = desk.write("experiment.yaml", &endless(lines))?;
    let live = desk.start_run(&file)?;
    let rank = rank(1).map_err(|error| error.context(live.said()))?.pid;
    poll::until(LIMIT, || Ok(process_state(rank) == ProcessState::Stopped))
        .map_err(|error| error.context(live.said()))?;
    Ok((live, rank))
}

/// A signal to guard or agent from outside: everything is undone, and what was not watched any more is not said to have held.
fn ended_through(test: &str, verb: &'static str) {
    alone(test, |desk| {
        let (live, rank) = paused(desk, PAUSE)?;
        let holder = super::the(verb, |it| it.is_squall(verb))?.pid;
        let holder = i32::try_from(holder)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(holder.context("a pid")?, Signal::TERM)?;
        let ended = live.wait(Duration::from_secs(20))?;
        ended.expect(13)?;
        ensure!(!is_alive(rank), "the rank outlives its run");
        ensure!(
            ended.out.contains(&format!("SIGTERM to the {verb}")),
            "{}",
            ended.told()
        );
        let report = desk.report()?;
        ensure!(
            report.code() == 13 && report.all_gone(),
            "{}",
            report.told()
        );
        Ok(())
    });
}

#[test]
fn a_signal_to_the_agent_interrupts_the_run() {
    ended_through("ends::a_signal_to_the_agent_interrupts_the_run", "agent");
}

#[test]
fn a_signal_to_the_guard_interrupts_the_run() {
    ended_through("ends::a_signal_to_the_guard_interrupts_the_run", "guard");
}

fn ended_by(test: &str, signal: Signal) {
    alone(test, |desk| {
        let (live, rank) = paused(desk, PAUSE)?;
        live.signal(signal)?;
        let ended = live.wait(Duration::from_secs(20))?;
        ended.expect(13)?;
        ensure!(!is_alive(rank), "the rank outlives its run");
        let report = desk.report()?;
        ensure!(
            report.code() == 13 && report.all_gone(),
            "{}",
            report.told()
        );
        ensure!(
            report.injections()[0]["gone"] == "gone",
            "{}",
            report.told()
        );
        Ok(())
    });
}

#[test]
fn ctrl_c_rolls_back_and_leaves_nothing() {
    ended_by("ends::ctrl_c_rolls_back_and_leaves_nothing", Signal::INT);
}

#[test]
fn a_request_to_terminate_rolls_back_and_leaves_nothing() {
    ended_by(
        "ends::a_request_to_terminate_rolls_back_and_leaves_nothing",
        Signal::TERM,
    );
}

#[test]
fn an_abort_condition_rolls_back_and_leaves_nothing() {
    alone(
        "ends::an_abort_condition_rolls_back_and_leaves_nothing",
        |desk| {
            let flag = desk.write("flag", "")?;
            let lines = format!(
                "{PAUSE}abort-when:\n  - probe: {{file: {{path: {}}}}}\n    interval: 100ms\n",
                flag.display()
            );
            let (live, rank) = paused(desk, &lines)?;
            fs::remove_file(&flag)?;
            let ended = live.wait(Duration::from_secs(20))?;
            ended.expect(12)?;
            ensure!(!is_alive(rank), "the rank outlives its run");
            let report = desk.report()?;
            ensure!(
                report.code() == 12 && report.all_gone(),
                "{}",
                report.told()
            );
            Ok(())
        },
    );
}

#[test]
fn a_system_that_is_not_steady_is_left_alone() {
    alone("ends::a_system_that_is_not_steady_is_left_alone", |desk| {
        let mut bystander = Spawned::sleeper()?;
        let text = format!(
            "version: 1\ntitle: nothing is done to what is broken already\nbaseline: 200ms\nsteady-state:\n  \
             - probe: {{file: {{path: /no/such/file}}}}\n    interval: 100ms\n\
             method:\n  - process-kill: {{target: {{pid: {}}}}}\n",
            bystander.pid()
        );
        let (ended, report) = desk.report_of(&text)?;
        ended.expect(11)?;
        ensure!(report.injections().is_empty(), "{}", report.told());
        ensure!(bystander.state() == ProcessState::Live, "it was touched");
        bystander.end()
    });
}

#[test]
fn a_second_terminal_does_not_undo_a_live_run() {
    alone("ends::a_second_terminal_does_not_undo_a_live_run", |desk| {
        let (live, rank) = paused(desk, PAUSE)?;
        let run = fs::read_dir(desk.state().join("runs"))?
            .next()
            .ok_or_else(|| anyhow::anyhow!("no run folder"))??;
        let id = run.file_name().to_string_lossy().into_owned();
        let refused = desk.squall(&["undo", &id])?;
        ensure!(refused.code != Some(0), "{}", refused.told());
        let all = desk.squall(&["undo", "--all"])?;
        ensure!(
            process_state(rank) == ProcessState::Stopped,
            "{}\n{}",
            refused.told(),
            all.told()
        );
        desk.is_clean()?;
        live.signal(Signal::INT)?;
        live.wait(Duration::from_secs(20))?.expect(13)
    });
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    alone(
        "ends::a_run_goes_on_when_nobody_reads_what_it_says",
        |desk| {
            let mut sleeper = Spawned::sleeper()?;
            let text = format!(
                "version: 1\ntitle: nobody reads this\nbaseline: 50ms\nmethod:\n  \
             - process-pause: {{target: {{pid: {}}}, for: 300ms}}\n",
                sleeper.pid()
            );
            let file = desk.write("experiment.yaml", &text)?;
            let (reader, writer) = std::io::pipe()?;
            drop(reader);
            let mut command = desk.command(&["run", &file.to_string_lossy(), "--yes"]);
            command.stdout(writer.try_clone()?).stderr(writer);
            let status = Spawned::start(&mut command)?.wait(LIMIT)?;
            ensure!(status.code() == Some(0), "it ended with {status}");
            ensure!(desk.report()?.injections()[0]["gone"] == "gone");
            sleeper.end()
        },
    );
}
