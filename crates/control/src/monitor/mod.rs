//! Monitors: what is sampled while a run goes on, 1 to 100 times a second, on one clock.
//!
//! Files of /proc stay open and are read at offset 0: opening them anew would cost several times more. Everything is bounded: at most
//! [`PROCESSES_MAX`] processes, a turn that comes too late is skipped and counted, and the monitor samples its own cost.

mod cgroup;
mod files;
mod host;
mod process;
mod tree;

use crate::board::Board;
use crate::clock::own_cpu_ns;
use crate::store::{Samples, SeriesId, SeriesSpec, Stream};
use cgroup::CgroupSampler;
use host::HostSampler;
use process::ProcessSampler;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use process::SERIES as PROCESS_SERIES;

/// More processes than this are counted, not sampled.
pub const PROCESSES_MAX: usize = 256;
/// How often new processes are looked for.
const SCAN: Duration = Duration::from_millis(500);
/// Samples a second when the file says nothing.
pub const RATE: u32 = 10;

/// What to sample.
#[derive(Debug, Clone)]
pub struct Config {
    /// Samples a second, 1 to 100.
    pub rate: u32,
    /// Processes that carry this variable with this value are the workload's.
    pub mark: Option<(String, String)>,
    /// Processes whose trees are sampled beside the workload's.
    pub roots: Vec<u32>,
}

/// What could not be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    /// Turns skipped because the one before took too long.
    pub turns: u64,
    /// Processes beyond the bound.
    pub processes: u64,
    /// Samples that did not fit in the store's queue.
    pub samples: u64,
}

#[derive(Debug, Default)]
struct Counters {
    turns: AtomicU64,
    processes: AtomicU64,
    sampled: AtomicU64,
}

/// A running monitor.
#[derive(Debug)]
pub struct Monitor {
    stop: Sender<()>,
    thread: JoinHandle<()>,
    counters: Arc<Counters>,
    samples: Samples,
}

impl Monitor {
    /// Starts sampling on a thread of its own.
    pub fn start(config: Config, board: Arc<Board>, samples: Samples) -> std::io::Result<Monitor> {
        let (stop, stopped) = channel();
        let counters = Arc::new(Counters::default());
        let sampler = Sampler {
            period: Duration::from_secs(1) / config.rate.clamp(1, 100),
            processes: ProcessSampler::new(&config, samples.clone()),
            host: HostSampler::new(&samples),
            cgroup: None,
            own: Own::new(&samples),
            training: Training::new(&samples),
            board,
            samples: samples.clone(),
            counters: counters.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || sampler.work(&stopped))?;
        Ok(Monitor {
            stop,
            thread,
            counters,
            samples,
        })
    }

    /// What was missed since the last call.
    pub fn take_missed(&self) -> Missed {
        Missed {
            turns: self.counters.turns.swap(0, Ordering::Relaxed),
            processes: self.counters.processes.swap(0, Ordering::Relaxed),
            samples: self.samples.take_dropped(),
        }
    }

    /// Samples taken so far.
    pub fn sampled(&self) -> u64 {
        self.counters.sampled.load(Ordering::Relaxed)
    }

    /// Stops; says what was missed since the last call.
    pub fn stop(self) -> Missed {
        drop(self.stop);
        // A panic was told by the hook; what is missing then shows as a gap.
        self.thread.join().ok();
        Missed {
            turns: self.counters.turns.swap(0, Ordering::Relaxed),
            processes: self.counters.processes.swap(0, Ordering::Relaxed),
            samples: self.samples.take_dropped(),
        }
    }
}

/// Values of one instant.
type Values = Vec<(SeriesId, f64)>;

struct Sampler {
    period: Duration,
    board: Arc<Board>,
    samples: Samples,
    processes: ProcessSampler,
    host: HostSampler,
    cgroup: Option<(u32, CgroupSampler)>,
    own: Own,
    training: Training,
    counters: Arc<Counters>,
}

