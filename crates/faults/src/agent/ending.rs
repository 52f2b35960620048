//! The end of an agent: everything is disarmed, every held process goes on, all is undone newest first, and it says what is left.

use super::core::Agent;
use super::injection;
use super::procs;
use super::proxied;
use super::shared::{FromJob, Shared};
use crate::fault::Injectable;
use crate::guard::wire::ToGuard;
use crate::lease::{self, Lease, LeaseFile};
use crate::protocol::FromAgent;
use crate::undo::perform::{locked, undo_injection};
use squall_model::event::Body;
use squall_model::id::InjectionId;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long injections may take to notice that the run ends. A hung one is left to the guard, which kills this process.
const JOBS: Duration = Duration::from_secs(5);
/// How long all undoing may take, as the guard is told.
const UNDOING_MS: u64 = 60_000;
/// How long the last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How long a lost controller's probes may keep this process from telling the guard that it lives: well below what the guard takes for silence.
const CLEARING: Duration = Duration::from_millis(500);

/// Where the end stands.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) because: String,
    since: Instant,
    undoing: bool,
    undone: Option<Instant>,
    said: bool,
}

impl<L: Injectable> Agent<L> {
    /// Begins to end. Safe to call again.
    pub(super) fn end(&mut self, because: &str) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending {
            because: because.to_owned(),
            since: Instant::now(),
            undoing: false,
            undone: None,
            said: false,
        });
        self.shared.cancelled.store(true, Ordering::SeqCst);
        self.rules.disarm_all();
        if let Some(mut hooks) = self.hooks.take() {
            hooks.close();
        }
        if self.guard_alive {
            self.tell_guard(&ToGuard::Ending {
                within_ms: UNDOING_MS,
            });
        } else if let Err(error) = self.take_lease() {
            let text = format!("the lease could not be prolonged for the undo: {error}");
            self.event(Body::Note { text });
        }
    }

    /// Without a guard nobody else says that this run is still being undone.
    fn take_lease(&self) -> io::Result<()> {
        let mut lease =
            Lease::starting_now(self.options.run.clone(), Duration::from_millis(UNDOING_MS))?;
        lease.agent = procs::identity(std::process::id());
        // Whoever recovers this run must know whether its probes still have a master.
        lease.controller = lease::read(&self.options.run_dir)
            .ok()
            .flatten()
            .and_then(|before| before.controller);
        LeaseFile::create(&self.options.run_dir, &lease).map(drop)
    }

    /// Drives the end; true when this process may exit.
    pub(super) fn ended(&mut self) -> io::Result<bool> {
        let Some(ending) = &mut self.ending else {
            return Ok(false);
        };
        if !ending.undoing {
            if self.undos > 0 || (self.jobs > 0 && ending.since.elapsed() < JOBS) {
                return Ok(false);
            }
            if self.jobs > 0 && self.guard_alive {
                return Err(io::Error::other(
                    "an injection does not stop; the guard undoes it",
                ));
            }
            ending.undoing = true;
            let (shared, because) = (self.shared.clone(), ending.because.clone());
            std::thread::Builder::new().spawn(move || undo_everything(&shared, &because))?;
            return Ok(false);
        }
        let Some(undone) = ending.undone else {
            return Ok(false);
        };
        if !ending.said {
            if !self.workload_settled(undone.elapsed()) {
                return Ok(false);
            }
            if let Some(ending) = &mut self.ending {
                ending.said = true;
            }
            self.clear_after_guard();
            self.clear_after_controller();
            let outstanding = locked(&self.shared.journal)
                .state()
                .outstanding()
                .map(|one| one.id.clone())
                .collect();
            self.send(&FromAgent::Finished { outstanding });
        }
        self.control.flush()?;
        let over =
            self.control.queued() == 0 || self.control.ended() || undone.elapsed() > LAST_WORDS;
        if over {
            // It may have died since; once we are gone, nobody else clears up after it.
            self.hear_guard();
            self.clear_after_guard();
        }
        Ok(over)
    }

    /// A guard that is dead has left its cgroup.
    fn clear_after_guard(&mut self) {
        if self.guard_alive {
            return;
        }
        let removed = crate::guard::cgroup::remove(&self.options.run_dir, &self.options.run);
        if let Err(error) = removed {
            let text = format!("the guard's cgroup is left to the next command: {error}");
            self.event(Body::Note { text });
        }
    }

    /// Ends what a lost controller's probes had started. The guard does so too, unless it is stopped or dead.
    fn clear_after_controller(&mut self) {
        if self.controller_lost {
            // What cannot be ended now is found by the next command.
            crate::recover::probes::end_left(&self.options.run, CLEARING).unwrap_or_default();
        }
    }

    pub(super) fn all_undone(&mut self) {
        if let Some(ending) = &mut self.ending {
            ending.undone = Some(Instant::now());
        }
    }
}

/// Newest first, past every failure.
fn undo_everything(shared: &Arc<Shared>, because: &str) {
    let proxy = proxied::injection(shared);
    let outstanding: Vec<(InjectionId, bool)> = locked(&shared.journal)
        .state()
        .outstanding()
        .map(|one| (one.id.clone(), one.about.rule.is_some()))
        .collect();
    for (id, of_rule) in outstanding {
        if id == proxy {
            proxied::end(shared, because);
        } else if of_rule {
            injection::undo(&id, because, shared);
        } else {
            let evidence = super::workload::evidence(undo_injection(&shared.journal, &id, because));
            shared.tell(FromJob::WorkloadEnded {
                evidence,
                job: false,
            });
        }
    }
    shared.tell(FromJob::AllUndone);
}
