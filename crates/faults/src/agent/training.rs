//! What the training processes say, by hook and by log, and how held ones are answered.

use super::core::Agent;
use super::hook::{ClientId, FromHook, Request};
use super::injection::Job;
use super::procs;
use super::shared::Hold;
use crate::fault::Injectable;
use squall_model::event::{Body, Place};
use squall_model::hook::{FromAgent, HoldReached, HoldSpec, TrainingEvent};
use squall_model::id::RuleId;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Ranks and epochs whose requests one rule grants.
const GRANTED_MAX: usize = 65_536;

/// At most so many a second, with one second's worth saved up.
#[derive(Debug)]
pub(super) struct Rate {
    a_second: u64,
    left: u64,
    filled_ns: u64,
}

impl Rate {
    pub(super) fn new(a_second: u64) -> Rate {
        Rate {
            a_second,
            left: a_second,
            filled_ns: 0,
        }
    }

    pub(super) fn spend(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.filled_ns) >= 1_000_000_000 {
            self.filled_ns = now_ns;
            self.left = self.a_second;
        }
        let enough = self.left > 0;
        self.left = self.left.saturating_sub(1);
        enough
    }
}

/// Who sent a training event.
struct Sender {
    rank: Option<u32>,
    restart: u32,
    pid: Option<u32>,
    source: &'static str,
}

impl<L: Injectable> Agent<L> {
    pub(super) fn take_hooks(&mut self, said: Vec<FromHook>) {
        for word in said {
            match word {
                FromHook::Hello { .. } => self.announce(),
                FromHook::Event {
                    client,
                    event,
                    boot_ns,
                } => self.hook_event(client, *event, boot_ns),
                FromHook::Held { client, hold } => self.held(client, hold),
                FromHook::Request { client, request } => self.requested(client, request),
                FromHook::Gone { client, .. } => {
                    self.waiting.retain(|hold| hold.client != client);
                    self.announce();
                }
                FromHook::Dropped { what, count } => self.count_dropped(&what, count),
            }
        }
    }

    /// Who stands for which rank has changed.
    fn announce(&mut self) {
        if let Some(hooks) = &self.hooks {
            let mut scope = self
                .shared
                .scope
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            scope.announced = hooks.announced();
        }
        self.armed_holds = None;
    }

    fn hook_event(&mut self, client: ClientId, event: TrainingEvent, boot_ns: u64) {
        let Some((hello, pid)) = self.hooks.as_ref().and_then(|hooks| hooks.who(client)) else {
            return;
        };
        let sender = Sender {
            rank: hello.rank,
            restart: hello.restart,
            pid: Some(pid),
            source: "hook",
        };
        if event.kind == "hold-expired" {
            for hold in &self.waiting {
                if hold.client == client && event.id.as_ref() == Some(&hold.id) {
                    hold.expired.store(true, Ordering::SeqCst);
                }
            }
        }
        self.trained(&sender, event, boot_ns);
    }

    fn trained(&mut self, sender: &Sender, event: TrainingEvent, boot_ns: u64) {
        // A stack tells where a process stands, not that it went on: it comes between a phase's begin and its hold.
        if event.kind != "stack" {
            let now = procs::boot_ns();
            self.shared
                .positions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .saw(sender.rank, &event);
            if self.ending.is_none() {
                self.drive_all(|trigger| trigger.training(sender.rank, &event, now));
            }
        }
        let (step, epoch) = (event.step.unwrap_or(0), event.epoch.unwrap_or(0));
        match event.kind.as_str() {
            "step-end" => self.rules.high_step = self.rules.high_step.max(step),
            "epoch-end" => self.rules.high_epoch = self.rules.high_epoch.max(epoch),
            _ => {}
        }
        let reference = self
            .workload
            .as_ref()
            .is_some_and(|workload| workload.reference());
        let body = Body::Training {
            reference,
            rank: sender.rank,
            restart: sender.restart,
            pid: sender.pid,
            source: sender.source.into(),
            event,
        };
        self.event_at(boot_ns, body);
    }

    fn held(&mut self, client: ClientId, reached: HoldReached) {
        let rank = self
            .hooks
            .as_ref()
            .and_then(|hooks| hooks.who(client))
            .and_then(|(hello, _)| hello.rank);
        let place = Place {
            step: reached.step,
            epoch: reached.epoch,
            phase: Some(reached.phase.clone()),
            rank,
        };
        let hold = self.wait_for(reached.id.clone(), client, place.clone());
        let Some(rule) = rule_of(&reached.id).filter(|rule| self.rules.armed.contains_key(rule))
        else {
            return self.let_go(&hold, false);
        };
        self.event(Body::Held { rule, place });
        self.drive(rule, Some(&hold), |trigger| trigger.held(rank, &reached));
    }

