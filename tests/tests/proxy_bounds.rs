//! What hostile services and clients make `squall proxy` hold in memory: the real process is measured, by the kernel.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, SocketType, sockopt};
use squall_tests::poll::poll;
use squall_tests::product::{Desk, Live};

const LIMIT: Duration = Duration::from_secs(180);
/// What each hostile service says at least.
const POURED: usize = 16 << 20;
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
const EVENT: &str =
    "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"0123456789\"}}]}\n\n";

/// A proxy of this upstream, with a rule that reads streams and answers.
fn proxied(desk: &Desk, upstream: &str) -> anyhow::Result<(Live, String)> {
    let rules = "[{when: {path: \"/v1/*\"}, fault: {llm-model: {value: other}}}]";
    let text =
        format!("version: 1\nproxies: [{{name: it, upstream: \"{upstream}\", rules: {rules}}}]\n");
    started(desk, &text)
}

fn started(desk: &Desk, text: &str) -> anyhow::Result<(Live, String)> {
    let file = desk.write("proxy.yaml", text)?;
    let live = desk.start(&["proxy", "--no-api", &file.to_string_lossy()])?;
    let listen = poll(LIMIT, || {
        let said = live.said();
        let word = said
            .split_once("listen   it ")
            .and_then(|(_, rest)| rest.split_once(' '))
            .map(|(word, _)| word.to_owned());
        Ok(Some(word.with_context(|| said)?))
    })?;
    Ok((live, listen))
}

/// Memory of a process in KiB: now (`VmRSS`) or at most so far (`VmHWM`).
fn memory(live: &Live, which: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", live.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(which));
    let kib = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
    Ok(kib.context("the kernel tells it")?.parse()?)
}

/// What the kernel tells of its CPU time.
fn cpu(live: &Live) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", live.pid()))?;
    let fields: Vec<&str> = text.split_whitespace().skip(13).take(2).collect();
    Ok(fields.join(" "))
}

/// A service that reads a head and then does this with each client.
fn service(
    act: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
    reads_head: bool,
) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let act = act.clone();
            std::thread::spawn(move || {
                let mut head = [0; 1024];
                if !reads_head || client.read(&mut head).is_ok() {
                    act(client);
                }
            });
        }
    });
    Ok(address)
}

/// A client whose kernel keeps little for it: else megabytes must flow until it is seen that nobody reads.
fn connected(listen: &str) -> anyhow::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 16 << 10)?;
    rustix::net::connect(&socket, &listen.parse::<SocketAddr>()?)?;
    Ok(TcpStream::from(socket))
}

fn asked(listen: &str) -> anyhow::Result<TcpStream> {
    let mut client = connected(listen)?;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")?;
    Ok(client)
}

/// What a hostile service says: a start, and what it then says again and again.
fn hostile() -> Vec<(&'static str, String, String)> {
    let whole = 64 << 20;
    let json = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {whole}\r\n\r\n{{\"model\":\""
    );
    vec![
        (
            "a field without end",
            "HTTP/1.1 200 OK\r\nx: ".into(),
            "y".repeat(8192),
        ),
        (
            "fields without end",
            "HTTP/1.1 200 OK\r\n".into(),
            "x: y\r\n".repeat(1000),
        ),
        (
            "an event without end",
            format!("{EVENTS}\r\ndata: "),
            "z".repeat(8192),
        ),
        (
            "events of one byte",
            format!("{EVENTS}\r\n"),
            "\n".repeat(8192),
        ),
        (
            "an event of lines",
            format!("{EVENTS}\r\n"),
            "data: a\n".repeat(1000),
        ),
        ("a long answer", json, "j".repeat(8192)),
        (
            "a chunk's size without end",
            format!("{EVENTS}transfer-encoding: chunked\r\n\r\n1;"),
            "e".repeat(8192),
        ),
        (
            "trailers without end",
            format!("{EVENTS}transfer-encoding: chunked\r\n\r\n0\r\n"),
            "t: u\r\n".repeat(1000),
        ),
    ]
}

#[test]
fn a_hostile_service_costs_no_more_than_the_bounds() -> anyhow::Result<()> {
    for (what, start, again) in hostile() {
        // Each of these bytes is an event: nothing to keep, and much to do.
        let much = if what == "events of one byte" {
            POURED / 16
        } else {
            POURED
        };
        let pour = move |mut client: TcpStream| {
            let mut left = much;
            let mut sends = client.write_all(start.as_bytes()).is_ok();
            while sends && left > 0 {
                sends = client.write_all(again.as_bytes()).is_ok();
                left = left.saturating_sub(again.len());
            }
        };
        let desk = Desk::new()?;
        let (live, listen) = proxied(&desk, &format!("http://{}", service(pour, true)?))?;
        let before = memory(&live, "VmHWM")?;
        let mut client = asked(&listen)?;
        let mut all = 0;
        let mut buffer = [0; 65536];
        // How it ends is told elsewhere: here only that it does, or flows.
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            all += count;
        }
        let more = memory(&live, "VmHWM")?.saturating_sub(before);
        // Of a stream that is changed, trailers are not carried.
        ensure!(all + (64 << 10) >= much, "{what}: {all} bytes arrived");
        // A collected answer is 1 MiB and is copied once; the rest is arenas of the allocator.
        ensure!(more < 6 << 10, "{what}: {more} KiB more at most");
    }
    Ok(())
}

