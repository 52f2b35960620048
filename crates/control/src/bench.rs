//! Real figures of the monitor and the store: real processes, real readings, a real database.
//!
//! Whoever measures starts this in a process of its own, so that its processor time and memory are the monitor's and the store's alone.

use crate::board::Board;
use crate::clock::{RunClock, own_cpu_ns};
use crate::monitor::{Config, Missed, Monitor};
use crate::store::{FILE, Opening, Store, StoreError, StoredAsk};
use squall_model::event::Body;
use squall_model::id::RunId;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Marks the processes of one measurement.
const MARK: &str = "SQUALL_BENCH";
const WARM_UP: Duration = Duration::from_secs(2);
const DAY_S: f64 = 86_400.0;

/// What is monitored.
#[derive(Debug, Clone)]
pub struct Load {
    /// Processes in all.
    pub processes: u32,
    /// How many of them are busy.
    pub busy: u32,
    /// Samples a second.
    pub rate: u32,
    /// How long.
    pub length: Duration,
    /// A program and its arguments that calls [`busy_worker`].
    pub busy_command: (PathBuf, Vec<String>),
    /// A program and its arguments that calls [`idle_worker`].
    pub idle_command: (PathBuf, Vec<String>),
}

/// What it costs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Share of one processor, monitor and store together.
    pub cpu_percent: f64,
    /// Resident memory of this process at the end.
    pub rss_bytes: u64,
    /// Samples taken.
    pub samples: u64,
    /// Series of each process.
    pub series_per_process: usize,
    /// Bytes of the database for them.
    pub store_bytes: u64,
    /// Bytes of a sample.
    pub bytes_per_sample: f64,
    /// Bytes that a day like this would take.
    pub bytes_per_day: f64,
    /// Readings that were not taken.
    pub missed_turns: u64,
    /// How long it was measured.
    pub seconds: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A process or the monitor did not start.
    #[error("could not start {what}, because {source}")]
    Start {
        /// What.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The monitor sampled less than it was asked to.
    #[error("could not measure, because only {found} samples came where {wanted} were due")]
    TooFew {
        /// Samples taken.
        found: u64,
        /// Samples due.
        wanted: u64,
    },
}

/// Cost of monitoring: processor and memory.
pub fn monitor_cost(load: &Load, folder: &Path) -> Result<Figures, BenchError> {
    measure(load, folder)
}

/// Size of what monitoring stores.
pub fn store_size(load: &Load, folder: &Path) -> Result<Figures, BenchError> {
    measure(load, folder)
}

/// Children that end with the measurement.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is what is wanted.
            child.kill().ok();
        }
        for child in &mut self.0 {
            child.wait().ok();
        }
    }
}

fn measure(load: &Load, folder: &Path) -> Result<Figures, BenchError> {
    let clock = RunClock::start();
    let run = RunId(format!("bench-{}", std::process::id()));
    let _children = start(load, &run.0)?;
    let store = Store::create(folder, opening(&run, clock))?;
    let size = || std::fs::metadata(folder.join(FILE)).map_or(0, |meta| meta.len());
    let empty = size();
    let board = Arc::new(Board::new(run.clone(), clock, folder.to_path_buf()));
    let config = Config {
        rate: load.rate,
        mark: Some((MARK.to_owned(), run.0)),
        roots: Vec::new(),
    };
    let monitor =
        Monitor::start(config, board, store.samples()).map_err(|source| BenchError::Start {
            what: "the monitor",
            source,
        })?;
    wait(WARM_UP);
    let (cpu, samples, began) = (own_cpu_ns(), monitor.sampled(), Instant::now());
    wait(load.length);
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), own_cpu_ns() - cpu);
    let counted = monitor.sampled() - samples;
    let rss_bytes = rss();
    let total = monitor.sampled();
    let missed: Missed = monitor.stop();
    store.close()?;
    let store_bytes = size().saturating_sub(empty);
    let wanted = (f64::from(load.processes * load.rate) * seconds) as u64
        * crate::monitor::PROCESS_SERIES as u64;
    if counted < wanted / 2 {
        return Err(BenchError::TooFew {
            found: counted,
            wanted,
        });
    }
    Ok(Figures {
        cpu_percent: cpu as f64 / 1e7 / seconds,
        rss_bytes,
        samples: counted,
        series_per_process: crate::monitor::PROCESS_SERIES,
        store_bytes,
        bytes_per_sample: store_bytes as f64 / total as f64,
        bytes_per_day: store_bytes as f64 / (total as f64 / counted as f64 * seconds) * DAY_S,
        missed_turns: missed.turns,
        seconds,
    })
}

