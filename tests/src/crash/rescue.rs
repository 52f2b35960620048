//! After the strike: waiting for the rescue, and the next command where nobody is left to rescue.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::process::Signal;

use super::cause::{Act, Who};
use super::cell::Moment;
use super::journal;
use super::points::Point;
use super::processes::{Ending, Own, is_alive, own, send};
use super::squall::LEASE;
use super::stage::{LIMIT, Stage};
use crate::poll::until;
use crate::spawned::Spawned;

impl Stage {
    /// Whether only the next command can undo.
    fn is_left_to_next_command(&self) -> bool {
        let kills =
            |who| matches!(self.cause.act, Act::Signal(Signal::KILL, whom) if whom.contains(&who));
        let last_is_killed =
            self.cell.is_met_by_guard() && (kills(Who::Agent) || kills(Who::Guard));
        // Who may make no cgroup has no guard in one of its own.
        let guard_is_inside = self.cause.act == Act::KillCgroup && self.squall.is_nobody;
        // A clock may strike before the guard has stepped out of the caller's cgroup.
        let guard_was_inside = self.cause.act == Act::KillCgroup
            && matches!(self.cell.moment, Moment::Microseconds(_))
            && own(&self.squall.program).is_empty();
        // Or when the agent had ended, and the guard had only its own cgroup to leave.
        let guard_was_last = kills(Who::Guard)
            && matches!(self.cell.moment, Moment::Microseconds(_))
            && own(&self.squall.program).is_empty();
        self.cause.removes_every_rescuer()
            || last_is_killed
            || guard_is_inside
            || guard_was_inside
            || guard_was_last
    }

    /// Waits until the rescue is over; where nobody is left to rescue, lets the next command do it.
    pub(super) fn rescue(
        &mut self,
        held: Option<Point>,
        controller: &Spawned,
    ) -> anyhow::Result<()> {
        if self.cause.act == Act::LeaseEnds {
            // Whoever is at the boundary only goes on when the lease is over.
            self.wait(LEASE + Duration::from_millis(500))?;
        }
        drop(held);
        if self.is_left_to_next_command() {
            self.settle("the holders are gone", |verb| {
                ["run", "guard", "agent"].contains(&verb)
            })?;
            self.next_command()?;
        } else if self.cell.is_met_by_guard() && self.cause.stops_somebody() {
            // The last rescuer may be stopped in the middle of its work: its lease covers that, so it goes on when it is continued.
            self.wait(LEASE + Duration::from_millis(500))?;
        } else {
            self.settle("the rescuers are done", |_| true)?;
        }
        for pid in std::mem::take(&mut self.struck.stopped) {
            send(pid, Signal::CONT);
        }
        self.settle("everybody is gone", |_| true)?;
        // In its last moment a process has no command line any more and is not yet dead.
        self.end_of(controller)?;
        Ok(())
    }

    /// Waits until none of the processes of ours is left that counts and is not stopped by us.
    pub(super) fn settle(
        &mut self,
        until: &str,
        counts: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.reaper.reap();
            drop(self.points.next(Duration::from_millis(2))?);
            let left: Vec<_> = own(&self.squall.program)
                .into_iter()
                .filter(|process| {
                    counts(&process.verb) && !self.struck.stopped.contains(&process.pid)
                })
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "waiting until {until}: {} did not end within {LIMIT:?}",
                verbs(&left)
            );
        }
    }

    fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.reaper.reap();
            drop(self.points.next(Duration::from_millis(20))?);
        }
        Ok(())
    }

    /// `squall undo --all`, with a stranger on every pid that the journal remembers and nobody has any more.
    fn next_command(&mut self) -> anyhow::Result<()> {
        let strangers = self.strangers()?;
        let other_boot = [("SQUALL_BOOT_ID", "00000000-0000-4000-8000-000000000000")];
        let env: &[_] = if self.cause.act == Act::OtherBoot {
            &other_boot
        } else {
            &[]
        };
        let stopped_before = self.prey.is_stopped();
        let undo = self.squall.start(&["undo", "--all"], env)?;
        let exit = self.end_of(&undo)?;
        ensure!(exit == Ending::Exit(0), "undo --all ended with {exit:?}");
        if self.cause.act == Act::OtherBoot && stopped_before {
            ensure!(
                self.prey.is_stopped(),
                "on another boot, a process with the remembered pid was signalled"
            );
            send(self.prey.pid(), Signal::CONT);
        }
        for stranger in strangers {
            ensure!(
                is_alive(stranger.pid()),
                "a stranger with the remembered pid {} was ended",
                stranger.pid()
            );
            send(stranger.pid(), Signal::KILL);
        }
        Ok(())
    }

    fn strangers(&mut self) -> anyhow::Result<Vec<Spawned>> {
        // The kernel counts start times in ticks of 10 ms. A stranger born in the very tick of the process whose pid it takes would
        // have its identity; a pid is only reused after a lap of all others, so the harness lets that tick pass.
        let last = journal::last_remembered_start(&self.squall.state);
        until(Duration::from_secs(5), || Ok(boot_ticks() > last))?;
        let mut strangers = Vec::new();
        for pid in journal::remembered_pids(&self.squall.state) {
            self.reaper.reap();
            // The kernel gives the next free pid after the last one given.
            let is_free = !Path::new(&format!("/proc/{pid}")).exists() && pid > 1;
            if is_free && fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_ok() {
                strangers.push(Spawned::sleeper()?);
            }
        }
        Ok(strangers)
    }

    pub(super) fn end_of(&mut self, process: &Spawned) -> anyhow::Result<Ending> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            self.reaper.reap();
            if let Some(ending) = self.reaper.ending(process.pid()) {
                return Ok(ending);
            }
            drop(self.points.next(Duration::from_millis(2))?);
        }
        bail!("pid {} did not end within {LIMIT:?}", process.pid())
    }
}

/// The boot-time clock in ticks of 10 ms, as start times are counted.
fn boot_ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 100 + nanoseconds / 10_000_000
}

/// `guard 17, agent 18`.
fn verbs(processes: &[Own]) -> String {
    let each = processes
        .iter()
        .map(|process| format!("{} {}", process.verb, process.pid));
    each.collect::<Vec<_>>().join(", ")
}
