//! A rule on requests and their answers, as it is written and as it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::units::{Bytes, Span};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which requests a rule acts on: those that fit everything given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct When {
    /// The path, without its query; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The model that the request's JSON names; `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the request's JSON asks for a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// Header fields and their values; `*` stands for any characters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// Places in the request's JSON (`/messages/0/role`) and the texts there; `*` stands for any characters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
    /// Of the requests that fit, only the first so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Of the requests that fit, only each so-manieth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub every: Option<u64>,
}

/// A fault of HTTP or of a model's stream. Tokens and events are counted from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WebFault {
    /// The service is not asked, and an error is answered, in the provider's own shape.
    #[serde(rename_all = "kebab-case")]
    HttpStatus {
        /// The status.
        #[schemars(range(min = 200, max = 599))]
        code: u16,
        /// The value of `retry-after`, written as it stands here, legal or not; `date:30s` becomes the date in 30 s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        /// Further header fields.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// Another body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// Requests beyond a rate get 429 with the true time to wait; all others the provider's rate-limit fields.
    #[serde(rename_all = "kebab-case")]
    HttpRateLimit {
        /// So many requests in each minute.
        #[schemars(range(min = 1))]
        per_minute: u32,
        /// So many at once; a minute's worth unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        burst: Option<u32>,
    },
    /// The answer begins later.
    #[serde(rename_all = "kebab-case")]
    HttpDelay {
        /// By how much.
        delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<Span>,
    },
    /// The request is taken, and nothing is ever answered.
    HttpHang {},
    /// The head of the answer arrives byte by byte.
    #[serde(rename_all = "kebab-case")]
    HttpSlowHeaders {
        /// How long it takes.
        over: Span,
    },
    /// The client is reset (a TCP RST) in place of an answer.
    HttpReset {},
    /// The connection ends in the middle of the answer's body.
    #[serde(rename_all = "kebab-case")]
    HttpTruncate {
        /// So much of the body arrives.
        after: Bytes,
    },
    /// The answer says that its body is of another type.
    #[serde(rename_all = "kebab-case")]
    HttpContentType {
        /// The type.
        value: String,
    },
    /// The answer says that its body is longer or shorter than it is. Acts on answers that tell their length.
    #[serde(rename_all = "kebab-case")]
    HttpContentLength {
        /// Bytes more; fewer when below zero.
        by: i64,
    },
    /// The first token arrives later.
    #[serde(rename_all = "kebab-case")]
    LlmFirstToken {
        /// By how much.
        delay: Span,
    },
    /// Every further token arrives later than the one before it.
    #[serde(rename_all = "kebab-case")]
    LlmTokenDelay {
        /// By how much.
        delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<Span>,
    },
    /// The stream stands still, with the connection open.
    #[serde(rename_all = "kebab-case")]
    LlmStall {
        /// So many tokens arrive before.
        after: u64,
        /// When it goes on; never unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Span>,
    },
    /// The stream is cut.
    #[serde(rename_all = "kebab-case")]
    LlmCut {
        /// So many tokens arrive before.
        after: u64,
        /// How it ends.
        #[serde(default)]
        how: Cut,
    },
    /// The last event (`[DONE]`, `message_stop`, `response.completed`) is missing.
    LlmWithoutDone {},
    /// A token is missing.
    #[serde(rename_all = "kebab-case")]
    LlmDrop {
        /// Which.
        #[schemars(range(min = 1))]
        at: u64,
    },
    /// A token comes twice.
    #[serde(rename_all = "kebab-case")]
    LlmDuplicate {
        /// Which.
        #[schemars(range(min = 1))]
        at: u64,
    },
    /// A token comes after the one that follows it.
    #[serde(rename_all = "kebab-case")]
    LlmReorder {
        /// Which.
        #[schemars(range(min = 1))]
        at: u64,
    },
    /// A token is damaged.
    #[serde(rename_all = "kebab-case")]
    LlmMalformed {
        /// Which.
        #[schemars(range(min = 1))]
        at: u64,
        /// How.
        #[serde(default)]
        how: Damage,
    },
    /// An error is told in the stream, after status 200, and the stream ends.
    #[serde(rename_all = "kebab-case")]
    LlmError {
        /// So many tokens arrive before.
        after: u64,
    },
    /// The same events, framed otherwise.
    #[serde(rename_all = "kebab-case")]
    LlmFraming {
        /// How.
        how: Framing,
    },
    /// The usage is told otherwise.
    #[serde(rename_all = "kebab-case")]
    LlmUsage {
        /// How.
        says: UsageSays,
    },
    /// The reason for the end is told otherwise.
    #[serde(rename_all = "kebab-case")]
    LlmFinishReason {
        /// The reason.
        value: String,
    },
    /// Another model is said to have answered.
    #[serde(rename_all = "kebab-case")]
    LlmModel {
        /// Which.
        value: String,
    },
    /// Comments keep the stream alive, and nothing of the answer arrives.
    #[serde(rename_all = "kebab-case")]
    LlmKeepAliveOnly {
        /// How often.
        every: Span,
    },
    /// The answer says something else.
    #[serde(rename_all = "kebab-case")]
    LlmText {
        /// What.
        says: Speech,
    },
    /// Tool calls are wrong.
    #[serde(rename_all = "kebab-case")]
    LlmToolCall {
        /// How.
        how: CallWrong,
    },
    /// Structured output violates its schema.
    #[serde(rename_all = "kebab-case")]
    LlmStructure {
        /// How.
        how: StructureWrong,
    },
    /// Embeddings are wrong. Acts on whole answers in OpenAI's shape, with lists of numbers and with base64.
    #[serde(rename_all = "kebab-case")]
    RetrievalVectors {
        /// How.
        how: VectorsWrong,
    },
    /// A vector store finds other documents. Acts on answers in Chroma's and in Qdrant's shape.
    #[serde(rename_all = "kebab-case")]
    RetrievalDocuments {
        /// Which.
        finds: Finds,
    },
}

