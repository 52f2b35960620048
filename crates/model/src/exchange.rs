//! One request and its answer, as the wire showed them at a proxy. Holds nothing of what was said: sizes, times, hashes and names alone.

use serde::{Deserialize, Serialize};

/// The name of the format of one exchange.
pub const FORMAT: &str = "squall.exchange/1";

/// How events call exchanges whose records were lost.
pub const LOST: &str = "exchanges of the proxy";

/// How the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// All of it was sent, as its framing says.
    Whole,
    /// The connection ended in the middle of it, or before it.
    Cut,
    /// The client was reset in the middle of it, or before it.
    Reset,
    /// The client went away before all of it was sent.
    Left,
}

/// A rule of a proxy that acted on the exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fired {
    /// The rule's name.
    pub rule: String,
    /// The kind of fault.
    pub fault: String,
    /// Where it acted, counted from 1 …
    pub place: u64,
    /// … in these: `tokens`, `events`, `requests`.
    pub unit: String,
}

/// A request and its answer. Times are nanoseconds; those without a clock of their own count from `asked_ns`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Exchange {
    /// When its head had arrived, in nanoseconds since 1970, UTC.
    pub asked_ns: u64,
    /// The number of the connection, from 0.
    pub connection: u64,
    /// The number of the request on its connection, from 1.
    pub request: u64,
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether a stream was asked for.
    pub streaming: bool,
    /// A keyed hash of method, path and body: equal for the same question.
    pub question: String,
    /// A keyed hash of the idempotency key, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<String>,
    /// What the client's library says of its own retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_count: Option<u32>,
    /// Length of the request's body in bytes.
    pub asked_bytes: u64,
    /// The status; none when no answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The wait that the answer asks for, in milliseconds, where it tells one that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What `x-should-retry` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub should_retry: Option<bool>,
    /// Until the first byte of the answer left for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ns: Option<u64>,
    /// Until the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ns: Option<u64>,
    /// Until the last token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_token_ns: Option<u64>,
    /// The longest time between two tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap_ns: Option<u64>,
    /// Tokens that were sent.
    pub tokens: u64,
    /// What the answer says that it cost, in tokens of both ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    /// Whether the answer says itself that it is complete: a reason for its end, `[DONE]`, `message_stop`. None where such is not to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<bool>,
    /// An error was told in the stream, after status 200.
    pub error_event: bool,
    /// Until the end.
    pub ended_ns: u64,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Rules that acted on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fired: Vec<Fired>,
}

impl Exchange {
    /// When it was over, in nanoseconds since 1970.
    pub fn over_ns(&self) -> u64 {
        self.asked_ns.saturating_add(self.ended_ns)
    }

    /// Whether a user got a whole, good answer of it: by its status, its framing and its own word.
    pub fn succeeded(&self) -> bool {
        let good = self
            .status
            .is_some_and(|status| (200..400).contains(&status));
        good && self.ended == Some(Ended::Whole)
            && self.finished != Some(false)
            && !self.error_event
    }

    /// Whether it began as an answer and was cut off.
    pub fn is_cut_off(&self) -> bool {
        let good = self
            .status
            .is_some_and(|status| (200..400).contains(&status));
        good && !self.succeeded() && self.ended != Some(Ended::Left)
    }

    /// `POST /v1/chat/completions (connection 3, request 1)`.
    pub fn words(&self) -> String {
        format!(
            "{} {} (connection {}, request {})",
            self.method, self.path, self.connection, self.request
        )
    }
}
