//! What a proxy did, as records in a bounded queue: a reader that is slow costs records, which are counted, and never traffic.

use serde::Serialize;
use squall_model::exchange::Exchange;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// Records that may wait for their reader.
const WAITING_MAX: usize = 8192;

/// One thing that happened on one connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Nanoseconds since 1970, UTC.
    pub unix_ns: u64,
    /// The proxy's name.
    #[serde(serialize_with = "plainly")]
    pub proxy: Arc<str>,
    /// The number of the connection in its proxy, from 0.
    pub connection: u64,
    /// What happened.
    pub what: What,
}

fn plainly<S: serde::Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

/// Nanoseconds since 1970, UTC.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What can happen. Holds nothing of what clients and services say to each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A client has connected.
    Opened {
        /// Its address.
        from: String,
    },
    /// The service could not be reached.
    Unreachable {
        /// Why.
        because: String,
    },
    /// A client was turned away.
    Refused {
        /// Why.
        because: String,
    },
    /// A rule has acted.
    Fired {
        /// Its name.
        rule: String,
        /// The kind of fault.
        fault: String,
        /// The direction, for a fault that has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        way: Option<&'static str>,
        /// Where in the stream.
        place: u64,
        /// What the place counts.
        unit: &'static str,
    },
    /// Something passes as it is, though a rule might have acted on it.
    Unmatched {
        /// Why.
        because: String,
    },
    /// A request has come. Only where it was asked for.
    Asked {
        /// Which, in words.
        words: String,
    },
    /// A request and its answer are over. Only where it was asked for.
    Exchange(Box<Exchange>),
    /// The connection is over.
    Closed {
        /// Bytes from the client.
        up: u64,
        /// Bytes from the service.
        down: u64,
        /// How it ended.
        how: &'static str,
    },
}

/// The writing end of the queue.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Option<SyncSender<Record>>,
    lost: Arc<AtomicU64>,
    watches: bool,
}

impl Recorder {
    /// A queue and its reader.
    pub fn new() -> (Recorder, Receiver<Record>) {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let lost = Arc::default();
        (
            Recorder {
                queue: Some(sender),
                lost,
                watches: false,
            },
            receiver,
        )
    }

    /// One that keeps nothing.
    pub fn none() -> Recorder {
        Recorder {
            queue: None,
            lost: Arc::default(),
            watches: false,
        }
    }

    /// Also of each request and its answer. That costs looking into everything that passes in HTTP.
    pub fn watching(self) -> Recorder {
        Recorder {
            watches: true,
            ..self
        }
    }

    pub(crate) fn watches(&self) -> bool {
        self.watches
    }

    /// Records that were lost because the reader was slow or gone.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn push(&self, proxy: &Arc<str>, connection: u64, what: What) {
        let Some(queue) = &self.queue else { return };
        let record = Record {
            unix_ns: unix_ns(),
            proxy: proxy.clone(),
            connection,
            what,
        };
        if queue.try_send(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
