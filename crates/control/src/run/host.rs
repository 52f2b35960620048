//! Where guard and agent come from, and who recovers what earlier runs left.

use super::link::{Link, LinkError, Word};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall_faults::protocol::ToAgent;
use squall_faults::recover::{RecoverError, Recovered, recover_all, recover_run};
use squall_faults::spawn::{self, Connection, Start};
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
    fn recover_earlier(
        &mut self,
        state_dir: &Path,
    ) -> io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>>;
    /// Starts guard and agent for the run.
    fn start(
        &mut self,
        run: &RunId,
        run_dir: &Path,
        lease: Duration,
    ) -> Result<Box<dyn Link>, HostError>;
    /// Undoes what this run has left, after its guard and agent are gone.
    fn recover_own(&mut self, run_dir: &Path) -> Result<Recovered, RecoverError>;
}

/// This machine.
#[derive(Debug, Default)]
pub struct LocalHost {
    /// The program that has the hidden commands of guard and agent: this very one unless said.
    pub program: Option<PathBuf>,
}

impl Host for LocalHost {
    fn recover_earlier(
        &mut self,
        state_dir: &Path,
    ) -> io::Result<Vec<(PathBuf, Result<Recovered, RecoverError>)>> {
        recover_all(state_dir, false)
    }

    fn start(
        &mut self,
        run: &RunId,
        run_dir: &Path,
        lease: Duration,
    ) -> Result<Box<dyn Link>, HostError> {
        let start = Start {
            run: run.clone(),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            program: self.program.clone(),
        };
        let connection =
            spawn::start(run_dir, &start).map_err(|source| HostError::Start { source })?;
        Ok(Box::new(LocalLink {
            connection,
            agent_gone: false,
            guard_gone: false,
        }))
    }

    fn recover_own(&mut self, run_dir: &Path) -> Result<Recovered, RecoverError> {
        recover_run(run_dir, false)
    }
}

struct LocalLink {
    connection: Connection,
    agent_gone: bool,
    guard_gone: bool,
}

impl LocalLink {
    /// What has arrived already. A line's end comes after its last word.
    fn waiting(&mut self) -> Option<Word> {
        if !self.guard_gone {
            match self.connection.guard.report() {
                Ok(Some(report)) => return Some(Word::Guard(report)),
                Ok(None) => {}
                Err(_) => {
                    self.guard_gone = true;
                    return Some(Word::GuardGone);
                }
            }
        }
        if !self.agent_gone {
            let agent = &mut self.connection.agent;
            // What was read so far counts even when reading fails now.
            let read = agent.flush().and_then(|()| agent.fill());
            match agent.next() {
                Ok(Some(word)) => return Some(Word::Agent(word)),
                Ok(None) if read.is_ok() && !agent.ended() => {}
                Ok(None) | Err(_) => {
                    self.agent_gone = true;
                    return Some(Word::AgentGone);
                }
            }
        }
        None
    }

    fn wait(&self, wait: Duration) {
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut lines = Vec::with_capacity(2);
        if !self.guard_gone {
            lines.push(PollFd::new(&self.connection.guard, PollFlags::IN));
        }
        if !self.agent_gone {
            lines.push(PollFd::new(&self.connection.agent, PollFlags::IN));
        }
        // Woken early or not: whoever asked looks again.
        poll(&mut lines, Some(&timeout)).ok();
    }
}

impl Link for LocalLink {
    fn send(&mut self, word: &ToAgent) -> Result<(), LinkError> {
        let agent = &mut self.connection.agent;
        let said = agent.push(word).and_then(|()| agent.flush());
        said.map_err(|source| LinkError {
            to: "agent",
            source,
        })
    }

    fn renew(&mut self) -> Result<(), LinkError> {
        if !self.guard_gone {
            let renewed = self.connection.guard.renew();
            renewed.map_err(|source| LinkError {
                to: "guard",
                source,
            })?;
        }
        self.send(&ToAgent::Renew)
    }

    fn receive(&mut self, wait: Duration) -> Option<Word> {
        self.waiting().or_else(|| {
            self.wait(wait);
            self.waiting()
        })
    }
}
