//! What the wire shows: requests and answers as they pass between client and proxy, whoever made them. Changes nothing.
//!
//! Pure: it gets bytes and times. Of a body it keeps no more than decides one figure, and nothing of it leaves.

mod answer;
#[cfg(test)]
mod tests;

use crate::http::{Body, Head};
use answer::Answer;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use squall_llm::Api;
use squall_model::exchange::{Ended, Exchange};
use squall_model::seed::hash64;
use std::collections::VecDeque;

/// The most of a request's body that is looked into, in bytes. A longer one still has its hash.
const READ_MAX: usize = 1024 * 1024;
/// The most requests of one connection that wait for their answers and are watched.
const WAITING_MAX: usize = 64;

/// What a request's JSON says, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    model: Option<String>,
    stream: Option<bool>,
}

/// A request that is being sent.
struct Asking {
    exchange: Exchange,
    body: Body,
    content: Vec<u8>,
    /// Of all that was sent so far, however it was cut.
    hash: Sha256,
    /// It has its whole answer already.
    is_answered: bool,
}

/// The eye on one connection.
pub(crate) struct Eye {
    key: u64,
    connection: u64,
    asked: u64,
    head: Vec<u8>,
    asking: Option<Asking>,
    waiting: VecDeque<Exchange>,
    answer: Answer,
    /// Exchanges that were over when their questions were.
    late: Vec<Exchange>,
    /// What passes is no HTTP, or no more of it.
    blind: bool,
}

impl std::fmt::Debug for Eye {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Eye")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl Eye {
    /// `key` keys its hashes.
    pub(crate) fn new(key: u64, connection: u64) -> Eye {
        Eye {
            key,
            connection,
            asked: 0,
            head: Vec::new(),
            asking: None,
            waiting: VecDeque::new(),
            answer: Answer::default(),
            late: Vec::new(),
            blind: false,
        }
    }

    /// The client has sent this. `now`: nanoseconds since 1970. Gives the requests that began with it, in words.
    pub(crate) fn asked(&mut self, bytes: &[u8], now: u64) -> Vec<String> {
        let mut begun = Vec::new();
        self.question(bytes, now, &mut begun);
        begun
    }

