//! One client's connection, exchange after exchange. The service is asked on a connection of the client's own.
//!
//! What no rule acts on passes byte for byte. A body is only parsed when a rule that fits otherwise needs it.

use super::answer::{self, Answer};
use super::change::{self, Change, Events, WHOLE_MAX};
use super::matching::Key;
use super::rule::{Cut, Framing, WebFault, WebRule};
use super::timeline::{Timeline, Writer, fired};
use crate::http::{Body, Head};
use crate::record::What;
use crate::relay::{Ends, Session, Side};
use crate::stream::{HELD_MAX, NEVER, Nanos};
use squall_llm::Api;
use std::sync::Arc;

/// The longest request body that decides whether a rule fits, in bytes.
const MATCHED_MAX: usize = 1024 * 1024;

/// The length of a chunk of one byte.
const BYTE_CHUNK: usize = b"1\r\nx\r\n".len();
/// The most pieces of a slow head.
const PIECES_MAX: usize = 1024;

/// Where in the client's request.
enum Asking {
    Head,
    /// The body decides which rules act.
    Matching {
        head: Head,
        body: Body,
        raw: Vec<u8>,
        content: Vec<u8>,
    },
    Body {
        body: Body,
        forwards: bool,
    },
    /// All of it is here; the answer is not.
    Done,
}

/// Where in the service's answer.
enum Answering {
    Nothing,
    Head(Vec<u8>),
    Body {
        body: Body,
        change: Change,
        keeps: bool,
        chunked: bool,
    },
    /// Ours, and already on its way.
    Ours,
}

/// What is known of the exchange.
struct Exchange {
    method: String,
    api: Api,
    keeps: bool,
    is_old: bool,
    rules: Vec<Arc<WebRule>>,
    fields: Vec<(String, String)>,
}

/// A session that speaks HTTP.
pub(crate) struct Web {
    key: Key,
    rules: Arc<Vec<Arc<WebRule>>>,
    inbox: Vec<u8>,
    asking: Asking,
    answering: Answering,
    exchange: Exchange,
    timeline: Timeline,
    /// Bytes pass as they are from here on (an upgrade, or something that is no HTTP).
    tunnel: bool,
    /// The client sends no more.
    client_ended: bool,
    hung_by: Option<Arc<WebRule>>,
}

impl Web {
    pub(crate) fn new(seed: u64, connection: u64) -> Web {
        Web {
            key: Key {
                seed,
                connection,
                request: 0,
            },
            rules: Arc::default(),
            inbox: Vec::new(),
            asking: Asking::Head,
            answering: Answering::Nothing,
            exchange: Exchange {
                method: String::new(),
                api: Api::Other,
                keeps: true,
                is_old: false,
                rules: Vec::new(),
                fields: Vec::new(),
            },
            timeline: Timeline::default(),
            tunnel: false,
            client_ended: false,
            hung_by: None,
        }
    }

