//! The body of the answer on its way through.

use super::{Answering, Web};
use crate::http::{Body, Head};
use crate::record::What;
use crate::relay::Ends;
use crate::stream::Nanos;
use crate::web::change::{Change, Events, WHOLE_MAX};
use crate::web::rule::{Cut, WebFault, WebRule};
use crate::web::timeline::{Writer, fired};
use crate::web::whole;
use squall_llm::Api;
use std::sync::Arc;

impl Web {
    /// How the body is to be changed.
    pub(super) fn change_for(&self, head: &Head, body: &Body) -> Change {
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

    /// Bytes of the answer's body; gives what belongs to something else.
    #[expect(clippy::too_many_arguments, reason = "the parts of one state")]
    pub(super) fn body<'b>(
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
        let count = match taken {
            Ok(count) => count,
            // It is not chunked as it says: the client shall see that too, and nothing that a rule has taken away.
            Err(error) => match &mut change {
                Change::None => {
                    self.timeline.bytes(bytes, now, ends);
                    self.tunnel = true;
                    return &[];
                }
                Change::Whole { body: whole, .. } => {
                    let whole = std::mem::take(whole);
                    self.collected(&whole, now, ends);
                    self.timeline.bytes(bytes, now, ends);
                    self.tunnel = true;
                    return &[];
                }
                Change::Events(events) if !events.is_over() && !events.lives_on() => {
                    events.leave(&mut writer);
                    self.timeline.bytes(body.unread(), now, ends);
                    self.timeline.bytes(&bytes[error.taken..], now, ends);
                    self.tunnel = true;
                    return &[];
                }
                Change::Events(_) | Change::Truncate { .. } => {
                    body = Body::UntilEnd;
                    bytes.len()
                }
            },
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
            Ok(Ok(_)) => whole::changed(&mut content, rules, api),
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

    pub(super) fn exchange_over(&mut self, keeps: bool, now: Nanos, ends: &mut Ends) {
        self.answering = Answering::Nothing;
        if !keeps || !self.exchange.keeps {
            self.answering = Answering::Ours;
            self.timeline.close(now, ends);
            return;
        }
        self.ask(now, ends);
    }
}
