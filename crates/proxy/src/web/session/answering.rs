//! The head of the answer, ours or the service's, as the client gets it.

use super::{Answering, Asking, PIECES_MAX, Web};
use crate::http::{Body, Head};
use crate::record::What;
use crate::relay::{Ends, Side};
use crate::stream::Nanos;
use crate::web::answer::Answer;
use crate::web::change::Change;
use crate::web::rule::WebFault;
use crate::web::timeline::fired;

impl Web {
    /// The answer begins now: later, where a rule says so.
    fn delayed(&mut self, now: Nanos, ends: &mut Ends) {
        for rule in &self.exchange.rules {
            if let WebFault::HttpDelay { delay, jitter } = &rule.fault {
                let by = self.answered_key().time(&rule.name, 0, *delay, *jitter);
                self.timeline.delay(now, by);
                fired(ends, rule, self.key.request, "requests");
            }
        }
    }

    /// Answers in place of the service.
    pub(super) fn answer(&mut self, answer: &Answer, body: Body, now: Nanos, ends: &mut Ends) {
        let keeps = self.exchange.keeps;
        self.delayed(now, ends);
        let (head, content) = answer.written(keeps, &self.exchange.method);
        self.slowly(&head, now, ends);
        self.timeline.bytes(content, now, ends);
        self.asking = Asking::Body {
            body,
            forwards: false,
        };
        match keeps {
            true => self.answering = Answering::Nothing,
            false => {
                self.answering = Answering::Ours;
                self.timeline.close(now, ends);
            }
        }
    }

    /// The service's bytes.
    pub(super) fn answered(&mut self, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.tunnel {
                return self.timeline.bytes(rest, now, ends);
            }
            match std::mem::replace(&mut self.answering, Answering::Nothing) {
                Answering::Head(mut known) => {
                    let before = known.len();
                    known.extend_from_slice(rest);
                    match Head::parse(&known) {
                        Ok(Some(head)) => {
                            rest = &rest[head.raw().len() - before..];
                            self.begin(head, now, ends);
                        }
                        Ok(None) => {
                            self.answering = Answering::Head(known);
                            return;
                        }
                        Err(error) => {
                            let because = format!("the service's answer passes as it is: {error}");
                            ends.record(What::Unmatched { because });
                            self.tunnel = true;
                            self.delayed(now, ends);
                            return self.timeline.bytes(&known, now, ends);
                        }
                    }
                }
                Answering::Body {
                    body,
                    change,
                    keeps,
                    chunked,
                } => {
                    rest = self.body(body, change, keeps, chunked, rest, now, ends);
                }
                // Nobody has asked for this.
                other => {
                    self.answering = other;
                    return;
                }
            }
        }
    }

    /// The head of the service's answer is there.
    fn begin(&mut self, head: Head, now: Nanos, ends: &mut Ends) {
        let status = head.status();
        if (100..200).contains(&status) && status != 101 {
            self.timeline.bytes(head.raw(), now, ends);
            self.answering = Answering::Head(Vec::new());
            return;
        }
        self.delayed(now, ends);
        let body = match head.response_body(&self.exchange.method) {
            Ok(body) if status != 101 && self.exchange.method != "CONNECT" => body,
            _ => {
                self.tunnel = true;
                self.timeline.bytes(head.raw(), now, ends);
                let inbox = std::mem::take(&mut self.inbox);
                return ends.send(Side::Server, &inbox);
            }
        };
        let change = self.change_for(&head, &body);
        let reframes = matches!(change, Change::Events(_));
        let raw = self.head_for(&head, &change, ends);
        let chunked = reframes && !self.exchange.is_old;
        let keeps = head.keeps_alive() && body != Body::UntilEnd && (chunked || !reframes);
        if !matches!(change, Change::Whole { .. }) {
            self.slowly(&raw, now, ends);
        }
        let change = match change {
            Change::Whole { rules, api, .. } => Change::Whole {
                body: raw,
                rules,
                api,
            },
            other => other,
        };
        if body.is_done() {
            return self.exchange_over(keeps, now, ends);
        }
        self.answering = Answering::Body {
            body,
            change,
            keeps,
            chunked,
        };
    }

    /// The head as the client gets it.
    fn head_for(&self, head: &Head, change: &Change, ends: &Ends) -> Vec<u8> {
        let mut without: Vec<&str> = Vec::new();
        let mut added: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.exchange.fields {
            without.push(name);
            added.push((name, value.clone()));
        }
        if let Change::Events(_) = change {
            without.extend(["content-length", "transfer-encoding"]);
            match self.exchange.is_old {
                true => without.push("connection"),
                false => added.push(("transfer-encoding", "chunked".into())),
            }
        }
        for rule in &self.exchange.rules {
            match &rule.fault {
                WebFault::HttpContentType { value } => {
                    without.push("content-type");
                    added.push(("content-type", value.clone()));
                }
                _ => continue,
            }
            fired(ends, rule, self.key.request, "requests");
        }
        let raw = match without.is_empty() {
            true => head.raw().to_vec(),
            false => {
                let added: Vec<(&str, &str)> = added
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                head.with(&without, &added)
            }
        };
        match change {
            // The true length is needed to read it. The lie comes last.
            Change::Whole { .. } => raw,
            _ => self.lying(raw, ends),
        }
    }

    /// The head with another length, where a rule says so and the head tells one.
    pub(super) fn lying(&self, raw: Vec<u8>, ends: &Ends) -> Vec<u8> {
        let mut raw = raw;
        for rule in &self.exchange.rules {
            let WebFault::HttpContentLength { by } = rule.fault else {
                continue;
            };
            let Ok(Some(head)) = Head::parse(&raw) else {
                continue;
            };
            let told = head.get("content-length");
            let Some(told) = told.and_then(|value| value.parse::<i64>().ok()) else {
                continue;
            };
            let length = told.saturating_add(by).max(0).to_string();
            raw = head.with(&["content-length"], &[("content-length", &length)]);
            fired(ends, rule, self.key.request, "requests");
        }
        raw
    }

    /// Sends an answer that was collected, as far as it came and as it came.
    pub(super) fn collected(&mut self, raw: &[u8], now: Nanos, ends: &mut Ends) {
        let length = match Head::parse(raw) {
            Ok(Some(head)) => head.raw().len(),
            _ => 0,
        };
        let head = self.lying(raw[..length].to_vec(), ends);
        self.slowly(&head, now, ends);
        self.timeline.bytes(&raw[length..], now, ends);
    }

    /// Sends a head, byte by byte where a rule says so.
    pub(super) fn slowly(&mut self, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        let slow = self
            .exchange
            .rules
            .iter()
            .find_map(|rule| match rule.fault {
                WebFault::HttpSlowHeaders { over } => {
                    Some((rule.clone(), over.0.as_nanos() as Nanos))
                }
                _ => None,
            });
        let Some((rule, over)) = slow else {
            return self.timeline.bytes(bytes, now, ends);
        };
        fired(ends, &rule, self.key.request, "requests");
        let pieces = bytes.chunks(bytes.len().div_ceil(PIECES_MAX).max(1));
        let step = over / pieces.len().max(1) as Nanos;
        for piece in pieces {
            self.timeline.bytes(piece, now, ends);
            self.timeline.delay(now, step);
        }
    }
}
