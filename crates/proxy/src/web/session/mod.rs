//! One client's connection, exchange after exchange. The service is asked on a connection of the client's own.
//!
//! What no rule acts on passes byte for byte. A body is only parsed when a rule that fits otherwise needs it.

mod answering;
mod asking;
mod body;

use super::change::{Change, Events};
use super::matching::Key;
use super::rule::{Framing, WebFault, WebRule};
use super::timeline::{KEPT, Timeline, Writer};
use crate::http::{Body, Head};
use crate::record::What;
use crate::relay::{Ends, Session, Side, left};
use crate::stream::{NEVER, Nanos};
use squall_llm::Api;
use std::sync::Arc;

/// The longest request body that decides whether a rule fits, in bytes.
const MATCHED_MAX: usize = 1024 * 1024;

/// What a stream that is changed holds back at most, in bytes. What it grows by comes on top.
const CHANGED_MAX: usize = 40 * 1024;
/// As much of it is taken at once, in bytes.
const PORTION: usize = 8 * 1024;
/// The length of a chunk of one byte.
const BYTE_CHUNK: usize = b"1\r\nx\r\n".len();
/// A client that asks for nothing more keeps no more room than this, in bytes.
const INBOX_KEPT: usize = 1024;
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

    /// The key of the request that is being answered.
    fn answered_key(&self) -> Key {
        Key {
            request: self.key.request - 1,
            ..self.key
        }
    }

    /// Whether a stream goes on though the service has said everything.
    fn lives_on(&self) -> bool {
        matches!(&self.answering, Answering::Body { change: Change::Events(events), .. } if events.lives_on())
    }

    /// The stream that is changed, if the answer is one.
    fn changing(&self) -> Option<&Events> {
        match &self.answering {
            Answering::Body {
                change: Change::Events(events),
                ..
            } => Some(events),
            _ => None,
        }
    }

    /// How much of a changed stream it takes now. An event that is not whole may take all the room there is: it can only
    /// leave when more of it comes.
    fn room_of(&self, events: &Events, waiting: usize, reserved: usize) -> usize {
        let out = self.timeline.held() + waiting;
        let left = CHANGED_MAX.saturating_sub(out + events.held() + reserved);
        let left = if out == 0 { left.max(PORTION) } else { left };
        let bytewise = |rule: &Arc<WebRule>| {
            let how = Framing::Bytewise;
            rule.fault == WebFault::LlmFraming { how }
        };
        // A byte may be a chunk of its own, and what is changed may become longer.
        let growth = match self.exchange.rules.iter().any(bytewise) {
            true => BYTE_CHUNK + KEPT,
            false => 2,
        };
        left.min(PORTION * 2) / growth
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
                if self.inbox.is_empty() && self.inbox.capacity() > INBOX_KEPT {
                    self.inbox = Vec::new();
                }
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

    fn failed(&mut self, because: &str, answered: bool, now: Nanos, ends: &mut Ends) {
        ends.record(What::Unreachable {
            because: because.to_owned(),
        });
        // A service that is not there has no answer. One that is not trusted would have had one.
        let unanswered = matches!(&self.answering, Answering::Head(known) if known.is_empty());
        match answered && unanswered {
            true => self.not_trusted(now, ends),
            false => ends.reset(),
        }
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

    fn room(&self, side: Side, waiting: usize, reserved: usize) -> usize {
        let held = match side {
            Side::Client => self.inbox.len(),
            Side::Server => match self.changing() {
                Some(events) => return self.room_of(events, waiting, reserved),
                None => self.timeline.held(),
            },
        };
        left(held + waiting, reserved)
    }
}
