//! The end of a run: the last undo, the log's completion, the analysis, the report.

use super::checkpoints;
use super::conductor::{Conductor, Halt};
use super::host::Host;
use super::reports::write_reports;
use super::whole::{Conclusion, NoLink, RunError, ask};
use crate::store::StoredRun;
use squall_analysis::report::Report;
use squall_model::event::{Body, Event, Stage};
use squall_model::exit::Exit;
use squall_model::id::InjectionId;
use std::path::{Path, PathBuf};

impl Conductor<'_> {
    /// After the end of guard and agent: the last undo, the log's completion, the analysis, the report.
    pub(super) fn conclude(mut self, host: &mut dyn Host) -> Result<Conclusion, RunError> {
        // Whoever still listens learns now that the controller is done.
        self.link = Box::new(NoLink);
        let own = self.folder.path().to_path_buf();
        let read = self.reconcile();
        if !read || self.store.state().outstanding().next().is_some() {
            match host.recover_own(&own) {
                Ok(_) => {}
                Err(error) => self.note(format!("the last undo was not possible: {error}")),
            }
            self.reconcile();
        }
        // Where nothing was outstanding, nobody may have been left to remove it.
        if let Err(error) = squall_faults::guard::cgroup::remove(&own, &self.board.run) {
            self.note(format!("the guard's cgroup could not be removed: {error}"));
        }
        self.stage(Stage::Analyse);
        self.keep_checkpoints(&own);
        let outstanding: Vec<InjectionId> = self
            .store
            .state()
            .outstanding()
            .map(|it| it.id.clone())
            .collect();
        let exit = self.exit(&own, !outstanding.is_empty());
        self.record(Body::RunEnded {
            exit,
            by: "controller".into(),
        });
        if let Err(error) = self.store.close() {
            self.bugs.push(error.to_string());
        }
        let (report, report_path, mut problems) = conclude_stored(&own);
        problems.splice(0..0, std::mem::take(&mut self.bugs));
        Ok(Conclusion {
            exit: if problems.is_empty() {
                exit
            } else {
                exit.outranking(Exit::Bug)
            },
            run: self.board.run.clone(),
            run_dir: own,
            report,
            report_path,
            outstanding,
            problems,
        })
    }

    fn keep_checkpoints(&mut self, run_dir: &Path) {
        let mut named = checkpoints::Named::default();
        let seen = self
            .store
            .sync()
            .and_then(|()| StoredRun::for_each_event(run_dir, |event| named.see(event)));
        if let Err(error) = seen {
            self.bugs.push(error.to_string());
        }
        let (found, problems) =
            checkpoints::read(&named, &self.folder.out(), &self.folder.reference());
        problems.into_iter().for_each(|text| self.note(text));
        let ranks = self
            .board
            .of_workload(|workload| workload.ranks.len() as u64);
        let ask = ask(self.script, ranks.unwrap_or(0));
        let kept = [
            ("checkpoints", serde_json::to_string(&found)),
            ("ask", serde_json::to_string(&ask)),
        ];
        for (key, text) in kept {
            if let Err(error) = self.store.set_meta(key, text.unwrap_or_default()) {
                self.bugs.push(error.to_string());
            }
        }
    }

    /// How the run ends: what only the controller knows, outranked or not by what the analysis finds.
    fn exit(&mut self, run_dir: &Path, left: bool) -> Exit {
        let mut exit = self
            .halt
            .as_ref()
            .and_then(Halt::exit)
            .unwrap_or(Exit::Held);
        if left {
            exit = exit.outranking(Exit::NotRolledBack);
        }
        if !self.bugs.is_empty() {
            exit = exit.outranking(Exit::Bug);
        }
        if self.tracker.landings == 0 && self.halt.is_none() && !self.script.rules.is_empty() {
            exit = exit.outranking(Exit::Inconclusive);
        }
        match self.store.sync().and_then(|()| StoredRun::open(run_dir)) {
            Ok(mut stored) => {
                // The analysis judges closed runs; this one is about to be.
                let state = self.store.state();
                stored.events.push(Event {
                    seq: state.seq + 1,
                    t_ns: state.t_ns,
                    body: Body::RunEnded {
                        exit,
                        by: "controller".into(),
                    },
                });
                exit.outranking(squall_analysis::conclude(&stored).verdict.exit)
            }
            Err(error) => {
                self.bugs.push(error.to_string());
                exit.outranking(Exit::Bug)
            }
        }
    }
}

/// Concludes a stored run and writes its reports. What could not be done is told in words.
pub fn conclude_stored(run_dir: &Path) -> (Option<Report>, Option<PathBuf>, Vec<String>) {
    match StoredRun::open(run_dir) {
        Ok(stored) => {
            let report = squall_analysis::conclude(&stored);
            let (path, problems) = write_reports(run_dir, &stored, &report);
            (Some(report), path, problems)
        }
        Err(error) => (None, None, vec![error.to_string()]),
    }
}
