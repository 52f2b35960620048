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
    for wrong in [
        &["proxy", "--upstream", "mock:tokens=0"][..],
        &["proxy", "--listen", "127.0.0.1:0"],
    ] {
        let wrong = desk.squall(wrong)?;
        ensure!(wrong.code == Some(2), "{}", wrong.told());
    }
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

/// A service that streams five tokens to whoever asks.
fn model() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while client.read(&mut buffer).is_ok_and(|count| count > 0) {
                    let mut answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
                    for token in ["one ", "two ", "three ", "four ", "five"] {
                        let event = format!(
                            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{token}\"}}}}]}}\n\n"
                        );
                        answer.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
                    }
                    answer.push_str("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
                    // A client that is cut off is what this is about.
                    client.write_all(answer.as_bytes()).ok();
                }
            });
        }
    });
    Ok(address)
}

/// What a client that asks for a chat gets, and how it ended.
fn chatted(
    address: &str,
    model: &str,
    close: bool,
) -> anyhow::Result<(String, std::io::Result<usize>)> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(LIMIT))?;
    let body = format!("{{\"model\":\"{model}\",\"stream\":true,\"user\":\"canary-in-body\"}}");
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary-in-head\r\nConnection: {connection}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes())?;
    let mut all = Vec::new();
    let ended = client.read_to_end(&mut all);
    Ok((String::from_utf8_lossy(&all).into_owned(), ended))
}

#[test]
fn streams_of_a_model_are_cut_where_a_rule_says_and_pass_where_none_fits() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let upstream = model()?;
    let file = desk.write(
        "proxy.yaml",
        &format!(
            "version: 1\nproxies:\n  - name: llm\n    upstream: http://{upstream}\n    rules:\n      \
             - {{name: reset, when: {{model: \"bad-*\"}}, fault: {{llm-cut: {{after: 3, how: reset}}}}}}\n      \
             - {{name: busy, when: {{model: busy, first: 1}}, fault: {{http-status: {{code: 529}}}}}}\n      \
             - {{name: idle, when: {{model: nobody}}, fault: {{http-hang: {{}}}}}}\n"
        ),
    )?;
    let log = desk.path().join("log.jsonl");
    let live = desk.start(&[
        "proxy",
        &file.to_string_lossy(),
        "--api",
        "127.0.0.1:0",
        "--log",
        &log.to_string_lossy(),
    ])?;
    let listen = after(&live, "listen   llm ")?;
    let (whole, ended) = chatted(&listen, "good", true)?;
    ensure!(
        ended.is_ok()
            && whole.contains("\"five\"")
            && whole.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"),
        "{whole}"
    );
    let (cut, ended) = chatted(&listen, "bad-1", false)?;
    ensure!(
        ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "it is a reset: {cut}"
    );
    let (busy, ended) = chatted(&listen, "busy", true)?;
    ensure!(
        ended.is_ok() && busy.starts_with("HTTP/1.1 529 Overloaded\r\n"),
        "{busy}"
    );
    ensure!(
        chatted(&listen, "busy", true)?
            .0
            .starts_with("HTTP/1.1 200 ")
    );
    live.signal(Signal::TERM)?;
    let ended = live.wait(LIMIT)?;
    for line in [
        "llm reset landed, once",
        "llm busy landed, once",
        "llm idle not landed",
    ] {
        ensure!(ended.err.contains(line), "no `{line}` in {}", ended.err);
    }
    let log = std::fs::read_to_string(&log)?;
    ensure!(
        log.contains("llm-cut") && !log.contains("canary") && !ended.err.contains("canary"),
        "{log}"
    );
    Ok(())
}

#[test]
fn rules_come_and_go_by_the_api_while_streams_flow() -> anyhow::Result<()> {
    let desk = Desk::new()?;
    let upstream = format!("http://{}", model()?);
    let live = desk.start(&["proxy", "--upstream", &upstream, "--api", "127.0.0.1:0"])?;
    let (api, listen) = (
        after(&live, "api      http://")?,
        after(&live, "listen   proxy ")?,
    );
    let call = |method: &str, path: &str, body: &str| -> anyhow::Result<String> {
        let mut client = TcpStream::connect(&api)?;
        client.write_all(
            format!(
                "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let rule = r#"{"name": "late", "fault": {"llm-stall": {"after": 2}}}"#;
    ensure!(call("POST", "/squall/proxies/proxy/rules", rule)?.starts_with("HTTP/1.1 201 "));
    ensure!(call("POST", "/squall/proxies/proxy/rules", rule)?.starts_with("HTTP/1.1 409 "));
    let toxic = r#"{"type": "latency"}"#;
    ensure!(call("POST", "/proxies/proxy/toxics", toxic)?.contains("of the other kind"));
    let stalled = std::thread::spawn({
        let listen = listen.clone();
        move || chatted(&listen, "m", true)
    });
    poll(LIMIT, || {
        let told = call("GET", "/squall", "")?;
        Ok(told.contains("\"landed\"").then_some(()))
    })?;
    ensure!(call("DELETE", "/squall/proxies/proxy/rules/late", "")?.starts_with("HTTP/1.1 204 "));
    let (whole, _) = stalled
        .join()
        .map_err(|_| anyhow::anyhow!("the client failed"))??;
    ensure!(
        whole.contains("\"five\""),
        "what stood still goes on when the rule is gone: {whole}"
    );
    live.signal(Signal::TERM)?;
    ensure!(live.wait(LIMIT)?.code == Some(0));
    Ok(())
}
