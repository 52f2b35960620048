//! Jobs from Slurm's accounting, as `sacct --parsable2 --duplicates` prints it (<https://slurm.schedmd.com/sacct.html>): a line of column
//! names, then a row for each job and step, fields parted by `|`. With `--duplicates` every incarnation of a requeued job has a row.
//!
//! Needed columns: `JobID`, `State`, `Start`, `End`. Used if there: `Elapsed`, `Restarts`, `AllocTRES` (or `ReqTRES`).

use super::{Cause, PastJob};
use crate::num;
use std::collections::BTreeMap;

/// Why a text is no accounting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the first line has no column `{0}`; print it with `sacct --parsable2 --duplicates --format JobID,State,Start,End,Elapsed,Restarts,AllocTRES`"
)]
pub struct MissingColumn(pub &'static str);

/// Whether a text looks like accounting: its first line names columns.
pub fn is_one(first_line: &str) -> bool {
    first_line
        .split('|')
        .any(|name| matches!(name.trim(), "JobID" | "JobIDRaw"))
}

struct Incarnation {
    state: String,
    start: Option<i64>,
    end: Option<i64>,
    elapsed: Option<u64>,
    restarts: u64,
    gpus: Option<u64>,
}

/// What a state says.
enum Means {
    Interrupted(Cause),
    Ended(&'static str),
    /// It still runs or waits.
    Open,
}

fn means(state: &str) -> Means {
    // `CANCELLED by 1000`
    match state.split_whitespace().next().unwrap_or_default() {
        "COMPLETED" => Means::Ended("completed"),
        "CANCELLED" => Means::Ended("cancelled"),
        "REVOKED" => Means::Ended("revoked"),
        "RUNNING" | "PENDING" | "SUSPENDED" | "RESIZING" | "COMPLETING" | "CONFIGURING" => {
            Means::Open
        }
        "NODE_FAIL" | "BOOT_FAIL" => Means::Interrupted(Cause::Node),
        "PREEMPTED" => Means::Interrupted(Cause::Preempted),
        "OUT_OF_MEMORY" => Means::Interrupted(Cause::OutOfMemory),
        "FAILED" => Means::Interrupted(Cause::Failed),
        "TIMEOUT" | "DEADLINE" => Means::Interrupted(Cause::TimeLimit),
        // A requeue, and what later versions may say: it stopped, and why is not told.
        _ => Means::Interrupted(Cause::Unknown),
    }
}

/// Reads accounting; steps of jobs are left out.
///
/// # Errors
/// When a needed column is missing.
pub fn read(text: &str) -> Result<Vec<PastJob>, MissingColumn> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split('|')
        .map(str::trim)
        .collect();
    let find = |name: &str| names.iter().position(|it| *it == name);
    let need = |name: &'static str| find(name).ok_or(MissingColumn(name));
    let id =
        find("JobID").map_or_else(|| need("JobIDRaw").map_err(|_| MissingColumn("JobID")), Ok)?;
    let (state, start, end) = (need("State")?, need("Start")?, need("End")?);
    let (elapsed, restarts) = (find("Elapsed"), find("Restarts"));
    let tres = find("AllocTRES").or(find("ReqTRES"));
    let mut jobs: BTreeMap<&str, Vec<Incarnation>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let at = |index: usize| fields.get(index).copied().unwrap_or_default();
        let of = |index: Option<usize>| index.map_or("", at);
        let job = at(id);
        if job.is_empty() || job.contains('.') {
            continue;
        }
        if !jobs.contains_key(job) {
            order.push(job);
        }
        jobs.entry(job).or_default().push(Incarnation {
            state: at(state).to_owned(),
            start: moment(at(start)),
            end: moment(at(end)),
            elapsed: length(of(elapsed)),
            restarts: of(restarts).parse().unwrap_or(0),
            gpus: gpus(of(tres)),
        });
    }
    let told = order.into_iter().filter_map(|name| {
        let incarnations = jobs.remove(name)?;
        Some(job(name, incarnations))
    });
    Ok(told.collect())
}

fn job(name: &str, mut rows: Vec<Incarnation>) -> PastJob {
    // One that never began comes last.
    rows.sort_by_key(|it| it.start.unwrap_or(i64::MAX));
    let mut job = PastJob::new(name, "sacct");
    job.at_least = true;
    for row in &rows {
        match means(&row.state) {
            Means::Interrupted(cause) => {
                *job.interruptions.entry(cause).or_default() += 1;
                if cause == Cause::Unknown && row.state != "REQUEUED" {
                    job.notes
                        .push(format!("What the state `{}` says is not known.", row.state));
                }
            }
            Means::Ended(_) | Means::Open => {}
        }
    }
    let seen = job.interrupted();
    let restarts = rows.iter().map(|row| row.restarts).max().unwrap_or(0);
    if restarts > seen {
        *job.interruptions.entry(Cause::Unknown).or_default() += restarts - seen;
        job.notes.push(format!(
            "{} without a row of their own: print with `--duplicates`.",
            num::plural((restarts - seen) as usize, "restart", "restarts")
        ));
    }
    job.ended = rows
        .last()
        .map_or("not told".into(), |row| match means(&row.state) {
            Means::Ended(how) => how.to_owned(),
            Means::Open => "not ended".into(),
            Means::Interrupted(cause) => cause.words().to_owned(),
        });
    job.gpus = rows.iter().find_map(|row| row.gpus);
    times(&mut job, &rows, restarts > seen);
    job
}

