//! The main job end to end: the real `squall`, the real trainer, and what is left of both afterwards.
//!
//! Each test has a process namespace of its own, so every process that is left is a leftover, and a network and mount
//! namespace of its own, so the host snapshot sees nobody else's work.

mod attach;
mod demo;
mod ends;
mod losses;
mod own_network;
mod refusals;
mod repeats;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use squall_tests::folder::Folder;
use squall_tests::poll;
use squall_tests::product::{Desk, Found, processes, shipped};
use squall_tests::sandbox::{Sandbox, command};
use squall_tests::snapshot::{HostSnapshot, Scope};

/// How long anything may take that a test waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a test with a desk, alone on what looks like a host of its own, and asserts that nothing is left.
fn alone(test: &str, body: impl FnOnce(&Desk) -> anyhow::Result<()>) {
    let sandbox = Sandbox::new()
        .with_own_pids()
        .limit(Duration::from_secs(120));
    sandbox.run(test, || {
        // Where sockets are: those of other runs on this host are none of ours.
        command("mount", &["-t", "tmpfs", "run", "/run"])?;
        let desk = Desk::new()?;
        // Cgroups are the one kind that no namespace hides: an empty folder stands for them.
        let cgroups = Folder::new()?;
        let scope = Scope::host().cgroup_root(cgroups.path());
        let before = HostSnapshot::take(&scope)?;
        body(&desk)?;
        nobody_is_left()?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        desk.is_clean()
    });
}

/// Every process of this namespace but its first, ourselves and those we are about to reap.
fn others() -> Vec<Found> {
    let ours = std::process::id();
    let mut all = processes();
    all.retain(|found| found.pid != 1 && found.pid != ours);
    all
}

/// Waits until nobody is left.
fn nobody_is_left() -> anyhow::Result<()> {
    poll::until(Duration::from_secs(5), || Ok(others().is_empty()))
        .with_context(|| format!("still there: {:#?}", others()))
}

/// The only process that fits, once there is one.
fn the(what: &str, fits: impl Fn(&Found) -> bool) -> anyhow::Result<Found> {
    poll::poll(LIMIT, || Ok(processes().into_iter().find(|it| fits(it))))
        .with_context(|| format!("there is no {what} among {:#?}", others()))
}

/// The trainer's process of a rank, once the run proper has it: one that the reference run has too comes later.
fn rank(number: u32) -> anyhow::Result<Found> {
    the("rank", |it| {
        it.program() == "toy-trainer" && it.rank == Some(number)
    })
}

/// An experiment on an endless trainer, with these lines for what is done to it.
fn endless(lines: &str) -> String {
    format!(
        "version: 1\ntitle: the trainer stands what is done to it\nseed: 1\nbaseline: 50ms\nworkload:\n  training:\n    \
         run: toy-trainer --out {{out}} --epochs 100000 --step-sleep-ms 5\n{lines}"
    )
}

/// The demo, as quick as it can be and still be itself.
fn short_demo() -> anyhow::Result<String> {
    shipped::changed(
        &shipped::text(shipped::DEMO)?,
        &[
            ("--step-sleep-ms 8", "--steps-per-epoch 8 --step-sleep-ms 7"),
            ("interval: 100ms", "interval: 20ms"),
            ("baseline: 300ms", "baseline: 50ms"),
        ],
    )
}
