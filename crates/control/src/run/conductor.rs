//! The conductor: one thread that listens to guard, agent, probes and signals, writes the event log, and renews the lease.
//!
//! [`Conductor::pump`] does one turn of all that; stages are loops around it. What ends a run early is kept in `halt`; the first wins.

use super::checks::Checks;
use super::folder::RunFolder;
use super::link::{Link, LinkError};
use super::observer::{Interrupt, Observer};
use super::script::Script;
use super::tracker::Tracker;
use crate::board::Board;
use crate::monitor::{Missed, Monitor};
use crate::probe::Context;
use crate::store::{Store, StoreError};
use squall_faults::protocol::ToAgent;
use squall_model::event::{Body, Event, Stage};
use squall_model::exit::Exit;
use squall_model::id::InjectionId;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The longest that a turn waits for a word.
const TURN: Duration = Duration::from_millis(25);
/// Words taken in one turn, so that a flood keeps nobody from the lease.
const WORDS: usize = 500;
const TICK: Duration = Duration::from_millis(250);
/// The lease is renewed this many times while it lasts.
const RENEWALS: u32 = 5;
const MISSED_EVERY: Duration = Duration::from_secs(10);

/// Why a run ends before its method does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Halt {
    Interrupted,
    Aborted,
    NotSteady,
    /// Guard or agent is gone.
    Lost,
    /// The host or the agent refused what the run needs; nothing was injected.
    Unmet,
    TimeLimit,
    /// A policy forbids what only now could be judged.
    Refused,
    /// The event log can no longer be written.
    Store(String),
}

impl Halt {
    /// How the run ends for it; `None` leaves it to the analysis.
    pub(super) fn exit(&self) -> Option<Exit> {
        match self {
            Halt::Interrupted => Some(Exit::Interrupted),
            Halt::Aborted => Some(Exit::Aborted),
            Halt::NotSteady => Some(Exit::NotSteady),
            Halt::Lost | Halt::Store(_) => Some(Exit::Bug),
            Halt::Unmet => Some(Exit::Unmet),
            Halt::Refused => Some(Exit::Refused),
            Halt::TimeLimit => None,
        }
    }
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Done,
    Late,
    Halted,
}

/// What guard and agent have said about their end.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) agent_finished: Option<Vec<InjectionId>>,
    pub(super) guard_ended: Option<Vec<InjectionId>>,
    pub(super) agent_gone: bool,
    pub(super) guard_gone: bool,
    pub(super) lost: bool,
}

pub(super) struct Conductor<'a> {
    pub(super) script: &'a Script,
    pub(super) folder: &'a RunFolder,
    pub(super) store: &'a Store,
    pub(super) board: Arc<Board>,
    pub(super) link: Box<dyn Link>,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) interrupt: &'a Interrupt,
    pub(super) lease: Duration,
    pub(super) steady: Option<Checks>,
    pub(super) abort: Option<Checks>,
    pub(super) monitor: Option<Monitor>,
    pub(super) tracker: Tracker,
    pub(super) ends: Ends,
    pub(super) halt: Option<Halt>,
    /// Undo has begun: nothing stops it, signals only ask what remains.
    pub(super) ending: bool,
    /// What went wrong in Squall itself.
    pub(super) bugs: Vec<String>,
    /// What guard or agent refused last.
    pub(super) refused: Option<(String, String)>,
    pub(super) heard: u32,
    /// Epochs that the reference run had.
    pub(super) reference_epochs: Option<u64>,
    pub(super) timers: Timers,
}

/// When regular work was last done.
pub(super) struct Timers {
    pub(super) started: Instant,
    pub(super) renewed: Instant,
    pub(super) ticked: Instant,
    pub(super) missed: Instant,
}

impl Timers {
    pub(super) fn start() -> Timers {
        let now = Instant::now();
        Timers {
            started: now,
            renewed: now,
            ticked: now,
            missed: now,
        }
    }
}

