//! A service that is built in: tokens at a pace, no model. Spoken to in bytes, like any other.

use crate::http::{Body, Head};
use crate::relay::{Ends, Session, Side};
use crate::stream::{HELD_MAX, NEVER, Nanos};
use crate::web::Web;
use serde_json::Value;
use squall_llm::mock::{Reply, embeddings};
use squall_llm::{Api, error};
use squall_model::units::Span;
use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest request that is read, in bytes.
const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// Numbers of an embedding.
const EMBEDDING: usize = 64;

/// How the built-in service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Time to the first token, or to a whole answer's first byte.
    pub(crate) first_token: Span,
    /// Time from token to token; a whole answer takes as long as its tokens.
    pub(crate) token: Span,
    /// Tokens of an answer, unless the request asks for fewer.
    pub(crate) tokens: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            first_token: Span(Duration::from_millis(20)),
            token: Span(Duration::from_millis(5)),
            tokens: 16,
        }
    }
}

/// How the upstream of a built-in service begins.
const MOCK: &str = "mock";
/// The most tokens of an answer.
const TOKENS_MAX: u64 = 10_000;

impl FromStr for Pace {
    type Err = ();

    /// `mock`, or `mock:first-token=20ms,token=5ms,tokens=16` with any of the three.
    fn from_str(upstream: &str) -> Result<Pace, ()> {
        let mut pace = Pace::default();
        let rest = upstream.strip_prefix(MOCK).ok_or(())?;
        if rest.is_empty() {
            return Ok(pace);
        }
        for part in rest.strip_prefix(':').ok_or(())?.split(',') {
            let (name, value) = part.split_once('=').ok_or(())?;
            match name.trim() {
                "first-token" => pace.first_token = value.parse().map_err(|_| ())?,
                "token" => pace.token = value.parse().map_err(|_| ())?,
                "tokens" => {
                    pace.tokens = value
                        .trim()
                        .parse()
                        .ok()
                        .filter(|tokens| (1..=TOKENS_MAX).contains(tokens))
                        .ok_or(())?;
                }
                _ => return Err(()),
            }
        }
        Ok(pace)
    }
}

/// The built-in service, at the far end of a session.
struct Service {
    pace: Pace,
    connection: u64,
    request: u64,
    inbox: Vec<u8>,
    reading: Option<(Head, Body, Vec<u8>)>,
    /// What is said, and when.
    out: VecDeque<(Nanos, Vec<u8>)>,
    broken: bool,
}

fn nanos(span: Span) -> Nanos {
    Nanos::try_from(span.0.as_nanos()).unwrap_or(NEVER)
}

impl Service {
    fn hear(&mut self, bytes: &[u8], now: Nanos) {
        self.inbox.extend_from_slice(bytes);
        while !self.broken {
            let (head, mut body, mut content) = match self.reading.take() {
                Some(reading) => reading,
                None => match Head::parse(&self.inbox) {
                    Ok(Some(head)) => {
                        self.inbox.drain(..head.raw().len());
                        let body = head.request_body().unwrap_or(Body::Length(0));
                        (head, body, Vec::new())
                    }
                    // What the session sends on was a head there.
                    Ok(None) | Err(_) => return,
                },
            };
            let taken = body.take(&self.inbox, &mut |part| content.extend_from_slice(part));
            let Ok(count) = taken else {
                self.broken = true;
                return;
            };
            self.inbox.drain(..count);
            if content.len() > REQUEST_MAX {
                self.broken = true;
                return self.say(now, error_answer(Api::of(head.path()), 413));
            }
            if !body.is_done() {
                self.reading = Some((head, body, content));
                return;
            }
            self.answer(&head, &content, now);
        }
    }

    fn say(&mut self, due: Nanos, bytes: Vec<u8>) {
        let due = self.out.back().map_or(due, |(last, _)| due.max(*last));
        self.out.push_back((due, bytes));
    }

    fn answer(&mut self, head: &Head, content: &[u8], now: Nanos) {
        self.request += 1;
        let api = Api::of(head.path());
        if head.method() == "GET" && (api == Api::OpenAiModels || head.path() == "/health") {
            let reply = Reply::to(&Value::Null, "", 0, 1);
            let value = reply.whole(Api::OpenAiModels).unwrap_or_default();
            return self.say(now, json_answer(200, &value));
        }
        let Ok(request) = serde_json::from_slice::<Value>(content) else {
            return self.say(now, error_answer(api, 400));
        };
        let id = format!("mock-{}-{}", self.connection, self.request);
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let reply = Reply::to(&request, &id, created, self.pace.tokens);
        let first = now.saturating_add(nanos(self.pace.first_token));
        let streams = request["stream"].as_bool().unwrap_or(false);
        if let Some(events) = reply.stream(api).filter(|_| streams) {
            return self.stream(events, now, first);
        }
        let value = match api {
            Api::OpenAiEmbeddings => embeddings(&request, EMBEDDING),
            api => reply.whole(api),
        };
        let all = nanos(self.pace.token).saturating_mul(reply.tokens.saturating_sub(1));
        let answer = match &value {
            Some(value) => json_answer(200, value),
            None if api == Api::OpenAiEmbeddings => error_answer(api, 400),
            None => error_answer(api, 404),
        };
        let due = if api == Api::OpenAiEmbeddings {
            first
        } else {
            first.saturating_add(all)
        };
        self.say(due, answer);
    }

