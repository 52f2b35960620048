//! What the client asks, and which rules act on it.

use super::{Answering, Asking, Exchange, MATCHED_MAX, Web};
use crate::http::{Body, Head};
use crate::record::What;
use crate::relay::{Ends, Side};
use crate::stream::Nanos;
use crate::web::answer::{self, Answer};
use crate::web::rule::{WebFault, WebRule};
use crate::web::timeline::fired;
use squall_llm::Api;
use std::sync::Arc;

impl Web {
    /// Goes on with what the client has sent.
    pub(super) fn ask(&mut self, now: Nanos, ends: &mut Ends) {
        loop {
            match std::mem::replace(&mut self.asking, Asking::Done) {
                Asking::Head => {
                    self.asking = Asking::Head;
                    if !matches!(self.answering, Answering::Nothing) || !self.ask_head(now, ends) {
                        return;
                    }
                }
                Asking::Matching {
                    head,
                    mut body,
                    mut raw,
                    mut content,
                } => {
                    let taken = body.take(&self.inbox, &mut |part| content.extend_from_slice(part));
                    let Ok(count) = taken else {
                        return self.refuse(400, now, ends);
                    };
                    raw.extend(self.inbox.drain(..count));
                    // Framing counts too: it may have no end, and no content.
                    let fits = content.len() <= MATCHED_MAX && raw.len() <= 2 * MATCHED_MAX;
                    if !body.is_done() && fits {
                        self.asking = Asking::Matching {
                            head,
                            body,
                            raw,
                            content,
                        };
                        return;
                    }
                    let all = (fits && body.is_done()).then_some(content);
                    if all.is_none() {
                        ends.record(What::Unmatched {
                            because: "the request's body is longer than 1 MiB".into(),
                        });
                    }
                    self.decide(&head, body, &raw, all.as_deref(), now, ends);
                }
                Asking::Body { mut body, forwards } => {
                    let Ok(count) = body.take(&self.inbox, &mut |_| ()) else {
                        return match self.answering {
                            Answering::Head(_) => self.refuse(400, now, ends),
                            // A client would take a second answer for that of its next request.
                            _ => self.give_up(now, ends),
                        };
                    };
                    if forwards {
                        ends.send(Side::Server, &self.inbox[..count]);
                    }
                    self.inbox.drain(..count);
                    if !body.is_done() {
                        self.asking = Asking::Body { body, forwards };
                        return;
                    }
                    self.asking = Asking::Done;
                }
                Asking::Done => {
                    if !matches!(self.answering, Answering::Nothing) {
                        return;
                    }
                    self.asking = Asking::Head;
                }
            }
        }
    }

    /// Reads a head, if it is there.
    fn ask_head(&mut self, now: Nanos, ends: &mut Ends) -> bool {
        // Some clients end a body with a line break that is not of it.
        let lines = self.inbox.chunks(2).take_while(|line| line == b"\r\n");
        let empty = 2 * lines.count();
        self.inbox.drain(..empty);
        let head = match Head::parse(&self.inbox) {
            Ok(Some(head)) => head,
            Ok(None) => {
                if self.client_ended && !self.tunnel {
                    self.leave(now, ends);
                }
                return false;
            }
            Err(_) => {
                self.refuse(400, now, ends);
                return false;
            }
        };
        self.inbox.drain(..head.raw().len());
        let Ok(body) = head.request_body() else {
            self.refuse(400, now, ends);
            return false;
        };
        let wants_body = self.rules.iter().any(|rule| rule.wants_body(&head));
        if wants_body && head.names("expect", "100-continue") {
            // Whoever waits for our word before the body would wait for ever.
            self.timeline
                .bytes(b"HTTP/1.1 100 Continue\r\n\r\n", now, ends);
        }
        match wants_body && !body.is_done() {
            true => {
                self.asking = Asking::Matching {
                    head,
                    body,
                    raw: Vec::new(),
                    content: Vec::new(),
                }
            }
            false => self.decide(&head, body, &[], None, now, ends),
        }
        true
    }