impl Conductor<'_> {
    /// One turn: words, readings, lease, signals, limits, a tick for whoever watches.
    pub(super) fn pump(&mut self) {
        let mut wait = TURN;
        for _ in 0..WORDS {
            let Some(word) = self.link.receive(wait) else {
                break;
            };
            self.take_word(word);
            wait = Duration::ZERO;
        }
        self.take_readings();
        self.renew();
        self.hear_signals();
        if !self.ending && self.timers.started.elapsed() >= self.script.time_limit {
            self.note(format!(
                "the time limit of {} s is reached",
                self.script.time_limit.as_secs_f64()
            ));
            self.halt(Halt::TimeLimit);
        }
        if self.timers.ticked.elapsed() >= TICK {
            self.timers.ticked = Instant::now();
            let left = self.lease.saturating_sub(self.timers.renewed.elapsed());
            let live = self.tracker.live(&self.board, &self.store.state(), left);
            self.observer.tick(&live);
        }
        if self.timers.missed.elapsed() >= MISSED_EVERY {
            self.timers.missed = Instant::now();
            let missed = self.monitor.as_ref().map(Monitor::take_missed);
            self.write_missed(missed.unwrap_or_default());
        }
    }

    /// Turns until `done` says so, the time is up, or the run is halted.
    pub(super) fn until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Waited {
        let deadline = Instant::now() + within;
        loop {
            self.pump();
            if self.halt.is_some() && !self.ending {
                return Waited::Halted;
            }
            if done(self) {
                return Waited::Done;
            }
            if Instant::now() >= deadline {
                return Waited::Late;
            }
        }
    }

    /// Ends the run early. The first reason stands.
    pub(super) fn halt(&mut self, reason: Halt) {
        if self.halt.is_none() {
            self.halt = Some(reason);
        }
    }

    pub(super) fn stage(&mut self, stage: Stage) {
        self.record(Body::StageEntered { stage });
        self.observer.stage(stage);
        for checks in [&mut self.steady, &mut self.abort].into_iter().flatten() {
            checks.write_afresh();
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.record(Body::Note { text: text.into() });
    }

    /// Writes an event of now.
    pub(super) fn record(&mut self, body: Body) {
        self.record_at(self.store.clock().now_ns(), body);
    }

    /// Writes an event. One that cannot stand there is a bug of ours: told, and the run goes on to its undo.
    pub(super) fn record_at(&mut self, t_ns: u64, body: Body) {
        match self.store.append_at(t_ns, body) {
            Ok(event) => self.written(&event),
            Err(StoreError::Illegal(error)) => {
                self.bugs.push(error.to_string());
                let text = format!("a bug of Squall's: {error}");
                if let Ok(event) = self.store.append_at(t_ns, Body::Note { text }) {
                    self.written(&event);
                }
            }
            Err(error) => {
                self.bugs.push(error.to_string());
                self.halt(Halt::Store(error.to_string()));
            }
        }
    }

    fn written(&mut self, event: &Event) {
        self.board.note(event);
        self.tracker.note(event);
        self.observer.event(event);
    }

    /// Speaks to the agent; a line that is gone halts the run.
    pub(super) fn say(&mut self, word: &ToAgent) -> bool {
        let said = self.link.send(word);
        self.line_holds(said)
    }

    fn line_holds(&mut self, said: Result<(), LinkError>) -> bool {
        match said {
            Ok(()) => true,
            Err(error) => {
                self.lost(error.to, error.source.to_string());
                false
            }
        }
    }

    /// Guard or agent is gone. What it was told to do ends with it, so the loss after the end is none.
    pub(super) fn lost(&mut self, what: &str, because: String) {
        let done = self.ends.agent_finished.is_some();
        if !done && !self.ends.lost {
            self.ends.lost = true;
            self.record(Body::Lost {
                what: what.to_owned(),
                because,
            });
            self.halt(Halt::Lost);
        }
    }

    fn renew(&mut self) {
        if self.timers.renewed.elapsed() >= self.lease / RENEWALS
            && self.ends.agent_finished.is_none()
        {
            self.timers.renewed = Instant::now();
            let said = self.link.renew();
            self.line_holds(said);
        }
    }

    fn hear_signals(&mut self) {
        let count = self.interrupt.count();
        if count > self.heard {
            if self.heard == 0 && !self.ending {
                let signal = self.interrupt.signal();
                self.record(Body::Interrupted { signal });
                self.halt(Halt::Interrupted);
            } else {
                let remains = self.remains();
                self.observer.remains(&remains);
            }
            self.heard = count;
        }
    }

    fn remains(&self) -> String {
        let state = self.store.state();
        let ids: Vec<&str> = state
            .outstanding()
            .map(|injection| injection.id.0.as_str())
            .collect();
        match (ids.is_empty(), self.ending) {
            (true, true) => "the workload is being ended; nothing is injected any more".into(),
            (true, false) => "the run is about to end; nothing is injected".into(),
            (false, _) => format!(
                "{} being undone: {}",
                if ids.len() == 1 {
                    "one injection is"
                } else {
                    "injections are"
                },
                ids.join(" ")
            ),
        }
    }

    fn take_readings(&mut self) {
        let readings: Vec<_> = [&mut self.steady, &mut self.abort]
            .into_iter()
            .flatten()
            .flat_map(Checks::take)
            .collect();
        for (t_ns, body) in readings {
            self.record_at(t_ns, body);
        }
        let ended = self.workload_ended();
        let firing = self.abort.as_ref().and_then(|abort| abort.firing(ended));
        if let Some((check, measured)) = firing
            && !self.ending
            && self.halt.is_none()
        {
            self.record(Body::AbortFired { check, measured });
            self.halt(Halt::Aborted);
        }
    }

    pub(super) fn write_missed(&mut self, missed: Missed) {
        for (what, count) in [
            ("monitor turns that came too late", missed.turns),
            ("processes beyond those monitored", missed.processes),
            ("samples that the store could not take", missed.samples),
        ] {
            if count > 0 {
                self.record(Body::Dropped {
                    what: what.into(),
                    count,
                });
            }
        }
    }

    /// The owned workload has ended by itself or was ended. One that is only watched never counts as ended.
    pub(super) fn workload_ended(&self) -> bool {
        self.board
            .of_workload(|workload| workload.ended.is_some())
            .unwrap_or(false)
    }

    /// Where probes look.
    pub(super) fn probe_context(&self) -> Context {
        Context {
            board: self.board.clone(),
            out: self.folder.out(),
            log: self.folder.log(None),
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }
}