    fn wait_for(&mut self, id: String, client: ClientId, place: Place) -> Hold {
        let hold = Hold {
            id,
            client,
            place,
            since_ns: procs::boot_ns(),
            expired: Arc::default(),
        };
        self.waiting.push(hold.clone());
        hold
    }

    /// A trainer asks to be ended: only where the experiment has armed that very fault for it.
    fn requested(&mut self, client: ClientId, request: Request) {
        let hooks = self.hooks.as_ref();
        let Some((hello, _)) = hooks.and_then(|hooks| hooks.who(client)) else {
            return;
        };
        let asked_by = hooks.and_then(|hooks| hooks.process(client));
        let (rank, role) = (hello.rank, hello.role.clone());
        let rule = self
            .rule_for_request(&request.fault, rank)
            .filter(|_| role != "supervisor" && asked_by.is_some());
        let Some(armed) = rule.and_then(|rule| self.rules.armed.get_mut(&rule)) else {
            let because = format!(
                "the experiment has no armed `{}` that is aimed at this process",
                request.fault
            );
            return self.decline(client, &request.id, &because);
        };
        let position = self.shared.position(rank);
        let place = Place {
            step: request.step.or(position.step),
            epoch: request.epoch.or(position.epoch),
            phase: position.phase,
            rank,
        };
        // After a restart training passes the same epoch again: without this it would be ended there for ever.
        // Whoever has been granted so many invents its epochs.
        let may = armed.requests_left > 0 && armed.granted.len() < GRANTED_MAX;
        let fresh = may && armed.granted.insert((rank, place.epoch));
        let hold = self.wait_for(request.id, client, place.clone());
        let Some(armed) = rule.and_then(|rule| self.rules.armed.get_mut(&rule)) else {
            return;
        };
        if !fresh {
            return self.let_go(&hold, false);
        }
        armed.requests_left -= 1;
        let (rule, occasion) = (armed.plan.rule, u32::MAX - armed.requests_left);
        let plan = armed
            .plan
            .with_grace(request.grace_ms)
            .unwrap_or_else(|| armed.plan.clone());
        self.event(Body::Held {
            rule,
            place: place.clone(),
        });
        self.enqueue(rule, |_| Job {
            plan,
            occasion,
            aim: place,
            hold: Some(hold),
            asked_by,
            follow: None,
        });
    }

    fn decline(&mut self, client: ClientId, request: &str, because: &str) {
        let mut said = Vec::new();
        if let Some(hooks) = &mut self.hooks {
            hooks.refuse(client, request, because, &mut said);
        }
        self.take_hooks(said);
    }

    /// Answers a held process once; one that waits no longer hears nothing.
    pub(super) fn answer(&mut self, hold: &Hold, answer: &FromAgent) {
        let before = self.waiting.len();
        self.waiting
            .retain(|one| (one.client, &one.id) != (hold.client, &hold.id));
        if self.waiting.len() == before {
            return;
        }
        let mut said = Vec::new();
        if let Some(hooks) = &mut self.hooks {
            hooks.answer(hold.client, answer, &mut said);
        }
        self.take_hooks(said);
    }

    /// Tells the hooks which holds are wanted, when that has changed.
    pub(super) fn rearm(&mut self) {
        let Some(hooks) = &mut self.hooks else { return };
        let offered = |rank: Option<u32>| hooks.phases(rank);
        let wanted: Vec<HoldSpec> = self
            .rules
            .armed
            .values_mut()
            .filter(|armed| !armed.disarmed)
            .flat_map(|armed| armed.trigger.holds(&offered))
            .collect();
        if self.armed_holds.as_ref() == Some(&wanted) {
            return;
        }
        let mut said = Vec::new();
        hooks.arm(&wanted, &mut said);
        self.armed_holds = Some(wanted);
        self.take_hooks(said);
    }

    /// Reads the workload's output.
    pub(super) fn hear_workload(&mut self) {
        let now = procs::boot_ns();
        let lines = self
            .workload
            .as_mut()
            .map(|workload| workload.read(now))
            .unwrap_or_default();
        for text in lines {
            self.hear_line(text, now);
        }
    }

    fn hear_line(&mut self, text: String, now: u64) {
        let events = self
            .workload
            .as_ref()
            .map(|workload| workload.events(&text))
            .unwrap_or_default();
        for found in events {
            if !self.rate.spend(now) {
                self.count_dropped("training events from the log", 1);
                continue;
            }
            let sender = Sender {
                rank: found.rank,
                restart: found.restart,
                pid: None,
                source: "log",
            };
            self.trained(&sender, found.event, now);
        }
        if self.ending.is_none() {
            self.drive_all(|trigger| trigger.line(&text));
        }
    }
}

/// The rule a hold belongs to: its id begins with `rN-`.
fn rule_of(hold: &str) -> Option<RuleId> {
    let (number, _) = hold.strip_prefix('r')?.split_once('-')?;
    number.parse().ok().map(RuleId)
}