    fn question(&mut self, bytes: &[u8], now: u64, begun: &mut Vec<String>) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.blind {
            match self.asking.take() {
                Some(mut asking) => {
                    let Asking {
                        body,
                        content,
                        hash,
                        exchange,
                        ..
                    } = &mut asking;
                    let taken = body.take(rest, &mut |part| {
                        let room = READ_MAX.saturating_sub(content.len());
                        content.extend_from_slice(&part[..part.len().min(room)]);
                        hash.update(part);
                        exchange.asked_bytes += part.len() as u64;
                    });
                    let Ok(count) = taken else {
                        self.blind = true;
                        return;
                    };
                    rest = &rest[count..];
                    self.go_on(asking);
                }
                None => match self.take_head(rest, now, begun) {
                    Some(count) => rest = &rest[count..],
                    None => return,
                },
            }
        }
    }

    fn take_head(&mut self, bytes: &[u8], now: u64, begun: &mut Vec<String>) -> Option<usize> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let empty = 2 * self
            .head
            .chunks(2)
            .take_while(|line| line == b"\r\n")
            .count();
        let head = match Head::parse(&self.head[empty..]) {
            Ok(Some(head)) => head,
            Ok(None) => return None,
            Err(_) => {
                self.blind = true;
                return None;
            }
        };
        let used = (empty + head.raw().len()).saturating_sub(before);
        self.head.clear();
        self.asked += 1;
        let Ok(body) = head.request_body() else {
            self.blind = true;
            return None;
        };
        let hashed = |text: &str| {
            format!(
                "{:016x}",
                hash64(&[&self.key.to_le_bytes(), text.as_bytes()])
            )
        };
        let exchange = Exchange {
            asked_ns: now,
            connection: self.connection,
            request: self.asked,
            method: head.method().to_owned(),
            path: head.path().to_owned(),
            idempotency: head.get("idempotency-key").map(hashed),
            retry_count: head
                .get("x-stainless-retry-count")
                .and_then(|text| text.parse().ok()),
            ..Exchange::default()
        };
        begun.push(exchange.words());
        let mut hash = Sha256::new();
        hash.update(self.key.to_le_bytes());
        hash.update(format!("{} {}\n", head.method(), head.path()));
        self.go_on(Asking {
            exchange,
            body,
            content: Vec::new(),
            hash,
            is_answered: false,
        });
        Some(used)
    }

    /// Keeps what is still being sent, or has it wait for its answer.
    fn go_on(&mut self, asking: Asking) {
        if !asking.body.is_done() {
            // A reset in the middle of a question is an answer too.
            self.asking = Some(asking);
            return;
        }
        let Asking {
            mut exchange,
            content,
            hash,
            is_answered,
            ..
        } = asking;
        let said: Said = serde_json::from_slice(&content).unwrap_or_default();
        // A name, not a text: what is longer is none.
        exchange.model = said.model.filter(|model| model.len() <= 200);
        exchange.streaming = said.stream.unwrap_or(false);
        exchange.question = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if is_answered {
            self.late.push(exchange);
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.blind = true;
            return;
        }
        self.waiting.push_back(exchange);
    }

    /// This is sent to the client. Gives the exchanges that are over with it.
    pub(crate) fn sent(&mut self, bytes: &[u8], now: u64) -> Vec<Exchange> {
        let mut over = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() && !self.blind {
            let is_asked = !self.waiting.is_empty();
            // An answer may come before the question is there to its end.
            let early = self.asking.as_mut().filter(|asking| !asking.is_answered);
            let Some(exchange) = self
                .waiting
                .front_mut()
                .or(early.map(|it| &mut it.exchange))
            else {
                break;
            };
            let api = Api::of(&exchange.path);
            let Ok((count, is_over)) = self.answer.take(rest, now, api, exchange) else {
                self.blind = true;
                break;
            };
            rest = &rest[count..];
            if is_over && is_asked {
                over.extend(self.over(Ended::Whole, now));
            } else if is_over && let Some(asking) = &mut self.asking {
                asking.is_answered = true;
                asking.exchange.ended_ns = now.saturating_sub(asking.exchange.asked_ns);
                std::mem::take(&mut self.answer).tell(&mut asking.exchange, Ended::Whole);
            }
        }
        over
    }

    /// Exchanges whose questions came to their end after their answers.
    pub(crate) fn late(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.late)
    }

    fn over(&mut self, how: Ended, now: u64) -> Option<Exchange> {
        let mut exchange = self.waiting.pop_front()?;
        let answer = std::mem::take(&mut self.answer);
        exchange.ended_ns = now.saturating_sub(exchange.asked_ns);
        answer.tell(&mut exchange, how);
        Some(exchange)
    }

    /// The connection is over. Gives what has no whole answer.
    pub(crate) fn closed(&mut self, how: Ended, now: u64) -> Vec<Exchange> {
        if let Some(asking) = self.asking.take() {
            let (connection, request) = (self.connection, asking.exchange.request);
            self.go_on(Asking {
                body: Body::Length(0),
                ..asking
            });
            // Half a question is like no other.
            let last = self.waiting.back_mut().or(self.late.last_mut());
            if let Some(exchange) = last.filter(|it| it.request == request) {
                exchange.question = format!("half of {connection}.{request}");
            }
        }
        let mut over = self.late();
        while !self.waiting.is_empty() {
            // A body without a length is whole when its sender ends in order.
            let how = if how == Ended::Cut && self.answer.lasts_until_end() {
                Ended::Whole
            } else {
                how
            };
            over.extend(self.over(how, now));
        }
        over
    }
}
