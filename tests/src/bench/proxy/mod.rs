//! What the proxy costs: against a bare epoll relay, in the same rounds, where both run in the same place; and against
//! nginx and haproxy.

mod capacity;
mod http;
mod peers;
mod scale;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Figure, median};
use crate::poll::poll;
use crate::product::{Desk, binaries};

const PINGS: usize = 3000;
const BULK: usize = 256 << 20;

/// Goals, as ratios to the floor.
const P50: f64 = 1.05;
const P99: f64 = 1.10;
const MANY_P50: f64 = 1.10;
/// 0.90 of the rate.
const BULK_TIME: f64 = 1.11;

/// A relay that runs; ended when dropped.
struct Relay {
    child: Child,
    address: String,
}

impl Drop for Relay {
    fn drop(&mut self) {
        // nginx's workers outlive a master that is killed: it is asked first.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        let has_ended = poll(Duration::from_secs(5), || Ok(self.child.try_wait()?));
        if has_ended.is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// One round's numbers, in microseconds and seconds.
#[derive(Clone, Copy)]
struct Round {
    p50: f64,
    p99: f64,
    many: f64,
    bulk: f64,
}

/// All figures, from so many interleaved rounds.
pub fn figures(rounds: usize) -> Vec<Figure> {
    measured(rounds).unwrap_or_else(|error| {
        vec![Figure::missing(
            "proxy",
            "× the epoll floor",
            P50,
            format!("{error:#}"),
        )]
    })
}

fn measured(rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let desk = Desk::new()?;
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        // Each goes first in every other round.
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                floor.push(one_round(&|upstream| start_floor(upstream))?);
            } else {
                ours.push(one_round(&|upstream| start_squall(&desk, upstream))?);
            }
        }
    }
    let ratio = |of: fn(&Round) -> f64| {
        let mut ratios: Vec<f64> = ours
            .iter()
            .zip(&floor)
            .map(|(ours, floor)| of(ours) / of(floor))
            .collect();
        median(&mut ratios)
    };
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| {
        median(&mut rounds.iter().map(of).collect::<Vec<f64>>())
    };
    let figure = |name: &str, goal: f64, of: fn(&Round) -> f64, unit: &str, how: &str| {
        let how = format!(
            "{how}; median of {rounds} paired ratios, log on; {:.1} {unit} against {:.1} {unit}",
            middle(&ours, of),
            middle(&floor, of)
        );
        Figure::at_most(name, ratio(of), "× the epoll floor", goal, how)
    };
    let one_core = "64 B, 1 connection, all on one core";
    let mut all = vec![
        figure("proxy: ping p50", P50, |round| round.p50, "µs", one_core),
        figure("proxy: ping p99", P99, |round| round.p99, "µs", one_core),
        figure(
            "proxy: 32 connections p50",
            MANY_P50,
            |round| round.many,
            "µs",
            "64 B, client and server on one core, relay on another",
        ),
        figure(
            "proxy: time of 256 MiB",
            BULK_TIME,
            |round| round.bulk * 1e3,
            "ms",
            "1 stream, unpinned",
        ),
    ];
    all.extend(late(&desk)?);
    all.push(capacity::bulk_of_four(&desk, rounds)?);
    let mut part = |figures: anyhow::Result<Vec<Figure>>| match figures {
        Ok(figures) => all.extend(figures),
        Err(error) => all.push(Figure::missing(
            "proxy",
            "× a peer",
            BULK_TIME,
            format!("{error:#}"),
        )),
    };
    part(peers::install().and_then(|()| capacity::connecting(&desk, rounds)));
    part(peers::install().and_then(|()| http::figures(&desk, rounds)));
    part(scale::figures(&desk));
    Ok(all)
}

fn one_round(start: &dyn Fn(&str) -> anyhow::Result<Relay>) -> anyhow::Result<Round> {
    let all = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core))
        .take(2)
        .collect();
    ensure!(cores.len() == 2, "two cores are needed");
    let on = |core: usize| {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)
    };
    let measured = (|| {
        on(cores[0])?;
        let (p50, p99) = {
            let relay = start(&echo()?)?;
            pings(&relay.address)?
        };
        let relay = start(&echo_later(cores[1])?)?;
        on(cores[1])?;
        let many = many_pings(&relay.address, 32)?;
        drop(relay);
        sched_setaffinity(None, &all)?;
        let relay = start(&source()?)?;
        let bulk = bulk(&relay.address)?;
        drop(relay);
        Ok(Round {
            p50,
            p99,
            many,
            bulk,
        })
    })();
    sched_setaffinity(None, &all)?;
    measured
}

fn start_floor(upstream: &str) -> anyhow::Result<Relay> {
    let mut command = Command::new(binaries()?.join("squall-floor"));
    let mut child = command
        .arg(upstream)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
    Ok(Relay {
        child,
        address: line.trim().to_owned(),
    })
}

