//! Past jobs: logs that real runs left, and accounting in the form that Slurm documents.
//!
//! `toy-trainer.log` and `torchrun.log` are the outputs of `examples/toy-trainer/kill-a-rank-every-ten-epochs.yaml` and of the same
//! experiment on PyTorch under torchrun. What is wanted of them is what the reports of those runs said, by the hook's events.

use proptest::prelude::*;
use squall_analysis::past::{Cause, PastJob, PastJobs, log::Reading, past_jobs, sacct};
use squall_analysis::render::past::past;
use squall_model::patterns::{self, Matcher};
use std::collections::BTreeMap;

const TOY: &str = include_str!("recorded/toy-trainer.log");
const TORCH: &str = include_str!("recorded/torchrun.log");
const SACCT: &str = include_str!("recorded/sacct.txt");
const PATTERNS: &str = include_str!("../../../../docs/patterns/trainer.yaml");

fn job(name: &str, text: &str) -> PastJob {
    let file = patterns::read(PATTERNS).unwrap();
    let matcher = Matcher::of(&file).unwrap();
    let mut reading = Reading::new(&matcher, file.time.as_ref());
    text.lines().for_each(|line| reading.line(line));
    reading.finish(name)
}

fn all() -> PastJobs {
    past_jobs(
        vec![job("toy-trainer.log", TOY), job("torchrun.log", TORCH)],
        sacct::read(SACCT).unwrap(),
    )
}

#[test]
fn a_log_says_what_the_hooks_events_of_the_same_run_said() {
    // By the hook: 3 restarts, 48 and 24 steps repeated, 640 and 320 kept.
    for (job, lost, kept) in [(job("a", TOY), 48, 640), (job("b", TORCH), 24, 320)] {
        assert_eq!(job.interruptions, BTreeMap::from([(Cause::Unknown, 3)]));
        assert_eq!((job.lost_steps, job.kept), (Some(lost), Some(kept)));
        assert!(job.notes.is_empty(), "{:?}", job.notes);
        let (ettr, it) = (job.ettr.unwrap(), job.interval.unwrap());
        assert!(it.low <= ettr && ettr <= it.high);
    }
    // By the hook: 86.9 % and 19.2 s of productive time. A log has no time before its first line, and steps after a
    // restart begin with the line before them.
    assert!((job("a", TOY).ettr.unwrap() - 0.869).abs() < 0.05);
    let productive = job("b", TORCH).productive_ns.unwrap() as f64 / 1e9;
    assert!((productive - 19.2).abs() < 2.0, "{productive}");
}

#[test]
fn accounting_bounds_what_it_cannot_measure() {
    let jobs = sacct::read(SACCT).unwrap();
    let find = |name: &str| jobs.iter().find(|it| it.name == name).unwrap();
    let long = find("4711");
    assert_eq!(
        long.interruptions,
        BTreeMap::from([(Cause::Node, 1), (Cause::Preempted, 1)])
    );
    assert_eq!(
        (long.wall_ns, long.lost_ns),
        (Some(48 * HOUR), Some(4 * HOUR))
    );
    assert!(long.at_least && (long.ettr.unwrap() - 44.0 / 48.0).abs() < 1e-12);
    assert!((long.lost_gpu_hours().unwrap() - 256.0).abs() < 1e-9);
    assert_eq!(
        find("4712").interruptions,
        BTreeMap::from([(Cause::TimeLimit, 1)])
    );
    assert_eq!(
        (find("4713").interrupted(), find("4713").ended.as_str()),
        (0, "cancelled")
    );
    assert_eq!(
        (find("4714").ettr, find("4714").ended.as_str()),
        (None, "not ended")
    );
    // One row, but restarted twice: one restart has no row, so its time is not known.
    let failed = find("4715");
    assert_eq!(
        failed.interruptions,
        BTreeMap::from([(Cause::Failed, 1), (Cause::Unknown, 1)])
    );
    assert_eq!(
        (failed.wall_ns, failed.lost_ns, failed.ettr),
        (None, None, None)
    );
    assert_eq!(
        find("4716_3").interruptions,
        BTreeMap::from([(Cause::Unknown, 1)])
    );
    assert_eq!(find("4717").wall_ns, None);
    assert!(
        jobs.iter().all(|it| !it.name.contains('.')),
        "steps are no jobs"
    );
}

const HOUR: u64 = 3_600_000_000_000;

