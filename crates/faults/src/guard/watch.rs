//! The guard's one loop.

use super::Options;
use super::cgroup::{self, OwnCgroup};
use super::children::{Children, SELF};
use super::rescue;
use super::wire::{self, FromGuard, GuardReport, Received, ToGuard, ToGuardFromController};
use crate::agent::hook::place::remove_left;
use crate::agent::procs;
use crate::journal::Journal;
use crate::journal::record::Writer;
use crate::lease::{Lease, LeaseFile};
use crate::recover::probes::{WITHIN, end_left};
use crate::sys::spawn::{self, Launch, Started};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// An agent that is silent this long is stopped or hung.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an agent may take to say that it is undoing.
const ANSWER: Duration = Duration::from_secs(3);
/// How long it may undo while it beats.
const UNDOING_MAX: Duration = Duration::from_secs(60);
/// Room for the guard's own undoing, so that no other recovery takes it for a stopped holder meanwhile.
const RESCUE_MS: u64 = 60_000;
/// The loop looks at its deadlines at least this often.
const TURN: Duration = Duration::from_millis(100);

/// The run is to end, by the agent's hand as long as it can.
#[derive(Debug)]
struct Ending {
    because: String,
    until: Instant,
}

/// The guard of one run.
pub(super) struct Guard {
    options: Options,
    journal: Journal,
    agent: Started,
    to_agent: OwnedFd,
    renew: Option<OwnedFd>,
    controller: Option<OwnedFd>,
    signals: OwnedFd,
    own_cgroup: OwnCgroup,
    children: Children,
    beaten: Instant,
    lease: Lease,
    lease_file: LeaseFile,
    ending: Option<Ending>,
    controller_lost: bool,
    /// The agent's exit status, once it is dead.
    ended: Option<Option<i32>>,
}

impl Guard {
    /// Locks a new journal and starts the agent.
    pub(super) fn start(options: Options) -> io::Result<Guard> {
        let mut wanted = spawn::ENDING.to_vec();
        wanted.push(spawn::CHILD);
        let signals = spawn::signals(&wanted)?;
        let control = spawn::inherited(options.control_fd)?;
        let renew = spawn::inherited(options.renew_fd)?;
        let started = Self::lease(&options).and_then(|(lease, file)| {
            let (journal, agent, to_agent) = Self::start_agent(&options, &control)?;
            Ok((lease, file, journal, agent, to_agent))
        });
        let (mut lease, lease_file, journal, agent, to_agent) = match started {
            Ok(started) => started,
            Err(error) => {
                wire::send(
                    &renew,
                    &GuardReport::Failed {
                        because: error.to_string(),
                    },
                    &[],
                )?;
                return Err(error);
            }
        };
        drop(control);
        // After the agent's start, which belongs into the caller's cgroup, and before anything can be asked of either.
        let own_cgroup = OwnCgroup::enter(&options.run_dir, &options.run).unwrap_or_else(|error| {
            say(&format!(
                "it goes on without a cgroup of its own, because {error}"
            ));
            OwnCgroup::default()
        });
        lease.agent = procs::identity(agent.pid);
        let mut guard = Guard {
            controller: pidfd_of_parent(options.controller),
            options,
            journal,
            agent,
            to_agent,
            renew: Some(renew),
            signals,
            children: Children::at(own_cgroup.home.clone()),
            own_cgroup,
            beaten: Instant::now(),
            lease,
            lease_file,
            ending: None,
            controller_lost: false,
            ended: None,
        };
        guard.prolong(guard.options.lease_ms)?;
        match procs::identity(guard.agent.pid) {
            Some(agent) => guard.tell(&GuardReport::Ready {
                guard: std::process::id(),
                agent,
            }),
            None => guard.tell(&GuardReport::Failed {
                because: "the agent ended at once".into(),
            }),
        }
        Ok(guard)
    }

    /// Made before the journal, so that no journal is ever without one.
    fn lease(options: &Options) -> io::Result<(Lease, LeaseFile)> {
        let term = Duration::from_millis(options.lease_ms);
        let mut lease = Lease::starting_now(options.run.clone(), term)?;
        lease.guard = procs::identity(std::process::id());
        lease.controller = procs::identity(options.controller);
        let file = LeaseFile::create(&options.run_dir, &lease)?;
        Ok((lease, file))
    }

