//! `squall ettr` on what a real run left: its log alone says what the hook's events said, and accounting beside it is put together with it.

use anyhow::Context as _;
use serde_json::Value;
use squall_tests::product::{Desk, Ended, shipped};

const EXPERIMENT: &str = "\
version: 1
title: two kills to read about later
requirement: {goal: training-reliability, because: past jobs had kills too, accept: it goes on}
seed: 7
workload:
  training: {run: 'toy-trainer --out {out} --world 2 --epochs 12 --step-sleep-ms 4'}
steady-state:
  - probe: {training-event: {every: epoch, within: 30s}}
    interval: 100ms
baseline: 100ms
method:
  - process-kill: {target: {rank: 1}, every: {epochs: 4}}
expect:
  - completes: {exit: 0}
";

fn patterns() -> String {
    let file = shipped::repository().join("docs/patterns/trainer.yaml");
    file.to_string_lossy().into_owned()
}

fn ettr(desk: &Desk, files: &[&str]) -> anyhow::Result<(Ended, Value)> {
    let patterns = patterns();
    let mut arguments = vec!["ettr", "--patterns", &patterns, "--format", "json"];
    arguments.extend(files);
    let ended = desk.squall(&arguments)?;
    let told = serde_json::from_str(&ended.out).with_context(|| ended.told())?;
    Ok((ended, told))
}

#[test]
fn the_log_of_a_real_run_says_what_its_report_said() {
    let desk = Desk::new().unwrap();
    let (ended, report) = desk.report_of(EXPERIMENT).unwrap();
    ended.expect(0).unwrap();
    let log = desk
        .state()
        .join("runs")
        .join(report.run())
        .join("logs/workload.log");
    let text = std::fs::read_to_string(&log).unwrap();
    let log = desk.write("slurm-4711.out", &text).unwrap();

    let (ended, told) = ettr(&desk, &[&log.to_string_lossy()]).unwrap();
    ended.expect(0).unwrap();
    let job = &told["jobs"][0];
    let training = &report.0["training"];
    let restarts = training["attempts"].as_u64().unwrap() - 1;
    assert!(restarts >= 2, "{}", report.told());
    assert_eq!(job["interruptions"]["unknown"], restarts, "{told:#}");
    assert_eq!(job["lost_steps"], training["wasted"], "{told:#}");
    assert_eq!(job["kept"], training["kept"], "{told:#}");
    // A log begins with its first line, not with the job: so the shares differ by the start, and the time that was trained does not.
    let seconds = |value: &Value| value.as_f64().unwrap() / 1e9;
    let effectiveness = &training["effectiveness"];
    let wall = seconds(&effectiveness["to_ns"]) - seconds(&effectiveness["from_ns"]);
    let by_log = job["ettr"].as_f64().unwrap() * seconds(&job["wall_ns"]);
    let by_hook = effectiveness["ettr"].as_f64().unwrap() * wall;
    assert!(
        (by_log - by_hook).abs() < 0.15 * by_hook,
        "{by_log} s by the log, {by_hook} s by the hook"
    );

    let account = "JobID|State|Start|End|Elapsed|Restarts|AllocTRES\n\
        4711|NODE_FAIL|2026-11-01T00:00:00|2026-11-01T00:01:00|00:01:00|0|cpu=2,gres/gpu=2,node=1\n\
        4711|COMPLETED|2026-11-01T00:02:00|2026-11-01T00:03:00|00:01:00|1|cpu=2,gres/gpu=2,node=1\n";
    let account = desk.write("jobs.txt", account).unwrap();
    let files = [log.to_string_lossy(), account.to_string_lossy()];
    let (ended, told) = ettr(&desk, &[&files[0], &files[1]]).unwrap();
    ended.expect(0).unwrap();
    let jobs = told["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{told:#}");
    assert_eq!(jobs[0]["sources"], serde_json::json!(["log", "sacct"]));
    assert_eq!(jobs[0]["wall_ns"], 180_000_000_000_u64);
    assert_eq!(jobs[0]["interruptions"]["node"], 1);
}

#[test]
fn every_error_names_its_place_and_what_to_type() {
    let desk = Desk::new().unwrap();
    let write = |name: &str, text: &str| desk.write(name, text).unwrap().display().to_string();
    let log = write("a.log", "1.0 epoch 1 step 1 loss 1.0\n");
    let cut = write(
        "cut.txt",
        "JobID|State|Start|End\n1|COMPLETED|2026-11-01T00:00:00\n",
    );
    let people = write("people.txt", "JobID  State\n-----  -----\n");
    let wrong = write(
        "wrong.yaml",
        "version: 1\nevents:\n  - {event: step-end, pattern: \"step (\\\\d+)\"}\n",
    );
    let nothing = desk.path().join("nothing.log").display().to_string();
    for (arguments, code, words) in [
        (vec![&*log], 2, ["a.log is a log", "--patterns"]),
        (
            vec![&*nothing],
            2,
            [
                "nothing.log, because No such file",
                "help: give logs of jobs",
            ],
        ),
        (
            vec![&*cut],
            2,
            [
                "cut.txt, because line 2 has 3 fields",
                "help: print it again with `sacct",
            ],
        ),
        (
            vec![&*people],
            2,
            ["people.txt, because line 1 parts", "--parsable2"],
        ),
        (
            vec!["--patterns", &*wrong, &*log],
            3,
            ["wrong.yaml:3:32", "(?P<step>"],
        ),
        (
            vec!["--patterns", &*nothing, &*log],
            3,
            ["nothing.log", "help: give the path of a pattern file"],
        ),
    ] {
        let ended = desk
            .squall(&[vec!["ettr"], arguments.clone()].concat())
            .unwrap();
        ended.expect(code).unwrap();
        for word in words {
            assert!(
                ended.err.contains(word),
                "{arguments:?} lacks {word:?}: {}",
                ended.told()
            );
        }
        assert!(ended.out.is_empty(), "{}", ended.told());
    }
}
