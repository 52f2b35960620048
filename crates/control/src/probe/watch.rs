//! Probes that are taken again and again, each on a thread of its own, so that a slow one delays no other.

use super::{Context, Probed, Prober};
use crate::store::{Samples, SeriesSpec, Stream};
use squall_model::experiment::Check;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);
/// Readings that wait to be looked at. More than the conductor can fall behind.
const QUEUE: usize = 1_024;

/// One reading of one watched probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which of the watched checks.
    pub index: usize,
    /// When it was taken, since the run's start.
    pub t_ns: u64,
    /// What was measured.
    pub probed: Probed,
}

/// Running probes. Stopping ends them; a command in progress is ended with its tree.
#[derive(Debug)]
pub struct Watch {
    readings: Receiver<Reading>,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
    context: Context,
}

impl Watch {
    /// Starts one thread a check. `first_stream` numbers the sample streams.
    pub fn start(
        checks: &[(String, Check)],
        context: Context,
        samples: &Samples,
        first_stream: u32,
    ) -> std::io::Result<Watch> {
        let (report, readings) = sync_channel(QUEUE);
        let mut watch = Watch {
            readings,
            threads: Vec::new(),
            context,
        };
        for (index, (name, check)) in checks.iter().enumerate() {
            let (stop, stopped) = channel();
            let worker = Worker {
                index,
                interval: check.interval.map_or(INTERVAL, |span| span.0),
                prober: Prober::new(check.probe.clone(), watch.context.clone()),
                series: Series::new(samples, name, Stream::Probe(first_stream + index as u32)),
                report: report.clone(),
                stopped,
            };
            let thread = std::thread::Builder::new()
                .name(format!("probe-{index}"))
                .spawn(move || worker.work())?;
            watch.threads.push((stop, thread));
        }
        Ok(watch)
    }

    /// Readings that have come since the last call.
    pub fn take(&self) -> Vec<Reading> {
        self.readings.try_iter().collect()
    }

    /// Ends all probes. One that waits for an answer from the network is not waited for longer than its own deadline allows.
    pub fn stop(self) {
        self.context.cancel.store(true, Ordering::Relaxed);
        let (stops, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(stops);
        let patience = Instant::now() + Duration::from_secs(2);
        for thread in threads {
            while !thread.is_finished() && Instant::now() < patience {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if thread.is_finished() && thread.join().is_err() {
                // A panic in a probe has been told by the panic hook; its readings ended with it.
                continue;
            }
        }
    }
}

struct Series {
    samples: Samples,
    stream: Stream,
    held: crate::store::SeriesId,
    value: crate::store::SeriesId,
}

impl Series {
    fn new(samples: &Samples, check: &str, stream: Stream) -> Series {
        let define = |name| {
            samples.define(&SeriesSpec {
                name,
                labels: BTreeMap::from([("check".to_owned(), check.to_owned())]),
                unit: "",
                per_second: None,
            })
        };
        Series {
            held: define("probe.held"),
            value: define("probe.value"),
            samples: samples.clone(),
            stream,
        }
    }

    fn put(&self, t_ns: u64, probed: &Probed) {
        let mut values = vec![(self.held, f64::from(u8::from(probed.held)))];
        values.extend(probed.value.map(|value| (self.value, value)));
        self.samples.put(self.stream, t_ns, values);
    }
}

struct Worker {
    index: usize,
    interval: Duration,
    prober: Prober,
    series: Series,
    report: SyncSender<Reading>,
    stopped: Receiver<()>,
}

impl Worker {
    fn work(mut self) {
        let clock = self.prober.context.board.clock;
        let mut next = Instant::now();
        loop {
            let probed = self.prober.measure();
            if self.prober.context.is_cancelled() {
                return;
            }
            let t_ns = clock.now_ns();
            self.series.put(t_ns, &probed);
            let reading = Reading {
                index: self.index,
                t_ns,
                probed,
            };
            if self.report.send(reading).is_err() {
                return;
            }
            // A measurement that took longer than the interval skips turns rather than hurrying after them.
            next = (next + self.interval).max(Instant::now());
            match self
                .stopped
                .recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
