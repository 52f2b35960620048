//! One job from the lines of its log.

use super::{Cause, PastJob, SEED};
use crate::ettr::effectiveness;
use crate::interval::{Interval, bootstrap};
use crate::lineage::{Lineage, median};
use crate::log::{Seen, Work};
use crate::num;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use squall_model::hook::TrainingEvent;
use squall_model::patterns::{LineTime, LogEvent, Matcher};

/// A log that is being read.
#[derive(Debug)]
pub struct Reading<'a> {
    matcher: &'a Matcher,
    time: Option<&'a LineTime>,
    /// Time, in nanoseconds, that lines without one of their own get.
    now: Option<i128>,
    first: Option<i128>,
    last: i128,
    backwards: u64,
    unread: u64,
    lines: u64,
    events: Vec<(i128, LogEvent)>,
}

impl<'a> Reading<'a> {
    /// Begins with the patterns of a file and its notion of time.
    pub fn new(matcher: &'a Matcher, time: Option<&'a LineTime>) -> Reading<'a> {
        Reading {
            matcher,
            time,
            now: None,
            first: None,
            last: 0,
            backwards: 0,
            unread: 0,
            lines: 0,
            events: Vec::new(),
        }
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        self.lines += 1;
        if let (Some(time), Some(text)) = (self.time, self.matcher.time(line)) {
            match moment(text, &time.format) {
                Some(at) => self.see(at),
                None => self.unread += 1,
            }
        }
        let at = self.now.unwrap_or(self.first.unwrap_or(0));
        let events = self.matcher.events(line).into_iter();
        self.events.extend(events.map(|event| (at, event)));
    }

    /// Writers of one log may be a little out of order; time does not go back for that.
    fn see(&mut self, at: i128) {
        self.backwards += u64::from(self.now.is_some_and(|now| at < now));
        let at = self.now.map_or(at, |now| at.max(now));
        self.first.get_or_insert(at);
        (self.now, self.last) = (Some(at), at);
    }

    /// What the log tells of its job.
    pub fn finish(self, name: &str) -> PastJob {
        let mut job = PastJob::new(name, "log");
        self.remarks(&mut job);
        let first = self.first.unwrap_or(0);
        let ns = |at: i128| u64::try_from(at - first).unwrap_or(0);
        let work = Work {
            started_ns: self.first.map(|_| 0),
            ended: None,
            training: self
                .events
                .iter()
                .map(|(at, event)| seen(ns(*at), event))
                .collect(),
        };
        let Some(lineage) = Lineage::of(&work) else {
            job.notes
                .push("No line tells of a completed step or epoch.".into());
            return job;
        };
        if let Some(problem) = &lineage.problem {
            job.notes.push(crate::words::sentence(problem) + ".");
            return job;
        }
        let restarts = lineage.attempts.len() as u64 - 1;
        if restarts > 0 {
            job.interruptions.insert(Cause::Unknown, restarts);
        }
        let (kept, wasted) = lineage.kept_and_wasted();
        (job.kept, job.lost_steps) = (Some(kept), Some(wasted));
        if work
            .training
            .iter()
            .any(|seen| seen.event.kind == "final-parameters")
        {
            job.ended = "finished".into();
        }
        if self.first.is_some()
            && let Some(it) = effectiveness(&work, &lineage, ns(self.last))
        {
            let wall = it.to_ns - it.from_ns;
            let productive = it.shares.iter().filter(|share| share.name == "productive");
            let productive = productive.map(|share| share.duration_ns).sum::<u64>();
            job.wall_ns = Some(wall);
            job.productive_ns = Some(productive);
            job.lost_ns = Some(wall - productive);
            job.ettr = Some(it.ettr);
            job.interval = interval(&lineage, productive, wall);
        }
        job
    }

    fn remarks(&self, job: &mut PastJob) {
        if self.first.is_none() {
            job.notes
                .push("No line says when it was written, so only counts are measured.".into());
        }
        for (count, words) in [
            (self.unread, "with a time that could not be read"),
            (
                self.backwards,
                "with a time before that of the line above, taken as of the same time",
            ),
        ] {
            if count > 0 {
                let lines = num::plural(count as usize, "line", "lines");
                job.notes.push(format!("{lines} {words}."));
            }
        }
    }
}