    fn start_agent(
        options: &Options,
        control: &OwnedFd,
    ) -> io::Result<(Journal, Started, OwnedFd)> {
        spawn::adopt_orphans()?;
        let journal = Journal::create(&options.run_dir, &options.run, Writer::Guard)?;
        let (ours, theirs) = wire::pair()?;
        let log = crate::state_dir::open_log(&options.run_dir.join("logs/agent.log"))?;
        let agent = crate::agent::Options {
            run: options.run.clone(),
            run_dir: options.run_dir.clone(),
            controller: options.controller,
            lease_ms: options.lease_ms,
            control_fd: control.as_raw_fd(),
            guard_fd: theirs.as_raw_fd(),
            journal_fd: journal.descriptor().as_raw_fd(),
        };
        let words = vec![
            "squall".into(),
            "agent".into(),
            serde_json::to_string(&agent)?.into(),
        ];
        let mut launch = Launch::new(words);
        launch.program = Some(SELF.into());
        launch.stdout = Some(log.try_clone()?.into());
        launch.stderr = Some(log.into());
        launch.pass = vec![
            rustix::fd::AsFd::as_fd(control),
            rustix::fd::AsFd::as_fd(&theirs),
            journal.descriptor(),
        ];
        let agent = launch.start()?;
        Ok((journal, agent, ours))
    }

    /// Watches until the run is over and undone. What could not be undone is told to the controller, and stands in the journal.
    pub(super) fn watch(mut self) -> io::Result<()> {
        let because = loop {
            self.wait()?;
            self.hear_signals()?;
            self.hear_agent();
            self.hear_controller();
            if let Some(because) = self.verdict() {
                break because;
            }
        };
        self.rescue(&because)
    }

