//! The agent's main loop: who it listens to, and what it does at which moment.

use super::ending::Ending;
use super::guard_calls::GuardCalls;
use super::hook::{FromHook, Hooks, Now};
use super::proxied::EXCHANGES;
use super::rules::Rules;
use super::shared::{FromJob, Hold, Positions, Shared};
use super::targets::Scope;
use super::training::Rate;
use super::workload::Workload;
use super::{HookFile, Options, procs};
use crate::fault::Injectable;
use crate::frames::Frames;
use crate::guard::wire::{self, FromGuard, Received, ToGuard};
use crate::journal::Journal;
use crate::journal::record::Writer;
use crate::protocol::FromAgent;
use crate::sys::spawn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall_model::event::Body;
use squall_model::hook::HoldSpec;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_millis(250);
/// Events of training are dropped, and counted, when the controller is this far behind.
const BEHIND_MAX: usize = 8 * 1024 * 1024;
/// Records a second of holds and of skipped occasions; a trainer can bring about as many as it likes.
const RECORDS_A_SECOND: u64 = 2_000;
/// The longest nap of the loop.
const NAP_NS: u64 = 250_000_000;

/// The agent of one run.
pub(super) struct Agent<L> {
    pub(super) options: Options,
    pub(super) hook_files: &'static [HookFile],
    pub(super) control: Frames,
    guard: Arc<OwnedFd>,
    pub(super) guard_alive: bool,
    pub(super) controller_lost: bool,
    pub(super) calls: Arc<GuardCalls>,
    signals: OwnedFd,
    pub(super) shared: Arc<Shared>,
    from_jobs: Receiver<FromJob>,
    /// Threads that run.
    pub(super) jobs: usize,
    /// Threads that undo.
    pub(super) undos: usize,
    pub(super) hooks: Option<Hooks>,
    /// Until then the hooks are not to wake this loop.
    pub(super) rest_until_ns: u64,
    pub(super) rules: Rules<L>,
    pub(super) workload: Option<Workload>,
    /// Workloads started so far.
    pub(super) starts: u32,
    pub(super) rate: Rate,
    records: Rate,
    /// Processes that wait for an answer.
    pub(super) waiting: Vec<Hold>,
    /// What the hooks were told last.
    pub(super) armed_holds: Option<Vec<HoldSpec>>,
    /// Children that ended before their start was announced.
    pub(super) early_ends: Vec<(u32, Option<i32>, Option<i32>)>,
    beaten: Option<Instant>,
    pub(super) lease_ns: u64,
    pub(super) greeted: bool,
    pub(super) ending: Option<Ending>,
    dropped: BTreeMap<String, u64>,
    told_dropped: Instant,
}

impl<L: Injectable> Agent<L> {
    /// Takes over what the guard passed.
    pub(super) fn start(options: Options, hook_files: &'static [HookFile]) -> io::Result<Agent<L>> {
        let signals = spawn::signals(&spawn::ENDING)?;
        let control = Frames::new(spawn::inherited(options.control_fd)?)?;
        let guard = Arc::new(spawn::inherited(options.guard_fd)?);
        let journal = std::fs::File::from(spawn::inherited(options.journal_fd)?);
        let journal = Journal::adopt(journal, &options.run_dir, Writer::Agent)?;
        let calls = Arc::new(GuardCalls::new(guard.clone(), options.run_dir.join("logs")));
        let (out, from_jobs) = channel();
        let own = [std::process::id(), options.controller].into_iter();
        let guard_pid = rustix::process::getppid()
            .and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        let scope = Scope {
            own: own.chain(guard_pid).collect(),
            ..Scope::default()
        };
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let shared = Shared {
            run: options.run.clone(),
            seed: 0,
            facts: crate::kind::HostFacts::read(),
            journal: Arc::new(Mutex::new(journal)),
            cancelled: Arc::default(),
            spawner: calls.clone(),
            positions: Mutex::new(Positions::default()),
            scope: Mutex::new(scope),
            proxy: Mutex::default(),
            armed: Mutex::default(),
            out,
            wake: rustix::event::eventfd(0, flags)?,
        };
        Ok(Agent {
            lease_ns: procs::boot_ns().saturating_add(options.lease_ms.saturating_mul(1_000_000)),
            options,
            hook_files,
            control,
            guard,
            guard_alive: true,
            controller_lost: false,
            calls,
            signals,
            shared: Arc::new(shared),
            from_jobs,
            jobs: 0,
            undos: 0,
            hooks: None,
            rest_until_ns: 0,
            rules: Rules::default(),
            workload: None,
            starts: 0,
            rate: Rate::new(1000),
            records: Rate::new(RECORDS_A_SECOND),
            waiting: Vec::new(),
            armed_holds: None,
            early_ends: Vec::new(),
            beaten: None,
            greeted: false,
            ending: None,
            dropped: BTreeMap::new(),
            told_dropped: Instant::now(),
        })
    }