fn seen(t_ns: u64, it: &LogEvent) -> Seen<'_> {
    let event: &TrainingEvent = &it.event;
    Seen {
        t_ns,
        rank: it.rank,
        restart: it.restart,
        pid: None,
        source: "log",
        event,
    }
}

/// A moment in nanoseconds, in the format that the pattern file gives.
fn moment(text: &str, format: &str) -> Option<i128> {
    match format {
        "rfc3339" => {
            let zoned = text
                .parse::<jiff::Timestamp>()
                .map(jiff::Timestamp::as_nanosecond);
            zoned
                .ok()
                .or_else(|| civil(text.replace(',', ".").parse().ok()?))
        }
        "seconds" => {
            let seconds: f64 = text.parse().ok().filter(|it: &f64| it.abs() < 1e15)?;
            Some((seconds * 1e9) as i128)
        }
        _ => {
            let mut parts = BrokenDownTime::parse(format, text).ok()?;
            if parts.year().is_none() {
                // Any year does: only differences count. A leap year has every day.
                parts.set_year(Some(2024)).ok()?;
            }
            let zoned = parts.to_timestamp().map(jiff::Timestamp::as_nanosecond);
            zoned.ok().or_else(|| civil(parts.to_datetime().ok()?))
        }
    }
}

fn civil(at: DateTime) -> Option<i128> {
    let at = jiff::tz::Offset::UTC.to_timestamp(at).ok()?;
    Some(at.as_nanosecond())
}

/// The interval of ETTR, from what each interruption cost: from the last step before it to the first step beyond, less
/// one usual step.
fn interval(lineage: &Lineage, productive: u64, wall: u64) -> Option<Interval> {
    let steps: Vec<u64> = lineage.step_times().iter().map(|(_, t)| *t).collect();
    let usual = median(&steps)?;
    let (mut costs, mut until) = (Vec::new(), 0);
    for (index, attempt) in lineage.attempts.iter().enumerate() {
        let (Some(from), Some(goal)) = (attempt.last_end_ns(), attempt.completed()) else {
            continue;
        };
        let mut later = lineage.attempts[index + 1..]
            .iter()
            .flat_map(|it| &it.steps);
        let Some(beyond) = later.find(|end| end.step > goal) else {
            continue;
        };
        if from >= until {
            costs.push((beyond.t_ns - from).saturating_sub(usual) as f64);
            until = beyond.t_ns;
        }
    }
    let paid: f64 = costs.iter().sum();
    bootstrap(&costs, SEED, |drawn| {
        (productive as f64 / (wall as f64 - paid + drawn.sum::<f64>())).min(1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn times_in_the_formats_that_logs_have() {
        let second = 1_000_000_000;
        for (text, format, after) in [
            ("2026-11-24T10:00:00.5Z", "rfc3339", "2026-11-24T10:00:00Z"),
            ("2026-11-24 10:00:00,500", "rfc3339", "2026-11-24 10:00:00"),
            (
                "2026-11-24 10:00:00,500",
                "%Y-%m-%d %H:%M:%S,%f",
                "2026-11-24 10:00:00,000",
            ),
            ("12.5", "seconds", "12"),
            ("1124 10:00:00.500000", "%m%d %H:%M:%S%.f", "1124 10:00:00"),
            (
                "2026/11/24 10:00:00.5 +0100",
                "%Y/%m/%d %H:%M:%S%.f %z",
                "2026/11/24 10:00:00 +0100",
            ),
        ] {
            let taken = moment(text, format).zip(moment(after, format));
            assert_eq!(
                taken.map(|(a, b)| a - b),
                Some(second / 2),
                "{text} as {format}"
            );
        }
        assert_eq!(moment("soon", "rfc3339"), None);
        assert_eq!(moment("1e300", "seconds"), None);
    }
}