/// 16 MiB of zeros in 16 KiB: it is neither asked for nor unpacked.
#[test]
fn a_compressed_bomb_passes_unopened() -> anyhow::Result<()> {
    let bomb = squeezed(POURED);
    ensure!(bomb.len() < 64 << 10);
    let length = bomb.len();
    for kind in ["text/event-stream", "application/json"] {
        let bomb = bomb.clone();
        let send = move |mut client: TcpStream| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: deflate\r\ncontent-length: {}\r\n\r\n",
                bomb.len()
            );
            // The proxy may be gone: then the client sees it.
            client.write_all(head.as_bytes()).ok();
            client.write_all(&bomb).ok();
        };
        let desk = Desk::new()?;
        let (live, listen) = proxied(&desk, &format!("http://{}", service(send, true)?))?;
        let before = memory(&live, "VmHWM")?;
        let mut client = asked(&listen)?;
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while !all.windows(4).any(|part| part == b"\r\n\r\n") || all.len() < length + 100 {
            let count = client.read(&mut buffer)?;
            ensure!(count > 0, "only {} bytes arrived", all.len());
            all.extend_from_slice(&buffer[..count]);
        }
        let more = memory(&live, "VmHWM")?.saturating_sub(before);
        ensure!(more < 2 << 10, "{kind}: {more} KiB more at most");
    }
    Ok(())
}

fn squeezed(zeros: usize) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(&vec![0; zeros], 9)
}

/// A service that never ends to speak, and how many of its clients hold it back now.
fn pouring(head: &str, reads_head: bool) -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let blocked = Arc::new(AtomicUsize::new(0));
    let told = blocked.clone();
    let (head, event) = (head.to_owned(), EVENT);
    let pour = move |mut client: TcpStream| {
        client
            .set_write_timeout(Some(Duration::from_millis(500)))
            .ok();
        let mut rest = head.as_bytes().to_vec();
        let mut is_blocked = false;
        loop {
            match client.write(&rest) {
                Ok(count) => {
                    if std::mem::take(&mut is_blocked) {
                        told.fetch_sub(1, Ordering::Relaxed);
                    }
                    rest.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !is_blocked {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                    is_blocked = true;
                }
                Err(_) => {
                    if is_blocked {
                        told.fetch_sub(1, Ordering::Relaxed);
                    }
                    return;
                }
            }
            while rest.len() < 4096 {
                rest.extend_from_slice(event.as_bytes());
            }
        }
    };
    Ok((service(pour, reads_head)?, blocked))
}

/// Waits until so many clients hold their service back, and the proxy has come to rest.
fn at_rest(live: &Live, blocked: &AtomicUsize, clients: usize) -> anyhow::Result<()> {
    poll(LIMIT, || {
        let count = blocked.load(Ordering::Relaxed);
        ensure!(count == clients, "{count} of {clients} are held back");
        Ok(Some(()))
    })?;
    // A service also waits while the proxy has much to do: it has come to rest when its CPU time stands still.
    let mut last = (String::new(), Instant::now());
    poll(LIMIT, || {
        let used = cpu(live)?;
        if used != last.0 {
            last = (used, Instant::now());
        }
        ensure!(
            last.1.elapsed() > Duration::from_millis(500),
            "it is at work"
        );
        Ok(Some(()))
    })
}

