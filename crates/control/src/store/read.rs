//! A run read back: what analysis works on. A live writer is not disturbed; a run that was cut off is read as far as it goes.

use super::codec::{Block, BlockBuilder, SeriesId};
use super::db::Database;
use super::error::StoreError;
use super::events::for_each;
use super::gather::{Definition, Gather};
use super::series::Stream;
use squall_analysis::run::{Run, Series};
use squall_analysis::sieve::Sieve;
use squall_model::event::{Body, Event};
use squall_model::id::RunId;
use std::collections::BTreeMap;
use std::path::Path;

/// The most readings of all series together that are held in memory; beyond, they are thinned.
const POINTS_MAX: u64 = 8_000_000;
/// A series is never thinned below this.
const POINTS_MIN: u64 = 1_000;

/// Reads stored runs.
#[derive(Debug)]
pub struct StoredRun;

impl StoredRun {
    /// The run as analysis sees it: without the events that tell it nothing new.
    pub fn open(run_dir: &Path) -> Result<Run, StoreError> {
        let database = Database::open_to_read(run_dir)?;
        let mut sieve = Sieve::default();
        for_each(&database, 0, |event| {
            sieve.take(event);
            Ok(())
        })?;
        let events = sieve.finish();
        let id = run_id(&database, &events)?;
        let ask = meta(&database, "ask")?
            .ok_or_else(|| database.content("the question", "it is not there".into()))?;
        Ok(Run {
            id,
            ask,
            series: series(&database)?,
            checkpoints: meta(&database, "checkpoints")?.unwrap_or_default(),
            policies: meta(&database, "policies")?.unwrap_or_default(),
            events,
        })
    }

    /// The event log alone, whole.
    pub fn events(run_dir: &Path) -> Result<Vec<Event>, StoreError> {
        Self::events_after(run_dir, 0)
    }

    /// Events after `seq`, for whoever follows a live run.
    pub fn events_after(run_dir: &Path, seq: u64) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        for_each(&Database::open_to_read(run_dir)?, seq, |event| {
            events.push(event);
            Ok(())
        })?;
        Ok(events)
    }

    /// Hands over the event log one by one, so that a long run needs little memory.
    pub fn for_each_event(run_dir: &Path, mut take: impl FnMut(&Event)) -> Result<(), StoreError> {
        for_each(&Database::open_to_read(run_dir)?, 0, |event| {
            take(&event);
            Ok(())
        })
    }
}

fn run_id(database: &Database, events: &[Event]) -> Result<RunId, StoreError> {
    match events.first().map(|event| &event.body) {
        Some(Body::RunStarted { run, .. }) => Ok(run.clone()),
        _ => Err(database.content(
            "the event log",
            "it does not begin with the start of a run".into(),
        )),
    }
}

pub(super) fn meta<T: serde::de::DeserializeOwned>(
    database: &Database,
    key: &'static str,
) -> Result<Option<T>, StoreError> {
    use rusqlite::OptionalExtension;
    let text: Option<String> = database.run("read meta data of", |c| {
        c.query_row("select value from meta where key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
    })?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|error| database.content(key, error.to_string()))
    })
    .transpose()
}

fn definitions(database: &Database) -> Result<BTreeMap<SeriesId, Definition>, StoreError> {
    type Row = (u32, String, String, String, Option<f64>);
    let rows: Vec<Row> = database.run("read series of", |c| {
        c.prepare("select id, name, labels, unit, per_second from series")?
            .query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            })?
            .collect()
    })?;
    rows.into_iter()
        .map(|(id, name, labels, unit, per_second)| {
            let labels = serde_json::from_str(&labels)
                .map_err(|error| database.content("labels", error.to_string()))?;
            let definition = Definition {
                name,
                labels,
                unit,
                per_second,
            };
            Ok((SeriesId(id), definition))
        })
        .collect()
}

fn series(database: &Database) -> Result<Vec<Series>, StoreError> {
    let definitions = definitions(database)?;
    let from_to: (Option<i64>, Option<i64>) = database.run("read blocks of", |c| {
        c.query_row("select min(from_ns), max(to_ns) from blocks", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    })?;
    let span = match from_to {
        (Some(from), Some(to)) => (to - from) as u64,
        _ => 0,
    };
    let each = (POINTS_MAX / (definitions.len() as u64).max(1)).max(POINTS_MIN);
    // 100 readings a second is the fastest there is.
    let bin_ns = if span / 10_000_000 > each {
        span / each
    } else {
        0
    };
    let mut gather = Gather::new(definitions, bin_ns);
    for_each_block(database, |_, block| gather.add(&block))?;
    Ok(gather.finish())
}

/// Whole blocks in order, then what was still open.
fn for_each_block(
    database: &Database,
    mut use_block: impl FnMut(Stream, Block),
) -> Result<(), StoreError> {
    for table in ["blocks", "tail"] {
        let mut outcome = Ok(());
        database.run("read samples of", |c| {
            let mut statement =
                c.prepare(&format!("select stream, data from {table} order by id"))?;
            let mut rows = statement.query([])?;
            while let (Some(row), true) = (rows.next()?, outcome.is_ok()) {
                let data = row.get_ref(1)?.as_blob()?;
                match Block::decode(data) {
                    Ok(block) => use_block(Stream::from_number(row.get(0)?), block),
                    Err(error) => outcome = Err(error),
                }
            }
            Ok(())
        })?;
        outcome.map_err(|source| StoreError::Block {
            path: database.path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// What was still open when a run was cut off, put together as one block a stream.
pub(super) fn tail(database: &Database) -> Result<BTreeMap<Stream, BlockBuilder>, StoreError> {
    let mut open: BTreeMap<Stream, BlockBuilder> = BTreeMap::new();
    let rows: Vec<(i64, Vec<u8>)> = database.run("read samples of", |c| {
        c.prepare("select stream, data from tail order by id")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    })?;
    for (stream, data) in rows {
        let block = Block::decode(&data).map_err(|source| StoreError::Block {
            path: database.path.clone(),
            source,
        })?;
        let builder = open.entry(Stream::from_number(stream)).or_default();
        let mut ticks: Vec<Vec<(SeriesId, f64)>> = vec![Vec::new(); block.times.len()];
        for (id, samples) in block.columns {
            for (tick, value) in samples {
                ticks[tick as usize].push((id, value));
            }
        }
        for (t_ns, values) in block.times.into_iter().zip(ticks) {
            if builder.push(t_ns, &values).is_err() {
                // Chunks follow each other; an instant that does not is a repetition.
                continue;
            }
        }
    }
    Ok(open)
}
