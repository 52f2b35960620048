//! Where guard and agent come from, and who recovers what earlier runs left.

use super::link::{Link, LinkError, Word};
use squall_faults::guard::wire::GuardReport;
use squall_faults::protocol::{FromAgent, ToAgent};
use squall_faults::recover::{Recovered, RecoverError, recover_all, recover_run};
use squall_model::id::RunId;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why guard and agent could not be started. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The guard did not come up.
    #[error("could not start a guard, because {source}")]
    Start {
        /// What the system or the guard said.
        #[source]
        source: io::Error,
    },
}

/// A host on which a run acts.
pub trait Host {
    /// Undoes what earlier runs left, as every mutating command does first.
    fn recover_earlier(&mut self, state_dir: &Path) -> io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>>;
    /// Starts guard and agent for the run.
    fn start(&mut self, run: &RunId, run_dir: &Path, lease: Duration) -> Result<Box<dyn Link>, HostError>;
    /// Undoes what this run has left, after its guard and agent are gone.
    fn recover_own(&mut self, run_dir: &Path) -> Result<Recovered, RecoverError>;
}

/// This machine.
#[derive(Debug, Default)]
pub struct LocalHost {
    /// The program that has the hidden commands of guard and agent: this very one unless said.
    pub program: Option<PathBuf>,
}
