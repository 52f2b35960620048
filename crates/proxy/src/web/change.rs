//! An answer on its way through, changed event by event or as a whole.

use super::matching::Key;
use super::rule::{Cut, Damage, Framing, Speech, StructureWrong, UsageSays, WebFault, WebRule};
use super::timeline::Writer;
use super::whole;
use crate::stream::{NEVER, Nanos};
use squall_llm::edit::{self, Usage};
use squall_llm::event::{Event, Kind};
use squall_llm::sse::{Piece, Splitter};
use squall_llm::tools::{self, Started};
use squall_llm::{Api, error, sse};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The longest answer that is changed as a whole, in bytes. A longer one passes as it is.
pub(super) const WHOLE_MAX: usize = 1024 * 1024;
pub(super) const GARBAGE: &str = " xq#zv 0x7f vvqj &nbsp; lorem-- ]]";
pub(super) const REFUSAL: &str = "I'm sorry, but I can't help with that.";

/// How a body is changed.
#[derive(Debug)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// It ends after so many bytes.
    Truncate { left: u64, rule: Arc<WebRule> },
    /// Event by event.
    Events(Box<Events>),
    /// When all of it is there.
    Whole {
        body: Vec<u8>,
        rules: Vec<Arc<WebRule>>,
        api: Api,
    },
}

/// What an event becomes.
struct Turn {
    bytes: Vec<u8>,
    twice: bool,
    gone: bool,
}

/// A stream that is changed.
#[derive(Debug)]
pub(super) struct Events {
    api: Api,
    key: Key,
    rules: Vec<Arc<WebRule>>,
    splitter: Splitter,
    tokens: u64,
    count: u64,
    /// A token that comes after the next event, its place, and the rule that says so.
    late: Option<(Vec<u8>, u64, Arc<WebRule>)>,
    /// The first token's text (for repetition).
    first: Option<String>,
    /// Whether the first of the answer's text has come.
    is_begun: bool,
    /// Whether a tool call has begun, and nothing of its arguments has come.
    call: Started,
    /// When the next comment leaves, and how often one does.
    beats: Option<(Nanos, Nanos)>,
    /// Nothing more passes.
    over: bool,
    /// Rules whose first firing was told.
    told: Vec<Arc<WebRule>>,
}

pub(super) fn usage(says: UsageSays) -> Usage {
    match says {
        UsageSays::Absent => Usage::Absent,
        UsageSays::Zero => Usage::Zero,
        UsageSays::Negative => Usage::Negative,
        UsageSays::Huge => Usage::Huge,
    }
}

impl Events {
    pub(super) fn new(api: Api, key: Key, rules: Vec<Arc<WebRule>>) -> Events {
        Events {
            api,
            key,
            rules,
            splitter: Splitter::default(),
            tokens: 0,
            count: 0,
            late: None,
            first: None,
            is_begun: false,
            call: Started::default(),
            beats: None,
            over: false,
            told: Vec::new(),
        }
    }

    /// How much is kept of an event that is not whole, and of one that comes late, in bytes.
    pub(super) fn held(&self) -> usize {
        let late = self.late.as_ref().map_or(0, |(bytes, ..)| bytes.len());
        self.splitter.held() + late
    }

    /// Whether nothing more passes, so that the service need not be read.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it goes on though the service has said everything.
    pub(super) fn lives_on(&self) -> bool {
        self.beats.is_some()
    }

    /// When it has something to say by itself.
    pub(super) fn due(&self) -> Nanos {
        self.beats.map_or(NEVER, |(due, _)| due)
    }

    /// Says what it has to say by itself.
    pub(super) fn poll(&mut self, writer: &mut Writer<'_>) {
        if let Some((due, every)) = self.beats
            && due <= writer.now
        {
            // Missed beats are not made up for, and nothing heaps up before a client that does not read.
            if writer.is_idle() {
                writer.content(b": keep-alive\n\n");
            }
            self.beats = Some((writer.now.saturating_add(every.max(1_000_000)), every));
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], writer: &mut Writer<'_>) {
        let mut pieces = Vec::new();
        self.splitter.push(bytes, &mut pieces);
        for piece in pieces {
            if self.over {
                return;
            }
            match piece {
                Piece::Event(bytes) => self.event(bytes, writer),
                Piece::Unread(bytes) if self.beats.is_none() => writer.content(&bytes),
                Piece::Unread(_) => {}
            }
        }
    }

    /// The service's body has ended.
    pub(super) fn end(&mut self, writer: &mut Writer<'_>) {
        if self.over || self.beats.is_some() {
            return;
        }
        self.leave(writer);
        writer.end();
    }

    /// What is held back is said: nothing follows that could be changed.
    pub(super) fn leave(&mut self, writer: &mut Writer<'_>) {
        self.in_time(writer);
        let rest = self.splitter.rest();
        writer.content(&rest);
    }

