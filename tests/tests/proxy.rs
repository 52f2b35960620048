//! `squall proxy` as a user runs it: real sockets on loopback, a file, signals, a log.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use squall_tests::poll::poll;
use squall_tests::product::{Desk, Live};

const LIMIT: Duration = Duration::from_secs(20);

/// Answers each client with `answer` and closes.
fn service(answer: &'static [u8]) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // A client that is cut off is what this is about.
            client.write_all(answer).ok();
        }
    });
    Ok(address)
}

/// The word after these in what it said.
fn after(live: &Live, words: &str) -> anyhow::Result<String> {
    poll(LIMIT, || {
        let said = live.said();
        let rest = said.split_once(words).map(|(_, rest)| rest.to_owned());
        let word = rest.and_then(|rest| {
            rest.split_once([' ', '\n'])
                .map(|(word, _)| word.to_owned())
        });
        Ok(Some(
            word.with_context(|| format!("no `{words}` in: {said}"))?,
        ))
    })
}

fn fetched(address: &str) -> anyhow::Result<Vec<u8>> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(LIMIT))?;
    let mut all = Vec::new();
    client.read_to_end(&mut all)?;
    Ok(all)
}

#[test]
fn a_file_is_served_its_rules_land_and_the_end_is_clean() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let upstream = service(b"hello, world")?;
    let file = desk.write(
        "proxy.yaml",
        &format!(
            "version: 1\nseed: 7\nproxies:\n  - name: web\n    upstream: {upstream}\n    rules:\n      \
             - {{name: cut, fault: {{stream-limit: {{bytes: 5B}}}}}}\n      \
             - {{name: late, way: upstream, fault: {{stream-slow-close: {{delay: 1ms}}}}}}\n"
        ),
    )?;
    let log = desk.path().join("log.jsonl");
    let (file, log_path) = (
        file.to_string_lossy().into_owned(),
        log.to_string_lossy().into_owned(),
    );
    let live = desk.start(&["proxy", &file, "--api", "127.0.0.1:0", "--log", &log_path])?;
    let listen = after(&live, "listen   web ")?;
    ensure!(fetched(&listen)? == b"hello");
    after(&live, "web cut (limit_data) landed at ")?;
    live.signal(Signal::TERM)?;
    let ended = live.wait(LIMIT)?;
    ensure!(ended.code == Some(0), "{}", ended.told());
    for line in [
        "armed    web cut, downstream",
        "rule     web cut landed, once",
        "rule     web late not landed: it never fired",
    ] {
        ensure!(ended.err.contains(line), "no `{line}` in {}", ended.err);
    }
    ensure!(
        TcpStream::connect(&listen).is_err(),
        "its port is free again"
    );
    let lines: Vec<Value> = std::fs::read_to_string(&log)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(lines[0]["version"] == "squall.proxy-log/1" && lines[0]["seed"] == 7);
    let fired: Vec<&Value> = lines
        .iter()
        .filter(|line| line["what"]["fired"].is_object())
        .collect();
    ensure!(
        fired.len() == 1 && fired[0]["what"]["fired"]["rule"] == "cut",
        "{lines:?}"
    );
    let rules = &lines[lines.len() - 1]["ended"]["rules"];
    ensure!(
        rules[0]["state"] == "landed" && rules[1]["state"] == "armed",
        "{rules}"
    );
    ensure!(std::fs::metadata(&log)?.permissions().mode() & 0o777 == 0o600);
    Ok(())
}

#[test]
fn options_are_enough_for_one_proxy() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let upstream = service(b"whole")?;
    let live = desk.start(&["proxy", "--upstream", &upstream, "--no-api"])?;
    ensure!(fetched(&after(&live, "listen   proxy ")?)? == b"whole");
    live.signal(Signal::INT)?;
    let ended = live.wait(LIMIT)?;
    ensure!(
        ended.code == Some(0) && !ended.err.contains("api "),
        "{}",
        ended.told()
    );
    Ok(())
}

#[test]
fn off_loopback_the_token_is_made_once_and_for_its_owner_alone() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let live = desk.start(&["proxy", "--api", "0.0.0.0:0"])?;
        let api = after(&live, "api      http://0.0.0.0:")?;
        let path = desk.state().join("proxy-token");
        ensure!(std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
        let token = std::fs::read_to_string(&path)?;
        ensure!(!live.said().contains(&token), "the token is not said");
        for (given, status) in [
            ("Bearer x".to_owned(), "401"),
            (format!("Bearer {token}"), "200"),
        ] {
            let mut client = TcpStream::connect(format!("127.0.0.1:{api}"))?;
            client.write_all(
                format!("GET /proxies HTTP/1.0\r\nAuthorization: {given}\r\n\r\n").as_bytes(),
            )?;
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            ensure!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        tokens.push(token);
        live.signal(Signal::TERM)?;
        ensure!(live.wait(LIMIT)?.code == Some(0));
    }
    ensure!(tokens[0] == tokens[1] && tokens[0].len() == 48);
    Ok(())
}

#[test]
fn what_cannot_be_started_is_told_with_a_remedy() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let listening = desk.squall(&[
        "proxy",
        "--upstream",
        "127.0.0.1:9",
        "--listen",
        &address,
        "--no-api",
    ])?;
    ensure!(
        listening.code == Some(21) && listening.err.contains("choose another address"),
        "{}",
        listening.told()
    );
    let answering = desk.squall(&["proxy", "--api", &address])?;
    ensure!(
        answering.code == Some(21) && answering.err.contains("--no-api"),
        "{}",
        answering.told()
    );
    let nothing = desk.squall(&["proxy", "--no-api"])?;
    ensure!(nothing.code == Some(2), "{}", nothing.told());
    let file = desk.write("bad.yaml", "version: 1\nproxies:\n  - name: a\n    upstream: b:1\n    rules:\n      - {fault: {stream-latncy: {delay: 1s}}}\n")?;
    let invalid = desk.squall(&["proxy", &file.to_string_lossy()])?;
    ensure!(
        invalid.code == Some(3) && invalid.err.contains("stream-latency"),
        "{}",
        invalid.told()
    );
    Ok(())
}
