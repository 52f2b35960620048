//! Holders of a run are killed by SIGKILL, alone and together: no orphan is left, not even one that wanted to be.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use squall_tests::poll;
use squall_tests::product::{Desk, Found, Live};
use squall_tests::sandbox::command;

use super::{alone, nobody_is_left, others, the};

/// What the workload's processes sleep for, so that they are known by it.
const MARK: &str = "3607";

/// A workload that wants to be rid of us: sessions of its own, parents that are gone, no environment handed down.
fn escaping() -> String {
    format!(
        "version: 1\ntitle: a workload that runs away\nseed: 1\nbaseline: 50ms\nworkload:\n  process:\n    run: |-\n      \
         sh -c 'setsid -f sh -c \"setsid -f sleep {MARK}; exec sleep {MARK}\"; exec sleep {MARK}'\n\
         method:\n  - process-pause: {{target: {{workload: true}}, for: 10m}}\n"
    )
}

fn sleepers() -> Vec<Found> {
    let mut all = others();
    all.retain(|it| it.program() == "sleep" && it.words.get(1).is_some_and(|word| word == MARK));
    all
}

/// A run whose workload has run away, and its three holders: controller, guard, agent.
fn running(desk: &Desk) -> anyhow::Result<(Live, [u32; 3])> {
    let file = desk.write("experiment.yaml", &escaping())?;
    let live = desk.start_run(&file)?;
    let told = |error: anyhow::Error| error.context(live.said());
    let guard = the("guard", |it| it.is_squall("guard")).map_err(told)?.pid;
    let agent = the("agent", |it| it.is_squall("agent")).map_err(told)?.pid;
    poll::until(super::LIMIT, || Ok(sleepers().len() == 3))
        .with_context(|| format!("{:#?}: {}", others(), live.said()))?;
    let holders = [live.pid(), guard, agent];
    Ok((live, holders))
}

fn kill(pids: &[u32]) -> anyhow::Result<()> {
    send(pids, Signal::KILL)
}

fn send(pids: &[u32], signal: Signal) -> anyhow::Result<()> {
    for pid in pids {
        let pid = i32::try_from(*pid)
            .ok()
            .and_then(Pid::from_raw)
            .context("a pid")?;
        kill_process(pid, signal)?;
    }
    Ok(())
}

/// Kills the holders at these places and asserts that nothing is left: by itself, or after `squall undo --all`.
fn after_loss_of(test: &str, lost: &[usize], by_itself: bool) {
    alone(test, |desk| {
        let (live, holders) = running(desk)?;
        let pids: Vec<u32> = lost.iter().map(|place| holders[*place]).collect();
        kill(&pids)?;
        let ended = live.wait(Duration::from_secs(30))?;
        if by_itself {
            poll::until(Duration::from_secs(20), || Ok(sleepers().is_empty()))
                .with_context(|| format!("left: {:#?}; the run {}", others(), ended.told()))?;
        }
        let undo = desk.squall(&["undo", "--all"])?;
        undo.expect(0)?;
        nobody_is_left().context(undo.told())
    });
}

#[test]
fn no_orphan_is_left_when_the_controller_is_killed() {
    after_loss_of(
        "losses::no_orphan_is_left_when_the_controller_is_killed",
        &[0],
        true,
    );
}

#[test]
fn no_orphan_is_left_when_the_guard_is_killed() {
    after_loss_of(
        "losses::no_orphan_is_left_when_the_guard_is_killed",
        &[1],
        true,
    );
}

#[test]
fn no_orphan_is_left_when_the_agent_is_killed() {
    after_loss_of(
        "losses::no_orphan_is_left_when_the_agent_is_killed",
        &[2],
        true,
    );
}

#[test]
fn the_next_undo_finds_every_orphan_when_all_three_are_killed() {
    after_loss_of(
        "losses::the_next_undo_finds_every_orphan_when_all_three_are_killed",
        &[2, 1, 0],
        false,
    );
}

