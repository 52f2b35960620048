//! Watched checks with their recent past: which hold, which have failed how often in a row, which readings belong in the event log.

use crate::probe::{Context, Reading, Watch, needs_workload};
use crate::store::Samples;
use squall_model::event::Body;
use squall_model::experiment::Check;

/// Readings that say the same are written down this seldom; all of them are in the sample blocks.
const REPEAT: u32 = 60;

#[derive(Debug, Default)]
struct Past {
    latest: Option<Reading>,
    failures: u32,
    has_held: bool,
    /// What was written down last, and the readings since.
    written: Option<(bool, u32)>,
}

/// A set of checks that is being watched.
#[derive(Debug)]
pub(super) struct Checks {
    checks: Vec<(String, Check)>,
    watch: Watch,
    past: Vec<Past>,
}

impl Checks {
    pub(super) fn start(
        checks: &[(String, Check)],
        context: Context,
        samples: &Samples,
        first_stream: u32,
    ) -> std::io::Result<Checks> {
        Ok(Checks {
            checks: checks.to_vec(),
            watch: Watch::start(checks, context, samples, first_stream)?,
            past: checks.iter().map(|_| Past::default()).collect(),
        })
    }

    /// Takes in new readings; returns those that belong in the event log.
    pub(super) fn take(&mut self) -> Vec<(u64, Body)> {
        let mut write = Vec::new();
        for reading in self.watch.take() {
            let (Some((name, _)), Some(past)) = (
                self.checks.get(reading.index),
                self.past.get_mut(reading.index),
            ) else {
                continue;
            };
            let held = reading.probed.held;
            past.failures = if held { 0 } else { past.failures + 1 };
            past.has_held |= held;
            let news = match &mut past.written {
                Some((before, count)) if *before == held && *count + 1 < REPEAT => {
                    *count += 1;
                    false
                }
                _ => true,
            };
            if news {
                past.written = Some((held, 0));
                let body = Body::Probed {
                    check: name.clone(),
                    held,
                    measured: reading.probed.measured.clone(),
                    value: reading.probed.value,
                };
                write.push((reading.t_ns, body));
            }
            past.latest = Some(reading);
        }
        write
    }

    /// A new stage: its first reading of each check is written down, whatever it says.
    pub(super) fn write_afresh(&mut self) {
        for past in &mut self.past {
            past.written = None;
        }
    }

    /// Every check held when it was last measured, and was measured after `since_ns`. Once the workload has ended, checks that need it say nothing.
    pub(super) fn all_hold(&self, since_ns: u64, workload_ended: bool) -> bool {
        self.checks
            .iter()
            .zip(&self.past)
            .all(|((_, check), past)| {
                let fresh = past
                    .latest
                    .as_ref()
                    .filter(|reading| reading.t_ns >= since_ns);
                (workload_ended && needs_workload(&check.probe))
                    || fresh.is_some_and(|reading| reading.probed.held)
            })
    }

    /// The first check that does not hold, with what was measured.
    pub(super) fn failing(&self) -> Option<(String, String)> {
        let mut all = self.checks.iter().zip(&self.past);
        all.find_map(|((name, _), past)| match &past.latest {
            Some(reading) if reading.probed.held => None,
            Some(reading) => Some((name.clone(), reading.probed.measured.clone())),
            None => Some((name.clone(), "no measurement was finished".into())),
        })
    }

    /// The first abort condition that fires: it failed as often in a row as it says. One that needs the workload counts from when it first held,
    /// until the workload ends.
    pub(super) fn firing(&self, workload_ended: bool) -> Option<(String, String)> {
        let mut all = self.checks.iter().zip(&self.past);
        all.find_map(|((name, check), past)| {
            let counts = !needs_workload(&check.probe) || (past.has_held && !workload_ended);
            let fires = counts && past.failures >= check.failures.unwrap_or(1).max(1);
            let reading = past.latest.as_ref().filter(|_| fires)?;
            Some((name.clone(), reading.probed.measured.clone()))
        })
    }

    /// Ends all probes.
    pub(super) fn stop(self) {
        self.watch.stop();
    }
}