    /// Goes on with what the client has sent.
    fn ask(&mut self, now: Nanos, ends: &mut Ends) {
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
                        return self.refuse(400, now, ends);
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

    /// The key of the request that is being answered.
    fn answered_key(&self) -> Key {
        Key {
            request: self.key.request - 1,
            ..self.key
        }
    }

    /// Answers in place of the service.
    fn answer(&mut self, answer: &Answer, body: Body, now: Nanos, ends: &mut Ends) {
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
        match without.iter().any(|name| head.get(name).is_some()) {
            true => ends.send(Side::Server, &head.with(&without, &[])),
            false => ends.send(Side::Server, head.raw()),
        }
        ends.send(Side::Server, raw);
        self.answering = Answering::Head(Vec::new());
        self.asking = Asking::Body {
            body,
            forwards: true,
        };
    }

    /// What cannot be carried is refused, and the connection ends.
    fn refuse(&mut self, status: u16, now: Nanos, ends: &mut Ends) {
        ends.record(What::Unmatched {
            because: "the client sent what is no HTTP/1 request".into(),
        });
        let answer = Answer::error(Api::Other, status, "none");
        let (head, content) = answer.written(false, "");
        self.timeline.bytes(&head, now, ends);
        self.timeline.bytes(content, now, ends);
        self.timeline.close(now, ends);
        self.answering = Answering::Ours;
        self.asking = Asking::Done;
        self.inbox.clear();
    }

    /// The client is gone, or done.
    fn leave(&mut self, now: Nanos, ends: &mut Ends) {
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

    /// Whether a stream goes on though the service has said everything.
    fn lives_on(&self) -> bool {
        matches!(&self.answering, Answering::Body { change: Change::Events(events), .. } if events.lives_on())
    }

    /// The service's bytes.
    fn answered(&mut self, bytes: &[u8], now: Nanos, ends: &mut Ends) {
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

    /// How the body is to be changed.
    fn change_for(&self, head: &Head, body: &Body) -> Change {
        let truncate = self
            .exchange
            .rules
            .iter()
            .find_map(|rule| match rule.fault {
                WebFault::HttpTruncate { after } => Some((after.0, rule)),
                _ => None,
            });
        if let Some((left, rule)) = truncate {
            return Change::Truncate {
                left,
                rule: rule.clone(),
            };
        }
        let reading: Vec<Arc<WebRule>> = self
            .exchange
            .rules
            .iter()
            .filter(|rule| rule.fault.reads_content())
            .cloned()
            .collect();
        let encoded = head
            .get("content-encoding")
            .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"));
        if reading.is_empty() || encoded || head.status() != 200 || body.is_done() {
            return Change::None;
        }
        let kind = head
            .get("content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let key = self.answered_key();
        match () {
            () if kind.starts_with("text/event-stream") => {
                Change::Events(Box::new(Events::new(self.exchange.api, key, reading)))
            }
            () if kind.starts_with("application/json")
                && matches!(body, Body::Length(_) | Body::Chunked(_)) =>
            {
                Change::Whole {
                    body: Vec::new(),
                    rules: reading,
                    api: self.exchange.api,
                }
            }
            () => Change::None,
        }
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
    fn lying(&self, raw: Vec<u8>, ends: &Ends) -> Vec<u8> {
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
    fn collected(&mut self, raw: &[u8], now: Nanos, ends: &mut Ends) {
        let length = match Head::parse(raw) {
            Ok(Some(head)) => head.raw().len(),
            _ => 0,
        };
        let head = self.lying(raw[..length].to_vec(), ends);
        self.slowly(&head, now, ends);
        self.timeline.bytes(&raw[length..], now, ends);
    }

    /// Sends a head, byte by byte where a rule says so.
    fn slowly(&mut self, bytes: &[u8], now: Nanos, ends: &mut Ends) {
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

    /// Bytes of the answer's body; gives what belongs to something else.
    #[expect(clippy::too_many_arguments, reason = "the parts of one state")]
    fn body<'b>(
        &mut self,
        mut body: Body,
        mut change: Change,
        keeps: bool,
        chunked: bool,
        bytes: &'b [u8],
        now: Nanos,
        ends: &mut Ends,
    ) -> &'b [u8] {
        let mut writer = Writer {
            timeline: &mut self.timeline,
            ends,
            now,
            chunked,
        };
        let taken = match &mut change {
            Change::None | Change::Truncate { .. } => body.take(bytes, &mut |_| ()),
            Change::Events(events) => body.take(bytes, &mut |part| events.push(part, &mut writer)),
            Change::Whole { body: whole, .. } => {
                let raw = matches!(body, Body::Chunked(_));
                let taken = body.take(bytes, &mut |part| {
                    if !raw {
                        whole.extend_from_slice(part)
                    }
                });
                if let (true, Ok(count)) = (raw, &taken) {
                    whole.extend_from_slice(&bytes[..*count]);
                }
                taken
            }
        };
        let Ok(count) = taken else {
            // It is not chunked as it says: the client shall see that too.
            if let Change::Whole { body: whole, .. } = &change {
                self.collected(whole, now, ends);
            }
            self.timeline.bytes(bytes, now, ends);
            self.tunnel = true;
            return &[];
        };
        match &mut change {
            Change::None => writer.timeline.bytes(&bytes[..count], now, writer.ends),
            Change::Truncate { left, rule } => {
                let kept = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
                writer.timeline.bytes(&bytes[..kept], now, writer.ends);
                *left -= kept as u64;
                if kept < count || (*left == 0 && !body.is_done()) {
                    let rule = rule.clone();
                    writer.fired(&rule, self.key.request, "requests");
                    writer.cut(Cut::Close);
                    self.answering = Answering::Ours;
                    return &[];
                }
            }
            Change::Events(events) if events.is_over() => {
                // What the service still says is for nobody.
                self.answering = Answering::Ours;
                self.timeline.close(now, ends);
                return &[];
            }
            Change::Events(events) if events.lives_on() => {
                self.answering = Answering::Body {
                    body,
                    change,
                    keeps,
                    chunked,
                };
                return &bytes[count..];
            }
            Change::Events(events) => {
                if body.is_done() {
                    events.end(&mut writer);
                }
            }
            Change::Whole {
                body: whole,
                rules,
                api,
            } => {
                if body.is_done() {
                    let whole = std::mem::take(whole);
                    self.whole(whole, &rules.clone(), *api, now, ends);
                } else if whole.len() > WHOLE_MAX {
                    let because = "the answer is longer than 1 MiB and passes as it is";
                    ends.record(What::Unmatched {
                        because: because.into(),
                    });
                    let whole = std::mem::take(whole);
                    self.collected(&whole, now, ends);
                    change = Change::None;
                }
            }
        }
        match body.is_done() {
            true => self.exchange_over(keeps, now, ends),
            false => {
                self.answering = Answering::Body {
                    body,
                    change,
                    keeps,
                    chunked,
                }
            }
        }
        &bytes[count..]
    }

    /// A whole answer: head and body as they came, changed if a rule can.
    fn whole(
        &mut self,
        raw: Vec<u8>,
        rules: &[Arc<WebRule>],
        api: Api,
        now: Nanos,
        ends: &mut Ends,
    ) {
        let Ok(Some(head)) = Head::parse(&raw) else {
            return self.collected(&raw, now, ends);
        };
        let mut content = Vec::new();
        let framing = head.response_body(&self.exchange.method);
        let rest = &raw[head.raw().len()..];
        let read =
            framing.map(|mut body| body.take(rest, &mut |part| content.extend_from_slice(part)));
        let acted = match read {
            Ok(Ok(_)) => change::whole(&mut content, rules, api),
            _ => Vec::new(),
        };
        if acted.is_empty() {
            return self.collected(&raw, now, ends);
        }
        for rule in acted {
            fired(ends, &rule, self.key.request, "requests");
        }
        let length = content.len().to_string();
        let head = head.with(
            &["content-length", "transfer-encoding"],
            &[("content-length", &length)],
        );
        let head = self.lying(head, ends);
        self.slowly(&head, now, ends);
        self.timeline.bytes(&content, now, ends);
    }

    /// How many bytes one byte of the answer can become.
    fn growth(&self) -> usize {
        let bytewise = |rule: &Arc<WebRule>| {
            let how = Framing::Bytewise;
            rule.fault == WebFault::LlmFraming { how }
        };
        match self.exchange.rules.iter().any(bytewise) {
            // A byte is a chunk of its own.
            true => BYTE_CHUNK,
            false => 1,
        }
    }

    fn exchange_over(&mut self, keeps: bool, now: Nanos, ends: &mut Ends) {
        self.answering = Answering::Nothing;
        if !keeps || !self.exchange.keeps {
            self.answering = Answering::Ours;
            self.timeline.close(now, ends);
            return;
        }
        self.ask(now, ends);
    }
}

impl Session for Web {
    fn open(&mut self, _: Nanos, ends: &mut Ends) {
        self.rules = ends.proxy.web_rules();
    }

    fn data(&mut self, side: Side, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        match side {
            Side::Server => self.answered(bytes, now, ends),
            Side::Client if self.tunnel => ends.send(Side::Server, bytes),
            Side::Client => {
                self.inbox.extend_from_slice(bytes);
                self.ask(now, ends);
            }
        }
    }

    fn ended(&mut self, side: Side, now: Nanos, ends: &mut Ends) {
        if side == Side::Client {
            self.client_ended = true;
            return self.leave(now, ends);
        }
        if self.lives_on() {
            return;
        }
        if let Answering::Body {
            body: Body::UntilEnd,
            change: Change::Events(events),
            chunked,
            ..
        } = &mut self.answering
        {
            let mut writer = Writer {
                timeline: &mut self.timeline,
                ends,
                now,
                chunked: *chunked,
            };
            events.end(&mut writer);
        }
        // A body without end goes out as far as it came.
        if let Answering::Body {
            change: Change::Whole { body, .. },
            ..
        } = &self.answering
        {
            self.collected(&body.clone(), now, ends);
        }
        if let Answering::Head(known) = &self.answering {
            self.timeline.bytes(&known.clone(), now, ends);
        }
        self.timeline.finish(now, ends);
        ends.server.finish();
    }

    fn failed(&mut self, because: &str, _: Nanos, ends: &mut Ends) {
        ends.record(What::Unreachable {
            because: because.to_owned(),
        });
        ends.reset();
    }

    fn changed(&mut self, now: Nanos, ends: &mut Ends) {
        self.rules = ends.proxy.web_rules();
        let is_set = |rule: &Arc<WebRule>| self.rules.iter().any(|known| Arc::ptr_eq(known, rule));
        if self.hung_by.as_ref().is_some_and(|rule| !is_set(rule)) {
            // Its answer was never asked for.
            ends.close();
        } else if self.lives_on() && !self.exchange.rules.iter().all(is_set) {
            // What was left out cannot be given back.
            ends.close();
        } else if self.timeline.stands_still() && !self.exchange.rules.iter().all(is_set) {
            self.timeline.release(now, ends);
        }
    }

    fn poll(&mut self, now: Nanos, ends: &mut Ends) {
        if let Answering::Body {
            change: Change::Events(events),
            chunked,
            ..
        } = &mut self.answering
        {
            let mut writer = Writer {
                timeline: &mut self.timeline,
                ends,
                now,
                chunked: *chunked,
            };
            events.poll(&mut writer);
        }
        self.timeline.poll(now, ends);
    }

    fn due(&self) -> Nanos {
        let own = match &self.answering {
            Answering::Body {
                change: Change::Events(events),
                ..
            } => events.due(),
            _ => NEVER,
        };
        own.min(self.timeline.next_due())
    }

    fn room(&self, side: Side, waiting: usize) -> usize {
        let held = match side {
            Side::Client => self.inbox.len(),
            Side::Server => self.timeline.held(),
        };
        let left = HELD_MAX.saturating_sub(held).saturating_sub(waiting);
        match side {
            Side::Client => left,
            Side::Server => left / self.growth(),
        }
    }
}
