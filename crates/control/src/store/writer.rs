//! The one thread that writes a run's database.
//!
//! Events are committed as they come, in batches. Samples gather in one open block a stream; what is new in it goes to the `tail` table every
//! second, and when the block is full it is written whole and its tail deleted in the same transaction. So kill -9 loses the samples of the
//! last second or two and nothing else, and the long blocks stay small.

use super::codec::{BlockBuilder, SeriesId};
use super::db::{Database, kind_of};
use super::error::StoreError;
use super::series::{Define, Stream};
use squall_model::event::Event;
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
}

impl Writer {
    pub(super) fn new(database: Database) -> Writer {
        Writer {
            database,
            open: BTreeMap::new(),
            flush_at: Instant::now() + FLUSH,
        }
    }

    /// Writes until told to close, or until every sender is gone.
    pub(super) fn work(mut self, orders: &Receiver<Order>) -> Result<(), StoreError> {
        loop {
            let wait = self.flush_at.saturating_duration_since(Instant::now());
            let first = match orders.recv_timeout(wait) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Close),
            };
            let more = std::iter::from_fn(|| orders.try_recv().ok());
            let batch: Vec<Order> = first.into_iter().chain(more).take(BATCH).collect();
            if self.batch(batch)? {
                return self.database.settle();
            }
        }
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
            Order::Event(event) => insert_event(&self.database, &event),
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

pub(super) fn insert_event(database: &Database, event: &Event) -> Result<(), StoreError> {
    let body = serde_json::to_string(&event.body)
        .map_err(|error| database.content("an event", error.to_string()))?;
    database.run("append an event to", |c| {
        c.prepare_cached("insert into events (seq, t_ns, kind, body) values (?1, ?2, ?3, ?4)")?
            .execute((event.seq as i64, event.t_ns as i64, kind_of(&body), &body))
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
