//! What past jobs lost, in lines of text.

use super::page::Page;
use crate::interval::Interval;
use crate::num;
use crate::past::{Cause, PastJob, PastJobs, Total};
use std::collections::BTreeMap;

/// The total first, then each job.
pub fn past(jobs: &PastJobs) -> String {
    let mut page = Page::default();
    total(&mut page, &jobs.total);
    for job in &jobs.jobs {
        page.gap();
        one(&mut page, job);
    }
    page.text
}

fn total(page: &mut Page, it: &Total) {
    let jobs = num::plural(it.jobs as usize, "job", "jobs");
    page.row(
        "in all",
        &format!("{jobs} · {}", interruptions(&it.interruptions)),
    );
    match (it.ettr, &it.interval) {
        (None, _) => page.row(
            "",
            "ETTR not measured: no log tells of steps and of when they were made",
        ),
        (Some(ettr), interval) => {
            let of = if it.measured < it.jobs {
                format!(
                    " (of the {} where it is measured)",
                    num::plural(it.measured as usize, "job", "jobs")
                )
            } else {
                String::new()
            };
            page.row(
                "",
                &format!(
                    "ETTR {}{of}{}",
                    num::percent(ettr),
                    shares(interval.as_ref(), "jobs")
                ),
            );
        }
    }
    if it.wall_ns > 0 {
        let hours = it.lost_gpu_hours.map_or(String::new(), |hours| {
            format!(" · {} GPU-hours", num::significant(hours))
        });
        page.row(
            "",
            &format!(
                "at least {} lost of {}{hours}",
                num::duration(it.lost_ns),
                num::duration(it.wall_ns)
            ),
        );
    }
    if let (Some(between), Some(interval)) = (it.between_ns, &it.between_interval) {
        page.row(
            "",
            &format!(
                "one interruption in {} ({} to {} at 95 %, {})",
                num::duration(between),
                num::duration(interval.low as u64),
                num::duration(interval.high as u64),
                interval.method
            ),
        );
    }
}

fn one(page: &mut Page, it: &PastJob) {
    page.row(
        "job",
        &format!(
            "{} · from {} · {}",
            it.name,
            it.sources.join(" and "),
            it.ended
        ),
    );
    let mut parts = vec![interruptions(&it.interruptions)];
    if let (Some(kept), Some(lost)) = (it.kept, it.lost_steps) {
        parts.push(format!(
            "{} steps lost beside {} kept",
            num::thousands(lost),
            num::thousands(kept)
        ));
    }
    page.row("", &parts.join(" · "));
    let ettr = match it.ettr {
        Some(ettr) if it.at_least => format!("ETTR at most {}", num::percent(ettr)),
        Some(ettr) => format!(
            "ETTR {}{}",
            num::percent(ettr),
            shares(it.interval.as_ref(), "interruptions")
        ),
        None => "ETTR not measured".into(),
    };
    let least = if it.at_least { "at least " } else { "" };
    let lost = match (it.lost_ns, it.wall_ns) {
        (Some(lost), Some(wall)) => format!(
            " · {least}{} lost of {}",
            num::duration(lost),
            num::duration(wall)
        ),
        _ => String::new(),
    };
    let hours = it.lost_gpu_hours().map_or(String::new(), |hours| {
        format!(" · {} GPU-hours", num::significant(hours))
    });
    page.row("", &format!("{ettr}{lost}{hours}"));
    for note in &it.notes {
        page.row("", note);
    }
}

/// ` (40.1 to 52.3 % at 95 %, bootstrap, n = 12)`; says so when there are too few.
fn shares(interval: Option<&Interval>, of: &str) -> String {
    match interval {
        Some(it) => format!(
            " ({} to {} at 95 %, {})",
            num::percent(it.low),
            num::percent(it.high),
            it.method
        ),
        None => format!(" (no interval: fewer than 3 {of})"),
    }
}

/// `3 interruptions: 2 node failed, 1 cause unknown`.
fn interruptions(by_cause: &BTreeMap<Cause, u64>) -> String {
    let all: u64 = by_cause.values().sum();
    let named: Vec<String> = by_cause
        .iter()
        .map(|(cause, count)| format!("{} {}", num::thousands(*count), cause.words()))
        .collect();
    let count = num::plural(all as usize, "interruption", "interruptions");
    if named.is_empty() {
        count
    } else {
        format!("{count}: {}", named.join(", "))
    }
}
