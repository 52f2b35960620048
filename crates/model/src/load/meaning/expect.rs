//! Expectations: what can be decided by the run that is described.

use super::super::problem::{At, Problem};
use super::Meaning;
use crate::experiment::{Expect, Experiment, ResultKind};
use crate::syntax::FaultList;

impl Meaning<'_> {
    pub(super) fn check_expectations<F: FaultList>(&mut self, experiment: &Experiment<F>) {
        let root = At::ROOT;
        let list = root.key("expect");
        let mut exit = None;
        for (index, expect) in experiment.expect.iter().enumerate() {
            let at = list.index(index);
            match expect {
                Expect::RecoveredWithin(span) => {
                    let at = at.key("recovered-within");
                    self.needs_training(at, "`recovered-within`");
                    self.not_zero(Some(*span), at);
                    self.fits_limit(Some(*span), at);
                }
                Expect::SameResult(same) => self.check_same_result(at.key("same-result"), same.by),
                Expect::LostSteps(_) => self.needs_training(at.key("lost-steps"), "`lost-steps`"),
                Expect::Completes(completes) => {
                    let at = at.key("completes");
                    self.needs_workload(at, "`completes`");
                    self.check_exit(Some(completes.exit), at.key("exit"));
                    if exit.is_some_and(|other| other != completes.exit) {
                        let problem = Problem::new(
                            "contradiction",
                            "a job ends with one exit status, and two are expected",
                        );
                        self.key(
                            at,
                            problem
                                .label("another one is expected above")
                                .help("keep one of the two"),
                        );
                    }
                    exit = Some(completes.exit);
                }
                Expect::Ettr(_) => self.needs_training(at.key("ettr"), "`ettr`"),
                Expect::SteadyAgainWithin(span) => {
                    let at = at.key("steady-again-within");
                    self.not_zero(Some(*span), at);
                    self.fits_limit(Some(*span), at);
                    if experiment.steady_state.is_empty()
                        && self.tree.get("steady-state").is_none()
                        && !self.has_key_like("steady-state")
                    {
                        let problem = Problem::new(
                            "steady-state-missing",
                            "nothing says what the steady state is",
                        );
                        self.key(
                            at,
                            problem
                                .label("steady in what sense?")
                                .help("add `steady-state:` with at least one probe"),
                        );
                    }
                }
            }
        }
    }

    fn check_same_result(&mut self, at: At<'_>, by: ResultKind) {
        self.needs_training(at, "`same-result`");
        let runs = self.training.map(|training| training.undisturbed());
        if self.workload_doubtful {
            return;
        }
        if by == ResultKind::Trajectory && runs.is_some_and(|runs| runs < 3) {
            self.key(
                at,
                Problem::new(
                    "repeats-missing",
                    "`by: trajectory` compares with the spread of at least 3 undisturbed runs",
                )
                .label("fewer are made")
                .help("add `references: 3`, or more, to `workload: {training: …}`"),
            );
        } else if runs == Some(0) {
            self.key(
                at,
                Problem::new(
                    "reference-missing",
                    "`same-result` compares with an undisturbed run, and none is made",
                )
                .label("compared with what?")
                .help("add `reference: true` to `workload: {training: …}`"),
            );
        }
    }
}
