//! Armed rules: what their triggers decide becomes jobs, one at a time for each rule.

use super::containers::{Follow, Watched};
use super::core::Agent;
use super::injection::{self, Job, Plan};
use super::procs;
use super::shared::Hold;
use crate::fault::Injectable;
use crate::protocol::Rule;
use crate::sys::process::Process;
use squall_model::event::Body;
use squall_model::hook::FromAgent;
use squall_model::id::{InjectionId, RuleId};
use squall_model::rule::{Occasion, Outcome, Trigger};
use squall_model::syntax::Class;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Occasions of one rule that may wait for its running one.
const QUEUE_MAX: usize = 16;

/// All rules of this agent.
#[derive(Debug)]
pub(super) struct Rules<L> {
    pub(super) armed: BTreeMap<RuleId, Armed<L>>,
    /// Lasting injections, and when each is to be undone.
    pub(super) lasting: BTreeMap<InjectionId, Lasting>,
    /// Injections whose served children ended before they were known to last, and how.
    pub(super) lost_early: BTreeMap<InjectionId, String>,
    /// Injections into containers that were lost, each to be followed by a new one when it is undone.
    pub(super) follow: BTreeMap<InjectionId, (RuleId, Follow)>,
    /// The most steps and epochs that were ever completed.
    pub(super) high_step: u64,
    pub(super) high_epoch: u64,
}

#[derive(Debug)]
pub(super) struct Armed<L> {
    pub(super) plan: Arc<Plan<L>>,
    pub(super) trigger: Trigger,
    pub(super) name: Option<String>,
    pub(super) duration_ns: Option<u64>,
    /// A container that comes back in the fault's time is injected into anew.
    pub(super) follows: bool,
    /// Occasions that a trainer itself may still ask for.
    pub(super) requests_left: u32,
    /// Ranks and epochs for which a trainer's own request was granted.
    pub(super) granted: BTreeSet<(Option<u32>, Option<u64>)>,
    pub(super) running: bool,
    pub(super) queue: VecDeque<Job<L>>,
    /// Why no further occasion will come. Told when its last injection has ended too.
    pub(super) spent: Option<String>,
    pub(super) told: bool,
    /// The controller wants no more of it.
    pub(super) disarmed: bool,
    /// It was armed. Before, it is only watched: see [`super::early`].
    pub(super) begun: bool,
    /// An occasion came before it was armed, and nobody could be held for it.
    pub(super) missed: bool,
}

#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) rule: RuleId,
    pub(super) until_ns: Option<u64>,
    pub(super) undoing: bool,
    /// The container it acts on.
    pub(super) watched: Option<Watched>,
}

impl<L> Default for Rules<L> {
    fn default() -> Self {
        Rules {
            armed: BTreeMap::new(),
            lasting: BTreeMap::new(),
            lost_early: BTreeMap::new(),
            follow: BTreeMap::new(),
            high_step: 0,
            high_epoch: 0,
        }
    }
}

impl<L> Rules<L> {
    /// The next moment at which something is due.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let triggers = self
            .armed
            .values()
            .filter(|armed| !armed.disarmed)
            .filter_map(|armed| armed.trigger.next_deadline_ns());
        let ends = self
            .lasting
            .values()
            .filter(|one| !one.undoing)
            .filter_map(|one| one.until_ns);
        triggers.chain(ends).min()
    }

    /// First processes of containers that are acted on, while they live.
    pub(super) fn watched(&self) -> impl Iterator<Item = &Process> {
        self.lasting
            .values()
            .filter(|one| !one.undoing)
            .filter_map(|one| one.watched.as_ref()?.process.as_ref())
    }

    pub(super) fn disarm_all(&mut self) {
        self.armed.clear();
    }
}

impl<L: Injectable> Agent<L> {
    pub(super) fn arm(&mut self, rule: Rule) {
        if self.ending.is_some() {
            return self.refuse("arm", "the run is ending", "");
        }
        if let Err((because, remedy)) = self.try_arm(rule) {
            self.refuse("arm", &because, &remedy);
        }
    }

