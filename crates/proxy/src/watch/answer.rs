//! An answer, as its bytes leave for the client.

use crate::http::{Body, Head};
use serde_json::Value;
use squall_llm::Api;
use squall_llm::event::{Event, Kind};
use squall_llm::sse::{Piece, Splitter, fields};
use squall_model::exchange::{Ended, Exchange};

/// The longest answer that is looked into as a whole, in bytes.
const WHOLE_MAX: usize = 1024 * 1024;

/// What is sent is no HTTP.
pub(super) struct Unreadable;

/// What the answer's body is.
#[derive(Default)]
enum Content {
    #[default]
    Opaque,
    Stream(Box<Splitter>),
    Whole(Vec<u8>),
}

/// An answer on its way.
#[derive(Default)]
pub(super) struct Answer {
    head: Vec<u8>,
    body: Option<Body>,
    content: Content,
    done: bool,
}

impl Answer {
    /// Takes bytes; gives how many belong to it, and whether it is over.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now: u64,
        api: Api,
        exchange: &mut Exchange,
    ) -> Result<(usize, bool), Unreadable> {
        let since = now.saturating_sub(exchange.asked_ns);
        exchange.first_byte_ns.get_or_insert(since);
        let Some(body) = &mut self.body else {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let head = match Head::parse(&self.head) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok((bytes.len(), false)),
                Err(_) => return Err(Unreadable),
            };
            let used = head.raw().len() - before;
            self.head.clear();
            if (100..200).contains(&head.status()) && head.status() != 101 {
                return Ok((used, false));
            }
            self.begin(&head, exchange)?;
            let is_over = self.body.as_ref().is_some_and(Body::is_done);
            return Ok((used, is_over));
        };
        let mut part = Vec::new();
        let count = body
            .take(bytes, &mut |bytes| part.extend_from_slice(bytes))
            .map_err(|_| Unreadable)?;
        let is_over = body.is_done();
        self.read(&part, since, api, exchange);
        Ok((count, is_over))
    }

    fn begin(&mut self, head: &Head, exchange: &mut Exchange) -> Result<(), Unreadable> {
        let body = head
            .response_body(&exchange.method)
            .map_err(|_| Unreadable)?;
        if head.status() == 101 {
            return Err(Unreadable);
        }
        exchange.status = Some(head.status());
        exchange.retry_after_ms = wait(head);
        exchange.should_retry = head
            .get("x-should-retry")
            .and_then(|text| text.parse().ok());
        let kind = head
            .get("content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_plain = head
            .get("content-encoding")
            .is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        self.content = match () {
            () if !is_plain => Content::Opaque,
            () if kind.starts_with("text/event-stream") => Content::Stream(Box::default()),
            () if kind.starts_with("application/json") => Content::Whole(Vec::new()),
            () => Content::Opaque,
        };
        self.body = Some(body);
        Ok(())
    }

    fn read(&mut self, part: &[u8], since: u64, api: Api, exchange: &mut Exchange) {
        match &mut self.content {
            Content::Opaque => {}
            Content::Whole(whole) if whole.len() + part.len() > WHOLE_MAX => {
                self.content = Content::Opaque;
            }
            Content::Whole(whole) => whole.extend_from_slice(part),
            Content::Stream(splitter) => {
                let mut pieces = Vec::new();
                splitter.push(part, &mut pieces);
                for piece in pieces {
                    if let Piece::Event(bytes) = piece {
                        self.done |= event(&bytes, since, api, exchange);
                    }
                }
            }
        }
    }

    pub(super) fn lasts_until_end(&self) -> bool {
        matches!(self.body, Some(Body::UntilEnd))
    }

    /// Writes down what is known when it is over.
    pub(super) fn tell(self, exchange: &mut Exchange, how: Ended) {
        exchange.ended = Some(how);
        match self.content {
            Content::Opaque => {}
            Content::Stream(_) => exchange.finished = Some(self.done),
            Content::Whole(whole) => {
                let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
                exchange.usage = exchange.usage.or_else(|| used(&value["usage"]));
                let of_model = Api::of(&exchange.path) != Api::Other;
                let good = exchange.status.is_some_and(|status| status < 400);
                exchange.finished = (good && of_model).then(|| value.is_object());
            }
        }
    }
}

/// Takes an event into account; true when it says that the answer is complete.
fn event(bytes: &[u8], since: u64, api: Api, exchange: &mut Exchange) -> bool {
    let event = Event::read(api, bytes);
    let data = fields(bytes).data.unwrap_or_default();
    let value: Value = serde_json::from_str(&data).unwrap_or_default();
    let usage = [&value["usage"], &value["response"]["usage"]];
    exchange.usage = usage.into_iter().find_map(used).or(exchange.usage);
    if value["error"].is_object() || value["type"] == "error" {
        exchange.error_event = true;
        return false;
    }
    match event.kind {
        Kind::Token if value.is_object() => {
            if let Some(last) = exchange.last_token_ns {
                let gap = since.saturating_sub(last);
                exchange.longest_gap_ns = exchange.longest_gap_ns.max(Some(gap));
            }
            exchange.first_token_ns.get_or_insert(since);
            exchange.last_token_ns = Some(since);
            exchange.tokens += 1;
            // A last token may bring the reason for the end with it.
            value["choices"][0]["finish_reason"].is_string()
        }
        Kind::Finish | Kind::Done => true,
        _ => false,
    }
}

/// What was used, both ways.
fn used(usage: &Value) -> Option<u64> {
    let of = |name: &str| usage[name].as_u64();
    of("total_tokens").or_else(|| match (of("input_tokens"), of("output_tokens")) {
        (None, None) => None,
        (asked, said) => Some(asked.unwrap_or(0) + said.unwrap_or(0)),
    })
}

/// The wait that is asked for: in milliseconds, else in seconds. Dates are left out: whose clock is right is not for us to say.
fn wait(head: &Head) -> Option<u64> {
    let number = |name: &str, unit: f64| {
        let value: f64 = head.get(name)?.trim().parse().ok()?;
        (value > 0.0 && value.is_finite()).then_some((value * unit) as u64)
    };
    number("retry-after-ms", 1.0).or_else(|| number("retry-after", 1000.0))
}