    /// Runs until everything is undone and said. An error leaves what is outstanding to the guard.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            self.beat();
            self.wait()?;
            self.hear_signals()?;
            self.hear_guard();
            self.hear_controller();
            self.hear_jobs();
            self.hear_workload();
            self.settle_containers();
            self.hear_hooks()?;
            self.settle_workload();
            self.on_time();
            if self.ended()? {
                return Ok(());
            }
            self.rearm();
            self.control.flush()?;
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.shared.wake, PollFlags::IN),
        ];
        if self.guard_alive {
            polled.push(PollFd::new(&*self.guard, PollFlags::IN));
        }
        if !self.control.ended() {
            let mut flags = PollFlags::IN;
            if self.control.queued() > 0 {
                flags |= PollFlags::OUT;
            }
            polled.push(PollFd::new(&self.control, flags));
        }
        let now = procs::boot_ns();
        let rest = self.rest_left(now);
        polled.extend(self.hooks.iter().map(|hooks| match rest {
            Some(_) => PollFd::new(hooks.listener(), PollFlags::IN),
            None => PollFd::new(hooks, PollFlags::IN),
        }));
        polled.extend(
            self.rules
                .watched()
                .map(|process| PollFd::new(process, PollFlags::IN)),
        );
        let output = self.workload.as_ref().and_then(Workload::output);
        polled.extend(
            output
                .iter()
                .map(|output| PollFd::new(*output, PollFlags::IN)),
        );
        let next = self
            .rules
            .next_deadline_ns()
            .map_or(NAP_NS, |at| at.saturating_sub(now).min(NAP_NS));
        let next = next.min(rest.unwrap_or(NAP_NS));
        let until_beat = self
            .beaten
            .map_or(Duration::ZERO, |at| BEAT.saturating_sub(at.elapsed()));
        let nap = next.min(u64::try_from(until_beat.as_nanos()).unwrap_or(NAP_NS));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(nap).unwrap_or(0),
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn beat(&mut self) {
        if self.guard_alive && self.beaten.is_none_or(|at| at.elapsed() >= BEAT) {
            // A guard that does not read is stopped; its death would show as end of file.
            wire::send(&self.guard, &ToGuard::Beat, &[]).unwrap_or_default();
            self.beaten = Some(Instant::now());
        }
    }

    pub(super) fn tell_guard(&self, word: &ToGuard) {
        wire::send(&self.guard, word, &[]).unwrap_or_default();
    }

    fn hear_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = spawn::next_signal(&self.signals)? {
            let signal = spawn::signal_name(signal);
            self.interrupted(format!("{signal} to the agent"));
            self.end(&format!("the agent got {signal}"));
        }
        Ok(())
    }

    /// Somebody else ends the run. At its end already, that changes nothing.
    fn interrupted(&mut self, signal: String) {
        if self.ending.is_none() {
            self.event(Body::Interrupted { signal });
        }
    }

    pub(super) fn hear_guard(&mut self) {
        while self.guard_alive {
            match wire::receive(&self.guard) {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(FromGuard::Spawned { request, process }, _)) => {
                    self.calls.answered(request, Ok(process))
                }
                Ok(Received::Message(FromGuard::SpawnFailed { request, because }, _)) => {
                    self.calls.answered(request, Err(because));
                }
                Ok(Received::Message(FromGuard::Exited { pid, exit, signal }, _)) => {
                    self.calls.exited(pid);
                    self.child_ended(pid, exit, signal);
                    self.server_ended(pid, exit, signal);
                }
                Ok(Received::Message(FromGuard::Finish { because, signal }, _)) => {
                    if let Some(signal) = signal {
                        self.interrupted(format!("{signal} to the guard"));
                    }
                    self.end(&because);
                }
                Ok(Received::End) | Err(_) => {
                    self.guard_alive = false;
                    self.calls.fail_all();
                    self.event(Body::Lost {
                        what: "guard".into(),
                        because: "its line to the agent ended".into(),
                    });
                    self.end("the guard was lost");
                }
            }
        }
    }

    fn hear_jobs(&mut self) {
        rustix::io::read(&self.shared.wake, &mut [0u8; 8]).unwrap_or_default();
        while let Ok(word) = self.from_jobs.try_recv() {
            match word {
                FromJob::Event { boot_ns, body } => self.event_at(boot_ns, *body),
                FromJob::LetGo { hold, landed } => self.let_go(&hold, landed),
                FromJob::Lasts {
                    rule,
                    injection,
                    landed_ns,
                    until_ns,
                    watched,
                } => self.lasts(rule, injection, landed_ns, until_ns, watched),
                FromJob::Over { rule, injection } => self.over(rule, &injection),
                FromJob::Idle { rule } => {
                    self.jobs -= 1;
                    self.idle(rule);
                }
                FromJob::Started { started } => {
                    self.jobs -= 1;
                    self.workload_started(started);
                }
                FromJob::WorkloadEnded { evidence, job } => {
                    self.undos -= usize::from(job);
                    self.workload_undone(evidence);
                }
                FromJob::Freed => self.undos -= 1,
                FromJob::AllUndone => self.all_undone(),
            }
        }
    }

    fn hear_hooks(&mut self) -> io::Result<()> {
        let now = Now::read();
        let mut said = Vec::new();
        if let Some(hooks) = &mut self.hooks {
            let read = hooks.serve(now, &mut said)?;
            self.rest_from_hooks(now.boot_ns, read, &said);
        }
        self.take_hooks(said);
        Ok(())
    }

    /// Timers: triggers, ends of injections, counts of what was dropped.
    fn on_time(&mut self) {
        self.tick();
        if self.told_dropped.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.told_dropped = Instant::now();
        let mut said: Vec<FromHook> = Vec::new();
        if let Some(hooks) = &mut self.hooks {
            hooks.dropped(&mut said);
        }
        self.take_hooks(said);
        let lost = self.workload.as_mut().map_or(0, Workload::lost_lines);
        self.count_dropped("lines of the workload's log", lost);
        for (what, count) in std::mem::take(&mut self.dropped) {
            self.event(Body::Dropped { what, count });
        }
    }

    /// Counts what could not be kept; it is reported within a second.
    pub(super) fn count_dropped(&mut self, what: &str, count: u64) {
        if count > 0 {
            *self.dropped.entry(what.to_owned()).or_default() += count;
        }
    }

    /// Reports what happened now.
    pub(super) fn event(&mut self, body: Body) {
        self.event_at(procs::boot_ns(), body);
    }

    pub(super) fn event_at(&mut self, boot_ns: u64, body: Body) {
        if matches!(body, Body::Exchanged { .. }) && self.is_behind() {
            return self.count_dropped(EXCHANGES, 1);
        }
        let of_holds = matches!(body, Body::Held { .. } | Body::Skipped { .. });
        if of_holds && (self.is_behind() || !self.records.spend(procs::boot_ns())) {
            return self.count_dropped("records of holds and of skipped occasions", 1);
        }
        if matches!(body, Body::Training { .. }) && self.is_behind() {
            return self.count_dropped("training events, because the controller is behind", 1);
        }
        self.send(&FromAgent::Event {
            boot_ns,
            body: Box::new(body),
        });
    }

    pub(super) fn is_behind(&self) -> bool {
        self.control.queued() > BEHIND_MAX
    }

    pub(super) fn refuse(&mut self, request: &str, because: &str, remedy: &str) {
        self.send(&FromAgent::Refused {
            request: request.into(),
            because: because.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn send(&mut self, message: &FromAgent) {
        if !self.control.ended() && self.control.push(message).is_err() {
            self.count_dropped("messages that were too long", 1);
        }
    }
}