/// What is wrong with a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CallWrong {
    /// It names a tool that was not offered, `squall_unknown_tool`.
    UnknownTool,
    /// Its arguments are no JSON.
    BrokenArguments,
}

/// What is wrong with structured output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StructureWrong {
    /// It has a key more, `squall_unexpected`.
    ExtraKey,
    /// Words stand before it.
    Prose,
    /// Its first key is missing; in whole answers alone.
    MissingKey,
    /// Its first value is of another type; in whole answers alone.
    WrongType,
}

/// What is wrong with embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VectorsWrong {
    /// They have half their numbers.
    Shorter,
    /// They have their numbers twice.
    Longer,
    /// Their numbers are zero.
    Zero,
    /// Their first number is NaN; in lists it is written as Python's services do, which is no JSON.
    Nan,
    /// Each text has the vector of the next one. The only one has its numbers reversed.
    Permuted,
}

/// What a vector store finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finds {
    /// Nothing.
    Nothing,
    /// Half as much, rounded down.
    Fewer,
    /// Texts that have nothing to do with the question, with their own scores and metadata.
    Irrelevant,
    /// What is so many years older, by the dates and times in its metadata.
    Stale(u16),
    /// A first document that begins with these words, marked `[squall-canary]`.
    Poisoned(String),
}

/// How a stream is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// The body ends in order, as if that were all.
    #[default]
    End,
    /// The connection is closed in the middle of the body.
    Close,
    /// The connection is reset (a TCP RST).
    Reset,
}

/// How a token is damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// Its JSON is cut in half.
    #[default]
    Json,
    /// It holds a byte that is no UTF-8.
    Utf8,
    /// Its `data:` is missing.
    NoData,
}