fn start_squall(desk: &Desk, upstream: &str) -> anyhow::Result<Relay> {
    start_squall_with(desk, &["--upstream", upstream])
}

fn start_squall_with(desk: &Desk, arguments: &[&str]) -> anyhow::Result<Relay> {
    let log = desk.path().join("log.jsonl");
    let mut command = desk.command(&["proxy", "--no-api", "--log", &log.to_string_lossy()]);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stderr.take().context("its words")?);
    let mut line = String::new();
    while !line.trim_start().starts_with("listen ") {
        line.clear();
        ensure!(said.read_line(&mut line)? > 0, "squall proxy ended");
    }
    // Whoever stops reading stops whoever writes.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let address = line
        .split_whitespace()
        .nth(2)
        .context("an address")?
        .to_owned();
    Ok(Relay { child, address })
}

/// Serves clients on threads that stay where this one is now.
fn service(
    serve: impl Fn(TcpStream) + Send + Clone + 'static,
    core: Option<usize>,
) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        if let Some(core) = core {
            let mut set = CpuSet::new();
            set.set(core);
            sched_setaffinity(None, &set).ok();
        }
        for client in listener.incoming().flatten() {
            client.set_nodelay(true).ok();
            let serve = serve.clone();
            std::thread::spawn(move || serve(client));
        }
    });
    Ok(address)
}

fn reflect(mut client: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if client.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn echo() -> anyhow::Result<String> {
    service(reflect, None)
}

fn echo_later(core: usize) -> anyhow::Result<String> {
    service(reflect, Some(core))
}

fn source() -> anyhow::Result<String> {
    let pour = |mut client: TcpStream| {
        let block = vec![7; 256 * 1024];
        for _ in 0..BULK / block.len() {
            if client.write_all(&block).is_err() {
                return;
            }
        }
    };
    service(pour, None)
}

fn connected(address: &str) -> anyhow::Result<TcpStream> {
    let client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(client)
}

/// Microseconds of a ping: the middle and the 99th hundredth.
fn pings(address: &str) -> anyhow::Result<(f64, f64)> {
    let mut client = connected(address)?;
    let mut times = Vec::with_capacity(PINGS);
    let mut buffer = [1; 64];
    for number in 0..PINGS + PINGS / 10 {
        let start = Instant::now();
        client.write_all(&buffer)?;
        client.read_exact(&mut buffer)?;
        if number >= PINGS / 10 {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((times[PINGS / 2], times[PINGS * 99 / 100]))
}

fn many_pings(address: &str, clients: usize) -> anyhow::Result<f64> {
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let address = address.to_owned();
            std::thread::spawn(move || -> anyhow::Result<Vec<f64>> {
                let mut client = connected(&address)?;
                let (mut times, mut buffer) = (Vec::new(), [1; 64]);
                for _ in 0..PINGS / 6 {
                    let start = Instant::now();
                    client.write_all(&buffer)?;
                    client.read_exact(&mut buffer)?;
                    times.push(start.elapsed().as_secs_f64() * 1e6);
                }
                Ok(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a client failed"))??,
        );
    }
    Ok(median(&mut all))
}

fn bulk(address: &str) -> anyhow::Result<f64> {
    let mut client = connected(address)?;
    let start = Instant::now();
    let got = std::io::copy(&mut client, &mut std::io::sink())?;
    ensure!(got == BULK as u64, "{got} bytes arrived");
    Ok(start.elapsed().as_secs_f64())
}

/// How exact a delay of 10 ms is.
fn late(desk: &Desk) -> anyhow::Result<Vec<Figure>> {
    let upstream = echo()?;
    let rules = "[{fault: {stream-latency: {delay: 10ms}}}]";
    let text =
        format!("version: 1\nproxies: [{{name: it, upstream: \"{upstream}\", rules: {rules}}}]\n");
    let file = desk.write("late.yaml", &text)?;
    let relay = start_squall_with(desk, &[&file.to_string_lossy()])?;
    let mut client = connected(&relay.address)?;
    let (mut times, mut buffer) = (Vec::new(), [1; 64]);
    for _ in 0..300 {
        let start = Instant::now();
        client.write_all(&buffer)?;
        client.read_exact(&mut buffer)?;
        times.push((start.elapsed().as_secs_f64() * 1e3 - 10.0).abs());
    }
    times.sort_by(f64::total_cmp);
    let how = "stream-latency of 10 ms, 64 B, 1 connection: the round trip less 10 ms";
    Ok(vec![
        Figure::at_most("proxy: 10 ms, p50 off by", times[150], "ms", 0.3, how),
        Figure::shown(
            "proxy: 10 ms, p99 off by",
            times[297],
            "ms",
            "the same; the host's own timers are part of it",
        ),
    ])
}
