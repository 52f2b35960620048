//! The packet queue: how exact its delays are, how many packets a second it takes, what it costs a bulk transfer; and what programs at
//! interfaces' hooks cost. Two network namespaces
//! with a pair of interfaces between them; whoever sends and receives is pinned to the first core, the server of the queue to the second.

mod programs;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};
use squall_faults::fault::Target;
use squall_faults::packet::counts::Counts;

use super::{Figure, median};
use crate::compliance::trial::{Injection, RUN, build};
use crate::folder::Folder;
use crate::pair::Pair;
use crate::poll::until;
use crate::targets::served;

const DELAY: Duration = Duration::from_millis(10);
const DELAY_MS: &str = "10ms";
const LIMIT: Duration = Duration::from_secs(10);
/// Interleaved rounds; medians over them are told.
const ROUNDS: usize = 5;
const TRANSFER: Duration = Duration::from_millis(1500);

/// All figures. A part that fails is a figure that was not measured.
pub fn figures() -> Vec<Figure> {
    if !rustix::process::geteuid().is_root() {
        return vec![Figure::missing(
            "network",
            "ms",
            0.15,
            "network namespaces need root",
        )];
    }
    // What is measured is the path, not who else wants the processors.
    let nice = rustix::process::nice(-20);
    if let Err(error) = nice {
        return vec![Figure::missing(
            "network",
            "ms",
            0.15,
            format!("nice -20: {error}"),
        )];
    }
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return vec![Figure::missing("network", "ms", 0.15, format!("{error:#}"))],
    };
    let mut figures = Vec::new();
    for (rate, is_v6) in [(100, false), (1_000, false), (10_000, false), (1_000, true)] {
        let family = if is_v6 { "IPv6" } else { "IPv4" };
        let name = format!("delay of 10 ms, {rate} packets/s, {family}");
        match delays(&pair, rate, is_v6) {
            Ok(found) => figures.extend(found.figures(&name)),
            Err(error) => figures.push(Figure::missing(&name, "ms", 0.15, format!("{error:#}"))),
        }
    }
    let capacity = capacity(&pair).map(|rate| {
        at_least(
            "packets/s on one core, 10 ms delay",
            rate,
            "packets/s",
            200_000.0,
            "one sender pinned to the other core; counted by the server over 2 s, median of 5",
        )
    });
    figures.push(capacity.unwrap_or_else(|error| {
        Figure::missing(
            "packets/s on one core",
            "packets/s",
            200_000.0,
            format!("{error:#}"),
        )
    }));
    match throughput(&pair) {
        Ok(found) => figures.extend(found),
        Err(error) => figures.push(Figure::missing(
            "TCP",
            "of direct",
            0.75,
            format!("{error:#}"),
        )),
    }
    figures.extend(programs::figures(&pair));
    figures
}

fn at_least(name: &str, value: f64, unit: &'static str, goal: f64, how: &str) -> Figure {
    Figure {
        met: Some(value >= goal),
        ..Figure::shown(name, value, unit, format!("goal: at least {goal}; {how}"))
    }
}

/// A fault in the second namespace; the server of a queue on the second core.
struct Delayed {
    injection: Injection,
    counts: PathBuf,
    folder: Folder,
}

impl Delayed {
    fn new(pair: &Pair, config: Value) -> anyhow::Result<Delayed> {
        Delayed::by(pair, "network-delay", config)
    }

    fn by(pair: &Pair, kind: &str, config: Value) -> anyhow::Result<Delayed> {
        let folder = Folder::new()?;
        fs::create_dir_all(folder.path().join("runs").join(RUN))?;
        let target = Target::Namespace { path: pair.path(1) };
        let injection = Injection::begin(folder.path(), &build(kind, config)?, target)?;
        injection.inject()?;
        for pid in served("packet-queue") {
            for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
                let task = task.file_name().to_string_lossy().parse::<i32>()?;
                let task = rustix::process::Pid::from_raw(task).context("a task")?;
                sched_setaffinity(Some(task), &core(1))?;
            }
        }
        let backups = folder.path().join("runs").join(RUN).join("backups");
        let of_injection = fs::read_dir(backups)?.flatten().next().context("counts")?;
        let counts = of_injection.path().join("counts");
        Ok(Delayed {
            injection,
            counts,
            folder,
        })
    }

    fn counts(&self) -> anyhow::Result<Counts> {
        Ok(Counts::read(&self.counts)?)
    }

    /// What its counts say in the end.
    fn end(self) -> anyhow::Result<String> {
        let outcome = self.injection.undo().context("the journal knows it")?;
        ensure!(outcome.stuck.is_none(), "{outcome:?}");
        drop(self.folder);
        Ok(outcome.observations[0].evidence.clone())
    }
}