    fn wait(&self) -> io::Result<()> {
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.agent.pidfd, PollFlags::IN),
            PollFd::new(&self.to_agent, PollFlags::IN),
        ];
        polled.extend(self.renew.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        polled.extend(
            self.controller
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        let turn = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TURN.subsec_nanos()),
        };
        match poll(&mut polled, Some(&turn)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn hear_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = spawn::next_signal(&self.signals)? {
            if signal == spawn::CHILD {
                self.reap();
            } else {
                let signal = spawn::signal_name(signal);
                self.end(format!("the guard got {signal}"), Some(signal));
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        for end in self.children.reap() {
            if end.pid == self.agent.pid {
                self.ended = Some(end.exit);
            } else {
                // An agent that is gone needs no word of it.
                let told = FromGuard::Exited {
                    pid: end.pid,
                    exit: end.exit,
                    signal: end.signal,
                };
                wire::send(&self.to_agent, &told, &[]).unwrap_or_default();
            }
        }
    }

    fn hear_agent(&mut self) {
        loop {
            match wire::receive(&self.to_agent) {
                Ok(Received::Message(ToGuard::Beat, _)) => {
                    self.beaten = Instant::now();
                    if self.ending.is_some() {
                        self.keep_lease();
                    }
                }
                Ok(Received::Message(ToGuard::Spawn(request), fds)) => {
                    // A dead agent's request may lie here still: nobody would undo what it asked for.
                    let answer = if self.ending.is_some() || is_readable(&self.agent.pidfd) {
                        FromGuard::SpawnFailed {
                            request: request.request,
                            because: "the run is ending".into(),
                        }
                    } else {
                        self.children.start(request, fds)
                    };
                    wire::send(&self.to_agent, &answer, &[]).unwrap_or_default();
                }
                Ok(Received::Message(ToGuard::Ending { within_ms }, _)) => {
                    self.beaten = Instant::now();
                    self.keep_lease();
                    let within = Duration::from_millis(within_ms).min(UNDOING_MAX);
                    let ending = self.ending.get_or_insert_with(|| Ending {
                        because: "the agent took longer than it had said to undo everything".into(),
                        until: Instant::now(),
                    });
                    ending.until = Instant::now() + within;
                }
                // A word that is not understood counts as a sign of life and no more.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(Received::Nothing | Received::End) | Err(_) => return,
            }
        }
    }

    /// An agent that beats while it undoes is alive, though nobody renews its lease any more: no other recovery may come between.
    fn keep_lease(&mut self) {
        let term = self.options.lease_ms;
        let until = procs::boot_ns().saturating_add(term.saturating_mul(1_000_000));
        if until > self.lease.deadline_boot_ns {
            // A lease that cannot be written runs out, and the next recovery ends us first: safe, though rude.
            self.prolong(term).unwrap_or_default();
        }
    }

    fn hear_controller(&mut self) {
        while let Some(renew) = &self.renew {
            match wire::receive(renew) {
                Ok(Received::Message(ToGuardFromController::Renew, _)) => {
                    if let Err(error) = self.prolong(self.options.lease_ms) {
                        let because = format!("its lease could not be recorded: {error}");
                        self.lose("controller", because);
                    }
                }
                Ok(Received::Nothing) => break,
                Ok(Received::End) => self.lose("controller", "its line to the guard ended".into()),
                Err(error) => {
                    let because = format!("it said something else than `renew`: {error}");
                    self.lose("controller", because);
                }
            }
        }
        if self.renew.is_none() {
            return;
        }
        if self.controller.as_ref().is_some_and(is_readable) {
            self.lose("controller", "its process ended".into());
        } else if procs::boot_ns() > self.lease.deadline_boot_ns && self.ending.is_none() {
            let lease_ms = self.options.lease_ms;
            let because = format!("it did not renew its lease for {lease_ms} ms");
            self.lose("controller", because);
        }
    }

    fn lose(&mut self, what: &str, because: String) {
        self.tell(&GuardReport::Lost {
            what: what.into(),
            because: because.clone(),
        });
        self.renew = None;
        self.controller = None;
        self.controller_lost = true;
        self.end(format!("the {what} was lost: {because}"), None);
    }

    /// Asks the agent to undo everything.
    fn end(&mut self, because: String, signal: Option<String>) {
        if self.ending.is_none() {
            self.ending = Some(Ending {
                because: because.clone(),
                until: Instant::now() + ANSWER,
            });
        }
        wire::send(&self.to_agent, &FromGuard::Finish { because, signal }, &[]).unwrap_or_default();
    }

    /// Why the agent's time is over; None while it lives, beats and has time.
    fn verdict(&mut self) -> Option<String> {
        if is_readable(&self.agent.pidfd) {
            self.reap();
            return Some(match (&self.ending, self.ended) {
                (Some(ending), _) => ending.because.clone(),
                (None, Some(Some(status))) => format!("the agent exited with status {status}"),
                _ => "the agent was killed".into(),
            });
        }
        if self.beaten.elapsed() > SILENCE {
            return Some(format!(
                "the agent was silent for {} s: stopped or hung",
                SILENCE.as_secs()
            ));
        }
        let overdue = self
            .ending
            .as_ref()
            .filter(|ending| Instant::now() > ending.until)?;
        Some(overdue.because.clone())
    }

    /// Undoes everything, after the agent's proven death.
    fn rescue(mut self, because: &str) -> io::Result<()> {
        // A stopped clock must not keep anybody from being rescued.
        self.prolong(RESCUE_MS).unwrap_or_default();
        rescue::end_agent(&self.agent.pidfd)?;
        self.reap();
        let clean = self.ended == Some(Some(0));
        if !clean {
            self.tell(&GuardReport::Lost {
                what: "agent".into(),
                because: because.to_owned(),
            });
        }
        let undone = rescue::undo(self.journal, because);
        self.children.kill_all();
        if self.controller_lost
            && let Err(error) = end_left(&self.options.run, WITHIN)
        {
            say(&format!("a probe's command may be left, because {error}"));
        }
        if !clean {
            // Nothing but a name in a folder of ours: it harms nobody where it stays.
            remove_left(&self.options.run.0).unwrap_or_default();
        }
        let stepped_out = self.own_cgroup.leave();
        let removed =
            stepped_out.and_then(|()| cgroup::remove(&self.options.run_dir, &self.options.run));
        if let Err(error) = removed {
            say(&format!(
                "its cgroup is left to the next command, because {error}"
            ));
        }
        let (outstanding, reports) = undone?;
        if let Some(renew) = &self.renew {
            for report in reports.iter().chain([&GuardReport::Ended { outstanding }]) {
                // A controller that is gone reads the journal later.
                wire::send(renew, report, &[]).unwrap_or_default();
            }
        }
        self.children.reap();
        Ok(())
    }

    fn tell(&self, report: &GuardReport) {
        if let Some(renew) = &self.renew {
            wire::send(renew, report, &[]).unwrap_or_default();
        }
    }

    fn prolong(&mut self, by_ms: u64) -> io::Result<()> {
        self.lease.renew(Duration::from_millis(by_ms));
        self.lease_file.write(&self.lease)
    }
}

/// For the run's guard log; nobody is left to tell when it cannot be written.
fn say(text: &str) {
    writeln!(io::stderr(), "guard: {text}").unwrap_or_default();
}

/// Whether the descriptor has something to say now: a pidfd, that its process is dead.
fn is_readable(fd: &OwnedFd) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&at_once)).is_ok_and(|count| count > 0)
}

/// A pidfd of the controller, if it is still our parent.
fn pidfd_of_parent(controller: u32) -> Option<OwnedFd> {
    let parent = rustix::process::getppid()?;
    let fd = rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::empty()).ok()?;
    let still = rustix::process::getppid() == Some(parent);
    (still && u32::try_from(parent.as_raw_nonzero().get()) == Ok(controller)).then_some(fd)
}