/// Its title is written over the environment that others can read, so no mark is seen there; what it leaves to itself has no parent of ours.
const TITLED: &str = r#"perl -MPOSIX -e '$0 = "title-3607 " . ("x" x 4000); unless (fork) { unless (fork) { POSIX::setsid(); sleep 3607 } exit } sleep 3607'"#;

#[test]
fn a_workload_that_writes_over_its_environment_is_found_without_cgroups() {
    let test = "losses::a_workload_that_writes_over_its_environment_is_found_without_cgroups";
    alone(test, |desk| {
        // Over them, so that they are there again at the end.
        command("mount", &["-t", "tmpfs", "none", "/sys/fs/cgroup"])?;
        let text = format!(
            "version: 1\ntitle: a workload with a title\nseed: 1\nbaseline: 50ms\nworkload:\n  process:\n    run: |-\n      {TITLED}\n\
             method:\n  - wait: 10m\n"
        );
        let live = desk.start_run(&desk.write("experiment.yaml", &text)?)?;
        let told = |error: anyhow::Error| error.context(live.said());
        let titled = || {
            let mut all = others();
            all.retain(|it| it.program().starts_with("title-3607"));
            all
        };
        poll::until(super::LIMIT, || Ok(titled().len() == 2)).map_err(told)?;
        for one in titled() {
            let seen = std::fs::read(format!("/proc/{}/environ", one.pid))?;
            let seen = String::from_utf8_lossy(&seen).into_owned();
            ensure!(!seen.contains("SQUALL_WORKLOAD"), "{seen}");
        }
        let guard = the("guard", |it| it.is_squall("guard")).map_err(told)?.pid;
        let agent = the("agent", |it| it.is_squall("agent")).map_err(told)?.pid;
        // None of them may see another's death.
        send(&[agent, guard], Signal::STOP)?;
        kill(&[agent, guard, live.pid()])?;
        live.wait(Duration::from_secs(30))?;
        ensure!(titled().len() == 2, "somebody else has ended them");
        let undo = desk.squall(&["undo", "--all"])?;
        undo.expect(0)?;
        nobody_is_left().context(undo.told())?;
        command("umount", &["/sys/fs/cgroup"])
    });
}

#[test]
fn a_run_that_was_cut_off_is_closed_by_the_next_run() {
    alone(
        "losses::a_run_that_was_cut_off_is_closed_by_the_next_run",
        |desk| {
            let (live, holders) = running(desk)?;
            kill(&[holders[2], holders[1], holders[0]])?;
            live.wait(Duration::from_secs(5))?;
            let cut_off = only_run(desk)?;
            ensure!(cut_off["exit"].is_null(), "{cut_off}");
            let file = desk.write(
            "next.yaml",
            "version: 1\ntitle: the next one\nbaseline: 50ms\nworkload:\n  process: {run: sleep 60}\nmethod:\n  - wait: 50ms\n",
        )?;
            desk.run(&file)?
                .expect(0)
                .or_else(|_| desk.run(&file)?.expect(14))?;
            ensure!(sleepers().is_empty(), "the next run left {:#?}", sleepers());
            let closed = find(desk, &cut_off["run"])?;
            ensure!(!closed["exit"].is_null(), "{closed}");
            let report = desk.squall(&[
                "report",
                cut_off["run"].as_str().unwrap_or(""),
                "--format",
                "json",
            ])?;
            report.expect(0)
        },
    );
}

fn runs(desk: &Desk) -> anyhow::Result<Vec<Value>> {
    let ended = desk.squall(&["runs", "--format", "json"])?;
    let list: Value = serde_json::from_str(&ended.out).with_context(|| ended.told())?;
    Ok(list["runs"].as_array().cloned().unwrap_or_default())
}

fn only_run(desk: &Desk) -> anyhow::Result<Value> {
    let runs = runs(desk)?;
    ensure!(runs.len() == 1, "{runs:?}");
    Ok(runs[0].clone())
}

fn find(desk: &Desk, run: &Value) -> anyhow::Result<Value> {
    let runs = runs(desk)?;
    let found = runs.iter().find(|it| it["run"] == *run);
    found
        .cloned()
        .with_context(|| format!("{run} is not among {runs:?}"))
}