#[test]
fn a_log_and_the_accounting_of_one_job_are_put_together() {
    let account = "JobID|State|Start|End|AllocTRES\n\
        99|NODE_FAIL|2026-11-01T00:00:00|2026-11-01T00:00:30|gres/gpu=2\n\
        99|COMPLETED|2026-11-01T00:00:40|2026-11-01T00:01:20|gres/gpu=2\n";
    let jobs = past_jobs(
        vec![job("logs/slurm-99.out", TORCH)],
        sacct::read(account).unwrap(),
    );
    let [one] = jobs.jobs.as_slice() else {
        panic!("{jobs:#?}");
    };
    assert_eq!(one.sources, ["log", "sacct"]);
    assert_eq!(
        one.interruptions,
        BTreeMap::from([(Cause::Node, 1), (Cause::Unknown, 2)])
    );
    assert_eq!(one.wall_ns, Some(80_000_000_000));
    let productive = one.productive_ns.unwrap();
    assert!((one.ettr.unwrap() - productive as f64 / 8e10).abs() < 1e-9);
    assert_eq!((one.gpus, one.at_least), (Some(2), false));
}

#[test]
fn what_people_read_about_past_jobs() {
    insta::assert_snapshot!("past", past(&all()));
}

#[test]
fn what_is_missing_is_said() {
    let silent = job("x", "nothing here\n");
    assert_eq!(silent.ettr, None);
    assert!(
        silent
            .notes
            .iter()
            .any(|it| it.contains("No line tells of a completed step"))
    );
    let untimed: String = TOY
        .lines()
        .map(|line| format!("{}\n", line.split_once(' ').unwrap().1))
        .collect();
    let untimed = job("y", &untimed);
    assert_eq!(
        (untimed.ettr, untimed.wall_ns, untimed.lost_steps),
        (None, None, Some(48))
    );
    assert!(!sacct::is_one("epoch 1 step 2"));
    assert!(!sacct::is_one("no JobID here"));
}

#[test]
fn accounting_that_cannot_be_used_is_refused_with_its_place_and_what_to_type() {
    const HEAD: &str = "JobID|JobName|State|Start|End\n";
    let row = |start: &str| format!("{HEAD}1|a|COMPLETED|{start}|2026-11-01T01:00:00\n");
    for (text, place, remedy) in [
        (
            "JobID|State|Start\n".to_owned(),
            "line 1 has no column `End`",
            "print it with `sacct --parsable2",
        ),
        (
            "       JobID    JobName      State\n------------ ----------\n".into(),
            "line 1 parts its columns by spaces",
            "--parsable2",
        ),
        (
            format!("{HEAD}1|a|b|COMPLETED|2026-11-01T00:00:00|2026-11-01T01:00:00\n"),
            "line 2 has 6 fields, but line 1 names 5 columns",
            "without columns of free text",
        ),
        (
            row("yesterday"),
            "line 2: `yesterday` in column `Start` is not a time",
            "unset SLURM_TIME_FORMAT",
        ),
    ] {
        assert!(sacct::is_one(text.lines().next().unwrap()), "{text}");
        let error = sacct::read(&text).unwrap_err();
        assert!(error.to_string().contains(place), "{error}");
        assert!(error.remedy().contains(remedy), "{}", error.remedy());
    }
    for none in ["Unknown", "None", "N/A", ""] {
        assert_eq!(sacct::read(&row(none)).unwrap()[0].wall_ns, None);
    }
}

/// A log of one job that is interrupted after the given numbers of steps, each time going back to the last tenth step.
fn interrupted(plan: &[(u64, u64)]) -> (String, u64, u64) {
    let (mut text, mut clock, mut step, mut lost) = (String::new(), 0, 0, 0);
    for (steps, pause) in plan {
        for _ in 0..*steps {
            step += 1;
            clock += 1;
            text += &format!("{clock}.0 epoch 1 step {step} loss 1.0\n");
        }
        let resumed = step / 10 * 10;
        lost += step - resumed;
        clock += pause;
        text += &format!("{clock}.0 resumed from step {resumed}\n");
        step = resumed;
    }
    // The last attempt makes one step more, so that every interruption shows.
    step += 1;
    clock += 1;
    text += &format!("{clock}.0 epoch 1 step {step} loss 1.0\n");
    (text, lost, step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_interruption_and_every_lost_step_is_counted(plan in proptest::collection::vec((1u64..40, 0u64..100), 0..8)) {
        let (text, lost, kept) = interrupted(&plan);
        let job = job("plan", &text);
        prop_assert_eq!(job.interrupted(), plan.len() as u64);
        prop_assert_eq!((job.lost_steps, job.kept), (Some(lost), Some(kept)));
        if let (Some(wall), Some(productive), Some(lost)) = (job.wall_ns, job.productive_ns, job.lost_ns) {
            prop_assert_eq!(productive + lost, wall);
        }
    }
}