    /// Which rules act on the request, and what becomes of it.
    fn decide(
        &mut self,
        head: &Head,
        body: Body,
        raw: &[u8],
        content: Option<&[u8]>,
        now: Nanos,
        ends: &mut Ends,
    ) {
        let value = content.and_then(|content| serde_json::from_slice(content).ok());
        let rules: Vec<Arc<WebRule>> = self
            .rules
            .iter()
            .filter(|rule| rule.chooses(head, value.as_ref(), self.key))
            .cloned()
            .collect();
        let api = Api::of(head.path());
        self.exchange = Exchange {
            method: head.method().to_owned(),
            api,
            keeps: head.keeps_alive(),
            is_old: head.is_old(),
            rules: Vec::new(),
            fields: Vec::new(),
        };
        let place = self.key.request + 1;
        let id = format!("req_squall_{}_{place}", self.key.connection);
        self.key.request += 1;
        // The first rule that decides the outcome does; what does not act then is not told.
        let mut ours = None;
        for rule in rules {
            match &rule.fault {
                WebFault::HttpReset {} | WebFault::HttpHang {} | WebFault::HttpStatus { .. }
                    if ours.is_none() =>
                {
                    ours = Some((rule, None));
                }
                WebFault::HttpRateLimit { .. } if ours.is_none() => {
                    let Some(limited) = answer::limited(&rule, api, now) else {
                        continue;
                    };
                    match limited.wait {
                        Some(_) => ours = Some((rule, Some(limited.fields))),
                        None => self.exchange.fields.extend(limited.fields),
                    }
                }
                _ => self.exchange.rules.push(rule),
            }
        }
        let Some((rule, refused)) = ours else {
            return self.forward(head, body, raw, ends);
        };
        fired(ends, &rule, place, "requests");
        let answer = match (&rule.fault, refused) {
            (WebFault::HttpReset {}, _) => return ends.reset(),
            (_, Some(fields)) => {
                let mut refusal = Answer::error(api, 429, &id);
                refusal.fields.extend(fields);
                Some(refusal)
            }
            (fault, None) => answer::of_status(fault, api, &id),
        };
        match answer {
            Some(answer) => self.answer(&answer, body, now, ends),
            None => self.hang(rule, body),
        }
    }

    /// No answer comes while the rule is set.
    fn hang(&mut self, rule: Arc<WebRule>, body: Body) {
        self.timeline.stop();
        self.hung_by = Some(rule);
        self.answering = Answering::Ours;
        self.asking = Asking::Body {
            body,
            forwards: false,
        };
    }

    fn forward(&mut self, head: &Head, body: Body, raw: &[u8], ends: &mut Ends) {
        ends.wants_server = true;
        let mut without = Vec::new();
        if self
            .exchange
            .rules
            .iter()
            .any(|rule| rule.fault.reads_content())
        {
            // A compressed answer could not be read.
            without.push("accept-encoding");
        }
        if !raw.is_empty() {
            // We have said already that it may go on.
            without.push("expect");
        }
        let authority = ends.proxy.authority.clone();
        let mut added = Vec::new();
        if let Some(authority) = &authority {
            // A service in TLS mostly stands behind others that go by its name.
            without.push("host");
            added.push(("host", authority.as_str()));
        }
        match !added.is_empty() || without.iter().any(|name| head.get(name).is_some()) {
            true => ends.send(Side::Server, &head.with(&without, &added)),
            false => ends.send(Side::Server, head.raw()),
        }
        ends.send(Side::Server, raw);
        self.answering = Answering::Head(Vec::new());
        self.asking = Asking::Body {
            body,
            forwards: true,
        };
    }

    /// What cannot be carried ends the connection: its answer is given, or on its way.
    fn give_up(&mut self, now: Nanos, ends: &mut Ends) {
        ends.record(What::Unmatched {
            because: "the client sent what is no HTTP/1 request".into(),
        });
        self.timeline.close(now, ends);
        self.answering = Answering::Ours;
        self.asking = Asking::Done;
        self.inbox.clear();
    }

    /// The service's TLS was refused: the client gets a gateway's answer, and the connection ends.
    pub(super) fn not_trusted(&mut self, now: Nanos, ends: &mut Ends) {
        let answer = Answer::error(self.exchange.api, 502, "none");
        let (head, content) = answer.written(false, &self.exchange.method);
        self.timeline.bytes(&head, now, ends);
        self.timeline.bytes(content, now, ends);
        self.timeline.close(now, ends);
        self.answering = Answering::Ours;
        self.asking = Asking::Done;
        self.inbox.clear();
    }

    /// What cannot be carried is refused, and the connection ends.
    fn refuse(&mut self, status: u16, now: Nanos, ends: &mut Ends) {
        let answer = Answer::error(Api::Other, status, "none");
        let (head, content) = answer.written(false, "");
        self.timeline.bytes(&head, now, ends);
        self.timeline.bytes(content, now, ends);
        self.give_up(now, ends);
    }

    /// The client is gone, or done.
    pub(super) fn leave(&mut self, now: Nanos, ends: &mut Ends) {
        let is_answering = matches!(self.answering, Answering::Head(_) | Answering::Body { .. });
        // Nothing will come from a service that was never asked.
        let is_unasked = !ends.server.is_open() && !ends.wants_server && !is_answering;
        match self.timeline.stands_still() || self.lives_on() {
            true => ends.close(),
            // Its next request waits for its turn.
            false if is_answering && !self.inbox.is_empty() => {}
            false if is_unasked => self.timeline.close(now, ends),
            false => ends.server.finish(),
        }
    }
}