    fn event(&mut self, bytes: Vec<u8>, writer: &mut Writer<'_>) {
        let event = Event::read(self.api, &bytes);
        self.count += 1;
        let is_token = event.kind == Kind::Token;
        self.tokens += u64::from(is_token);
        let mut turn = Turn {
            bytes,
            twice: false,
            gone: false,
        };
        for rule in self.rules.clone() {
            self.time(&rule, is_token, writer);
            if self.ends_here(&rule, is_token, writer) {
                return;
            }
            // What an earlier rule has made of it is what a later one sees.
            let seen = Event::read(self.api, &turn.bytes);
            if is_token && self.token(&rule, &seen, &mut turn)
                || self.any(&rule, &seen, &mut turn, writer.now)
            {
                let (place, unit) = if is_token {
                    (self.tokens, "tokens")
                } else {
                    (self.count, "events")
                };
                self.fire(&rule, place, unit, writer);
            }
        }
        self.is_begun |= event.text(self.api).is_some();
        self.write(turn, is_token, writer);
    }

    /// Counts every firing, and tells the first of a rule in this answer.
    fn fire(
        &mut self,
        rule: &Arc<WebRule>,
        place: u64,
        unit: &'static str,
        writer: &mut Writer<'_>,
    ) {
        if self.told.iter().any(|known| Arc::ptr_eq(known, rule)) {
            rule.fired.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.told.push(rule.clone());
        writer.fired(rule, place, unit);
    }

    fn write(&mut self, turn: Turn, is_token: bool, writer: &mut Writer<'_>) {
        let times = if turn.gone {
            0
        } else {
            1 + usize::from(turn.twice)
        };
        if times == 0 {
            return;
        }
        let reorders = self.rules.iter().find(|rule| {
            let here = matches!(rule.fault, WebFault::LlmReorder { at } if at == self.tokens);
            here && self.late.is_none() && is_token
        });
        if let Some(rule) = reorders {
            self.late = Some((turn.bytes.repeat(times), self.tokens, rule.clone()));
            return;
        }
        let bytewise = self.rules.iter().any(|rule| {
            matches!(
                rule.fault,
                WebFault::LlmFraming {
                    how: Framing::Bytewise
                }
            )
        });
        for _ in 0..times {
            match bytewise {
                true => turn.bytes.iter().for_each(|byte| writer.content(&[*byte])),
                false => writer.content(&turn.bytes),
            }
        }
        if let Some((late, place, rule)) = self.late.take() {
            writer.content(&late);
            self.fire(&rule, place, "tokens", writer);
        }
    }

    /// Nothing follows that the late token could come after.
    fn in_time(&mut self, writer: &mut Writer<'_>) {
        if let Some((late, ..)) = self.late.take() {
            writer.content(&late);
        }
    }

    /// Rules that delay.
    fn time(&mut self, rule: &Arc<WebRule>, is_token: bool, writer: &mut Writer<'_>) {
        if !is_token {
            return;
        }
        let delay = match rule.fault {
            WebFault::LlmFirstToken { delay } if self.tokens == 1 => delay.0.as_nanos() as Nanos,
            WebFault::LlmTokenDelay { delay, jitter } if self.tokens > 1 => {
                self.key.time(&rule.name, self.tokens, delay, jitter)
            }
            WebFault::LlmStall { after, resume } if self.tokens == after + 1 => match resume {
                Some(resume) => resume.0.as_nanos() as Nanos,
                None => NEVER,
            },
            _ => return,
        };
        self.fire(rule, self.tokens, "tokens", writer);
        match delay {
            NEVER => writer.timeline.stop(),
            delay => writer.timeline.delay(writer.now, delay),
        }
    }

    /// Rules that end the stream.
    fn ends_here(&mut self, rule: &Arc<WebRule>, is_token: bool, writer: &mut Writer<'_>) -> bool {
        let (after, how) = match rule.fault {
            WebFault::LlmCut { after, how } => (after, how),
            WebFault::LlmError { after } => (after, Cut::End),
            _ => return false,
        };
        if !is_token || self.tokens != after + 1 {
            return false;
        }
        self.in_time(writer);
        if let WebFault::LlmError { .. } = rule.fault {
            let (name, value) = error::event(self.api);
            writer.content(&sse::written(name, &value.to_string()));
        }
        writer.cut(how);
        self.fire(rule, self.tokens, "tokens", writer);
        self.over = true;
        true
    }

    /// Rules on tokens.
    fn token(&mut self, rule: &Arc<WebRule>, event: &Event, turn: &mut Turn) -> bool {
        let here = |at: u64| at == self.tokens;
        match &rule.fault {
            WebFault::LlmDrop { at } if here(*at) => turn.gone = true,
            WebFault::LlmDuplicate { at } if here(*at) => turn.twice = true,
            WebFault::LlmMalformed { at, how } if here(*at) => {
                turn.bytes = damaged(event, &turn.bytes, *how)
            }
            WebFault::LlmText { says } => match self.spoken(says, event) {
                Some(Some(bytes)) => turn.bytes = bytes,
                Some(None) => turn.gone = true,
                None => return false,
            },
            WebFault::LlmStructure { how } => match self.structured(*how, event) {
                Some(bytes) => turn.bytes = bytes,
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// The first token of structured output, so that all of it violates its schema.
    fn structured(&self, how: StructureWrong, event: &Event) -> Option<Vec<u8>> {
        let text = event.text(self.api).filter(|_| !self.is_begun)?;
        event.with_text(self.api, &tools::begun(text, whole::structure(how))?)
    }

    /// What a token becomes under `llm-text`: other bytes, nothing, or (none) itself.
    fn spoken(&mut self, says: &Speech, event: &Event) -> Option<Option<Vec<u8>>> {
        let text = event.text(self.api)?.to_owned();
        let first = self.first.get_or_insert_with(|| text.clone()).clone();
        let with = |text: &str| event.with_text(self.api, text);
        match says {
            Speech::Empty => Some(None),
            Speech::Garbage => Some(with(GARBAGE)),
            Speech::Repeat => Some(with(&first)),
            Speech::Refusal if self.tokens == 1 => Some(with(REFUSAL)),
            Speech::Refusal => Some(None),
            Speech::Also(words) if self.tokens == 1 => Some(with(&format!("{words}{text}"))),
            Speech::Also(_) => None,
        }
    }

    /// Rules on every event.
    fn any(&mut self, rule: &Arc<WebRule>, event: &Event, turn: &mut Turn, now: Nanos) -> bool {
        let changed = match &rule.fault {
            WebFault::LlmWithoutDone {} if event.kind == Kind::Done => {
                turn.gone = true;
                return true;
            }
            WebFault::LlmUsage { says } => event.changed(|value| edit::usage(value, usage(*says))),
            WebFault::LlmFinishReason { value } => event.changed(|told| edit::finish(told, value)),
            WebFault::LlmModel { value } => event.changed(|told| edit::model(told, value)),
            WebFault::LlmToolCall { how } => {
                let (api, started) = (self.api, &mut self.call);
                event.changed(|told| tools::call(told, api, whole::call(*how), started))
            }
            WebFault::LlmFraming { how } => Some(framed(&turn.bytes, event, *how, self.count)),
            WebFault::LlmKeepAliveOnly { every } => {
                turn.gone = true;
                let first = self.beats.is_none();
                if first {
                    let every = every.0.as_nanos() as Nanos;
                    self.beats = Some((now.saturating_add(every.max(1_000_000)), every));
                }
                return first;
            }
            _ => None,
        };
        let Some(bytes) = changed.filter(|bytes| *bytes != turn.bytes) else {
            // Byte by byte is the same text.
            return matches!(
                rule.fault,
                WebFault::LlmFraming {
                    how: Framing::Bytewise
                }
            );
        };
        turn.bytes = bytes;
        true
    }
}

fn framed(bytes: &[u8], event: &Event, how: Framing, number: u64) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    match how {
        Framing::Crlf if !text.contains('\r') => text.replace('\n', "\r\n").into_bytes(),
        Framing::NoNames if event.fields.name.is_some() => {
            sse::written(None, event.fields.data.as_deref().unwrap_or_default())
        }
        Framing::ByteOrderMark if number == 1 => [b"\xef\xbb\xbf".as_slice(), bytes].concat(),
        Framing::Ids if event.kind != Kind::KeepAlive => [
            format!("id: {number}\n").as_bytes(),
            bytes,
            b": keep-alive\n\n",
        ]
        .concat(),
        _ => bytes.to_vec(),
    }
}

fn damaged(event: &Event, bytes: &[u8], how: Damage) -> Vec<u8> {
    let data = event.fields.data.as_deref().unwrap_or_default();
    match how {
        Damage::Json => {
            let half = (0..=data.len() / 2)
                .rev()
                .find(|at| data.is_char_boundary(*at))
                .unwrap_or(0);
            sse::written(event.fields.name.as_deref(), &data[..half])
        }
        Damage::NoData => {
            let text = String::from_utf8_lossy(bytes);
            text.replacen("data: ", "", 1)
                .replacen("data:", "", 1)
                .into_bytes()
        }
        Damage::Utf8 => {
            let mut bytes = bytes.to_vec();
            // Within the data, before its last brace.
            let at = bytes.iter().rposition(|byte| *byte == b'"').unwrap_or(0);
            bytes.insert(at, 0xff);
            bytes
        }
    }
}
