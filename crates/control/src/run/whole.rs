//! A run as a whole: folder, store, guard and agent, the conductor's play, the conclusion.

use super::conductor::{Conductor, Ends, Timers};
use super::folder::RunFolder;
use super::host::{Host, HostError};
use super::link::{Link, Word};
use super::observer::{Interrupt, Observer};
use super::reports::write;
use super::script::Script;
use super::tracker::Tracker;
use crate::board::Board;
use crate::clock::{RunClock, boot_id, utc_now};
use crate::store::{Opening, Store, StoreError, close_cut_off, journal_entries};
use squall_analysis::report::Report;
use squall_analysis::run::Ask;
use squall_faults::protocol::{FromAgent, ToAgent, VERSION};
use squall_model::event::{Body, Stage};
use squall_model::exit::Exit;
use squall_model::id::{InjectionId, RunId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the agent may take to answer its greeting.
const GREETING: Duration = Duration::from_secs(10);
/// Log lines a second that an agent may send.
const LINES_A_SECOND: u32 = 2_000;

/// What is asked for.
pub struct Request<'a> {
    /// What to play.
    pub script: Script,
    /// Where runs are kept.
    pub state_dir: PathBuf,
    /// Where to play it.
    pub host: &'a mut dyn Host,
    /// Who watches.
    pub observer: &'a mut dyn Observer,
    /// How it can be ended early.
    pub interrupt: &'a Interrupt,
    /// How long everything stays without a sign of the controller. 5 s unless there is a reason.
    pub lease: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// How the process is to end.
    pub exit: Exit,
    /// The run.
    pub run: RunId,
    /// Its folder.
    pub run_dir: PathBuf,
    /// What it means; absent when its record could not be read back.
    pub report: Option<Report>,
    /// The page of the report.
    pub report_path: Option<PathBuf>,
    /// What is still in the world.
    pub outstanding: Vec<InjectionId>,
    /// What went wrong in Squall itself, in words.
    pub problems: Vec<String>,
}

/// Why there was no run. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder cannot be used.
    #[error("could not prepare the folder of the run in {path}, because {source}; set SQUALL_STATE_DIR to a folder of yours", path = path.display())]
    Folder {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Guard and agent cannot be started.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The agent answered wrongly or not at all.
    #[error("could not speak with the agent, because {because}")]
    Agent {
        /// What it said, or did not.
        because: String,
    },
}

impl RunError {
    /// How the process is to end.
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Folder { .. } => Exit::Unmet,
            RunError::Store(_) => Exit::Bug,
            RunError::Host(_) | RunError::Agent { .. } => Exit::Unreachable,
        }
    }
}

/// Plays a script to its conclusion.
pub fn conduct(request: Request<'_>) -> Result<Conclusion, RunError> {
    let Request {
        script,
        state_dir,
        host,
        observer,
        interrupt,
        lease,
    } = request;
    let earlier = recover_earlier(&state_dir, host);
    let run = RunId(uuid::Uuid::now_v7().to_string());
    let in_folder = |source| RunError::Folder {
        path: state_dir.clone(),
        source,
    };
    let folder = RunFolder::create(&state_dir, &run.0).map_err(in_folder)?;
    write(folder.path(), "experiment.yaml", script.text.as_bytes()).map_err(in_folder)?;
    let plan = serde_json::to_vec_pretty(&script.plan).unwrap_or_default();
    write(folder.path(), "plan.json", &plan).map_err(in_folder)?;
    let clock = RunClock::start();
    let store = Store::create(folder.path(), opening(&script, &run, clock))?;
    observer.started(&run, folder.path());
    let mut conductor = Conductor {
        board: Arc::new(Board::new(run.clone(), clock, script.directory.clone())),
        script: &script,
        folder: &folder,
        store: &store,
        link: Box::new(NoLink),
        observer,
        interrupt,
        lease,
        steady: None,
        abort: None,
        monitor: None,
        tracker: Tracker::default(),
        ends: Ends::default(),
        halt: None,
        ending: false,
        bugs: Vec::new(),
        refused: None,
        heard: 0,
        reference_epochs: None,
        timers: Timers::start(),
    };
    conductor.stage(Stage::Plan);
    earlier.into_iter().for_each(|text| conductor.note(text));
    match greet(host, &run, &folder, lease, script.seed) {
        Ok((link, early)) => {
            conductor.link = link;
            conductor.timers.renewed = Instant::now();
            early.into_iter().for_each(|word| conductor.take_word(word));
        }
        Err(error) => {
            conductor.note(error.to_string());
            conductor.record(Body::RunEnded {
                exit: error.exit(),
                by: "controller".into(),
            });
            store.close()?;
            return Err(error);
        }
    }
    conductor.perform();
    conductor.finish();
    conductor.conclude(host)
}