fn times(job: &mut PastJob, rows: &[Incarnation], incomplete: bool) {
    let first = rows.iter().filter_map(|row| row.start).min();
    let last = rows.iter().filter_map(Incarnation::end).max();
    let (Some(first), Some(last)) = (first, last) else {
        job.notes
            .push("It has no start or no end, so no time is measured.".into());
        return;
    };
    if rows
        .iter()
        .any(|row| row.start.is_some() && row.end().is_none())
    {
        job.notes
            .push("It was still running: its time until now is not in the figures.".into());
    }
    const S: u64 = 1_000_000_000;
    let wall = u64::try_from(last - first).unwrap_or(0);
    let held: u64 = rows.iter().filter_map(Incarnation::held).sum();
    if incomplete {
        // What came before the last incarnation has no row: its times are not known.
        return;
    }
    job.wall_ns = Some(wall.saturating_mul(S));
    job.lost_ns = Some(wall.saturating_sub(held).saturating_mul(S));
    job.ettr = (wall > 0).then(|| (held as f64 / wall as f64).min(1.0));
}

impl Incarnation {
    fn end(&self) -> Option<i64> {
        let from_length = || self.start?.checked_add_unsigned(self.elapsed?);
        let ended = !matches!(means(&self.state), Means::Open);
        self.end.or_else(|| from_length().filter(|_| ended))
    }

    /// Seconds for which it held its nodes.
    fn held(&self) -> Option<u64> {
        u64::try_from(self.end()? - self.start?).ok()
    }
}

/// `2026-11-24T10:00:00`, in seconds; local time, of which only differences are used. `Unknown` and `None` are none.
fn moment(text: &str) -> Option<i64> {
    let at: jiff::civil::DateTime = text.parse().ok()?;
    let at = jiff::tz::Offset::UTC.to_timestamp(at).ok()?;
    Some(at.as_second())
}

/// `[days-]hours:minutes:seconds` or `minutes:seconds`, in seconds.
fn length(text: &str) -> Option<u64> {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let whole = rest.split('.').next()?;
    let parts: Vec<u64> = whole
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match *parts.as_slice() {
        [hours, minutes, seconds] => [hours, minutes, seconds],
        [minutes, seconds] => [0, minutes, seconds],
        _ => return None,
    };
    let days: u64 = days.parse().ok()?;
    let units = [(days, 86_400), (hours, 3_600), (minutes, 60), (seconds, 1)];
    units.iter().try_fold(0u64, |sum, (count, unit)| {
        sum.checked_add(count.checked_mul(*unit)?)
    })
}

/// GPUs in a list such as `billing=64,cpu=64,gres/gpu=8,gres/gpu:h100=8,node=1`.
fn gpus(tres: &str) -> Option<u64> {
    let mut entries = tres.split(',').filter_map(|entry| entry.split_once('='));
    let all = entries.clone().find(|(name, _)| *name == "gres/gpu");
    let (_, count) = all.or_else(|| entries.find(|(name, _)| name.starts_with("gres/gpu:")))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_gpus_as_slurm_writes_them() {
        assert_eq!(length("1-02:03:04"), Some(93_784));
        assert_eq!(length("02:03:04"), Some(7_384));
        assert_eq!(length("03:04.123"), Some(184));
        assert_eq!(length("Unknown"), None);
        assert_eq!(
            gpus("billing=64,cpu=64,gres/gpu=8,gres/gpu:h100=8,mem=1T,node=1"),
            Some(8)
        );
        assert_eq!(gpus("cpu=2,gres/gpu:a100=4"), Some(4));
        assert_eq!(gpus("cpu=2"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(text in "(JobID\\|State\\|Start\\|End\\|Elapsed\\|Restarts\\|AllocTRES\n)?(.*\n){0,4}") {
            read(&text).ok();
            moment(&text);
            length(&text);
        }

        #[test]
        fn no_length_makes_it_fall(days: u64, a: u64, b: u64, c: u64) {
            length(&format!("{days}-{a}:{b}:{c}"));
            length(&format!("{a}:{b}"));
        }
    }
}
