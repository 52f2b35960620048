//! Waiting by looking: the only way tests here wait for something.
//!
//! A deadline is always given, and what was last seen is told when it passes.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How often [`poll`] looks.
pub const INTERVAL: Duration = Duration::from_millis(2);

/// Calls `look` until it gives something, at most until `limit` has passed.
///
/// # Errors
/// When the limit passes; an error of `look` at that time is told.
pub fn poll<T>(
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(found)) = seen {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            match seen {
                Err(error) => return Err(error.context(format!("not so within {limit:?}"))),
                Ok(_) => bail!("not so within {limit:?}"),
            }
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Like [`poll`], for a condition.
///
/// # Errors
/// When the condition does not hold within the limit.
pub fn until(
    limit: Duration,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    poll(limit, || Ok(holds()?.then_some(())))
}
