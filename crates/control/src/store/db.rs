//! The database file: schema, versions, and the two ways to open it.
//!
//! WAL with synchronous=NORMAL: a commit is a write to the log file, so it survives kill -9 of the process at once; a power cut may lose the
//! last commits but never tears the file. Undo does not depend on it: its own journal is synced.

use super::error::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the schema. 1 had an index over the kinds of events and no packs; it is still read.
pub(super) const VERSION: i64 = 2;
/// The database of a run, within its folder.
pub const FILE: &str = "run.db";

const SCHEMA: &str = "
create table meta (key text primary key, value text not null) without rowid;
create table events (seq integer primary key, t_ns integer not null, kind text not null, body text not null);
create table packs (first_seq integer primary key, last_seq integer not null, data blob not null);
create table series (id integer primary key, name text not null, labels text not null, unit text not null, per_second real);
create table blocks (id integer primary key, stream integer not null, from_ns integer not null, to_ns integer not null, data blob not null);
create table tail (id integer primary key, stream integer not null, data blob not null);
";

/// An open database with its path, for words in errors.
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    version: i64,
}

impl Database {
    /// Makes a fresh database, mode 0600. Fails when there is one already.
    pub(super) fn create(run_dir: &Path) -> Result<Database, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = run_dir.join(FILE);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::File {
                action: "create",
                path: path.clone(),
                source,
            })?;
        let database = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.run("prepare", |c| {
            c.pragma_update(None, "auto_vacuum", "incremental")?;
            c.pragma_update(None, "journal_mode", "wal")?;
            c.pragma_update(None, "synchronous", "normal")?;
            c.execute_batch(SCHEMA)?;
            c.pragma_update(None, "user_version", VERSION)
        })?;
        Ok(database)
    }

    /// Opens one to go on writing, as closing a cut-off run does.
    pub(super) fn open_to_write(run_dir: &Path) -> Result<Database, StoreError> {
        let mut database = Self::connect(run_dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.check_version()?;
        database.run("prepare", |c| {
            c.pragma_update(None, "synchronous", "normal")
        })?;
        Ok(database)
    }

    /// Opens one to read, all of it as it is at the first read; a live writer is not disturbed.
    pub(super) fn open_to_read(run_dir: &Path) -> Result<Database, StoreError> {
        let mut database = Self::connect(run_dir.join(FILE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        database.check_version()?;
        // One transaction: a writer may move events from rows to packs between two reads.
        database.run("read", |c| c.execute_batch("begin"))?;
        Ok(database)
    }

    fn connect(path: PathBuf, flags: OpenFlags) -> Result<Database, StoreError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .and_then(|connection| {
                connection.busy_timeout(Duration::from_secs(5))?;
                Ok(connection)
            })
            .map_err(|source| StoreError::Database {
                action: "open",
                path: path.clone(),
                source,
            })?;
        Ok(Database {
            connection,
            path,
            version: VERSION,
        })
    }

    /// Whether this file's format has packs of events.
    pub(super) fn has_packs(&self) -> bool {
        self.version >= 2
    }

    fn check_version(&mut self) -> Result<(), StoreError> {
        let found: i64 = self.run("read the version of", |c| {
            c.pragma_query_value(None, "user_version", |row| row.get(0))
        })?;
        self.version = found;
        match found {
            1..=VERSION => Ok(()),
            0 => Err(self.content("the schema", "it was never finished".into())),
            found => Err(StoreError::Newer {
                path: self.path.clone(),
                found,
                known: VERSION,
            }),
        }
    }

    /// Runs one piece of work, giving its failure the words it needs.
    pub(super) fn run<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|source| self.failed(action, source))
    }

    pub(super) fn failed(&self, action: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Database {
            action,
            path: self.path.clone(),
            source,
        }
    }

    pub(super) fn content(&self, what: &'static str, because: String) -> StoreError {
        StoreError::Content {
            path: self.path.clone(),
            what,
            because,
        }
    }

    /// Everything of a finished run in one file: no log beside it, no free pages in it. While someone reads, the log stays.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        self.run("settle", |c| {
            // It frees a page a step: stepped to its end, it frees them all.
            let mut vacuum = c.prepare("pragma incremental_vacuum")?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
            drop(rows);
            drop(vacuum);
            c.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
            c.busy_timeout(Duration::from_millis(100))?;
            match c.pragma_update(None, "journal_mode", "delete") {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
                outcome => outcome,
            }
        })
    }
}