fn core(number: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(number);
    set
}

/// What became of paced datagrams.
#[derive(Debug, Default)]
struct Paced {
    /// One-way times in milliseconds.
    times: Vec<f64>,
    sent: usize,
    overtaken: usize,
}

/// Sends so many a second for a while and takes the time of each.
fn paced(from: &UdpSocket, to: &UdpSocket, rate: u32, length: Duration) -> anyhow::Result<Paced> {
    let start = Instant::now() + Duration::from_millis(20);
    let count = (f64::from(rate) * length.as_secs_f64()) as usize;
    let gap = Duration::from_secs(1) / rate;
    let mut seen = Paced {
        sent: count,
        ..Paced::default()
    };
    to.set_read_timeout(Some(Duration::from_millis(500)))?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let sender = scope.spawn(move || -> anyhow::Result<()> {
            sched_setaffinity(None, &core(0))?;
            rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
            for number in 0..count {
                let due = start + gap * number as u32;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let now = start.elapsed().as_nanos() as u64;
                let mut bytes = [0; 64];
                bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
                bytes[8..16].copy_from_slice(&now.to_le_bytes());
                from.send(&bytes)?;
            }
            Ok(())
        });
        sched_setaffinity(None, &core(0))?;
        let (mut bytes, mut highest) = ([0; 64], 0);
        while seen.times.len() < count && to.recv(&mut bytes).is_ok() {
            let now = start.elapsed().as_nanos() as u64;
            let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            seen.overtaken += usize::from(word(0) < highest);
            highest = highest.max(word(0));
            seen.times.push(now.saturating_sub(word(8)) as f64 / 1e6);
        }
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))?
    })?;
    Ok(seen)
}

/// The error of delays, and what the host's own timers do at the same rate.
struct Errors {
    p50: f64,
    p99: f64,
    worst: f64,
    delivered: f64,
    overtaken: usize,
    timer: (f64, f64),
    direct: f64,
    told: String,
}

impl Errors {
    fn figures(&self, name: &str) -> Vec<Figure> {
        let (p50, p99) = self.timer;
        let how = format!(
            "received one-way times less 10 ms, median of {ROUNDS} rounds; worst {:.3} ms; {:.3} % delivered, {} overtaken; {}",
            self.worst,
            self.delivered * 100.0,
            self.overtaken,
            self.told
        );
        let timers = format!(
            "this host's timers: late by {p50:.3} ms (p50), {p99:.3} ms (p99); direct one-way {:.3} ms",
            self.direct
        );
        let mut first = Figure::at_most(&format!("{name}, p50"), self.p50, "ms", 0.15, how);
        first = first.against(timers.clone());
        let second = Figure::at_most(&format!("{name}, p99"), self.p99, "ms", 0.3, "as above")
            .against(timers);
        let delivered = at_least(
            &format!("{name}, delivered"),
            self.delivered,
            "of 1",
            0.999,
            "and none overtaken",
        );
        let delivered = Figure {
            met: Some(self.delivered >= 0.999 && self.overtaken == 0),
            ..delivered
        };
        vec![first, second, delivered]
    }
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn delays(pair: &Pair, rate: u32, is_v6: bool) -> anyhow::Result<Errors> {
    let length = Duration::from_secs(2);
    let (mut p50, mut p99, mut timer50, mut timer99, mut direct) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut worst, mut came, mut sent, mut overtaken) = (0.0f64, 0, 0, 0);
    let mut told = String::new();
    for _ in 0..ROUNDS {
        let (from, to) = pair.sockets(is_v6)?;
        let mut plain = paced(&from, &to, rate, Duration::from_millis(500))?;
        direct.push(quantile(&mut plain.times, 0.5));
        let port = to.local_addr()?.port();
        let config = json!({"delay": DELAY_MS, "ports": [port], "protocol": "udp"});
        let delayed = Delayed::new(pair, config)?;
        let mut seen = paced(&from, &to, rate, length)?;
        told = delayed.end()?;
        for time in &mut seen.times {
            *time = (*time - DELAY.as_secs_f64() * 1e3).abs();
        }
        p50.push(quantile(&mut seen.times, 0.5));
        p99.push(quantile(&mut seen.times, 0.99));
        worst = seen.times.iter().copied().fold(worst, f64::max);
        came += seen.times.len();
        sent += seen.sent;
        overtaken += seen.overtaken;
        let mut late = timers(rate, Duration::from_millis(500))?;
        timer50.push(quantile(&mut late, 0.5));
        timer99.push(quantile(&mut late, 0.99));
    }
    Ok(Errors {
        p50: median(&mut p50),
        p99: median(&mut p99),
        worst,
        delivered: came as f64 / sent as f64,
        overtaken,
        timer: (median(&mut timer50), median(&mut timer99)),
        direct: median(&mut direct),
        told,
    })
}

