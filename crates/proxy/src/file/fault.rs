//! The faults that a rule can name, as they are written.

use crate::stream::Fault;
use crate::web::WebFault;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use squall_model::units::{Bytes, Span};
use std::borrow::Cow;
use std::time::Duration;

/// A fault: of a byte stream, or of HTTP and what is said in it.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultConfig {
    /// Of a byte stream.
    Stream(StreamFault),
    /// Of HTTP and of what models say.
    Web(WebFault),
}

impl Serialize for FaultConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FaultConfig::Stream(fault) => fault.serialize(serializer),
            FaultConfig::Web(fault) => fault.serialize(serializer),
        }
    }
}

/// The name tells which list it stands in.
impl<'de> Deserialize<'de> for FaultConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FaultConfig, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let is_stream = value
            .as_object()
            .is_some_and(|map| map.keys().all(|name| name.starts_with("stream-")));
        let read = match is_stream {
            true => serde_json::from_value(value).map(FaultConfig::Stream),
            false => serde_json::from_value(value).map(FaultConfig::Web),
        };
        read.map_err(serde::de::Error::custom)
    }
}

/// One list of both.
impl JsonSchema for FaultConfig {
    fn schema_name() -> Cow<'static, str> {
        "Fault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = |schema: Schema| {
            schema
                .get("oneOf")
                .and_then(|list| list.as_array().cloned())
                .unwrap_or_default()
        };
        let all = [
            of(StreamFault::json_schema(generator)),
            of(WebFault::json_schema(generator)),
        ]
        .concat();
        let mut schema = schemars::json_schema!({"description": "A fault."});
        schema.insert("oneOf".to_owned(), all.into());
        schema
    }
}

/// A fault of a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StreamFault {
    /// Bytes arrive later, in order. At most 52 KiB are on their way at once, so a long delay also limits the rate.
    #[serde(rename_all = "kebab-case")]
    StreamLatency {
        /// By how much.
        delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<Span>,
    },
    /// Bytes arrive at a limited rate.
    #[serde(rename_all = "kebab-case")]
    StreamBandwidth {
        /// So many bytes in each second, at least 1 B.
        per_second: Bytes,
    },
    /// The end of the stream arrives later.
    #[serde(rename_all = "kebab-case")]
    StreamSlowClose {
        /// By how much.
        delay: Span,
    },
    /// Nothing arrives, and the connection is closed after a time.
    #[serde(rename_all = "kebab-case")]
    StreamTimeout {
        /// When it is closed; never unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Span>,
    },
    /// Nothing arrives, and both ends get a TCP RST.
    #[serde(rename_all = "kebab-case")]
    StreamReset {
        /// When; at once unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Span>,
    },
    /// Bytes arrive in small pieces.
    #[serde(rename_all = "kebab-case")]
    StreamSlice {
        /// Mean size of a piece, at least 1 B.
        size: Bytes,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variation: Option<Bytes>,
        /// Time between two pieces; none unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pause: Option<Span>,
    },
    /// The connection is closed, in order, after so many bytes.
    #[serde(rename_all = "kebab-case")]
    StreamLimit {
        /// So many still arrive.
        bytes: Bytes,
    },
    /// One bit is flipped in each block.
    #[serde(rename_all = "kebab-case")]
    StreamCorrupt {
        /// Size of a block, at least 1 B.
        every: Bytes,
    },
    /// Bytes and the end of the stream vanish, and nobody is told.
    StreamHalfOpen {},
    /// Nothing arrives while the rule is set, and all of it when it is removed.
    StreamPartition {},
}

impl StreamFault {
    pub(super) fn name(&self) -> &'static str {
        match self {
            StreamFault::StreamLatency { .. } => "stream-latency",
            StreamFault::StreamBandwidth { .. } => "stream-bandwidth",
            StreamFault::StreamSlowClose { .. } => "stream-slow-close",
            StreamFault::StreamTimeout { .. } => "stream-timeout",
            StreamFault::StreamReset { .. } => "stream-reset",
            StreamFault::StreamSlice { .. } => "stream-slice",
            StreamFault::StreamLimit { .. } => "stream-limit",
            StreamFault::StreamCorrupt { .. } => "stream-corrupt",
            StreamFault::StreamHalfOpen {} => "stream-half-open",
            StreamFault::StreamPartition {} => "stream-partition",
        }
    }

    pub(super) fn fault(&self) -> Fault {
        let time = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
        match *self {
            StreamFault::StreamLatency { delay, jitter } => Fault::Latency {
                latency: delay.0,
                jitter: time(jitter),
            },
            StreamFault::StreamBandwidth { per_second } => Fault::Bandwidth { rate: per_second.0 },
            StreamFault::StreamSlowClose { delay } => Fault::SlowClose { delay: delay.0 },
            StreamFault::StreamTimeout { after } => Fault::Timeout {
                timeout: time(after),
            },
            StreamFault::StreamReset { after } => Fault::ResetPeer {
                timeout: time(after),
            },
            StreamFault::StreamSlice {
                size,
                variation,
                pause,
            } => Fault::Slicer {
                average: size.0,
                variation: variation.map_or(0, |size| size.0),
                delay: time(pause),
            },
            StreamFault::StreamLimit { bytes } => Fault::LimitData { bytes: bytes.0 },
            StreamFault::StreamCorrupt { every } => Fault::Corrupt { every: every.0 },
            StreamFault::StreamHalfOpen {} => Fault::HalfOpen,
            StreamFault::StreamPartition {} => Fault::Partition,
        }
    }

    /// The key and the value that make no sense, if any.
    pub(super) fn zero(&self) -> Option<&'static str> {
        match *self {
            StreamFault::StreamBandwidth { per_second } if per_second.0 == 0 => Some("per-second"),
            StreamFault::StreamSlice { size, .. } if size.0 == 0 => Some("size"),
            StreamFault::StreamCorrupt { every } if every.0 == 0 => Some("every"),
            _ => None,
        }
    }
}

impl FaultConfig {
    pub(super) fn name(&self) -> &'static str {
        match self {
            FaultConfig::Stream(fault) => fault.name(),
            FaultConfig::Web(fault) => fault.name(),
        }
    }
}