    fn stream(&mut self, events: Vec<(bool, Vec<u8>)>, now: Nanos, first: Nanos) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
        self.say(now, head.as_bytes().to_vec());
        let (mut due, mut tokens) = (now, 0u64);
        for (is_token, event) in events {
            if is_token {
                due = first.saturating_add(nanos(self.pace.token).saturating_mul(tokens));
                tokens += 1;
            }
            let framed = [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat();
            self.say(due, framed);
        }
        self.say(due, b"0\r\n\r\n".to_vec());
    }

    /// What is to be said by now, at most a little more than there is room for.
    fn said(&mut self, now: Nanos, room: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < room && self.out.front().is_some_and(|(due, _)| *due <= now) {
            all.extend(
                self.out
                    .pop_front()
                    .map(|(_, bytes)| bytes)
                    .unwrap_or_default(),
            );
        }
        all
    }
}

fn json_answer(status: u16, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let (reason, length) = (error::reason(status), body.len());
    format!("HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn error_answer(api: Api, status: u16) -> Vec<u8> {
    json_answer(status, &error::body(api, status, "req_mock"))
}

/// A session whose service is built in.
pub(crate) struct Mocked {
    web: Web,
    service: Service,
    /// When to look again whether the client has read.
    again: Nanos,
}

/// How soon that is, in nanoseconds.
const AGAIN: Nanos = 5_000_000;

impl Mocked {
    pub(crate) fn new(seed: u64, connection: u64, pace: Pace) -> Mocked {
        let service = Service {
            pace,
            connection,
            request: 0,
            inbox: Vec::new(),
            reading: None,
            out: VecDeque::new(),
            broken: false,
        };
        Mocked {
            web: Web::new(seed, connection),
            service,
            again: NEVER,
        }
    }

    /// Carries bytes between the session and the service until both wait.
    fn settle(&mut self, now: Nanos, ends: &mut Ends) {
        ends.wants_server = false;
        loop {
            let asked = ends.server.drain();
            self.service.hear(&asked, now);
            let room = self.web.room(Side::Server, ends.client.waiting(), 0);
            self.again = if room == 0 {
                now.saturating_add(AGAIN)
            } else {
                NEVER
            };
            let said = self.service.said(now, room);
            if asked.is_empty() && said.is_empty() {
                break;
            }
            if !said.is_empty() {
                self.web.data(Side::Server, &said, now, ends);
            }
            ends.wants_server = false;
        }
        // A request whose end will not come has no answer.
        let is_cut_off = ends.server.is_finishing() && self.service.reading.is_some();
        if is_cut_off || ends.client.is_finishing() || self.service.broken {
            ends.close();
        }
    }
}

impl Session for Mocked {
    fn open(&mut self, now: Nanos, ends: &mut Ends) {
        self.web.open(now, ends);
    }

    fn data(&mut self, side: Side, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        self.web.data(side, bytes, now, ends);
        self.settle(now, ends);
    }

    fn ended(&mut self, side: Side, now: Nanos, ends: &mut Ends) {
        self.web.ended(side, now, ends);
        self.settle(now, ends);
    }

    fn failed(&mut self, because: &str, answered: bool, now: Nanos, ends: &mut Ends) {
        self.web.failed(because, answered, now, ends);
    }

    fn changed(&mut self, now: Nanos, ends: &mut Ends) {
        self.web.changed(now, ends);
        self.settle(now, ends);
    }

    fn poll(&mut self, now: Nanos, ends: &mut Ends) {
        self.web.poll(now, ends);
        self.settle(now, ends);
    }

    fn due(&self) -> Nanos {
        let own = self.service.out.front().map_or(NEVER, |(due, _)| *due);
        let own = if self.again == NEVER { own } else { self.again };
        own.min(self.web.due())
    }

    fn room(&self, side: Side, waiting: usize, reserved: usize) -> usize {
        self.web.room(side, waiting, reserved).min(HELD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_written_in_the_upstream() {
        assert_eq!("mock".parse(), Ok(Pace::default()));
        let pace: Pace = "mock:first-token=1s,tokens=3".parse().expect("it is one");
        assert_eq!(
            (pace.first_token.0, pace.token, pace.tokens),
            (Duration::from_secs(1), Pace::default().token, 3)
        );
        for bad in [
            "mocks",
            "mock:",
            "mock:tokens=0",
            "mock:tokens=99999",
            "mock:token=5",
            "mock:x=1",
            "127.0.0.1:1",
        ] {
            assert_eq!(bad.parse::<Pace>(), Err(()), "{bad}");
        }
    }
}
