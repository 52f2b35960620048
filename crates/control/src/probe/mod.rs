//! Probes: one measurement with its condition, in words with a unit.
//!
//! A probe never acts on the system beyond asking it: a command it starts is ended with everything it started. What it says never repeats a
//! secret: addresses are told without user, password and query.

mod command;
mod file;
mod http;
mod log_line;
mod simple;
mod watch;

pub use watch::{Reading, Watch};

use crate::board::Board;
use log_line::LogWatch;
use squall_model::experiment::Probe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// What must be true was true.
    pub held: bool,
    /// What was measured, with its unit.
    pub measured: String,
    /// The same as a number, where there is one.
    pub value: Option<f64>,
}

impl Probed {
    fn new(held: bool, measured: impl Into<String>, value: Option<f64>) -> Probed {
        Probed {
            held,
            measured: measured.into(),
            value,
        }
    }

    fn failed(measured: impl Into<String>) -> Probed {
        Probed::new(false, measured, None)
    }
}

/// Where a probe looks.
#[derive(Debug, Clone)]
pub struct Context {
    /// What the run has shown.
    pub board: Arc<Board>,
    /// The workload's folder; stands for `{out}`.
    pub out: PathBuf,
    /// The workload's output.
    pub log: PathBuf,
    /// Set when the run no longer wants an answer.
    pub cancel: Arc<AtomicBool>,
}

impl Context {
    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// A path of the file, `{out}` replaced, relative ones from the experiment's folder.
    fn path(&self, text: &str) -> PathBuf {
        self.board.directory.join(Path::new(
            &text.replace("{out}", &self.out.to_string_lossy()),
        ))
    }
}

/// A probe with what it remembers between two measurements.
#[derive(Debug)]
pub struct Prober {
    probe: Probe,
    context: Context,
    log: Option<LogWatch>,
}

impl Prober {
    /// Readies a probe.
    pub fn new(probe: Probe, context: Context) -> Prober {
        let log = match &probe {
            Probe::LogLine(probe) => Some(LogWatch::new(probe)),
            _ => None,
        };
        Prober {
            probe,
            context,
            log,
        }
    }

    /// Measures once. Ends within the probe's own deadline.
    pub fn measure(&mut self) -> Probed {
        let context = &self.context;
        match &self.probe {
            Probe::Http(probe) => http::measure(probe),
            Probe::Tcp(probe) => simple::tcp(probe),
            Probe::Command(probe) => command::measure(probe, context),
            Probe::File(probe) => file::measure(probe, context),
            Probe::LogLine(probe) => match &mut self.log {
                Some(log) => log.measure(probe, context),
                None => Probed::failed("the output is not watched"),
            },
            Probe::ProcessAlive(probe) => simple::alive(&probe.target, context),
            Probe::DiskFree(probe) => simple::disk(probe, context),
            Probe::TrainingEvent(probe) => simple::training(probe, context),
        }
    }
}

/// Measures once, remembering nothing.
pub fn measure(probe: &Probe, context: &Context) -> Probed {
    Prober::new(probe.clone(), context.clone()).measure()
}

/// Whether a probe says nothing once the workload has ended by itself.
pub fn needs_workload(probe: &Probe) -> bool {
    match probe {
        Probe::TrainingEvent(_) => true,
        Probe::LogLine(probe) => probe.within.is_some() && !probe.absent,
        Probe::ProcessAlive(probe) => {
            probe.target.rank.is_some() || probe.target.workload == Some(true)
        }
        _ => false,
    }
}

/// Seconds with three significant digits, for people.
fn seconds(duration: std::time::Duration) -> String {
    let s = duration.as_secs_f64();
    match s {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.3} s", s),
        s if s < 10.0 => format!("{s:.2} s"),
        s => format!("{s:.1} s"),
    }
}

#[cfg(test)]
mod tests;
