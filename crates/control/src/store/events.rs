//! The event log within the database: rows, and packs of those training events that have been there for a while.
//!
//! An event is a row first, so what is committed is there after a crash. When enough training events have gathered, one transaction puts
//! them into a pack and deletes their rows. Reading merges the two by number. Files of format 1 have rows only.

use super::db::Database;
use super::error::StoreError;
use super::pack::{Packed, Unpacked, encode};
use squall_model::event::Event;

/// Training events in a pack.
pub(super) const PACK: usize = 4_096;
/// The kind of what is packed.
pub(super) const TRAINING: &str = "training";

/// Appends one event as a row. Returns whether it is one that will be packed.
pub(super) fn insert_event(database: &Database, event: &Event) -> Result<bool, StoreError> {
    let body = serde_json::to_string(&event.body)
        .map_err(|error| database.content("an event", error.to_string()))?;
    let kind = kind_of(&body);
    database.run("append an event to", |c| {
        c.prepare_cached("insert into events (seq, t_ns, kind, body) values (?1, ?2, ?3, ?4)")?
            .execute((event.seq as i64, event.t_ns as i64, kind, &body))
            .map(drop)
    })?;
    Ok(kind == TRAINING)
}

/// `injection-begun` of `{"injection-begun":{…}}`.
fn kind_of(body_json: &str) -> &str {
    body_json.split('"').nth(1).unwrap_or_default()
}

/// Moves training events from rows into a pack, within the caller's transaction: the next [`PACK`] after `after`. Returns the number of the last.
pub(super) fn pack_after(database: &Database, after: u64) -> Result<Option<u64>, StoreError> {
    if !database.has_packs() {
        return Ok(None);
    }
    let events: Vec<Packed> = database.run("read events of", |c| {
        c.prepare_cached(
            "select seq, t_ns, body from events where seq > ?1 and kind = ?2 order by seq limit ?3",
        )?
        .query_map((after as i64, TRAINING, PACK as i64), packed)?
        .collect()
    })?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Ok(None);
    };
    database.run("pack events of", |c| {
        c.prepare_cached("insert into packs (first_seq, last_seq, data) values (?1, ?2, ?3)")?
            .execute((first.seq as i64, last.seq as i64, encode(&events)))?;
        c.prepare_cached("delete from events where seq between ?1 and ?2 and kind = ?3")?
            .execute((first.seq as i64, last.seq as i64, TRAINING))
            .map(drop)
    })?;
    Ok(Some(last.seq))
}

fn packed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Packed> {
    Ok(Packed {
        seq: row.get::<_, i64>(0)? as u64,
        t_ns: row.get::<_, i64>(1)? as u64,
        body: row.get(2)?,
    })
}

/// Hands over every event after `after`, in order, one by one: a pack at a time is in memory.
pub(super) fn for_each(
    database: &Database,
    after: u64,
    mut take: impl FnMut(Event) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut give = |event: Packed| {
        if event.seq <= after {
            return Ok(());
        }
        take(parse(database, &event)?)
    };
    let failed = |source| database.failed("read events of", source);
    let mut rows = database
        .connection
        .prepare("select seq, t_ns, body from events where seq > ?1 order by seq")
        .map_err(failed)?;
    let mut rows = rows
        .query_map([after as i64], packed)
        .map_err(failed)?
        .map(|row| row.map_err(failed))
        .peekable();
    for_each_packed(database, after, |event| {
        while let Some(row) =
            rows.next_if(|row| row.as_ref().map_or(true, |row| row.seq < event.seq))
        {
            give(row?)?;
        }
        give(event)
    })?;
    rows.try_for_each(|row| give(row?))
}

fn for_each_packed(
    database: &Database,
    after: u64,
    mut take: impl FnMut(Packed) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if !database.has_packs() {
        return Ok(());
    }
    let failed = |source| database.failed("read packs of", source);
    let mut packs = database
        .connection
        .prepare("select data from packs where last_seq > ?1 order by first_seq")
        .map_err(failed)?;
    let mut packs = packs.query([after as i64]).map_err(failed)?;
    while let Some(row) = packs.next().map_err(failed)? {
        let data = row.get_ref(0).map_err(failed)?;
        let data = data.as_blob().map_err(|error| failed(error.into()))?;
        let damaged = |source| StoreError::Block {
            path: database.path.clone(),
            source,
        };
        for event in Unpacked::open(data).map_err(damaged)? {
            take(event.map_err(damaged)?)?;
        }
    }
    Ok(())
}

/// What states and summaries are folds over; training events, probes and notes are left out, and no pack is opened.
pub(super) fn telling_events(database: &Database) -> Result<Vec<Event>, StoreError> {
    const LEFT_OUT: &str = "('training', 'probed', 'note', 'skipped', 'dropped', 'held')";
    let rows: Vec<Packed> = database.run("read events of", |c| {
        c.prepare(&format!(
            "select seq, t_ns, body from events where kind not in {LEFT_OUT} order by seq"
        ))?
        .query_map([], packed)?
        .collect()
    })?;
    rows.iter().map(|row| parse(database, row)).collect()
}

fn parse(database: &Database, event: &Packed) -> Result<Event, StoreError> {
    let body = serde_json::from_str(&event.body)
        .map_err(|error| database.content("an event", format!("event {}: {error}", event.seq)))?;
    Ok(Event {
        seq: event.seq,
        t_ns: event.t_ns,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_model::event::Body;

    #[test]
    fn the_kind_is_the_tag() {
        let body = Body::Note {
            text: "\"x\"".into(),
        };
        let json = serde_json::to_string(&body).expect("serializes");
        assert_eq!(kind_of(&json), "note");
    }
}