fn start(load: &Load, mark: &str) -> Result<Children, BenchError> {
    let mut children = Children(Vec::new());
    for index in 0..load.processes {
        let (program, arguments) = if index < load.busy {
            &load.busy_command
        } else {
            &load.idle_command
        };
        let child = Command::new(program)
            .args(arguments)
            .env(MARK, mark)
            .env("RANK", index.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        children.0.push(child.map_err(|source| BenchError::Start {
            what: "a process",
            source,
        })?);
    }
    Ok(children)
}

fn opening(run: &RunId, clock: RunClock) -> Opening {
    let ask = StoredAsk {
        title: "bench".into(),
        file: "bench".into(),
        requirement: None,
        expect: Vec::new(),
        seed: 0,
        reference: false,
        checkpoint_interval: None,
        eligible: 0,
        at_most: 0,
    };
    Opening {
        first: Body::RunStarted {
            version: squall_model::event::VERSION,
            run: run.clone(),
            title: "bench".into(),
            seed: 0,
            started_utc: crate::clock::utc_now(),
            boot_ns: clock.boot_ns,
            boot_id: String::new(),
            squall: env!("CARGO_PKG_VERSION").into(),
            experiment: String::new(),
            host: BTreeMap::new(),
        },
        meta: vec![("ask", serde_json::to_string(&ask).unwrap_or_default())],
        clock,
    }
}

fn wait(length: Duration) {
    let until = Instant::now() + length;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Works like a training process until it is killed: computes, allocates, writes, and waits for others.
pub fn busy_worker() -> io::Result<()> {
    let mut out = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut seed = u64::from(std::process::id());
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut sum = seed;
        for step in 0..200_000u64 {
            sum = std::hint::black_box(sum.rotate_left(5) ^ step);
        }
        kept.push(vec![sum as u8; 65_536 * (1 + (seed >> 60) as usize)]);
        if kept.len() > 8 {
            kept.clear();
        }
        io::Write::write_all(&mut out, &sum.to_le_bytes().repeat(64))?;
        std::thread::park_timeout(Duration::from_millis(10 + (seed >> 58)));
    }
}

/// Does nothing until it is killed.
pub fn idle_worker() {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    #[ignore = "a child program of another test"]
    fn child_that_is_busy() {
        busy_worker().expect("it works until it is killed");
    }

    #[test]
    #[ignore = "a child program of another test"]
    fn child_that_idles() {
        idle_worker();
    }

    fn load(processes: u32, busy: u32, length: Duration) -> Load {
        let own = std::env::current_exe().expect("own path");
        let command = |name: &str| {
            let words = ["--ignored", "--exact", "--test-threads=1", name];
            (own.clone(), words.map(str::to_owned).to_vec())
        };
        Load {
            processes,
            busy,
            rate: 10,
            length,
            busy_command: command("bench::tests::child_that_is_busy"),
            idle_command: command("bench::tests::child_that_idles"),
        }
    }

    #[test]
    fn figures_are_measured_on_real_processes() {
        let scratch = Scratch::new("bench");
        let figures =
            monitor_cost(&load(6, 2, Duration::from_secs(2)), scratch.path()).expect("measured");
        assert!(
            figures.samples > 500 && figures.cpu_percent > 0.0 && figures.store_bytes > 0,
            "{figures:?}"
        );
    }

    /// `cargo test --release -p squall-control bench::tests::full -- --ignored --nocapture`
    #[test]
    #[ignore = "takes minutes; run by hand or by xtask"]
    fn full() {
        let seconds = std::env::var("SQUALL_BENCH_SECONDS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(600);
        let scratch = Scratch::new("bench-full");
        let figures = store_size(&load(100, 20, Duration::from_secs(seconds)), scratch.path())
            .expect("measured");
        println!("{figures:#?}");
    }
}
