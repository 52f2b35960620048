//! Carrying out a cause.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::cause::{Act, Cause, Who};
use super::cgroups::Cgroups;
use super::journal;
use super::processes::{Own, Reaper, is_alive, own, send};
use crate::poll::until;

/// A run to be struck.
#[derive(Debug)]
pub struct Aim<'a> {
    /// The binary.
    pub program: &'a Path,
    /// Its state folder.
    pub state: &'a Path,
    /// The controller.
    pub controller: u32,
    /// What the run was started in.
    pub cgroups: &'a Cgroups,
    /// Where it is held; none for an uncoordinated strike.
    pub boundary: Option<&'a str>,
    /// The agent is dead already, and the guard does its work.
    pub agent_is_gone: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Struck {
    /// In words.
    pub told: String,
    /// Who is stopped now.
    pub stopped: Vec<u32>,
}

impl Aim<'_> {
    /// Does it. Whoever was killed is dead on return.
    ///
    /// # Errors
    /// When the one to be struck at a boundary is not there.
    pub fn strike(&self, cause: &Cause, reaper: &mut Reaper) -> anyhow::Result<Struck> {
        match cause.act {
            Act::Signal(signal, whom) => self.signal(signal, whom, reaper),
            Act::LeaseEnds => self.signal(Signal::STOP, &[Who::Controller], reaper),
            Act::KillGroup => {
                let group = i32::try_from(self.controller).ok().and_then(Pid::from_raw);
                kill_process_group(group.context("a process group")?, Signal::KILL).ok();
                await_death(&[self.controller], reaper)?;
                Ok(told(format!(
                    "killed the process group {}",
                    self.controller
                )))
            }
            Act::KillCgroup | Act::KillCgroups => {
                let killed = if cause.act == Act::KillCgroup {
                    self.cgroups.kill()?
                } else {
                    self.cgroups.kill_all()?
                };
                await_death(&[self.controller], reaper)?;
                Ok(told(format!("killed {killed} processes of the cgroup")))
            }
            Act::DiskFull => {
                fill(self.state).map(|bytes| told(format!("filled the disk with {bytes} bytes")))
            }
            Act::TornRecord => {
                self.signal(
                    Signal::KILL,
                    &[Who::Controller, Who::Guard, Who::Agent],
                    reaper,
                )?;
                journal::tear(self.state, self.boundary.unwrap_or("before-intent")).map(told)
            }
            Act::OtherBoot => self.reboot(reaper),
        }
    }

    fn find(&self, who: Who) -> Option<Own> {
        let part = if self.agent_is_gone && who == Who::Agent {
            Who::Guard
        } else {
            who
        };
        own(self.program).into_iter().find(|process| {
            process.who() == Some(part)
                && (part != Who::Controller || process.pid == self.controller)
        })
    }

    fn signal(&self, signal: Signal, whom: &[Who], reaper: &mut Reaper) -> anyhow::Result<Struck> {
        let mut pids = Vec::new();
        for who in whom {
            match self.find(*who) {
                Some(process) => pids.push(process.pid),
                None if self.boundary.is_some() => bail!("there is no {who:?} to be struck"),
                None => {}
            }
        }
        pids.dedup();
        for pid in &pids {
            send(*pid, signal);
        }
        if signal == Signal::KILL {
            await_death(&pids, reaper)?;
        }
        let stopped = if signal == Signal::STOP {
            pids.clone()
        } else {
            Vec::new()
        };
        Ok(Struck {
            told: format!("{signal:?} to {whom:?} {pids:?}"),
            stopped,
        })
    }

    /// What a power cut does to processes: none of the run's is left. What stands for strangers after it lives on.
    fn reboot(&self, reaper: &mut Reaper) -> anyhow::Result<Struck> {
        let mut killed: Vec<u32> = Vec::new();
        until(Duration::from_secs(5), || {
            reaper.reap();
            let left: Vec<u32> = own(self.program)
                .iter()
                .map(|process| process.pid)
                .chain(marked())
                .collect();
            left.iter().for_each(|pid| send(*pid, Signal::KILL));
            killed.extend(&left);
            Ok(left.is_empty())
        })
        .context("killing every process of the run")?;
        Ok(told(format!("killed every process of the run: {killed:?}")))
    }
}

fn told(told: String) -> Struck {
    Struck {
        told,
        stopped: Vec::new(),
    }
}

/// Processes that carry the mark of an owned workload.
pub fn marked() -> Vec<u32> {
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry.starts_with(b"SQUALL_RUN="))
    };
    super::processes::pids()
        .into_iter()
        .filter(|pid| is_alive(*pid))
        .filter(is_marked)
        .collect()
}

fn await_death(pids: &[u32], reaper: &mut Reaper) -> anyhow::Result<()> {
    until(Duration::from_secs(5), || {
        reaper.reap();
        Ok(!pids.iter().any(|pid| is_alive(*pid)))
    })
    .with_context(|| format!("{pids:?} were killed and are alive"))
}

/// The file that fills a disk.
pub const FILLER: &str = "filler";

/// Writes until nothing more fits.
fn fill(state: &Path) -> anyhow::Result<usize> {
    let mut file = File::create(state.join(FILLER))?;
    let mut written = 0;
    let mut piece = 1 << 20;
    while piece > 0 {
        match file.write(&vec![1; piece]) {
            Ok(count) if count > 0 => written += count,
            _ => piece /= 2,
        }
    }
    Ok(written)
}
