//! The stages of a run up to its undo.

use super::checks::Checks;
use super::conductor::{Conductor, Halt, Waited};
use super::method::Play;
use super::script::Owned;
use crate::board::Workload;
use crate::monitor::{Config, Monitor};
use squall_faults::protocol::{Rule, ToAgent, WorkloadSpec};
use squall_model::event::Stage;
use squall_model::experiment::Probe;
use squall_model::id::RuleId;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long nothing is said of a steady state that is not there; each silence is twice the last.
const SILENCE: Duration = Duration::from_secs(10);
/// How long the agent may take to start or end a workload.
const START: Duration = Duration::from_secs(30);
/// How long the agent may take to tell that the rules it was sent have ended, once the workload has.
const RULES_END: Duration = Duration::from_secs(4);

/// When it is time to say that something is still waited for.
struct Silence {
    begun: Instant,
    next: Duration,
    limit: Duration,
}

impl Silence {
    fn begin(limit: Duration) -> Silence {
        Silence {
            begun: Instant::now(),
            next: SILENCE,
            limit,
        }
    }

    fn is_over(&mut self) -> bool {
        let over = self.begun.elapsed() >= self.next;
        if over {
            self.next *= 2;
        }
        over
    }

    /// `still waiting for the steady state, 10 s of at most 65 s (`warm-up:` allows more): steady-state/0: no epoch yet`.
    fn words(&self, what: &str, failing: Option<(String, String)>) -> String {
        let failing = failing.map_or(String::new(), |(check, measured)| {
            format!(": {check}: {measured}")
        });
        format!(
            "still waiting for {what}, {:.0} s of at most {:.0} s (`warm-up:` sets it){failing}",
            self.begun.elapsed().as_secs_f64(),
            self.limit.as_secs_f64()
        )
    }
}

