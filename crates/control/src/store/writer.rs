//! The one thread that writes a run's database.
//!
//! Events are committed as they come, in batches; training events, of which there may be thousands a second, wait at most [`LINGER`] for
//! others. When many have gathered, they are packed ([`super::events`]). Samples gather in one open block a stream; what is new in it goes to the `tail` table every
//! second, and when the block is full it is written whole and its tail deleted in the same transaction. So kill -9 loses the samples of the
//! last second or two and nothing else, and the long blocks stay small.

use super::codec::{BlockBuilder, SeriesId};
use super::db::Database;
use super::error::StoreError;
use super::events::{PACK, insert_event, pack_after};
use super::series::{Define, Stream};
use squall_model::event::{Body, Event};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// How often new samples are made durable. With a batch's own time, kill -9 loses at most [`LOSS_MAX`].
pub(super) const FLUSH: Duration = Duration::from_secs(1);
/// The most that a crash of the controller loses of its samples.
pub const LOSS_MAX: Duration = Duration::from_secs(2);
/// A block is closed after this long, in nanoseconds …
const BLOCK_NS: u64 = 300_000_000_000;
/// … or when it holds this many runs of values: what bounds the memory.
const BLOCK_RUNS: usize = 600_000;
/// Messages written in one transaction.
const BATCH: usize = 2_000;
/// How long training events and samples may wait for others, so that each commit carries many. Anything else, and whoever asks that all be
/// committed, ends the wait.
const LINGER: Duration = Duration::from_millis(20);

/// What the writer is asked to do.
pub(super) enum Order {
    Event(Box<Event>),
    Define(Define),
    Samples {
        stream: Stream,
        t_ns: u64,
        values: Vec<(SeriesId, f64)>,
    },
    Meta {
        key: &'static str,
        value: String,
    },
    /// Everything before this is committed when it is answered.
    Sync(SyncSender<()>),
    Close,
}

#[derive(Default)]
struct Open {
    whole: BlockBuilder,
    fresh: BlockBuilder,
}

pub(super) struct Writer {
    database: Database,
    open: BTreeMap<Stream, Open>,
    flush_at: Instant,
    /// Training events that are still rows.
    unpacked: usize,
    /// The last event that is in a pack.
    packed_to: u64,
}

impl Order {
    /// Whether it may wait for others to be committed with it.
    fn may_wait(&self) -> bool {
        match self {
            Order::Event(event) => matches!(event.body, Body::Training { .. }),
            Order::Samples { .. } | Order::Define(_) => true,
            Order::Meta { .. } | Order::Sync(_) | Order::Close => false,
        }
    }
}

impl Writer {
    pub(super) fn new(database: Database) -> Writer {
        Writer {
            database,
            open: BTreeMap::new(),
            flush_at: Instant::now() + FLUSH,
            unpacked: 0,
            packed_to: 0,
        }
    }

    /// Writes until told to close, or until every sender is gone.
    pub(super) fn work(mut self, orders: &Receiver<Order>) -> Result<(), StoreError> {
        loop {
            let batch = self.gather(orders);
            if self.batch(batch)? {
                return self.database.settle();
            }
        }
    }