    fn try_arm(&mut self, rule: Rule) -> Result<(), (String, String)> {
        if self.go_on(&rule)? {
            return Ok(());
        }
        let (id, kind, name) = (rule.id, rule.kind.clone(), rule.keys.name.clone());
        let rank = rule.target.rank;
        let mut armed = self.read(rule)?;
        self.check_phase(&armed.trigger, rank)?;
        armed.begun = true;
        let aim = armed.trigger.aim_text();
        self.rules.armed.insert(id, armed);
        self.event(Body::Armed {
            rule: id,
            kind,
            name,
            aim,
        });
        self.drive(id, None, |trigger| trigger.start(procs::boot_ns()));
        Ok(())
    }

    /// What is to be armed, read and not yet armed.
    pub(super) fn read(&self, rule: Rule) -> Result<Armed<L>, (String, String)> {
        let plain = |because: String| (because, String::new());
        let fault = L::parse(&rule.kind, rule.config)
            .map_err(|(path, reason)| plain(format!("{}.{path}: {reason}", rule.kind)))?;
        let info = L::kinds()
            .iter()
            .find(|info| info.kind == rule.kind)
            .ok_or_else(|| plain(format!("there is no fault `{}`", rule.kind)))?;
        let rank = rule.target.rank;
        let mut trigger =
            Trigger::new(self.shared.seed, rule.id, &rule.keys, rank, rule.last_epoch)
                .map_err(plain)?;
        trigger.set_high_water(self.rules.high_step, self.rules.high_epoch);
        let plan = Plan {
            rule: rule.id,
            fault,
            class: info.class,
            target: rule.target,
            process: rule.process,
            policies: rule.policies,
            count: Arc::new(AtomicU32::new(0)),
        };
        let repeats = rule.keys.every.is_some()
            || rule.keys.mean_time_between.is_some()
            || rule.keys.on_request == Some(true);
        Ok(Armed {
            plan: Arc::new(plan),
            trigger,
            name: rule.keys.name,
            follows: rule.keys.follow_restarts == Some(true),
            duration_ns: rule.keys.duration.map(|duration| duration.as_nanos()),
            requests_left: rule
                .keys
                .times
                .unwrap_or(if repeats { u32::MAX } else { 1 }),
            granted: BTreeSet::new(),
            running: false,
            queue: VecDeque::new(),
            spent: None,
            told: false,
            disarmed: false,
            begun: false,
            missed: false,
        })
    }

    /// A phase that no hook of the aimed rank can be held in is refused by name.
    pub(super) fn check_phase(
        &self,
        trigger: &Trigger,
        rank: Option<u32>,
    ) -> Result<(), (String, String)> {
        let (Some(phase), Some(hooks)) = (trigger.phase(), &self.hooks) else {
            return Ok(());
        };
        let offered = hooks.phases(rank);
        if offered.is_empty() || offered.iter().any(|one| one == phase) {
            return Ok(());
        }
        let who = rank.map_or("the trainer".to_owned(), |rank| format!("rank {rank}"));
        Err((
            format!("{who} cannot be held in phase `{phase}`"),
            format!("aim at one of: {}", offered.join(", ")),
        ))
    }

    /// Asks the trigger of one rule, and acts on what it decides.
    pub(super) fn drive(
        &mut self,
        rule: RuleId,
        held: Option<&Hold>,
        ask: impl FnOnce(&mut Trigger) -> Vec<Outcome>,
    ) {
        let Some(armed) = self.rules.armed.get_mut(&rule) else {
            return;
        };
        if armed.disarmed {
            if let Some(held) = held {
                self.let_go(held, false);
            }
            return;
        }
        for outcome in ask(&mut armed.trigger) {
            match outcome {
                Outcome::Fire(occasion) => self.fire(rule, occasion, held),
                Outcome::Skip { because, .. } => {
                    self.event(Body::Skipped { rule, because });
                    if let Some(held) = held {
                        self.let_go(held, false);
                    }
                }
                Outcome::Done { because } => {
                    if let Some(armed) = self.rules.armed.get_mut(&rule) {
                        armed.spent.get_or_insert(because);
                    }
                    self.tell_ended(rule);
                }
            }
        }
    }