impl Conductor<'_> {
    /// From the start of monitors to the end of the method. What ends it early stands in `halt`.
    pub(super) fn perform(&mut self) {
        if !self.start_monitor() {
            return;
        }
        if let Some(owned) = &self.script.workload {
            if owned.references > 0 && !self.references(owned) {
                return;
            }
            self.stage(Stage::Start);
            if !self.start_workload(owned, None) {
                return;
            }
        }
        self.stage(Stage::SteadyState);
        if self.start_checks() && self.steady() {
            self.stage(Stage::Method);
            self.method();
        }
    }

    fn start_monitor(&mut self) -> bool {
        let config = Config {
            rate: self.script.rate,
            mark: self
                .script
                .workload
                .is_some()
                .then(|| ("SQUALL_RUN".to_owned(), self.board.run.0.clone())),
            roots: self.script.attached.clone(),
        };
        match Monitor::start(config, self.board.clone(), self.store.samples()) {
            Ok(monitor) => self.monitor = Some(monitor),
            Err(error) => {
                self.bugs
                    .push(format!("the monitor could not start: {error}"));
                self.halt(Halt::Unmet);
            }
        }
        self.monitor.is_some()
    }

    fn start_checks(&mut self) -> bool {
        let samples = self.store.samples();
        let first = self.script.steady.len() as u32;
        let steady = Checks::start(&self.script.steady, self.probe_context(), &samples, 0);
        let abort = Checks::start(&self.script.abort, self.probe_context(), &samples, first);
        match (steady, abort) {
            (Ok(steady), Ok(abort)) => {
                (self.steady, self.abort) = (Some(steady), Some(abort));
                true
            }
            (Err(error), _) | (_, Err(error)) => {
                self.bugs.push(format!("a probe could not start: {error}"));
                self.halt(Halt::Unmet);
                false
            }
        }
    }

    /// Runs the workload undisturbed to its end, as often as was asked.
    fn references(&mut self, owned: &Owned) -> bool {
        self.stage(Stage::Reference);
        (1..=owned.references).all(|number| self.reference(owned, number))
    }

    fn reference(&mut self, owned: &Owned, number: u32) -> bool {
        if !self.start_workload(owned, Some(number)) {
            return false;
        }
        let limit = self.script.time_limit;
        if self.until(limit, |it| it.workload_ended()) != Waited::Done {
            return false;
        }
        let epochs = self.board.of_workload(|workload| workload.epochs.highest);
        self.reference_epochs = epochs.filter(|epochs| *epochs > 0);
        let status = self.board.of_workload(|workload| workload.ended).flatten();
        if let Some((_, code)) = status.filter(|(_, code)| *code != Some(0)) {
            let code = code.map_or("a signal".to_owned(), |code| format!("exit status {code}"));
            self.note(format!(
                "the reference run ended with {code}: nothing can be compared with it"
            ));
        }
        true
    }

    /// Starts the workload, or its reference run of this number, and waits until it runs.
    fn start_workload(&mut self, owned: &Owned, undisturbed: Option<u32>) -> bool {
        let out = match self.folder.out_of(undisturbed) {
            Ok(out) => out,
            Err(error) => {
                self.note(format!(
                    "the workload's folder could not be made, because {error}"
                ));
                self.halt(Halt::Unmet);
                return false;
            }
        };
        let argv = match argv(&owned.run, &out.to_string_lossy()) {
            Ok(argv) => argv,
            Err(because) => {
                self.note(format!(
                    "the workload's command line cannot be read: {because}"
                ));
                self.halt(Halt::Unmet);
                return false;
            }
        };
        let text = out.to_string_lossy().into_owned();
        let spec = WorkloadSpec {
            argv,
            env: owned
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.replace("{out}", &text)))
                .collect(),
            directory: owned.directory.clone(),
            out,
            reference: undisturbed.is_some(),
            log: self.folder.log(undisturbed),
            patterns: owned.patterns.clone(),
            hook: owned.training,
            proxy: owned.proxy.clone(),
            private: owned.private,
            first: match undisturbed {
                None => self.first_rules(),
                Some(_) => Vec::new(),
            },
        };
        let starts = |it: &Self| it.board.of_workload(|workload| workload.starts);
        let before = starts(self).unwrap_or(0);
        let seen = |it: &Self| starts(it).is_some_and(|now| now > before);
        if !self.say(&ToAgent::StartWorkload(spec)) {
            return false;
        }
        match self.until(START, |it| seen(it)) {
            Waited::Done => true,
            Waited::Halted => false,
            Waited::Late => {
                self.lost(
                    "agent",
                    format!("it did not start the workload within {} s", START.as_secs()),
                );
                false
            }
        }
    }

    /// Waits until the steady state holds, then watches it for the length of the baseline.
    fn steady(&mut self) -> bool {
        if self
            .script
            .workload
            .as_ref()
            .is_some_and(|owned| owned.training)
        {
            let alive = |it: &mut Self| {
                let trained = it.board.of_workload(Workload::has_trained);
                trained.unwrap_or(false) || it.workload_ended()
            };
            let warm_up = self.script.warm_up;
            let mut silence = Silence::begin(warm_up);
            let waited = self.until(warm_up, |it| {
                let done = alive(it);
                if !done && silence.is_over() {
                    it.note(silence.words("the first training event", None));
                }
                done
            });
            match waited {
                Waited::Done => {}
                Waited::Late => {
                    if !self.goes_on_without_training() {
                        return false;
                    }
                }
                Waited::Halted => return false,
            }
        }
        let patience = self.patience();
        let baseline = self.script.baseline.as_nanos() as u64;
        let mut since: Option<u64> = None;
        let mut silence = Silence::begin(patience);
        let waited = self.until(patience, |it| {
            let now = it.board.clock.now_ns();
            let ended = it.workload_ended();
            if ended
                || !it
                    .steady
                    .as_ref()
                    .is_some_and(|steady| steady.all_hold(0, false))
            {
                since = None;
                if !ended && silence.is_over() {
                    let failing = it.steady.as_ref().and_then(Checks::failing);
                    it.note(silence.words("the steady state", failing));
                }
                // A workload that is over will not become steady.
                return ended;
            }
            now - *since.get_or_insert(now) >= baseline
        });
        match waited {
            Waited::Done if !self.workload_ended() => true,
            Waited::Halted => false,
            Waited::Done | Waited::Late => {
                self.not_steady();
                false
            }
        }
    }

    /// No training event came in time. The run goes on unless a probe or an aim is in vain without.
    fn goes_on_without_training(&mut self) -> bool {
        let late = format!(
            "no training event came within {} s (`warm-up:`)",
            self.script.warm_up.as_secs_f64()
        );
        let Some(what) = self.script.counts_on_training() else {
            self.note(format!("{late}; the run goes on without"));
            return true;
        };
        self.note(format!(
            "{late}, and {what}; set a longer `warm-up:`, or let the job tell its steps (`events:`)"
        ));
        self.halt(Halt::NotSteady);
        false
    }

    fn not_steady(&mut self) {
        let failing = self.steady.as_ref().and_then(Checks::failing);
        let text = match (self.workload_ended(), failing) {
            (true, _) => "the workload ended before its steady state was established; let it train longer, or set a shorter `baseline:` (3s unless said)".into(),
            (false, Some((check, measured))) => {
                format!("the steady state was not established: {check}: {measured}")
            }
            (false, None) => "the steady state did not last for the baseline".into(),
        };
        self.note(text);
        self.halt(Halt::NotSteady);
    }

    /// How long the steady state may take to establish itself. What already runs has no excuse; what was just started warms up.
    fn patience(&self) -> Duration {
        let probes = self
            .script
            .steady
            .iter()
            .map(|(_, check)| match &check.probe {
                Probe::Http(probe) => probe.within.map_or(Duration::from_secs(5), |span| span.0),
                Probe::Command(probe) => {
                    probe.within.map_or(Duration::from_secs(10), |span| span.0)
                }
                Probe::TrainingEvent(probe) => probe.within.0,
                _ => Duration::from_secs(2),
            });
        let slowest = probes.max().unwrap_or(Duration::ZERO);
        let warm_up = match self.script.workload {
            Some(_) => self.script.warm_up,
            None => Duration::from_secs(2),
        };
        self.script.baseline + slowest + warm_up
    }

    /// Plays the method until it is done or the workload has ended.
    fn method(&mut self) {
        let mut play = Play::new(&self.script.method);
        let done = self.until(self.script.time_limit, |it| {
            if it.workload_ended() {
                return true;
            }
            let now = it.board.clock.elapsed();
            for id in play.advance(now, &it.tracker.done_rules()) {
                it.arm(id);
            }
            play.is_done()
        });
        if done == Waited::Done && !play.is_done() {
            // What is in the world by then is undone next; what is on its way there lands first.
            self.until(RULES_END, |it| it.tracker.nothing_is_armed());
        }
    }

    /// Rules that the method begins with and whose place in training may come before it does.
    fn first_rules(&self) -> Vec<Rule> {
        let first = Play::new(&self.script.method).advance(Duration::ZERO, &BTreeSet::new());
        let rules = first.into_iter().filter_map(|id| self.rule(id));
        rules.filter(|rule| rule.keys.aims_at_training()).collect()
    }

    /// A rule as the agent needs it.
    fn rule(&self, id: RuleId) -> Option<Rule> {
        let mut rule = self.script.rules.iter().find(|rule| rule.id == id)?.clone();
        let out = self.folder.out().to_string_lossy().into_owned();
        rule.last_epoch = self.last_epoch();
        rule.target.file = rule.target.file.map(|file| file.replace("{out}", &out));
        rule.target.pid_file = rule.target.pid_file.map(|file| file.replace("{out}", &out));
        Some(rule)
    }

    fn arm(&mut self, id: RuleId) {
        let Some(rule) = self.rule(id) else {
            return self
                .bugs
                .push(format!("the method names rule {id}, which does not exist"));
        };
        if !self.is_permitted(id) {
            return self.halt(Halt::Refused);
        }
        self.tracker.sent(id);
        self.say(&ToAgent::Arm(rule));
    }

    /// Epochs of the whole job: from the file, or as many as the reference run had.
    fn last_epoch(&self) -> Option<u64> {
        let owned = self.script.workload.as_ref()?;
        owned.epochs.or(self.reference_epochs)
    }
}

/// The command line as words, `{out}` replaced within each.
fn argv(line: &str, out: &str) -> Result<Vec<String>, String> {
    let words = shell_words::split(line).map_err(|error| error.to_string())?;
    if words.is_empty() {
        return Err("it is empty".into());
    }
    Ok(words
        .into_iter()
        .map(|word| word.replace("{out}", out))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said_after_ever_longer_silences() {
        let mut silence = Silence::begin(Duration::from_secs(65));
        assert!(!silence.is_over());
        let earlier = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        silence.begun = earlier(11).expect("the machine runs for longer");
        assert!(silence.is_over() && !silence.is_over());
        assert_eq!(
            silence.words(
                "the steady state",
                Some(("steady-state/0".into(), "no epoch yet".into()))
            ),
            "still waiting for the steady state, 11 s of at most 65 s (`warm-up:` sets it): steady-state/0: no epoch yet"
        );
        silence.begun = earlier(21).expect("the machine runs for longer");
        assert!(silence.is_over() && !silence.is_over());
    }
}