/// What earlier runs left is undone before this one begins, and their records are closed. Said in words.
fn recover_earlier(state_dir: &Path, host: &mut dyn Host) -> Vec<String> {
    let mut told = Vec::new();
    match host.recover_earlier(state_dir) {
        Ok(recovered) => {
            for (run_dir, outcome) in recovered {
                match outcome {
                    Ok(recovered) if recovered.outcomes.is_empty() => {}
                    Ok(recovered) => told.push(format!(
                        "{} changes of the earlier run {} were undone first ({} could not be)",
                        recovered.outcomes.len(),
                        recovered.run,
                        recovered.stuck().count()
                    )),
                    Err(squall_faults::recover::RecoverError::Live { .. }) => {}
                    Err(error) => told.push(format!("{}: {error}", run_dir.display())),
                }
            }
        }
        Err(error) => told.push(format!("earlier runs could not be looked at: {error}")),
    }
    told.extend(close_earlier(state_dir));
    told
}

/// Closes the records of runs that were cut off.
pub fn close_earlier(state_dir: &Path) -> Vec<String> {
    let runs = match crate::store::runs(state_dir) {
        Ok(runs) => runs,
        Err(error) => return vec![error.to_string()],
    };
    let mut told = Vec::new();
    for run in runs
        .iter()
        .filter(|run| run.is_cut_off() && run.problem.is_none())
    {
        // Its guard may still be at work though its controller is gone. Of another machine's run, locks here tell nothing.
        if squall_faults::journal::is_held(&run.dir).unwrap_or(false)
            || squall_faults::recover::is_of_another_machine(&run.dir)
        {
            continue;
        }
        let closed = match journal_entries(&run.dir) {
            Ok(entries) => close_cut_off(&run.dir, &entries)
                .map(drop)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        told.push(match closed {
            Ok(()) => format!(
                "the earlier run {} was cut off; its record was closed",
                run.run
            ),
            Err(error) => format!(
                "the record of the earlier run {} could not be closed: {error}",
                run.run
            ),
        });
    }
    told
}

/// The question as it is kept. `ranks` counts where the plan could not.
pub(super) fn ask(script: &Script, ranks: u64) -> Ask {
    Ask {
        title: script.title.clone(),
        file: script.file.clone(),
        requirement: script.requirement.clone(),
        expect: script.expect.clone(),
        seed: script.seed,
        reference: script
            .workload
            .as_ref()
            .is_some_and(|owned| owned.references > 0),
        checkpoint_interval: script
            .workload
            .as_ref()
            .and_then(|owned| owned.checkpoint_interval),
        eligible: if script.eligible > 0 {
            script.eligible
        } else {
            ranks
        },
        at_most: script.at_most,
    }
}

fn opening(script: &Script, run: &RunId, clock: RunClock) -> Opening {
    let ask = ask(script, 0);
    Opening {
        first: Body::RunStarted {
            version: squall_model::event::VERSION,
            run: run.clone(),
            title: script.title.clone(),
            seed: script.seed,
            started_utc: utc_now(),
            boot_ns: clock.boot_ns,
            boot_id: boot_id(),
            squall: env!("CARGO_PKG_VERSION").into(),
            experiment: script.sha256.clone(),
            host: crate::doctor::host_words(),
        },
        meta: vec![
            ("ask", serde_json::to_string(&ask).unwrap_or_default()),
            (
                "policies",
                serde_json::to_string(&script.policies).unwrap_or_default(),
            ),
        ],
        clock,
    }
}

type Greeted = (Box<dyn Link>, Vec<Word>);

/// Starts guard and agent and exchanges the first words.
fn greet(
    host: &mut dyn Host,
    run: &RunId,
    folder: &RunFolder,
    lease: Duration,
    seed: u64,
) -> Result<Greeted, RunError> {
    let mut link = host.start(run, folder.path(), lease)?;
    let failed = |because: String| RunError::Agent { because };
    let hello = ToAgent::Hello {
        v: VERSION,
        run: run.clone(),
        seed,
        lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        patterns_rate_max: LINES_A_SECOND,
    };
    link.send(&hello)
        .map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + GREETING;
    let mut early = Vec::new();
    while Instant::now() < deadline {
        match link.receive(Duration::from_millis(50)) {
            Some(Word::Agent(FromAgent::Hello { v, .. })) if v == VERSION => {
                return Ok((link, early));
            }
            Some(Word::Agent(FromAgent::Hello { v, .. })) => {
                return Err(failed(format!(
                    "it speaks version {v}, and this build version {VERSION}"
                )));
            }
            Some(Word::Agent(FromAgent::Refused { because, .. })) => return Err(failed(because)),
            Some(Word::AgentGone | Word::GuardGone) => {
                return Err(failed(
                    "it ended at once; see logs/ in the run's folder".into(),
                ));
            }
            Some(word) => early.push(word),
            None => {}
        }
    }
    Err(failed(format!(
        "it did not answer within {} s",
        GREETING.as_secs()
    )))
}

/// Stands in until there is a line.
pub(super) struct NoLink;

impl Link for NoLink {
    fn send(&mut self, _: &ToAgent) -> Result<(), super::link::LinkError> {
        Ok(())
    }
    fn renew(&mut self) -> Result<(), super::link::LinkError> {
        Ok(())
    }
    fn receive(&mut self, _: Duration) -> Option<Word> {
        None
    }
}
