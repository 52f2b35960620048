//! How soon is it clean: quick readings of a few kinds, for time-to-clean measurements.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{HostSnapshot, Kind, Scope};

/// The first reading that equalled the one before.
#[derive(Debug, Clone, Copy)]
pub struct FirstClean {
    /// When that reading began: by then at the latest the host was clean.
    pub at: Instant,
    /// From the call to that reading's begin.
    pub after: Duration,
    /// Readings taken, the clean one included.
    pub readings: usize,
    /// How long the slowest reading took: with the interval, the resolution of `after`.
    pub slowest_reading: Duration,
}

/// Reads the given kinds every `interval` until they are as in `before`, until `deadline`.
///
/// `before` must have been taken with the same scope. It may hold more kinds than are asked for.
///
/// # Errors
/// At the deadline, naming what is left; when a kind was not read before, cannot be read, or
/// cannot be read any more, since then nothing would be proven.
pub fn poll_until_clean(
    before: &HostSnapshot,
    scope: &Scope,
    kinds: &[Kind],
    deadline: Instant,
    interval: Duration,
) -> anyhow::Result<FirstClean> {
    if let Some(kind) = kinds.iter().find(|kind| !before.facts.contains_key(kind)) {
        bail!("{kind} was not read before");
    }
    if let Some((kind, reason)) = before.blind.iter().find(|(kind, _)| kinds.contains(kind)) {
        bail!("{kind} could not be read before: {reason}");
    }
    let start = Instant::now();
    let (mut readings, mut slowest_reading) = (0, Duration::ZERO);
    loop {
        let at = Instant::now();
        let now = HostSnapshot::take_only(scope, kinds)?;
        slowest_reading = slowest_reading.max(at.elapsed());
        readings += 1;
        let left = before.diff(&now);
        if left.is_empty() {
            return Ok(FirstClean {
                at,
                after: at - start,
                readings,
                slowest_reading,
            });
        }
        if Instant::now() >= deadline {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            bail!(
                "still not clean after {:?} and {readings} readings: {}",
                start.elapsed(),
                left.join("; ")
            );
        }
        std::thread::sleep(interval);
    }
}
