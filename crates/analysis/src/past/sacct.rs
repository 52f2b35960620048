//! Jobs from Slurm's accounting, as `sacct --parsable2 --duplicates` prints it (<https://slurm.schedmd.com/sacct.html>): a line of column
//! names, then a row for each job and step, fields parted by `|`. With `--duplicates` every incarnation of a requeued job has a row.
//!
//! Needed columns: `JobID`, `State`, `Start`, `End`. Used if there: `Elapsed`, `Restarts`, `AllocTRES` (or `ReqTRES`).

use super::{Cause, PastJob};
use crate::num;
use std::collections::BTreeMap;

/// What prints accounting as it is read here.
const COMMAND: &str =
    "sacct --parsable2 --duplicates --format JobID,State,Start,End,Elapsed,Restarts,AllocTRES";

/// Why a text is no accounting that can be used, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is the table for people.
    #[error("line 1 parts its columns by spaces, which names of jobs may contain")]
    Spaces,
    /// A column that is needed.
    #[error("line 1 has no column `{0}`")]
    Column(&'static str),
    /// A row that was cut, or a field with a bar in it.
    #[error("line {line} has {fields} fields, but line 1 names {named} columns")]
    Fields {
        /// Number of the line, from 1.
        line: usize,
        /// Fields in it.
        fields: usize,
        /// Columns that line 1 names.
        named: usize,
    },
    /// Neither a time nor a word for none.
    #[error("line {line}: `{text}` in column `{column}` is not a time such as 2026-11-24T10:00:00")]
    Time {
        /// Number of the line, from 1.
        line: usize,
        /// Where it stands.
        column: &'static str,
        /// What stands there.
        text: String,
    },
}

impl Unusable {
    /// What to type next.
    pub fn remedy(&self) -> String {
        match self {
            Unusable::Spaces | Unusable::Column(_) => format!("print it with `{COMMAND}`"),
            Unusable::Fields { .. } => format!(
                "print it again with `{COMMAND}`, without columns of free text such as JobName"
            ),
            Unusable::Time { .. } => {
                format!("unset SLURM_TIME_FORMAT and print it again with `{COMMAND}`")
            }
        }
    }
}

/// Whether a text looks like accounting: its first line names columns.
pub fn is_one(first_line: &str) -> bool {
    let names = first_line.split(['|', ' ']).map(str::trim);
    let mut names = names.filter(|name| !name.is_empty());
    match first_line.contains('|') {
        true => names.any(|name| matches!(name, "JobID" | "JobIDRaw")),
        false => matches!(names.next(), Some("JobID" | "JobIDRaw")),
    }
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

/// Positions of the columns that are read.
struct Columns {
    named: usize,
    id: usize,
    state: usize,
    start: usize,
    end: usize,
    elapsed: Option<usize>,
    restarts: Option<usize>,
    tres: Option<usize>,
}

impl Columns {
    fn of(first_line: &str) -> Result<Columns, Unusable> {
        if !first_line.contains('|') {
            return Err(Unusable::Spaces);
        }
        let names: Vec<&str> = first_line.split('|').map(str::trim).collect();
        let find = |name: &str| names.iter().position(|it| *it == name);
        let need = |name: &'static str| find(name).ok_or(Unusable::Column(name));
        Ok(Columns {
            named: names.len(),
            id: find("JobID")
                .or(find("JobIDRaw"))
                .ok_or(Unusable::Column("JobID"))?,
            state: need("State")?,
            start: need("Start")?,
            end: need("End")?,
            elapsed: find("Elapsed"),
            restarts: find("Restarts"),
            tres: find("AllocTRES").or(find("ReqTRES")),
        })
    }

    fn incarnation(&self, line: usize, fields: &[&str]) -> Result<Incarnation, Unusable> {
        let of = |index: Option<usize>| index.map_or("", |at| fields[at]);
        let time = |column, at: usize| match fields[at] {
            "" | "Unknown" | "None" | "N/A" => Ok(None),
            text => moment(text).map(Some).ok_or_else(|| Unusable::Time {
                line,
                column,
                text: text.to_owned(),
            }),
        };
        Ok(Incarnation {
            state: fields[self.state].to_owned(),
            start: time("Start", self.start)?,
            end: time("End", self.end)?,
            elapsed: length(of(self.elapsed)),
            restarts: of(self.restarts).parse().unwrap_or(0),
            gpus: gpus(of(self.tres)),
        })
    }
}

/// Reads accounting; steps of jobs are left out.
///
/// # Errors
/// When a needed column is missing, or a row cannot be read: figures from a part of the rows would be wrong.
pub fn read(text: &str) -> Result<Vec<PastJob>, Unusable> {
    let mut lines = text.lines();
    let columns = Columns::of(lines.next().unwrap_or_default())?;
    let mut jobs: BTreeMap<&str, Vec<Incarnation>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (index, row) in lines.enumerate().filter(|(_, row)| !row.trim().is_empty()) {
        let line = index + 2;
        let fields: Vec<&str> = row.split('|').map(str::trim).collect();
        if fields.len() != columns.named {
            return Err(Unusable::Fields {
                line,
                fields: fields.len(),
                named: columns.named,
            });
        }
        let job = fields[columns.id];
        if job.is_empty() || job.contains('.') {
            continue;
        }
        if !jobs.contains_key(job) {
            order.push(job);
        }
        let incarnation = columns.incarnation(line, &fields)?;
        jobs.entry(job).or_default().push(incarnation);
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

/// `2026-11-24T10:00:00`, in seconds; local time, of which only differences are used.
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