impl Sampler {
    fn work(mut self, stopped: &Receiver<()>) {
        let mut next = Instant::now();
        let mut scan_at = next;
        loop {
            if Instant::now() >= scan_at {
                self.look_around();
                scan_at = Instant::now() + SCAN;
            }
            self.turn();
            next += self.period;
            let late = Instant::now().saturating_duration_since(next);
            let skipped = late.as_nanos() / self.period.as_nanos();
            if skipped > 0 {
                let skipped = u32::try_from(skipped).unwrap_or(u32::MAX);
                self.counters
                    .turns
                    .fetch_add(u64::from(skipped), Ordering::Relaxed);
                next += self.period * skipped;
            }
            match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look_around(&mut self) {
        let root = self
            .board
            .of_workload(|workload| workload.process.as_ref().map(|process| process.pid))
            .flatten();
        let beyond = self.processes.look_around(root);
        self.counters.processes.fetch_add(beyond, Ordering::Relaxed);
        if let Some(root) = root
            && self.cgroup.as_ref().is_none_or(|(of, _)| *of != root)
        {
            self.cgroup = Some((root, CgroupSampler::of(root, &self.samples)));
        }
    }

    fn turn(&mut self) {
        // To the microsecond: finer is noise, and costs room.
        let t_ns = self.board.clock.now_ns() / 1_000 * 1_000;
        let mut values = Values::with_capacity(self.processes.len() * PROCESS_SERIES + 32);
        self.processes.sample(&mut values);
        self.host.sample(&mut values);
        if let Some((_, cgroup)) = &mut self.cgroup {
            cgroup.sample(&mut values);
        }
        self.training.sample(&self.board, &mut values);
        self.own.sample(&mut values);
        self.counters
            .sampled
            .fetch_add(values.len() as u64, Ordering::Relaxed);
        self.samples.put(Stream::Monitor, t_ns, values);
    }
}

fn series(
    samples: &Samples,
    name: &'static str,
    unit: &'static str,
    per_second: Option<f64>,
) -> SeriesId {
    samples.define(&SeriesSpec {
        name,
        labels: BTreeMap::new(),
        unit,
        per_second,
    })
}

/// What Squall's controller itself costs.
struct Own {
    cpu: SeriesId,
    rss: SeriesId,
    statm: Option<files::Kept>,
}

impl Own {
    fn new(samples: &Samples) -> Own {
        Own {
            // Stored in milliseconds; a tenth of a percent of a core each second.
            cpu: series(samples, "squall.cpu", "%", Some(0.1)),
            rss: series(samples, "squall.rss", "bytes", None),
            statm: files::Kept::open("/proc/self/statm"),
        }
    }

    fn sample(&mut self, values: &mut Values) {
        values.push((self.cpu, (own_cpu_ns() / 1_000_000) as f64));
        let pages = self
            .statm
            .as_mut()
            .and_then(|file| file.read())
            .and_then(|text| files::number(text, 1));
        values.extend(pages.map(|pages| (self.rss, (pages * files::page()) as f64)));
    }
}

/// Progress of training, as its events tell it.
struct Training {
    steps: SeriesId,
    epoch: SeriesId,
    loss: SeriesId,
}

impl Training {
    fn new(samples: &Samples) -> Training {
        Training {
            steps: series(samples, "training.steps", "1/s", Some(1.0)),
            epoch: series(samples, "training.epoch", "", None),
            loss: series(samples, "training.loss", "", None),
        }
    }

    fn sample(&self, board: &Board, values: &mut Values) {
        let seen = board.of_workload(|workload| {
            let running = workload.is_running() && workload.steps.count > 0;
            running.then_some((
                workload.steps.highest,
                workload.epochs.highest,
                workload.loss,
            ))
        });
        if let Some((steps, epochs, loss)) = seen.flatten() {
            values.push((self.steps, steps as f64));
            values.push((self.epoch, epochs as f64));
            values.extend(loss.map(|loss| (self.loss, loss)));
        }
    }
}

#[cfg(test)]
mod tests;
