//! Commands that a lost controller's probes had started: nobody else ends them.

use super::sweep::PROBE;
use crate::sys::process::{self, Process};
use rustix::process::Signal;
use squall_model::id::RunId;
use std::io;
use std::time::{Duration, Instant};

/// How long the killing may take where nobody waits for it.
pub(crate) const WITHIN: Duration = Duration::from_secs(2);

/// Ends every process that carries the mark of a probe of this run, again and again until a look finds none or the time is over. What hangs in
/// the kernel is left to the sweep. Call it when the controller is lost.
pub(crate) fn end_left(run: &RunId, within: Duration) -> io::Result<()> {
    let deadline = Instant::now() + within;
    let marked = |pid: u32| {
        process::variable(pid, PROBE).is_some_and(|mark| {
            mark.strip_prefix(&run.0)
                .is_some_and(|rest| rest.starts_with('-'))
        })
    };
    loop {
        let mut found = false;
        for pid in process::pids()?.into_iter().filter(|pid| marked(*pid)) {
            let Some(process) = Process::open_pid(pid)? else {
                continue;
            };
            // Looked at again: the pid may have gone to another before it was opened.
            if marked(pid) {
                found = true;
                process.signal(Signal::KILL)?;
            }
        }
        if !found || Instant::now() >= deadline {
            return Ok(());
        }
    }
}
