//! What the guard does when the agent is dead or has to be: it undoes everything that the journal still holds.

use super::wire::GuardReport;
use crate::journal::Journal;
use crate::undo::perform::{Outcome, undo_all};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use squall_model::id::InjectionId;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone. One that hangs in the kernel runs no code of its own any more.
const DEATH: Duration = Duration::from_secs(30);

/// Ends the agent and waits until it is dead.
pub(super) fn end_agent(pidfd: &OwnedFd) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + DEATH;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Undoes what is outstanding; what is left after it, and what to tell the controller.
pub(super) fn undo(
    journal: Journal,
    because: &str,
) -> io::Result<(Vec<InjectionId>, Vec<GuardReport>)> {
    let journal = Mutex::new(journal.reload()?);
    let reports = undo_all(&journal, because)
        .into_iter()
        .map(report)
        .collect();
    let journal = journal
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let outstanding = journal
        .state()
        .outstanding()
        .map(|one| one.id.clone())
        .collect();
    journal.close()?;
    Ok((outstanding, reports))
}

fn report(outcome: Outcome) -> GuardReport {
    match outcome.stuck {
        None => GuardReport::Undone {
            injection: outcome.injection,
            observations: outcome.observations,
        },
        Some(stuck) => GuardReport::Stuck {
            injection: outcome.injection,
            because: stuck.because,
            remedy: stuck.remedy,
        },
    }
}
