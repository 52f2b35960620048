//! One occasion, on a thread of its own: targets are resolved, each is injected through the door, and the world is read back.

use super::containers::{Follow, Watched};
use super::door;
use super::procs;
use super::proxied::{self, Armed};
use super::shared::{FromJob, Hold, Shared};
use super::targets::{self, Permit, Scope};
use crate::fault::{FaultError, Injectable, Target};
use crate::host::Host;
use crate::journal::record::{About, Landing};
use crate::undo::Undo;
use crate::undo::perform::{Outcome, undo_injection};
use squall_model::event::{Body, Observation, Place, Precision, Presence};
use squall_model::hook::HOLD_DEADLINE_MS;
use squall_model::id::{InjectionId, RuleId};
use squall_model::policy::PolicyFile;
use squall_model::process::ProcessIdentity;
use squall_model::syntax::Class;
use squall_model::timing::Selector;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

/// How long after its receipt a trainer's own request may still be acted upon.
const REQUEST_NS: u64 = 4_000_000_000;

/// A rule, as its injections need it.
#[derive(Debug)]
pub(super) struct Plan<L> {
    pub(super) rule: RuleId,
    pub(super) fault: L,
    pub(super) class: Class,
    pub(super) target: Selector,
    /// Who had the pid of the target when the run was planned.
    pub(super) process: Option<ProcessIdentity>,
    /// Policies on what the selector matches at each injection.
    pub(super) policies: Vec<PolicyFile>,
    /// Injections so far: part of their ids.
    pub(super) count: Arc<AtomicU32>,
}

impl<L: Injectable> Plan<L> {
    /// The same with another grace, where the fault has one.
    pub(super) fn with_grace(&self, grace_ms: Option<u64>) -> Option<Arc<Plan<L>>> {
        let mut config = self.fault.config();
        config
            .as_object_mut()?
            .insert("grace".into(), format!("{}ms", grace_ms?).into());
        let fault = L::parse(self.fault.kind(), config)
            .ok()
            .filter(|fault| fault.problems().is_empty())?;
        Some(Arc::new(Plan {
            rule: self.rule,
            fault,
            class: self.class,
            target: self.target.clone(),
            process: self.process.clone(),
            policies: self.policies.clone(),
            count: self.count.clone(),
        }))
    }
}

/// One occasion that was taken.
#[derive(Debug)]
pub(super) struct Job<L> {
    pub(super) plan: Arc<Plan<L>>,
    pub(super) occasion: u32,
    pub(super) aim: Place,
    pub(super) hold: Option<Hold>,
    /// The very process, when it asked for it itself.
    pub(super) asked_by: Option<procs::Known>,
    /// The container that it follows to its return.
    pub(super) follow: Option<Follow>,
}

impl<L> Job<L> {
    /// A request that was not served in time is not served at all: it would land elsewhere.
    fn is_too_late(&self) -> bool {
        let since = self.hold.as_ref().map_or(0, |hold| hold.since_ns);
        procs::boot_ns().saturating_sub(since) > REQUEST_NS
    }
}

/// Runs a job to its end.
pub(super) fn run<L: Injectable>(job: &Job<L>, shared: &Shared) {
    let rule = job.plan.rule;
    let mut scope: Scope = shared
        .scope
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    scope.choice = [rule.0.to_le_bytes(), job.occasion.to_le_bytes()].concat();
    scope.planned = job.plan.process.clone();
    scope.permit = permit(&job.plan);
    let found = match job.asked_by {
        None if job.follow.is_some() => job
            .follow
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), |follow| follow.wait(shared)),
        Some(_) if job.is_too_late() => Err(targets::NoTarget(
            "the process that asked for it waits no longer".into(),
        )),
        Some(who) => targets::connected(who, job.aim.rank, &scope).map(|target| vec![target]),
        None if in_namespace(&job.plan) => {
            targets::own_namespace(&scope).map(|target| vec![target])
        }
        None => targets::resolve(&job.plan.target, &scope),
    };
    match found {
        Err(none) => shared.event(Body::Skipped {
            rule,
            because: none.to_string(),
        }),
        Ok(found) => {
            let mut landed = false;
            for target in found {
                landed |= inject(job, &target, shared);
            }
            if let Some(hold) = job.hold.clone().filter(|_| landed) {
                shared.tell(FromJob::LetGo { hold, landed });
            }
        }
    }
    // Whoever still waits goes on; one that was answered ignores it.
    if let Some(hold) = job.hold.clone() {
        shared.tell(FromJob::LetGo {
            hold,
            landed: false,
        });
    }
    shared.tell(FromJob::Idle { rule });
}

