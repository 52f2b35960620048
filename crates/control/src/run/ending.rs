//! From the end of the method to the end of guard and agent: undo, watch the recovery, let the workload end, finish.
//!
//! Nothing here can be skipped by a signal. Whatever is lost on the way, the journal tells at the end what became of each change.

use super::conductor::{Conductor, Halt, Waited};
use crate::store::{is_final, journal_entries, missing, never_acted};
use squall_faults::lease::{self, Standing};
use squall_faults::protocol::ToAgent;
use squall_faults::sys::process;
use squall_model::event::{InjectionState, Stage};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the undo of single injections may take before everything is finished at once.
const UNDO: Duration = Duration::from_secs(60);
/// How long the recovery is watched when no expectation says how long it may take.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long agent and guard may take to undo everything and end: longer than every grace within.
const FINISH: Duration = Duration::from_secs(120);
const GUARD_END: Duration = Duration::from_secs(15);

impl Conductor<'_> {
    /// Undoes everything and ends guard and agent.
    pub(super) fn finish(&mut self) {
        self.stage(Stage::Undo);
        if self.halt.is_none() && self.undo_all() {
            self.stage(Stage::Recovery);
            self.watch_recovery();
        }
        self.ending = true;
        let because = match &self.halt {
            None => "the method is done",
            Some(Halt::Interrupted) => "a signal came",
            Some(Halt::Aborted) => "an abort condition fired",
            Some(Halt::NotSteady) => "the system was not steady",
            Some(Halt::TimeLimit) => "the time limit is reached",
            Some(Halt::Lost) => "guard or agent is lost",
            Some(Halt::Unmet) => "something that is needed was refused",
            Some(Halt::Refused) => "a policy forbids it",
            Some(Halt::Store(_)) => "the event log cannot be written",
        };
        if !self.ends.agent_gone {
            self.say(&ToAgent::Finish {
                because: because.into(),
            });
        }
        self.await_end();
        for checks in [self.steady.take(), self.abort.take()]
            .into_iter()
            .flatten()
        {
            checks.stop();
        }
        if let Some(monitor) = self.monitor.take() {
            let missed = monitor.stop();
            self.write_missed(missed);
        }
    }

    /// Undoes what is still in the world, one by one. False: it did not come to its end.
    fn undo_all(&mut self) -> bool {
        let unended = self.script.rules.iter().map(|rule| rule.id);
        let unended: Vec<_> = unended
            .filter(|rule| self.tracker.is_armed(*rule))
            .collect();
        for rule in unended {
            self.say(&ToAgent::Disarm { rule });
        }
        // An injection that was on its way when its rule was disarmed lands first, and is undone like the others.
        let mut asked = BTreeSet::new();
        let settled = move |it: &mut Self| {
            let state = it.store.state();
            for injection in state.outstanding() {
                let landed = injection.state == InjectionState::Landed;
                if landed && asked.insert(injection.id.clone()) {
                    it.say(&ToAgent::Undo {
                        injection: injection.id.clone(),
                    });
                }
            }
            let mut rules = it.script.rules.iter();
            !rules.any(|rule| it.tracker.is_armed(rule.id))
                && state
                    .outstanding()
                    .all(|injection| injection.state == InjectionState::Stuck)
        };
        match self.until(UNDO, settled) {
            Waited::Done => true,
            Waited::Halted => false,
            Waited::Late => {
                self.note(format!(
                    "the undo is not done within {} s; everything is finished now",
                    UNDO.as_secs()
                ));
                false
            }
        }
    }

    /// Until the steady state is back and training has caught up, or the limit passes; then until the workload ends, where that is asked for.
    fn watch_recovery(&mut self) {
        let since = self.board.clock.now_ns();
        let limit = self.script.recovery_limit().unwrap_or(RECOVERY);
        let training = self
            .script
            .workload
            .as_ref()
            .is_some_and(|owned| owned.training);
        let waited = self.until(limit, |it| {
            let ended = it.workload_ended();
            let steady = it
                .steady
                .as_ref()
                .is_none_or(|steady| steady.all_hold(since, ended));
            steady && (ended || !training || it.tracker.has_caught_up())
        });
        match waited {
            Waited::Halted => return,
            Waited::Late => {
                let failing = self
                    .steady
                    .as_ref()
                    .and_then(super::checks::Checks::failing);
                let what = failing.map_or(String::new(), |(check, measured)| {
                    format!(": {check}: {measured}")
                });
                self.note(format!(
                    "not recovered within {} s{what}",
                    limit.as_secs_f64()
                ));
            }
            Waited::Done => {}
        }
        if self.script.waits_for_the_end() {
            let left = self.script.time_limit;
            self.until(left, |it| it.workload_ended());
        }
    }

    /// Until agent and guard have said what became of everything, or are gone.
    fn await_end(&mut self) {
        let agent_done = |it: &mut Self| {
            it.ends.agent_finished.is_some()
                || it.ends.guard_ended.is_some()
                || (it.ends.agent_gone && it.ends.guard_gone)
                || it.rescuers_are_stopped()
        };
        let waited = self.until(FINISH, agent_done);
        if self.rescuers_are_stopped() {
            // They will say nothing more; the last undo ends them first.
            self.note("whoever is left of guard and agent is stopped");
            return;
        }
        if waited == Waited::Late {
            self.lost(
                "agent",
                format!("it did not finish within {} s", FINISH.as_secs()),
            );
        }
        self.until(GUARD_END, |it| {
            it.ends.guard_ended.is_some() || it.ends.guard_gone || it.rescuers_are_stopped()
        });
    }

    /// Whether nobody of guard and agent is left but stopped processes, on a lease that is over for long: waiting for their word is in vain.
    fn rescuers_are_stopped(&self) -> bool {
        let Ok(Some(lease)) = lease::read(self.folder.path()) else {
            return false;
        };
        if !lease.standing().is_ok_and(Standing::is_abandoned) {
            return false;
        }
        let holders = [lease.guard, lease.agent].into_iter().flatten();
        let mut stopped = 0;
        for holder in holders {
            let stat = process::stat(holder.pid).ok().flatten();
            let alive = stat.filter(|stat| stat.start_time == holder.start_time && !stat.is_dead());
            match alive.map(|stat| stat.state) {
                None => {}
                Some('T' | 't') => stopped += 1,
                Some(_) => return false,
            }
        }
        stopped > 0
    }

    /// After guard and agent are gone: what the journal knows and the log does not. Returns whether the journal could be read.
    pub(super) fn reconcile(&mut self) -> bool {
        match journal_entries(self.folder.path()) {
            Ok(entries) => {
                for entry in &entries {
                    for body in missing(&self.store.state(), entry, "the run was ending") {
                        self.record(body);
                    }
                }
                if is_final(self.folder.path()) {
                    for body in never_acted(&self.store.state(), &entries) {
                        self.record(body);
                    }
                }
                true
            }
            Err(error) => {
                self.bugs.push(error.to_string());
                self.note(format!("the journal cannot be read: {error}"));
                false
            }
        }
    }
}
