//! Containers that end in mid-fault: what was done to them is taken back at once, and where the experiment asks for it a new injection follows them.

use super::core::Agent;
use super::injection::Job;
use super::procs;
use super::shared::Shared;
use super::targets::NoTarget;
use crate::engine::{Engine, Now};
use crate::fault::{Injectable, Target};
use crate::sys::process::Process;
use squall_model::event::{Body, Place};
use squall_model::id::InjectionId;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the engine is asked whether a container is back.
const ASK: Duration = Duration::from_millis(50);

/// A container that an injection acts on, by its first process.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) engine: PathBuf,
    pub(super) name: String,
    pub(super) pid: u32,
    /// `None`: it had ended before it could be watched.
    pub(super) process: Option<Process>,
}

impl Watched {
    /// Begins to watch the target of an injection that has landed, where it is a container.
    pub(super) fn begin(target: &Target) -> Option<Watched> {
        let Target::Container {
            engine, name, init, ..
        } = target
        else {
            return None;
        };
        Some(Watched {
            engine: engine.clone(),
            name: name.clone(),
            pid: init.pid,
            process: Process::open(init).ok().flatten(),
        })
    }

    fn has_ended(&self) -> bool {
        self.process
            .as_ref()
            .is_none_or(|process| process.wait_dead(Duration::ZERO).unwrap_or(true))
    }
}

/// A container whose return is waited for.
#[derive(Debug, Clone)]
pub(super) struct Follow {
    engine: PathBuf,
    name: String,
    /// Its first process before.
    pid: u32,
    /// When the time of the fault is over.
    pub(super) until_ns: u64,
}

impl Follow {
    /// The container when it runs again, within the time of the fault.
    pub(super) fn wait(&self, shared: &Shared) -> Result<Vec<Target>, NoTarget> {
        let engine = Engine::at(self.engine.to_str());
        let mut last = String::from("it was not asked for");
        while procs::boot_ns() < self.until_ns {
            if shared.cancelled.load(Ordering::SeqCst) {
                return Err(NoTarget(format!(
                    "the run ends before the container {} is back",
                    self.name
                )));
            }
            last = match engine.look(&self.name) {
                Ok(Now::Running(container)) if container.pid != self.pid => {
                    match container.target(&engine) {
                        Ok(target) => return Ok(vec![target]),
                        Err(because) => because,
                    }
                }
                Ok(Now::Running(_)) => "its first process is still going down".to_owned(),
                Ok(Now::Ended(status)) => status,
                Ok(Now::Unknown) => "the engine knows it no more".to_owned(),
                Err(error) => error.to_string(),
            };
            std::thread::sleep(ASK);
        }
        Err(NoTarget(format!(
            "the container {} was not back before the fault's time was over: {last}",
            self.name
        )))
    }
}

impl<L: Injectable> Agent<L> {
    /// Takes back what was done to containers that have ended, and remembers those that are to be followed.
    pub(super) fn settle_containers(&mut self) {
        let ended: Vec<InjectionId> = self
            .rules
            .lasting
            .iter()
            .filter(|(_, one)| !one.undoing)
            .filter(|(_, one)| one.watched.as_ref().is_some_and(Watched::has_ended))
            .map(|(id, _)| id.clone())
            .collect();
        for injection in ended {
            if self.ending.is_none() {
                self.container_ended(&injection);
            }
        }
    }

    fn container_ended(&mut self, injection: &InjectionId) {
        let Some(lasting) = self.rules.lasting.get_mut(injection) else {
            return;
        };
        let (rule, until_ns) = (lasting.rule, lasting.until_ns);
        let Some(watched) = lasting.watched.take() else {
            return;
        };
        let armed = self.rules.armed.get(&rule);
        let follows = armed.is_some_and(|armed| armed.follows && !armed.disarmed);
        let then = if follows {
            "it is followed when it comes back"
        } else {
            "it is not injected into again"
        };
        let because = format!(
            "the container {} was lost in mid-fault, its first process {} ended",
            watched.name, watched.pid
        );
        self.event(Body::Note {
            text: format!("{because}; {then}"),
        });
        if let Some(until_ns) = until_ns.filter(|_| follows) {
            let follow = Follow {
                engine: watched.engine,
                name: watched.name,
                pid: watched.pid,
                until_ns,
            };
            self.rules.follow.insert(injection.clone(), (rule, follow));
        }
        self.undo_one(injection, &because);
    }

    /// The injection into a lost container is over: a new one waits for its return.
    pub(super) fn follow(&mut self, injection: &InjectionId) {
        let Some((rule, follow)) = self.rules.follow.remove(injection) else {
            return;
        };
        self.enqueue(rule, |plan| Job {
            plan,
            occasion: 0,
            aim: Place::default(),
            hold: None,
            asked_by: None,
            follow: Some(follow),
        });
    }
}
