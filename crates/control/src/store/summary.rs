//! What `runs` lists: one line a run folder, read without touching anything.

use super::db::{Database, FILE};
use super::error::StoreError;
use super::events::telling_events;
use super::log::is_live;
use serde::Serialize;
use squall_model::event::{Body, Event, InjectionState, RunState, Stage};
use squall_model::exit::Exit;
use std::path::{Path, PathBuf};

/// One run of a state folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Its id: the name of its folder.
    pub run: String,
    /// Where it is.
    pub dir: PathBuf,
    /// As the experiment calls itself; empty when it could not be read.
    pub title: String,
    /// UTC, RFC 3339.
    pub started_utc: String,
    /// Its seed.
    pub seed: u64,
    /// Seconds from the first event to the last.
    pub seconds: f64,
    /// The stage it reached.
    pub stage: Option<Stage>,
    /// How it ended; absent while it runs, or when it was cut off.
    pub exit: Option<Exit>,
    /// Its controller is alive.
    pub live: bool,
    /// Injections that landed, by the log.
    pub landed: u64,
    /// Injections whose change may still be in the world, by the log.
    pub outstanding: u64,
    /// Why it could not be read.
    pub problem: Option<String>,
}

impl RunSummary {
    /// It ended without a proper end: its controller is gone.
    pub fn is_cut_off(&self) -> bool {
        self.exit.is_none() && !self.live
    }

    fn empty(dir: &Path) -> RunSummary {
        RunSummary {
            run: dir
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            dir: dir.to_path_buf(),
            title: String::new(),
            started_utc: String::new(),
            seed: 0,
            seconds: 0.0,
            stage: None,
            exit: None,
            live: is_live(dir),
            landed: 0,
            outstanding: 0,
            problem: None,
        }
    }

    /// Reads one run folder. What cannot be read is said in `problem`.
    pub fn of(dir: &Path) -> RunSummary {
        let mut summary = Self::empty(dir);
        let events = Database::open_to_read(dir).and_then(|database| telling_events(&database));
        match events {
            Ok(events) => summary.fold(events),
            Err(error) => summary.problem = Some(error.to_string()),
        }
        summary
    }

    fn fold(&mut self, events: Vec<Event>) {
        let mut state = RunState::default();
        for mut event in events {
            if let Body::RunStarted {
                title,
                seed,
                started_utc,
                ..
            } = &event.body
            {
                self.title.clone_from(title);
                self.seed = *seed;
                self.started_utc.clone_from(started_utc);
            }
            if matches!(event.body, Body::Landed { .. }) {
                self.landed += 1;
            }
            // Events that tell nothing of the state were left out, so the rest is numbered anew.
            event.seq = state.seq + 1;
            match state.clone().apply(&event) {
                Ok(next) => state = next,
                Err(error) => self.problem = Some(error.to_string()),
            }
        }
        self.seconds = state.t_ns as f64 / 1e9;
        self.stage = state.stage;
        self.exit = state.ended;
        self.outstanding = state
            .outstanding()
            .filter(|injection| injection.state != InjectionState::Undone)
            .count() as u64;
    }
}

/// Every run of a state folder, oldest first. A folder without a database is not a run.
pub fn runs(state_dir: &Path) -> Result<Vec<RunSummary>, StoreError> {
    let folder = state_dir.join("runs");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(StoreError::File {
                action: "list",
                path: folder,
                source,
            });
        }
    };
    let mut dirs: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join(FILE).is_file())
        .collect();
    dirs.sort();
    Ok(dirs.iter().map(|dir| RunSummary::of(dir)).collect())
}