/// How late a thread on the second core wakes that sleeps so many times a second, in milliseconds.
fn timers(rate: u32, length: Duration) -> anyhow::Result<Vec<f64>> {
    let measured = std::thread::spawn(move || -> anyhow::Result<Vec<f64>> {
        sched_setaffinity(None, &core(1))?;
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
        let (start, gap) = (Instant::now(), Duration::from_secs(1) / rate);
        let count = (f64::from(rate) * length.as_secs_f64()) as u32;
        let late = (1..=count).map(|number| {
            let due = start + gap * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due.elapsed().as_secs_f64() * 1e3
        });
        Ok(late.collect())
    });
    measured
        .join()
        .map_err(|_| anyhow::anyhow!("the sleeper panicked"))?
}

/// Packets a second that the server lets go when more come than it can take.
fn capacity(pair: &Pair) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (from, to) = pair.sockets(false)?;
        let port = to.local_addr()?.port();
        let config = json!({"delay": DELAY_MS, "ports": [port], "protocol": "udp"});
        let delayed = Delayed::new(pair, config)?;
        let over = std::sync::atomic::AtomicBool::new(false);
        let rate = std::thread::scope(|scope| -> anyhow::Result<f64> {
            let flood = scope.spawn(|| {
                sched_setaffinity(None, &core(0)).ok();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // A full room of the receiver is no failure of the path.
                    from.send(&[0; 64]).ok();
                }
            });
            let first = delayed.counts()?;
            until(LIMIT, || {
                Ok(delayed.counts()?.passed > first.passed + 10_000)
            })?;
            let (before, begun) = (delayed.counts()?.passed, Instant::now());
            std::thread::sleep(Duration::from_secs(2));
            let rate = (delayed.counts()?.passed - before) as f64 / begun.elapsed().as_secs_f64();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            flood
                .join()
                .map_err(|_| anyhow::anyhow!("the flood panicked"))?;
            Ok(rate)
        })?;
        rates.push(rate);
        delayed.end()?;
    }
    Ok(median(&mut rates))
}

/// Bits a second of one TCP stream from the first namespace to the second. `pinned`: its sender to the first core, its receiver to the second.
fn transfer(
    pair: &Pair,
    listener: &TcpListener,
    pinned: bool,
    length: Duration,
) -> anyhow::Result<f64> {
    let address: SocketAddr = listener.local_addr()?;
    let mut out = pair.inside(0, || TcpStream::connect(address))?;
    let (mut into, _) = listener.accept()?;
    let sender = std::thread::spawn(move || {
        if pinned {
            sched_setaffinity(None, &core(0)).ok();
        }
        let (begun, bytes) = (Instant::now(), vec![7; 256 << 10]);
        while begun.elapsed() < length {
            if out.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let (mut bytes, mut sum) = (vec![0; 256 << 10], 0);
    let begun = Instant::now();
    loop {
        match into.read(&mut bytes)? {
            0 => break,
            count => sum += count,
        }
    }
    let rate = sum as f64 * 8.0 / begun.elapsed().as_secs_f64();
    sender
        .join()
        .map_err(|_| anyhow::anyhow!("the sender panicked"))?;
    Ok(rate / 1e9)
}

/// Takes what the probe of the landing left in the backlog.
fn without_probes(listener: &TcpListener) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    while listener.accept().is_ok() {}
    listener.set_nonblocking(false)?;
    Ok(())
}

fn throughput(pair: &Pair) -> anyhow::Result<Vec<Figure>> {
    let (mut direct, mut queued, mut delayed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let listener = pair.inside(1, || TcpListener::bind("10.99.0.2:0"))?;
        let port = listener.local_addr()?.port();
        direct.push(transfer(pair, &listener, false, TRANSFER)?);
        for (delay, found) in [("1ns", &mut queued), (DELAY_MS, &mut delayed)] {
            let config = json!({"delay": delay, "ports": [port]});
            let fault = Delayed::new(pair, config)?;
            without_probes(&listener)?;
            found.push(transfer(pair, &listener, false, TRANSFER)?);
            fault.end()?;
        }
    }
    let (direct, queued, delayed) = (
        median(&mut direct),
        median(&mut queued),
        median(&mut delayed),
    );
    let against = format!("{direct:.2} Gbit/s direct");
    Ok(vec![
        at_least(
            "TCP through the queue, no delay",
            queued / direct,
            "of direct",
            0.75,
            "one stream of 1.5 s, unpinned, median of 5 interleaved rounds",
        )
        .against(against.clone()),
        at_least("TCP under 10 ms delay", delayed, "Gbit/s", 1.5, "the same").against(against),
    ])
}