    /// Asks every trigger.
    pub(super) fn drive_all(&mut self, ask: impl Fn(&mut Trigger) -> Vec<Outcome>) {
        let rules: Vec<RuleId> = self.rules.armed.keys().copied().collect();
        for rule in rules {
            self.drive(rule, None, &ask);
        }
    }

    fn fire(&mut self, rule: RuleId, occasion: Occasion, held: Option<&Hold>) {
        let hold = held
            .filter(|held| occasion.hold.as_ref() == Some(&held.id))
            .cloned();
        if let Some(armed) = self.rules.armed.get_mut(&rule)
            && !armed.begun
            && hold.is_none()
        {
            armed.missed = true;
            return;
        }
        self.enqueue(rule, |plan| Job {
            plan,
            occasion: occasion.count,
            aim: occasion.aim,
            hold,
            asked_by: None,
            follow: None,
        });
    }

    /// Starts a job, or lets it wait for the rule's running one.
    pub(super) fn enqueue(&mut self, rule: RuleId, job: impl FnOnce(Arc<Plan<L>>) -> Job<L>) {
        let Some(armed) = self.rules.armed.get_mut(&rule) else {
            return;
        };
        let job = job(armed.plan.clone());
        let lasts = self.rules.lasting.values().any(|one| one.rule == rule);
        let because = if lasts {
            "its last injection is still in the world"
        } else if armed.queue.len() >= QUEUE_MAX {
            "too many occasions wait for the running one"
        } else {
            armed.queue.push_back(job);
            return self.next_job(rule);
        };
        let hold = job.hold;
        self.event(Body::Skipped {
            rule,
            because: because.into(),
        });
        if let Some(hold) = hold {
            self.let_go(&hold, false);
        }
    }

    pub(super) fn next_job(&mut self, rule: RuleId) {
        if self.ending.is_some() {
            return;
        }
        let Some(armed) = self
            .rules
            .armed
            .get_mut(&rule)
            .filter(|armed| armed.begun && !armed.running)
        else {
            return;
        };
        let Some(job) = armed.queue.pop_front() else {
            return;
        };
        armed.running = true;
        let shared = self.shared.clone();
        let started = std::thread::Builder::new().spawn(move || injection::run(&job, &shared));
        match started {
            Ok(_) => self.jobs += 1,
            Err(error) => {
                armed.running = false;
                self.event(Body::Skipped {
                    rule,
                    because: format!("no thread could be started: {error}"),
                });
            }
        }
    }

    /// The running job of a rule is done.
    pub(super) fn idle(&mut self, rule: RuleId) {
        if let Some(armed) = self.rules.armed.get_mut(&rule) {
            armed.running = false;
        }
        self.next_job(rule);
        self.tell_ended(rule);
    }

    /// What is due now.
    pub(super) fn tick(&mut self) {
        let now = procs::boot_ns();
        let due: Vec<InjectionId> = self
            .rules
            .lasting
            .iter()
            .filter(|(_, one)| !one.undoing && one.until_ns.is_some_and(|until| now >= until))
            .map(|(id, _)| id.clone())
            .collect();
        for injection in due {
            self.undo_one(&injection, "its time was over");
        }
        if self.ending.is_none() {
            self.drive_all(|trigger| trigger.tick(now));
        }
    }

    /// Answers a held process, if it still waits.
    pub(super) fn let_go(&mut self, hold: &Hold, landed: bool) {
        let id = hold.id.clone();
        let answer = if landed {
            FromAgent::Landed { id }
        } else {
            FromAgent::Release { id }
        };
        self.answer(hold, &answer);
    }

    /// The rule whose injection a trainer may ask for: of this fault, aimed at this rank or process.
    pub(super) fn rule_for_request(&self, fault: &str, rank: Option<u32>) -> Option<RuleId> {
        let fits = |armed: &&Armed<L>| {
            let target = &armed.plan.target;
            let aimed = match target.rank {
                Some(wanted) => rank == Some(wanted),
                None => target.workload == Some(true),
            };
            let takes = !armed.disarmed && armed.plan.class == Class::OneShot;
            armed.plan.fault.kind() == fault && takes && aimed
        };
        self.rules
            .armed
            .values()
            .find(fits)
            .map(|armed| armed.plan.rule)
    }
}
