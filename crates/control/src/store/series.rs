//! Series and streams: what is sampled, and the handle through which samplers hand it over.

use super::codec::SeriesId;
use super::writer::Order;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

/// Series that are sampled at the same instants share a stream, and so one time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The monitor's ticks.
    Monitor,
    /// Probes; each has its own.
    Probe(u32),
}

impl Stream {
    pub(super) fn number(self) -> i64 {
        match self {
            Stream::Monitor => 0,
            Stream::Probe(index) => i64::from(index) + 1,
        }
    }

    pub(super) fn from_number(number: i64) -> Stream {
        u32::try_from(number - 1).map_or(Stream::Monitor, Stream::Probe)
    }
}

/// What a series is. A counter is stored as it counts and read back as a rate.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSpec {
    /// e.g. `process.cpu`.
    pub name: &'static str,
    /// e.g. pid and rank.
    pub labels: BTreeMap<String, String>,
    /// Unit as it is read.
    pub unit: &'static str,
    /// For a counter: units per count, e.g. 1 for bytes read as `bytes/s`, and 1 for ticks of 10 ms read as `%`.
    pub per_second: Option<f64>,
}

#[derive(Debug, Clone)]
pub(super) struct Define {
    pub(super) id: SeriesId,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) unit: String,
    pub(super) per_second: Option<f64>,
}

/// Where samplers put what they measured. Never blocks: what does not fit in the queue is dropped and counted.
#[derive(Debug, Clone)]
pub struct Samples {
    orders: SyncSender<Order>,
    next: Arc<AtomicU32>,
    dropped: Arc<AtomicU64>,
}

impl Samples {
    pub(super) fn new(orders: SyncSender<Order>) -> Samples {
        Samples {
            orders,
            next: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// A handle whose samples go nowhere, for measuring without a store.
    pub fn discarding() -> Samples {
        let (orders, _) = std::sync::mpsc::sync_channel(1);
        Samples::new(orders)
    }

    /// Makes a new series known.
    pub fn define(&self, spec: &SeriesSpec) -> SeriesId {
        let id = SeriesId(self.next.fetch_add(1, Ordering::Relaxed));
        let order = Order::Define(Define {
            id,
            name: spec.name.to_owned(),
            labels: spec.labels.clone(),
            unit: spec.unit.to_owned(),
            per_second: spec.per_second,
        });
        // Definitions are few and must not be lost; a writer that is gone reports its own end.
        drop(self.orders.send(order));
        id
    }

    /// Hands over the samples of one instant.
    pub fn put(&self, stream: Stream, t_ns: u64, values: Vec<(SeriesId, f64)>) {
        let count = values.len() as u64;
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.orders.try_send(Order::Samples {
                stream,
                t_ns,
                values,
            })
        {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Samples dropped since this was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