    /// What comes until something may not wait, [`LINGER`] is over, or samples are to be flushed.
    fn gather(&self, orders: &Receiver<Order>) -> Vec<Order> {
        let mut batch = Vec::new();
        let mut until = self.flush_at;
        while batch.len() < BATCH {
            let order = match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => Order::Close,
            };
            let soon = if order.may_wait() {
                Instant::now() + LINGER
            } else {
                Instant::now()
            };
            until = until.min(soon);
            let last = matches!(order, Order::Close);
            batch.push(order);
            if last {
                break;
            }
        }
        batch
    }

    /// One transaction. Returns whether it was the last.
    fn batch(&mut self, orders: Vec<Order>) -> Result<bool, StoreError> {
        let flush = Instant::now() >= self.flush_at;
        if orders.is_empty() && !flush {
            return Ok(false);
        }
        let mut answers = Vec::new();
        let mut last = false;
        self.database
            .run("begin a batch in", |c| c.execute_batch("begin immediate"))?;
        for order in orders {
            match order {
                Order::Sync(answer) => answers.push(answer),
                Order::Close => last = true,
                order => self.write(order)?,
            }
        }
        if flush || last {
            self.flush(last)?;
            self.flush_at = Instant::now() + FLUSH;
        }
        self.pack(last)?;
        self.database
            .run("commit a batch to", |c| c.execute_batch("commit"))?;
        for answer in answers {
            if answer.try_send(()).is_err() {
                // Whoever asked has stopped waiting.
                continue;
            }
        }
        Ok(last)
    }

    fn write(&mut self, order: Order) -> Result<(), StoreError> {
        match order {
            Order::Event(event) => {
                self.unpacked += usize::from(insert_event(&self.database, &event)?);
                Ok(())
            }
            Order::Define(define) => insert_series(&self.database, &define),
            Order::Meta { key, value } => self.database.run("write meta data to", |c| {
                c.prepare_cached("insert or replace into meta values (?1, ?2)")?
                    .execute((key, &value))
                    .map(drop)
            }),
            Order::Samples {
                stream,
                t_ns,
                values,
            } => {
                let open = self.open.entry(stream).or_default();
                let kept = open.whole.push(t_ns, &values);
                if kept.and_then(|()| open.fresh.push(t_ns, &values)).is_err() {
                    // Samplers stamp in order; an instant that is not later than the last is a repetition.
                    return Ok(());
                }
                Ok(())
            }
            Order::Sync(_) | Order::Close => Ok(()),
        }
    }

    /// Packs training events when there are enough of them; at the end, all.
    fn pack(&mut self, last: bool) -> Result<(), StoreError> {
        while self.unpacked >= PACK || (last && self.unpacked > 0) {
            let Some(to) = pack_after(&self.database, self.packed_to)? else {
                break;
            };
            self.packed_to = to;
            self.unpacked = self.unpacked.saturating_sub(PACK);
        }
        Ok(())
    }

    fn flush(&mut self, last: bool) -> Result<(), StoreError> {
        for (stream, open) in &mut self.open {
            let Some((from, to)) = open.whole.span() else {
                continue;
            };
            if last || to - from >= BLOCK_NS || open.whole.runs() >= BLOCK_RUNS {
                insert_block(&self.database, *stream, &open.whole)?;
                *open = Open::default();
            } else if open.fresh.ticks() > 0 {
                let data = std::mem::take(&mut open.fresh).encode();
                self.database.run("write samples to", |c| {
                    c.prepare_cached("insert into tail (stream, data) values (?1, ?2)")?
                        .execute((stream.number(), data))
                        .map(drop)
                })?;
            }
        }
        Ok(())
    }
}

/// Writes a whole block and forgets the tail that it replaces.
pub(super) fn insert_block(
    database: &Database,
    stream: Stream,
    block: &BlockBuilder,
) -> Result<(), StoreError> {
    let Some((from, to)) = block.span() else {
        return Ok(());
    };
    let data = block.encode();
    database.run("write a block of samples to", |c| {
        c.prepare_cached(
            "insert into blocks (stream, from_ns, to_ns, data) values (?1, ?2, ?3, ?4)",
        )?
        .execute((stream.number(), from as i64, to as i64, data))?;
        c.prepare_cached("delete from tail where stream = ?1")?
            .execute([stream.number()])
            .map(drop)
    })
}

fn insert_series(database: &Database, define: &Define) -> Result<(), StoreError> {
    let labels = serde_json::to_string(&define.labels)
        .map_err(|error| database.content("labels", error.to_string()))?;
    database.run("define a series in", |c| {
        c.prepare_cached(
            "insert into series (id, name, labels, unit, per_second) values (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            define.id.0,
            &define.name,
            labels,
            &define.unit,
            define.per_second,
        ))
        .map(drop)
    })
}