/// What the policies of the host demand of this rule's targets.
fn permit<L: Injectable>(plan: &Plan<L>) -> Option<Permit> {
    (!plan.policies.is_empty()).then(|| Permit {
        rule: plan.rule,
        kind: plan.fault.kind().to_owned(),
        policies: plan.policies.clone(),
    })
}

/// Aimed at the workload's own network namespace, not at its processes.
fn in_namespace<L: Injectable>(plan: &Plan<L>) -> bool {
    plan.target.workload == Some(true) && plan.fault.fault().needs_namespaces()
}

/// One injection. True when it has landed.
fn inject<L: Injectable>(job: &Job<L>, target: &Target, shared: &Shared) -> bool {
    let plan = &job.plan;
    let fault = plan.fault.fault();
    let unmet = fault.unmet(target, &shared.facts);
    if let Some(unmet) = unmet.first() {
        let because = format!("{} is missing; {}", unmet.what, unmet.remedy);
        shared.event(Body::Skipped {
            rule: plan.rule,
            because,
        });
        return false;
    }
    let injection = InjectionId::derive(
        &shared.run,
        plan.rule,
        plan.count.fetch_add(1, Ordering::SeqCst),
    );
    let about = About {
        rule: Some(plan.rule),
        kind: plan.fault.kind().to_owned(),
        class: plan.class,
        target: match target {
            Target::Namespace { path } if in_namespace(plan) => {
                format!("the workload's own network namespace ({})", path.display())
            }
            other => words(other),
        },
        process: process(target),
        aim: job.aim.clone(),
        mechanism: fault.mechanism(&shared.facts),
    };
    let begun = Body::InjectionBegun {
        injection: injection.clone(),
        rule: plan.rule,
        kind: about.kind.clone(),
        class: plan.class,
        target: about.target.clone(),
        process: about.process.clone(),
        aim: about.aim.clone(),
        mechanism: about.mechanism.clone(),
    };
    let host = Host::new(
        shared.journal.clone(),
        injection.clone(),
        about,
        shared.seed,
        shared.cancelled.clone(),
        shared.spawner.clone(),
    );
    let mut door = door::Watched {
        host,
        job,
        target,
        early: fault.lets_go_early(),
        landing: None,
        begun: Some(begun),
        shared,
    };
    let injected = fault.inject(target, &mut door);
    // It came to no change: what follows tells why.
    door.begun
        .take()
        .into_iter()
        .for_each(|body| shared.event(body));
    let place = door
        .landing
        .take()
        .unwrap_or_else(|| place_now(job, target, shared));
    let changes = door.host.changes();
    let observations = if changes.is_empty() {
        Vec::new()
    } else {
        fault.observe(target, &changes)
    };
    let seen = observations
        .iter()
        .any(|one| one.presence == Presence::Present);
    let failure = match injected {
        Ok(()) if seen && fault.fired(&changes).is_some() => {
            return wait(job, target, &mut door.host, injection, changes, shared);
        }
        Ok(()) if seen => record(&mut door.host, &place, &observations)
            .err()
            .map(|error| error.to_string()),
        Ok(()) => Some("it could not be shown to have acted".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    conclude(job, target, injection, place, failure, observations, shared)
}

/// It is armed, and its time runs. It has landed when it acts; one that is undone before that is told by its undo.
fn wait<L: Injectable>(
    job: &Job<L>,
    target: &Target,
    host: &mut Host,
    injection: InjectionId,
    changes: Vec<Undo>,
    shared: &Shared,
) -> bool {
    let plan = job.plan.clone();
    let rank = match target {
        Target::Process { rank, .. } => *rank,
        _ => job.aim.rank,
    };
    let armed = Armed {
        look: Box::new(move || plan.fault.fault().fired(&changes)),
        rank,
        is_aimed: job.aim != Place::default(),
    };
    let all = || shared.armed.lock().unwrap_or_else(PoisonError::into_inner);
    all().insert(injection.clone(), armed);
    shared.tell(FromJob::Lasts {
        rule: job.plan.rule,
        injection: injection.clone(),
        landed_ns: procs::boot_ns(),
        until_ns: job.follow.as_ref().map(|follow| follow.until_ns),
        watched: Watched::begin(target),
    });
    while !shared.cancelled.load(Ordering::SeqCst) {
        let mut waiting = all();
        let Some(one) = waiting.get(&injection) else {
            return false;
        };
        let seen = (one.look)().filter(|seen| seen.presence == Presence::Present);
        if let Some(seen) = seen
            && let Some(one) = waiting.remove(&injection)
        {
            let body = proxied::landed(&injection, &one, seen.clone(), shared);
            // What cannot be recorded is undone all the same: the intent is durable.
            if let Err(error) = host.land(None, vec![seen]) {
                let text = format!("that it landed could not be recorded: {error}");
                shared.event(Body::Note { text });
            }
            shared.event(body);
            return true;
        }
        drop(waiting);
        std::thread::sleep(proxied::LOOK);
    }
    false
}

fn record(
    host: &mut Host,
    landing: &Landing,
    observations: &[Observation],
) -> Result<(), FaultError> {
    host.land(Some(landing.clone()), observations.to_vec())
}

/// Says what came of it. What failed half-way is undone at once.
fn conclude<L: Injectable>(
    job: &Job<L>,
    target: &Target,
    injection: InjectionId,
    landing: Landing,
    failure: Option<String>,
    observations: Vec<Observation>,
    shared: &Shared,
) -> bool {
    let (plan, rule) = (&job.plan, job.plan.rule);
    let landed = failure.is_none();
    match failure {
        None => {
            let Landing {
                place,
                precision,
                held_ns,
            } = landing;
            shared.event(Body::Landed {
                injection: injection.clone(),
                place,
                precision,
                held_ns,
                observations,
            });
        }
        Some(because) => {
            shared.event(Body::NotLanded {
                injection: injection.clone(),
                because: because.clone(),
                observations,
            });
            undo(&injection, &format!("it did not land: {because}"), shared);
        }
    }
    if landed && plan.class != Class::OneShot {
        shared.tell(FromJob::Lasts {
            rule,
            injection,
            landed_ns: procs::boot_ns(),
            until_ns: job.follow.as_ref().map(|follow| follow.until_ns),
            watched: Watched::begin(target),
        });
    } else {
        shared.tell(FromJob::Over { rule, injection });
    }
    landed
}

/// Undoes one injection and reports it.
pub(super) fn undo(injection: &InjectionId, because: &str, shared: &Shared) {
    let by = "agent".to_owned();
    proxied::last_look(injection, shared);
    shared.event(Body::UndoBegun {
        injection: injection.clone(),
        because: because.to_owned(),
        by: by.clone(),
    });
    let outcome = undo_injection(&shared.journal, injection, because);
    shared.event(match outcome {
        None => Body::Undone {
            injection: injection.clone(),
            by,
            observations: vec![nothing_done()],
        },
        Some(Outcome {
            stuck: Some(stuck), ..
        }) => Body::Stuck {
            injection: injection.clone(),
            by,
            because: stuck.because,
            remedy: stuck.remedy,
        },
        Some(outcome) => Body::Undone {
            injection: injection.clone(),
            by,
            observations: outcome.observations,
        },
    });
}

fn nothing_done() -> Observation {
    Observation {
        presence: Presence::Absent,
        source: "journal".into(),
        evidence: "nothing had been changed".into(),
    }
}

/// Where it landed, and how well that is known.
pub(super) fn place_now<L: Injectable>(job: &Job<L>, target: &Target, shared: &Shared) -> Landing {
    let rank = match target {
        Target::Process { rank, .. } => *rank,
        _ => None,
    };
    let now = procs::boot_ns();
    let observed = || shared.position(rank.or(job.aim.rank));
    match &job.hold {
        Some(hold) => {
            let held_ns = now.saturating_sub(hold.since_ns);
            let late =
                hold.expired.load(Ordering::SeqCst) || held_ns >= HOLD_DEADLINE_MS * 1_000_000;
            let (place, precision) = if late {
                (observed(), Precision::Late)
            } else {
                (hold.place.clone(), Precision::Held)
            };
            Landing {
                place,
                precision,
                held_ns: Some(held_ns),
            }
        }
        None => {
            let aimed = job.aim != Place::default();
            let precision = if aimed {
                Precision::Observed
            } else {
                Precision::NotAimed
            };
            Landing {
                place: observed(),
                precision,
                held_ns: None,
            }
        }
    }
}

fn process(target: &Target) -> Option<ProcessIdentity> {
    match target {
        Target::Process { identity, .. } | Target::Container { init: identity, .. } => {
            Some(identity.clone())
        }
        _ => None,
    }
}

fn words(target: &Target) -> String {
    match target {
        Target::Process {
            identity,
            rank: Some(rank),
            command,
        } => format!("rank {rank} pid {} ({command})", identity.pid),
        Target::Process {
            identity,
            rank: None,
            command,
        } => format!("pid {} ({command})", identity.pid),
        Target::File { path } => format!("file {}", path.display()),
        Target::Namespace { path } => format!("network namespace {}", path.display()),
        Target::Container {
            id,
            name,
            init,
            shares_network_with: others,
            ..
        } => {
            let id = id.get(..12).unwrap_or(id);
            let shared = match others.as_slice() {
                [] => String::new(),
                others => format!(", its network shared with {}", others.join(", ")),
            };
            format!("container {name} ({id}, pid {}{shared})", init.pid)
        }
        Target::Host => "this machine".into(),
        Target::Proxy { socket } => format!("the proxy at {}", socket.display()),
    }
}
