//! HTTP against haproxy: whole answers and streams of events, on a route with no active rule and with every event parsed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::peers::{cpu, haproxy};
use super::{Relay, connected, service, start_squall_with};
use crate::bench::{Figure, median};
use crate::product::Desk;

const EVENTS: usize = 35;
/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(1);
const FIRST_TOKENS: usize = 300;

/// 0.95 and 0.6 of the rate, as times.
const RATE: f64 = 1.053;
const CPU: f64 = 1.2;
const PARSED: f64 = 1.667;
const FIRST_MS: f64 = 0.2;

const EVENT: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n";

/// Answers JSON to GET and a stream of events to POST, on connections that it keeps.
fn answers(mut client: TcpStream) {
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(500));
    let json = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("{:x}\r\n{EVENT}\r\n", EVENT.len());
    let mut buffer = [0; 4096];
    // A request here is one write, and so one read.
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let done = match buffer[..count].starts_with(b"GET") {
            true => client.write_all(json.as_bytes()),
            false => client.write_all(head.as_bytes()).and_then(|()| {
                (0..EVENTS).try_for_each(|_| client.write_all(event.as_bytes()))?;
                client.write_all(b"0\r\n\r\n")
            }),
        };
        if done.is_err() {
            return;
        }
    }
}

/// One exchange: until these bytes end what has come.
fn exchange(client: &mut TcpStream, request: &[u8], end: &[u8]) -> anyhow::Result<()> {
    client.write_all(request)?;
    let (mut buffer, mut tail) = ([0; 16384], Vec::new());
    while !tail.ends_with(end) {
        let count = client.read(&mut buffer)?;
        ensure!(count > 0, "the connection has ended");
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(end.len()));
    }
    Ok(())
}

const GET: &[u8] = b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n";
const POST: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{\"stream\":true}";

/// Seconds, and CPU seconds of the proxy, for each exchange.
#[derive(Clone, Copy)]
struct Cost {
    time: f64,
    cpu: f64,
}

fn load(relay: &Relay, clients: usize, streams: bool) -> anyhow::Result<Cost> {
    let before = cpu(relay)?;
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let address = relay.address.clone();
            std::thread::spawn(move || -> anyhow::Result<usize> {
                let mut client = connected(&address)?;
                let mut count = 0;
                while start.elapsed() < LOAD {
                    match streams {
                        true => exchange(&mut client, POST, b"0\r\n\r\n")?,
                        false => exchange(&mut client, GET, b"\"}")?,
                    }
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut all = 0;
    for thread in threads {
        all += thread
            .join()
            .map_err(|_| anyhow::anyhow!("a client failed"))??;
    }
    Ok(Cost {
        time: start.elapsed().as_secs_f64() / all as f64,
        cpu: (cpu(relay)? - before) / all as f64,
    })
}

/// The costs of one peer in one round: JSON, streams, streams that are parsed.
type Round = [Cost; 3];

pub(super) fn figures(desk: &Desk, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let upstream = service(answers, None)?;
    let url = format!("http://{upstream}");
    let peer = haproxy(desk, &upstream)?;
    let plain = start_squall_with(desk, &["--upstream", &url])?;
    let rules = "[{fault: {llm-model: {value: other}}, when: {path: \"/v1/*\"}}]";
    let text =
        format!("version: 1\nproxies: [{{name: it, upstream: \"{url}\", rules: {rules}}}]\n");
    let file = desk.write("parsed.yaml", &text)?;
    let parsed = start_squall_with(desk, &[&file.to_string_lossy()])?;
    let (mut ours, mut theirs): (Vec<Round>, Vec<Round>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let streams = load(&peer, 8, true)?;
                theirs.push([load(&peer, 16, false)?, streams, streams]);
            } else {
                ours.push([
                    load(&plain, 16, false)?,
                    load(&plain, 8, true)?,
                    load(&parsed, 8, true)?,
                ]);
            }
        }
    }
    let figure = |name: &str, goal: f64, at: usize, of: fn(&Cost) -> f64| {
        let mut ratios: Vec<f64> = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| of(&ours[at]) / of(&theirs[at]))
            .collect();
        let middle = |all: &[Round]| {
            median(
                &mut all
                    .iter()
                    .map(|round| of(&round[at]) * 1e6)
                    .collect::<Vec<f64>>(),
            )
        };
        let how = format!(
            "median of {rounds} paired ratios of {} s, unpinned, log on; {:.1} µs against {:.1} µs",
            LOAD.as_secs(),
            middle(&ours),
            middle(&theirs)
        );
        Figure::at_most(name, median(&mut ratios), "× haproxy", goal, how)
    };
    let mut all = vec![
        figure("proxy: JSON, 16 connections, time", RATE, 0, |cost| {
            cost.time
        }),
        figure("proxy: JSON, CPU of a request", CPU, 0, |cost| cost.cpu),
        figure("proxy: 35 events, 8 connections, time", RATE, 1, |cost| {
            cost.time
        }),
        figure("proxy: 35 events, CPU of a request", CPU, 1, |cost| {
            cost.cpu
        }),
        figure("proxy: 35 changed events, time", PARSED, 2, |cost| {
            cost.time
        }),
    ];
    let added = first_token(&plain.address)? - first_token(&upstream)?;
    let how =
        format!("request to first byte, p50 of {FIRST_TOKENS}, less the same without a proxy");
    all.push(Figure::at_most(
        "proxy: first token later by",
        added,
        "ms",
        FIRST_MS,
        how,
    ));
    Ok(all)
}

/// Milliseconds from a request to the first byte of its stream's events, the middle one.
fn first_token(address: &str) -> anyhow::Result<f64> {
    let mut client = connected(address)?;
    let mut times = Vec::with_capacity(FIRST_TOKENS);
    for _ in 0..FIRST_TOKENS {
        let start = Instant::now();
        client.write_all(POST)?;
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        let mut first = None;
        while !all.ends_with(b"0\r\n\r\n") {
            let count = client.read(&mut buffer)?;
            ensure!(count > 0, "the connection has ended");
            all.extend_from_slice(&buffer[..count]);
            if first.is_none() && all.windows(5).any(|part| part == b"data:") {
                first = Some(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.extend(first);
    }
    Ok(median(&mut times))
}
