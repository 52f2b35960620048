//! Probes: forms of addresses and digests, and windows in which something can be measured.

use super::super::problem::{At, Problem};
use super::super::words::{one_of, short};
use super::Meaning;
use crate::experiment::{Check, Experiment, FileProbe, HttpProbe, Probe};
use crate::syntax::FaultList;
use crate::units::Span;
use std::collections::BTreeMap;

const PROCESS_WAYS: &[&str] = &["rank", "workload", "pid", "pid-file", "command"];

impl Meaning<'_> {
    pub(super) fn check_probes<F: FaultList>(&mut self, experiment: &Experiment<F>) {
        let root = At::ROOT;
        let mut names = BTreeMap::new();
        for (key, checks) in [
            ("steady-state", &experiment.steady_state),
            ("abort-when", &experiment.abort_when),
        ] {
            let list = root.key(key);
            for (index, check) in checks.iter().enumerate() {
                let at = list.index(index);
                self.check_probe(check, at);
                self.check_name_once(check, at, &mut names);
            }
        }
        self.check_baseline(experiment);
        self.check_opposites(experiment);
    }

    fn check_name_once(&mut self, check: &Check, at: At<'_>, names: &mut BTreeMap<String, usize>) {
        let Some(name) = &check.name else { return };
        let here = at.key("name");
        let line = self.tree.place(&here.path()).focus().line;
        match names.get(name) {
            Some(first) => {
                let problem = Problem::new(
                    "duplicate-name",
                    format!("two probes are named `{}`", short(name)),
                );
                self.value(
                    here,
                    problem
                        .label(format!("the first is on line {first}"))
                        .help("give each probe a name of its own"),
                );
            }
            None => {
                names.insert(name.clone(), line);
            }
        }
    }

    fn check_probe(&mut self, check: &Check, at: At<'_>) {
        self.not_zero(check.interval, at.key("interval"));
        self.fits_limit(check.interval, at.key("interval"));
        if check.failures == Some(0) {
            self.zero(at.key("failures"), "1 or more");
        }
        let known = check
            .interval
            .filter(|_| !self.problems.is_doubtful(at.key("interval")));
        let probe = at.key("probe");
        match &check.probe {
            Probe::Http(http) => {
                let at = probe.key("http");
                self.check_http(http, at);
                self.check_deadline(http.within, known, at.key("within"));
            }
            Probe::Tcp(tcp) => {
                let at = probe.key("tcp");
                self.check_address(&tcp.address, at.key("address"));
                self.check_deadline(tcp.within, known, at.key("within"));
            }
            Probe::Command(command) => {
                let at = probe.key("command");
                self.command_line(&command.run, at.key("run"));
                self.out(&command.run, at.key("run"));
                self.check_exit(command.exit, at.key("exit"));
                if let Some(output) = &command.output {
                    self.pattern(output, at.key("output"));
                }
                self.check_deadline(command.within, known, at.key("within"));
            }
            Probe::File(file) => self.check_file(file, probe.key("file")),
            Probe::LogLine(line) => {
                let at = probe.key("log-line");
                self.needs_workload(at, "a probe of log lines");
                self.pattern(&line.pattern, at.key("pattern"));
                self.check_window(line.within, known, at.key("within"));
            }
            Probe::ProcessAlive(alive) => {
                let at = probe.key("process-alive");
                self.check_alive(&alive.target, at.key("target"));
            }
            Probe::DiskFree(disk) => {
                let at = probe.key("disk-free");
                self.path(&disk.path, at.key("path"));
                if disk.below.0 == 0 {
                    self.zero(at.key("below"), "a size above 0B");
                }
            }
            Probe::TrainingEvent(event) => {
                let at = probe.key("training-event");
                self.needs_training(at, "a probe of training events");
                self.check_window(Some(event.within), known, at.key("within"));
            }
        }
    }

    fn check_alive(&mut self, target: &crate::timing::Selector, at: At<'_>) {
        if let Some(way) = self
            .selector(target, at)
            .filter(|way| !PROCESS_WAYS.contains(way))
        {
            let problem = Problem::new(
                "target-kind",
                format!("a target given by `{way}` is no process"),
            );
            self.value(
                at,
                problem.label("cannot be alive").help(format!(
                    "name a process by {}",
                    one_of(PROCESS_WAYS.iter().copied())
                )),
            );
        }
    }

    fn check_http(&mut self, http: &HttpProbe, at: At<'_>) {
        let rest = http
            .url
            .strip_prefix("http://")
            .or_else(|| http.url.strip_prefix("https://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let bad = match host {
            None => Some("does not start with `http://` or `https://`"),
            Some("") => Some("names no host"),
            Some(_) if http.url.contains(char::is_whitespace) => Some("contains a space"),
            Some(_) => None,
        };
        if let Some(because) = bad {
            self.value(
                at.key("url"),
                Problem::new("bad-url", "the URL cannot be asked")
                    .label(because)
                    .help("write it like `http://127.0.0.1:8080/health`"),
            );
        }
        if http
            .status
            .is_some_and(|status| !(100..=599).contains(&status))
        {
            self.value(
                at.key("status"),
                Problem::new("out-of-range", "`status` is no HTTP status")
                    .label("outside 100–599")
                    .help("write a number from 100 to 599, e.g. 200"),
            );
        }
    }

    fn check_address(&mut self, address: &str, at: At<'_>) {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let open = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        let label = match port.parse::<u16>() {
            _ if port.is_empty() => "has no port",
            _ if host.is_empty() => "names no host",
            _ if open => "an IPv6 address stands in brackets",
            Err(_) | Ok(0) => "its port is not a number from 1 to 65535",
            Ok(_) => return,
        };
        let problem = Problem::new(
            "bad-address",
            format!("`{}` is not an address", short(address)),
        );
        self.value(
            at,
            problem
                .label(label)
                .help("write it like `127.0.0.1:8080` or `[::1]:8080`"),
        );
    }

    fn check_file(&mut self, file: &FileProbe, at: At<'_>) {
        self.path(&file.path, at.key("path"));
        self.not_zero(file.age, at.key("age"));
        if let (Some(least), Some(most)) = (file.at_least, file.at_most)
            && least > most
        {
            let problem = Problem::new(
                "contradiction",
                format!("no file has at least {least} and at most {most}"),
            );
            self.value(
                at.key("at-most"),
                problem
                    .label("less than `at-least`")
                    .help("exchange or correct the two"),
            );
        }
        if let Some(digest) = &file.sha256
            && (digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            let problem = Problem::new("bad-digest", "`sha256` is not a SHA-256 digest");
            let label = format!("{} characters", digest.chars().count());
            self.value(
                at.key("sha256"),
                problem
                    .label(label)
                    .help("write the 64 hexadecimal digits that `sha256sum` prints"),
            );
        }
    }

    pub(super) fn check_exit(&mut self, exit: Option<i32>, at: At<'_>) {
        if exit.is_some_and(|exit| !(0..=255).contains(&exit)) {
            self.value(at, Problem::new("out-of-range", "`exit` is no exit status").label("outside 0–255").help("write a number from 0 to 255; a signal N ends a shell's child with 128 + N"));
        }
    }

    /// How long one measurement may take, against the time between two.
    fn check_deadline(&mut self, within: Option<Span>, interval: Option<Span>, at: At<'_>) {
        self.not_zero(within, at);
        if let (Some(within), Some(interval)) = (within, interval)
            && within > interval
            && interval.as_nanos() > 0
        {
            let problem = Problem::new(
                "impossible-window",
                format!("a measurement may take {within}, but one is due every {interval}"),
            );
            self.value(
                at,
                problem
                    .label(format!("longer than `interval: {interval}`"))
                    .help("shorten `within` or lengthen `interval`"),
            );
        }
    }

    /// How recent something must be, against how often one looks.
    fn check_window(&mut self, within: Option<Span>, interval: Option<Span>, at: At<'_>) {
        self.not_zero(within, at);
        if let (Some(within), Some(interval)) = (within, interval)
            && within < interval
            && within.as_nanos() > 0
        {
            let problem = Problem::new(
                "impossible-window",
                format!("looking every {interval} cannot tell what happened within {within}"),
            );
            self.value(
                at,
                problem
                    .label(format!("shorter than `interval: {interval}`"))
                    .help("shorten `interval` or lengthen `within`"),
            );
        }
        self.fits_limit(within, at);
    }

    /// A baseline in which nothing is measured.
    fn check_baseline<F: FaultList>(&mut self, experiment: &Experiment<F>) {
        let Some(baseline) = experiment
            .baseline
            .filter(|baseline| baseline.as_nanos() > 0)
        else {
            return;
        };
        let root = At::ROOT;
        if self.problems.is_doubtful(root.key("baseline")) {
            return;
        }
        let list = root.key("steady-state");
        for (index, check) in experiment.steady_state.iter().enumerate() {
            let Some(interval) = check.interval.filter(|interval| *interval > baseline) else {
                continue;
            };
            let at = list.index(index);
            let problem = Problem::new(
                "impossible-window",
                format!("this probe is taken every {interval}, and the baseline lasts {baseline}"),
            );
            self.value(
                at.key("interval"),
                problem
                    .label("never taken in the baseline")
                    .help("lengthen `baseline` or shorten `interval`"),
            );
        }
    }

    /// An abort condition that fires whenever the steady state holds.
    fn check_opposites<F: FaultList>(&mut self, experiment: &Experiment<F>) {
        let root = At::ROOT;
        let list = root.key("abort-when");
        for (index, abort) in experiment.abort_when.iter().enumerate() {
            let Probe::LogLine(line) = &abort.probe else {
                continue;
            };
            let opposite = experiment.steady_state.iter().any(|check| matches!(&check.probe, Probe::LogLine(other) if other.pattern == line.pattern && other.absent != line.absent));
            if opposite {
                let at = list.index(index);
                let at = at.key("probe");
                let problem = Problem::new(
                    "contradiction",
                    "this condition fires whenever the steady state holds",
                );
                self.key(
                    at.key("log-line"),
                    problem
                        .label("the opposite of a steady-state probe")
                        .help("remove one of the two, or correct `absent`"),
                );
            }
        }
    }
}