/// How events are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Lines end in CR LF.
    Crlf,
    /// Each byte in a TCP segment of its own, so that characters are split too.
    Bytewise,
    /// No event has a name.
    NoNames,
    /// A byte order mark stands before the first.
    ByteOrderMark,
    /// Each has an id, and a comment follows it.
    Ids,
}

/// What a usage says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UsageSays {
    /// Nothing.
    Absent,
    /// Zeros.
    Zero,
    /// Numbers below zero.
    Negative,
    /// A thousand times as much.
    Huge,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    /// Nothing.
    Empty,
    /// Letters that mean nothing.
    Garbage,
    /// The first token, again and again.
    Repeat,
    /// That it will not answer.
    Refusal,
    /// These words before its own, such as a canary.
    Also(String),
}

/// A rule that is set on a proxy. Armed from then on; landed when it has fired.
#[derive(Debug)]
pub struct WebRule {
    /// Unique in its proxy.
    pub name: String,
    /// Which requests.
    pub when: When,
    /// Share of the requests that fit, 0 to 1.
    pub probability: f64,
    /// What it does.
    pub fault: WebFault,
    /// How often it has acted.
    pub fired: AtomicU64,
    /// Requests that fitted so far.
    pub(super) fitted: AtomicU64,
    /// Requests that a rate limit still admits, and when that was reckoned, in nanoseconds.
    pub(super) bucket: Mutex<Option<(f64, u64)>>,
}

impl WebRule {
    /// A rule that acts on every request.
    pub fn new(name: &str, fault: WebFault) -> WebRule {
        WebRule {
            name: name.to_owned(),
            when: When::default(),
            probability: 1.0,
            fault,
            fired: AtomicU64::new(0),
            fitted: AtomicU64::new(0),
            bucket: Mutex::default(),
        }
    }

    /// Whether it has acted at all.
    pub fn has_landed(&self) -> bool {
        self.fired.load(Ordering::Relaxed) > 0
    }
}

impl WebFault {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            WebFault::HttpStatus { .. } => "http-status",
            WebFault::HttpRateLimit { .. } => "http-rate-limit",
            WebFault::HttpDelay { .. } => "http-delay",
            WebFault::HttpHang {} => "http-hang",
            WebFault::HttpSlowHeaders { .. } => "http-slow-headers",
            WebFault::HttpReset {} => "http-reset",
            WebFault::HttpTruncate { .. } => "http-truncate",
            WebFault::HttpContentType { .. } => "http-content-type",
            WebFault::HttpContentLength { .. } => "http-content-length",
            WebFault::LlmFirstToken { .. } => "llm-first-token",
            WebFault::LlmTokenDelay { .. } => "llm-token-delay",
            WebFault::LlmStall { .. } => "llm-stall",
            WebFault::LlmCut { .. } => "llm-cut",
            WebFault::LlmWithoutDone {} => "llm-without-done",
            WebFault::LlmDrop { .. } => "llm-drop",
            WebFault::LlmDuplicate { .. } => "llm-duplicate",
            WebFault::LlmReorder { .. } => "llm-reorder",
            WebFault::LlmMalformed { .. } => "llm-malformed",
            WebFault::LlmError { .. } => "llm-error",
            WebFault::LlmFraming { .. } => "llm-framing",
            WebFault::LlmUsage { .. } => "llm-usage",
            WebFault::LlmFinishReason { .. } => "llm-finish-reason",
            WebFault::LlmModel { .. } => "llm-model",
            WebFault::LlmKeepAliveOnly { .. } => "llm-keep-alive-only",
            WebFault::LlmText { .. } => "llm-text",
            WebFault::LlmToolCall { .. } => "llm-tool-call",
            WebFault::LlmStructure { .. } => "llm-structure",
            WebFault::RetrievalVectors { .. } => "retrieval-vectors",
            WebFault::RetrievalDocuments { .. } => "retrieval-documents",
        }
    }

    /// Whether it acts on what is said in HTTP, so that the answer must be read.
    pub(super) fn reads_content(&self) -> bool {
        !self.name().starts_with("http-")
    }
}
