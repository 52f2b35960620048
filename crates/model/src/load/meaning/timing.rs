//! When a step acts: one way only, aims that can be reached, repetition that repeats.

use super::super::problem::{At, Problem};
use super::super::words::{nearest, one_of, short};
use super::Meaning;
use crate::hook::PHASES;
use crate::timing::{Every, Moment, StepKeys};
use crate::units::Span;

impl Meaning<'_> {
    pub(super) fn check_timing(&mut self, keys: &StepKeys, at: At<'_>) {
        let ways: Vec<&str> = [
            ("at", keys.at.is_some()),
            ("every", keys.every.is_some()),
            ("after", keys.after.is_some()),
            ("mean-time-between", keys.mean_time_between.is_some()),
            ("on-request", keys.on_request == Some(true)),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        if let [first, second, ..] = ways.as_slice() {
            let problem = Problem::new(
                "timing-conflict",
                format!("a step cannot have both `{first}` and `{second}`"),
            );
            self.key(
                at.key(second),
                problem
                    .label(format!("`{first}` already says when"))
                    .help("keep one of them, or write two steps"),
            );
        }
        if let Some(moment) = &keys.at {
            self.check_moment(moment, at.key("at"));
        }
        if let Some(every) = &keys.every {
            let lasts = keys
                .duration
                .filter(|_| !self.problems.is_doubtful(at.key("for")));
            self.check_every(every, lasts, at.key("every"));
        }
        self.not_zero(keys.mean_time_between, at.key("mean-time-between"));
        self.fits_limit(keys.mean_time_between, at.key("mean-time-between"));
        self.check_repetition(keys, at);
    }

    /// A script can ask for its own end, and for nothing else.
    pub(super) fn check_request(&mut self, kind: &str, keys: &StepKeys, at: At<'_>) {
        const OFFERED: [&str; 2] = ["process-terminate", "process-kill"];
        let at = at.key("on-request");
        match keys.on_request {
            Some(true) if OFFERED.contains(&kind) => {
                self.needs_training(at, "a fault on request");
            }
            Some(true) => self.key(
                at,
                Problem::new(
                    "request-unknown",
                    format!("a script cannot ask for `{kind}`"),
                )
                .label("never acts")
                .help("scripts ask for `process-terminate` or `process-kill`"),
            ),
            _ => {}
        }
    }

    fn check_repetition(&mut self, keys: &StepKeys, at: At<'_>) {
        let repeats = keys.every.is_some()
            || keys.mean_time_between.is_some()
            || keys.on_request == Some(true);
        if keys.probability.is_some_and(|share| share.0 <= 0.0) {
            self.value(
                at.key("probability"),
                Problem::new("never-acts", "with a probability of 0% the step never acts")
                    .label("never")
                    .help("write a share above 0%, or remove the step"),
            );
        }
        match keys.times {
            Some(0) => self.zero(at.key("times"), "1 or more, or remove the step"),
            Some(_) if !repeats => self.key(
                at.key("times"),
                Problem::new(
                    "nothing-repeated",
                    "`times` limits a repetition, and this step acts once",
                )
                .label("nothing is repeated")
                .help("add `every:` or `mean-time-between:`, or remove `times:`"),
            ),
            _ => {}
        }
        let counts_units = keys
            .at
            .as_ref()
            .is_some_and(|at| at.step.is_some() || at.epoch.is_some())
            || keys
                .every
                .as_ref()
                .is_some_and(|every| every.steps.is_some() || every.epochs.is_some());
        if keys.on_replay.is_some() && !counts_units {
            self.key(
                at.key("on-replay"),
                Problem::new(
                    "nothing-repeated",
                    "`on-replay` speaks of steps and epochs, and this step aims at none",
                )
                .label("has no effect")
                .help("remove it, or aim by `step`, `epoch`, `steps` or `epochs`"),
            );
        }
    }

    fn check_moment(&mut self, moment: &Moment, at: At<'_>) {
        let ways: Vec<&str> = [
            ("time", moment.time.is_some()),
            ("step", moment.step.is_some()),
            ("epoch", moment.epoch.is_some()),
            ("log", moment.log.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        match ways.as_slice() {
            [] if moment.phase.is_none() => {
                self.value(
                    at,
                    Problem::new("moment-none", "`at` names no moment")
                        .label("when?")
                        .help("give one of `time`, `step`, `epoch`, `phase` or `log`"),
                );
            }
            [first, second, ..] => {
                let problem = Problem::new(
                    "timing-conflict",
                    format!("`at` cannot have both `{first}` and `{second}`"),
                );
                self.key(
                    at.key(second),
                    problem
                        .label(format!("`{first}` already says when"))
                        .help("keep one of them, or write two steps"),
                );
            }
            [only @ ("time" | "log")] if moment.phase.is_some() => {
                let problem = Problem::new(
                    "timing-conflict",
                    format!("a phase belongs to a step or an epoch, not to a `{only}`"),
                );
                self.key(
                    at.key("phase"),
                    problem
                        .label("of which step?")
                        .help("aim by `step` or `epoch`, or remove `phase:`"),
                );
            }
            _ => {}
        }
        self.fits_limit(moment.time, at.key("time"));
        self.check_unit(moment.step, at.key("step"), "a step");
        self.check_unit(moment.epoch, at.key("epoch"), "an epoch");
        self.check_phase(moment.phase.as_deref(), at.key("phase"));
        if let Some(log) = &moment.log {
            self.pattern(log, at.key("log"));
            self.needs_workload(at.key("log"), "a line of the workload's output");
        }
        if let (Some(epoch), Some(last)) = (moment.epoch, self.last_epoch())
            && epoch > last
        {
            self.value(
                at.key("epoch"),
                Problem::new("never-acts", format!("epoch {epoch} is never reached"))
                    .label(format!("the job has {last} epochs"))
                    .help("aim earlier, or correct `epochs:` of the workload"),
            );
        }
    }

    fn check_unit(&mut self, unit: Option<u64>, at: At<'_>, what: &str) {
        match unit {
            Some(0) => self.zero(at, "1 or more: steps and epochs count from 1"),
            Some(_) => self.needs_training(at, &format!("an aim at {what}")),
            None => {}
        }
    }

    fn check_phase(&mut self, phase: Option<&str>, at: At<'_>) {
        let Some(phase) = phase else { return };
        if PHASES.contains(&phase) {
            self.needs_training(at, "an aim at a phase");
            return;
        }
        let problem = Problem::new(
            "unknown-phase",
            format!("`{}` is not a phase of training", short(phase)),
        );
        let problem = match nearest(phase, PHASES.iter().copied()) {
            Some(meant) => problem.label(format!("did you mean `{meant}`?")),
            None => problem.label("not known"),
        };
        self.value(
            at,
            problem.help(format!("phases are {}", one_of(PHASES.iter().copied()))),
        );
    }

    fn check_every(&mut self, every: &Every, lasts: Option<Span>, at: At<'_>) {
        let ways: Vec<&str> = [
            ("epochs", every.epochs.is_some()),
            ("steps", every.steps.is_some()),
            ("time", every.time.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        match ways.as_slice() {
            [] => self.value(
                at,
                Problem::new("moment-none", "`every` names no distance")
                    .label("every what?")
                    .help("give one of `epochs`, `steps` or `time`"),
            ),
            [first, second, ..] => {
                let problem = Problem::new(
                    "timing-conflict",
                    format!("`every` cannot have both `{first}` and `{second}`"),
                );
                self.key(
                    at.key(second),
                    problem
                        .label(format!("`{first}` already says how often"))
                        .help("keep one of them, or write two steps"),
                );
            }
            ["time"] if every.phase.is_some() => {
                let problem = Problem::new(
                    "timing-conflict",
                    "a phase belongs to a step or an epoch, not to a `time`",
                );
                self.key(
                    at.key("phase"),
                    problem
                        .label("of which step?")
                        .help("repeat by `steps` or `epochs`, or remove `phase:`"),
                );
            }
            _ => {}
        }
        self.check_unit(every.epochs, at.key("epochs"), "epochs");
        self.check_unit(every.steps, at.key("steps"), "steps");
        self.not_zero(every.time, at.key("time"));
        self.fits_limit(every.time, at.key("time"));
        self.check_phase(every.phase.as_deref(), at.key("phase"));
        if let (Some(time), Some(lasts)) = (every.time, lasts)
            && time < lasts
            && time.as_nanos() > 0
        {
            self.value(
                at.key("time"),
                Problem::new(
                    "impossible-window",
                    format!("the step repeats every {time} but lasts {lasts}"),
                )
                .label(format!("shorter than `for: {lasts}`"))
                .help("repeat it less often or let it last less long"),
            );
        }
        self.check_last_epoch(every, at);
    }

    /// `every: {epochs: N}` does not fire at the last epoch.
    fn check_last_epoch(&mut self, every: &Every, at: At<'_>) {
        let (Some(epochs), Some(last)) = (every.epochs, self.last_epoch()) else {
            return;
        };
        if epochs >= last {
            self.value(
                at.key("epochs"),
                Problem::new(
                    "never-acts",
                    format!("every {epochs} epochs never comes in a job of {last}"),
                )
                .label("the last epoch does not count")
                .help("repeat it more often, or correct `epochs:` of the workload"),
            );
        }
    }
}
