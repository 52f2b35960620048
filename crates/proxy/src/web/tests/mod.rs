//! A client, a session and a service in one thread, without a socket.

mod bounds;
mod choosing;
mod content;
mod heads;
mod passing;
mod streams;

use super::*;
use crate::proxy::{Lasting, Proxy};
use crate::record::Recorder;
use crate::relay::{Ends, Fate, Session, Side};
use crate::stream::{HELD_MAX, NEVER, Nanos};
use serde_json::{Value, json};
use squall_model::units::{Bytes, Span};
use std::sync::Arc;
use std::time::Duration;

const MS: Nanos = 1_000_000;

/// A client, a session and a service, all in this test.
struct Talk {
    web: Web,
    ends: Ends,
    now: Nanos,
}

fn talk(rules: Vec<WebRule>) -> Talk {
    let proxy = Proxy::new(
        "it",
        "http://service",
        7,
        &Lasting::default(),
        Recorder::none(),
        crate::tls::Secured::default(),
    );
    proxy.set_rules(Vec::new(), rules.into_iter().map(Arc::new).collect());
    let mut ends = Ends::new(Arc::new(proxy), 0);
    let mut web = Web::new(7, 0);
    web.open(0, &mut ends);
    Talk { web, ends, now: 0 }
}

fn with(fault: WebFault) -> Talk {
    talk(vec![WebRule::new("it", fault)])
}

fn ms(count: u64) -> Span {
    Span(Duration::from_millis(count))
}

impl Talk {
    fn client(&mut self, bytes: &[u8]) {
        self.web.data(Side::Client, bytes, self.now, &mut self.ends);
    }

    fn server(&mut self, bytes: &[u8]) {
        self.web.data(Side::Server, bytes, self.now, &mut self.ends);
    }

    fn asked(&mut self) -> String {
        String::from_utf8_lossy(&self.ends.server.drain()).into_owned()
    }

    fn got(&mut self) -> String {
        String::from_utf8_lossy(&self.ends.client.drain()).into_owned()
    }

    fn at(&mut self, now: Nanos) {
        self.now = now;
        self.web.poll(now, &mut self.ends);
    }

    fn fired(&self) -> u64 {
        self.ends
            .proxy
            .web_rules()
            .iter()
            .map(|rule| rule.fired.load(std::sync::atomic::Ordering::Relaxed))
            .sum()
    }

    /// Asks for a chat and gives what the service gets.
    fn chat(&mut self, streams: bool) -> String {
        let body = json!({"model": "gpt-x", "stream": streams, "messages": []}).to_string();
        self.client(&post("/v1/chat/completions", &body));
        self.asked()
    }

    /// The service's stream of these tokens, and the content of what the client gets.
    fn streamed(&mut self, tokens: &[&str]) -> String {
        self.chat(true);
        self.server(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in stream(tokens) {
            self.server(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        self.server(b"0\r\n\r\n");
        let got = self.ends.client.drain();
        assert_eq!(
            String::from_utf8_lossy(&got)
                .to_ascii_lowercase()
                .matches("transfer-encoding")
                .count(),
            1
        );
        content(got)
    }
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn token(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"model": "gpt-x", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    )
}

fn stream(tokens: &[&str]) -> Vec<String> {
    let mut events: Vec<String> = tokens.iter().map(|text| token(text)).collect();
    events.push(format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    ));
    events.push(format!(
        "data: {}\n\n",
        json!({"choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 4}})
    ));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// The content of an answer, its chunks undone as far as they go.
fn content(answer: impl AsRef<[u8]>) -> String {
    let answer = answer.as_ref();
    let border = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    let (head, mut rest) = answer.split_at(border);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut all = Vec::new();
    if !head.contains("transfer-encoding: chunked") {
        all.extend_from_slice(rest);
        rest = &[];
    }
    while let Some(at) = rest.iter().position(|byte| *byte == b'\r') {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            all.extend_from_slice(b"<end>");
            break;
        }
        all.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The texts of the tokens in a content.
fn texts(content: &str) -> Vec<String> {
    let data = content
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    let values = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    values
        .filter_map(|value| {
            value["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
}

fn status(code: u16) -> WebFault {
    WebFault::HttpStatus {
        code,
        retry_after: None,
        headers: Default::default(),
        body: None,
    }
}

fn delay(by: u64) -> WebFault {
    WebFault::HttpDelay {
        delay: ms(by),
        jitter: None,
    }
}
