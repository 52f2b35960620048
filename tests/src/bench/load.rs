//! Real figures of the monitor and the store: real processes, real readings, a real database.
//!
//! Whoever measures starts this in a process of its own, so that its processor time and memory are the monitor's and the store's alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use squall_analysis::run::Ask;
use squall_control::board::Board;
use squall_control::clock::{RunClock, own_cpu_ns, utc_now};
use squall_control::monitor::{Config, Missed, Monitor, PROCESS_SERIES};
use squall_control::store::{FILE, Opening, Store};
use squall_model::event::Body;
use squall_model::id::RunId;

/// Marks the processes of one measurement.
const MARK: &str = "SQUALL_BENCH";
const WARM_UP: Duration = Duration::from_secs(2);
const DAY_S: f64 = 86_400.0;

/// What is monitored.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Processes in all.
    pub(super) processes: u32,
    /// How many of them are busy.
    pub(super) busy: u32,
    /// Samples a second.
    pub(super) rate: u32,
    /// How long.
    pub(super) length: Duration,
    /// A program and its arguments that calls [`busy_worker`].
    pub(super) busy_command: (PathBuf, Vec<String>),
    /// A program and its arguments that calls [`idle_worker`].
    pub(super) idle_command: (PathBuf, Vec<String>),
}

/// What it costs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Figures {
    /// Share of one processor, monitor and store together.
    pub(super) cpu_percent: f64,
    /// Resident memory of this process at the end.
    pub(super) rss_bytes: u64,
    /// Samples taken.
    pub(super) samples: u64,
    /// Series of each process.
    pub(super) series_per_process: usize,
    /// Bytes of the database for them.
    pub(super) store_bytes: u64,
    /// Bytes of a sample.
    pub(super) bytes_per_sample: f64,
    /// Bytes that a day like this would take.
    pub(super) bytes_per_day: f64,
    /// Readings that were not taken.
    pub(super) missed_turns: u64,
    /// How long it was measured.
    pub(super) seconds: f64,
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

/// Monitors the load's processes and says what that costs.
///
/// # Errors
/// When a process or the monitor does not start, the store fails, or too few samples come.
pub(super) fn measure(load: &Load, folder: &Path) -> anyhow::Result<Figures> {
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
        Monitor::start(config, board, store.samples()).context("could not start the monitor")?;
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
    let wanted = (f64::from(load.processes * load.rate) * seconds) as u64 * PROCESS_SERIES as u64;
    ensure!(
        counted >= wanted / 2,
        "only {counted} samples came where {wanted} were due"
    );
    Ok(Figures {
        cpu_percent: cpu as f64 / 1e7 / seconds,
        rss_bytes,
        samples: counted,
        series_per_process: PROCESS_SERIES,
        store_bytes,
        bytes_per_sample: store_bytes as f64 / total as f64,
        bytes_per_day: store_bytes as f64 / (total as f64 / counted as f64 * seconds) * DAY_S,
        missed_turns: missed.turns,
        seconds,
    })
}

fn start(load: &Load, mark: &str) -> anyhow::Result<Children> {
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
        children
            .0
            .push(child.with_context(|| format!("could not start {}", program.display()))?);
    }
    Ok(children)
}

fn opening(run: &RunId, clock: RunClock) -> Opening {
    let ask = Ask {
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
            started_utc: utc_now(),
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
///
/// # Errors
/// When `/dev/null` cannot be written.
pub(super) fn busy_worker() -> io::Result<()> {
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
pub(super) fn idle_worker() {
    loop {
        std::thread::park();
    }
}
