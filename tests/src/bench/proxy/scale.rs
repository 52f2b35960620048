//! What streams cost that do nothing, and what those cost whose clients have stopped reading.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Relay, connected, service, start_squall_with};
use crate::bench::Figure;
use crate::product::Desk;

const IDLE: usize = 9000;
const IDLE_MB: f64 = 300.0;
const STOPPED: usize = 100;
const STOPPED_FOR: Duration = Duration::from_secs(30);
/// 64 KiB of the stream, and what a connection costs that holds nothing.
const STOPPED_KIB: f64 = 64.0 + 8.0;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"0123456789\"}}]}\n\n";
const POST: &[u8] =
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{\"stream\":true}";

/// Resident memory in KiB.
fn resident(relay: &Relay) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", relay.child.id()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse()?)
}

pub(super) fn figures(desk: &Desk) -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        idle(desk)?,
        stopped(desk, true)?,
        stopped(desk, false)?,
    ])
}

fn proxied(desk: &Desk, address: &str) -> anyhow::Result<Relay> {
    // A rule that reads every event: the dearest kind of stream.
    let rules = "[{fault: {llm-model: {value: other}}}]";
    let text = format!(
        "version: 1\nproxies: [{{name: it, upstream: \"http://{address}\", rules: {rules}}}]\n"
    );
    let file = desk.write("scale.yaml", &text)?;
    start_squall_with(desk, &[&file.to_string_lossy()])
}

/// Each has been asked for, has brought an event, and stands open.
fn idle(desk: &Desk) -> anyhow::Result<Figure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let relay = proxied(desk, &listener.local_addr()?.to_string())?;
    let mut kept = Vec::with_capacity(2 * IDLE);
    for number in 0..IDLE {
        let mut client = connected(&relay.address).with_context(|| format!("client {number}"))?;
        client.write_all(POST)?;
        let (mut server, _) = listener.accept()?;
        let mut buffer = [0; 1024];
        ensure!(server.read(&mut buffer)? > 0);
        server.write_all(format!("{HEAD}{EVENT}").as_bytes())?;
        let mut got = Vec::new();
        while !got.windows(5).any(|part| part == b"data:") {
            let count = client.read(&mut buffer)?;
            ensure!(count > 0, "client {number} was cut off");
            got.extend_from_slice(&buffer[..count]);
        }
        kept.push((client, server));
    }
    let used = resident(&relay)? / 1000.0;
    let how = format!(
        "resident, {} streams of HTTP with an active rule, one event each, both sides open, log on",
        kept.len()
    );
    Ok(Figure::at_most(
        "proxy: 9,000 idle streams",
        used,
        "MB",
        IDLE_MB,
        how,
    ))
}

fn pour(mut client: TcpStream, head: &str) {
    let block = EVENT.repeat(100);
    if client.write_all(head.as_bytes()).is_err() {
        return;
    }
    while client.write_all(block.as_bytes()).is_ok() {}
}

fn stopped(desk: &Desk, speaks_http: bool) -> anyhow::Result<Figure> {
    let (relay, name) = match speaks_http {
        true => {
            let address = service(
                |mut client| {
                    if client.read(&mut [0; 1024]).is_ok() {
                        pour(client, HEAD);
                    }
                },
                None,
            )?;
            (
                proxied(desk, &address)?,
                "proxy: a stopped stream of events",
            )
        }
        false => {
            let address = service(|client| pour(client, ""), None)?;
            let relay = start_squall_with(desk, &["--upstream", &address])?;
            (relay, "proxy: a stopped stream of bytes")
        }
    };
    let before = resident(&relay)?;
    let mut clients = Vec::with_capacity(STOPPED);
    for _ in 0..STOPPED {
        let mut client = connected(&relay.address)?;
        if speaks_http {
            client.write_all(POST)?;
        }
        clients.push(client);
    }
    let (start, mut most) = (Instant::now(), 0.0f64);
    while start.elapsed() < STOPPED_FOR {
        most = most.max(resident(&relay)?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let each = (most - before) / clients.len() as f64;
    let how = format!(
        "resident at most within {} s, of {STOPPED} whose clients do not read, beside socket buffers",
        STOPPED_FOR.as_secs()
    );
    Ok(Figure::at_most(name, each, "KiB", STOPPED_KIB, how))
}
