//! Closing a run that was cut off: its controller is gone, so a later command writes the end of its log.
//!
//! What guard, agent and recovery did after the controller was lost stands in the journal and becomes events here, so the log tells the
//! whole story. Samples that were still open become one last block; how many may be missing is written down.

use super::db::Database;
use super::error::StoreError;
use super::events::{for_each, insert_event, pack_after};
use super::log::lock;
use super::merge::{JournalEntry, is_final, missing, never_acted};
use super::read::tail;
use super::writer::{LOSS_MAX, insert_block};
use squall_model::event::{Body, Event, RunState};
use squall_model::exit::Exit;
use std::path::Path;

/// What closing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It has its proper end, now or before.
    Ended(Exit),
    /// Its controller is alive; nothing was touched.
    Live,
}

/// Closes a cut-off run: merges what the journal says, keeps the open samples, and ends the log.
pub fn close_cut_off(run_dir: &Path, journal: &[JournalEntry]) -> Result<Closed, StoreError> {
    let Some(_lock) = lock(run_dir)? else {
        return Ok(Closed::Live);
    };
    let database = Database::open_to_write(run_dir)?;
    let mut log = Log::read(&database)?;
    if let Some(exit) = log.state.ended {
        return Ok(Closed::Ended(exit));
    }
    database.run("begin to close", |c| c.execute_batch("begin immediate"))?;
    log.keep_samples()?;
    log.append(Body::Lost {
        what: "controller".into(),
        because: "the run was cut off; a later command closed it".into(),
    })?;
    for entry in journal {
        log.merge(entry)?;
    }
    if is_final(run_dir) {
        for body in never_acted(&log.state, journal) {
            log.append(body)?;
        }
    }
    let exit = match log.state.outstanding().next() {
        Some(_) => Exit::NotRolledBack,
        // Its end is lost, not its rollback; who killed the controller is not ours to say.
        None => Exit::Interrupted,
    };
    log.append(Body::RunEnded {
        exit,
        by: "recovery".into(),
    })?;
    let mut packed = 0;
    while let Some(last) = pack_after(&database, packed)? {
        packed = last;
    }
    database.run("commit the end of", |c| c.execute_batch("commit"))?;
    database.settle()?;
    Ok(Closed::Ended(exit))
}

struct Log<'a> {
    database: &'a Database,
    state: RunState,
}

impl<'a> Log<'a> {
    fn read(database: &'a Database) -> Result<Log<'a>, StoreError> {
        let mut state = RunState::default();
        for_each(database, 0, |event| {
            state = std::mem::take(&mut state).apply(&event)?;
            Ok(())
        })?;
        Ok(Log { database, state })
    }

    fn append(&mut self, body: Body) -> Result<(), StoreError> {
        let event = Event {
            seq: self.state.seq + 1,
            t_ns: self.state.t_ns,
            body,
        };
        self.state = self.state.clone().apply(&event)?;
        insert_event(self.database, &event).map(drop)
    }

    fn keep_samples(&mut self) -> Result<(), StoreError> {
        for (stream, block) in tail(self.database)? {
            let per_second = block.span().map_or(0.0, |(from, to)| {
                block.ticks() as f64 / ((to - from) as f64 / 1e9).max(0.001)
            });
            let at_most = (per_second * LOSS_MAX.as_secs_f64()).ceil() as u64;
            insert_block(self.database, stream, &block)?;
            self.append(Body::Dropped {
                what: format!(
                    "instants of samples, at most, in the {} s before the run was cut off ({stream:?})",
                    LOSS_MAX.as_secs()
                ),
                count: at_most,
            })?;
        }
        Ok(())
    }

    fn merge(&mut self, entry: &JournalEntry) -> Result<(), StoreError> {
        for body in missing(&self.state, entry, "the controller was lost") {
            self.append(body)?;
        }
        Ok(())
    }
}