/// Streams whose clients have stopped reading: the service is held back, and nothing is lost when they go on.
fn stopped(upstream: &str, says: &str, clients: usize) -> anyhow::Result<u64> {
    let speaks_http = upstream == "http";
    let (address, blocked) = pouring(says, speaks_http)?;
    let desk = Desk::new()?;
    let (live, listen) = match speaks_http {
        true => proxied(&desk, &format!("http://{address}"))?,
        false => started(
            &desk,
            &format!("version: 1\nproxies: [{{name: it, upstream: \"{address}\"}}]\n"),
        )?,
    };
    let ask = || match speaks_http {
        true => asked(&listen),
        false => connected(&listen),
    };
    let mut buffer = vec![0; 65536];
    // What the process needs once is not counted: one stream flows before.
    let mut first = ask()?;
    let mut flowed = 0;
    while flowed < 1 << 20 {
        flowed += first.read(&mut buffer)?;
    }
    drop(first);
    let before = memory(&live, "VmRSS")?;
    let mut streams = (0..clients)
        .map(|_| ask())
        .collect::<anyhow::Result<Vec<_>>>()?;
    at_rest(&live, &blocked, clients)?;
    let each = memory(&live, "VmRSS")?.saturating_sub(before) * 1024 / clients as u64;
    // Whoever reads again gets what comes next.
    let wanted = if speaks_http {
        "\"model\":\"other\""
    } else {
        "\"model\":\"m\""
    };
    let mut all = Vec::new();
    while all.len() < 1 << 20 {
        let count = streams[0].read(&mut buffer)?;
        ensure!(count > 0, "the stream has ended");
        all.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8_lossy(&all);
    let events = text.matches("data: ").count();
    ensure!(events > 10_000 && text.matches(wanted).count() >= events - 1);
    Ok(each)
}

#[test]
fn a_client_that_stops_reading_stops_its_service() -> anyhow::Result<()> {
    for (kind, says) in [("http", format!("{EVENTS}\r\n")), ("plain", String::new())] {
        // With the connection's own state and the allocator's rounding.
        let each = stopped(kind, &says, 60)?;
        println!("{kind}: {each} B for each stopped stream");
        ensure!(each <= 64 << 10, "{kind}: {each} B for each stopped stream");
    }
    Ok(())
}

/// The same with TLS on both sides: the service's is spoken by another proxy, the clients' by Python.
#[test]
fn a_stopped_stream_in_tls_holds_no_more() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let (pouring, blocked) = pouring(&format!("{EVENTS}\r\n"), true)?;
    let (service, far) = started(
        &desk,
        &format!(
            "version: 1\nproxies: [{{name: it, upstream: \"{pouring}\", tls: {{ca: service}}}}]\n"
        ),
    )?;
    let rules = "[{fault: {llm-model: {value: other}}}]";
    let (live, listen) = started(
        &desk,
        &format!(
            "version: 1\nproxies: [{{name: it, upstream: \"https://{far}\", ca: service/squall-test-ca.pem, tls: {{ca: ours}}, rules: {rules}}}]\n"
        ),
    )?;
    let script = desk.write("tls.py", include_str!("../src/tls.py"))?;
    let clients = |count: usize| {
        Command::new("python3")
            .arg(&script)
            .arg(desk.path().join("ours/squall-test-ca.pem"))
            .args([&listen, "stop", &count.to_string()])
            .stdin(Stdio::piped())
            .spawn()
    };
    // What the process needs once is not counted: as many connections as there are threads were made before.
    let ended = |mut python: Child| -> anyhow::Result<()> {
        drop(python.stdin.take());
        ensure!(python.wait()?.success());
        poll(LIMIT, || {
            let count = blocked.load(Ordering::Relaxed);
            ensure!(count == 0, "{count} are still there");
            Ok(Some(()))
        })
    };
    let first = clients(4)?;
    at_rest(&live, &blocked, 4)?;
    ended(first)?;
    let before = memory(&live, "VmRSS")?;
    let all = clients(40)?;
    at_rest(&live, &blocked, 40)?;
    let each = memory(&live, "VmRSS")?.saturating_sub(before) * 1024 / 40;
    println!("tls: {each} B for each stopped stream");
    ensure!(each <= 64 << 10, "{each} B for each stopped stream");
    ended(all)?;
    drop(service);
    Ok(())
}

#[test]
fn clients_whose_heads_never_end_are_held_within_bounds() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let (live, listen) = proxied(&desk, &format!("http://{}", service(drop, true)?))?;
    let before = memory(&live, "VmRSS")?;
    let clients = 60;
    let mut all = Vec::new();
    for _ in 0..clients {
        let mut client = TcpStream::connect(&listen)?;
        client.set_read_timeout(Some(LIMIT))?;
        let head = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(50_000));
        client.write_all(head.as_bytes())?;
        all.push(client);
    }
    // The last word comes byte by byte, and then too much: 400, and the connection ends.
    for client in &mut all {
        for byte in [b'y'; 100] {
            client.write_all(&[byte])?;
        }
    }
    let each = poll(LIMIT, || {
        let each = memory(&live, "VmRSS")?.saturating_sub(before) * 1024 / clients;
        ensure!(each >= 42_000, "{each} B for each: not all is read yet");
        Ok(Some(each))
    })?;
    ensure!(each <= 96 << 10, "{each} B for each");
    for client in &mut all {
        client.write_all(&[b'y'; 8000])?;
        let mut answer = [0; 12];
        client.read_exact(&mut answer)?;
        ensure!(&answer == b"HTTP/1.1 400");
    }
    Ok(())
}
