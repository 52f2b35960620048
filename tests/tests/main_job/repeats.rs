//! Training that is not reproducible bit for bit: judged by the spread of its undisturbed repeats.

use anyhow::ensure;

use super::alone;

/// Four undisturbed runs and a disturbed one; another seed means other parameters at the start and another order of samples.
fn experiment(seeds: [u8; 5], more: &str) -> String {
    let [one, two, three, four, five] = seeds;
    format!(
        "version: 1\ntitle: a job whose runs differ by themselves\nseed: 7\nbaseline: 50ms\nworkload:\n  training:\n    \
         run: >-\n      sh -c 'case {{out}} in *-2) s={two};; *-3) s={three};; *-4) s={four};; *reference) s={one};; *) s={five}; m=\"{more}\";; esac;\n      \
         exec toy-trainer --out {{out}} --epochs 8 --step-sleep-ms 2 --seed $s $m'\n    references: 4\n\
         method:\n  - process-kill: {{target: {{rank: 1}}, at: {{step: 70, phase: forward}}}}\n\
         expect:\n  - completes: {{exit: 0}}\n  - same-result: {{as: reference, by: trajectory}}\n"
    )
}

#[test]
fn a_clean_kill_stays_within_the_spread_of_the_repeats() {
    alone(
        "repeats::a_clean_kill_stays_within_the_spread_of_the_repeats",
        |desk| {
            let (ended, report) = desk.report_of(&experiment([1, 2, 3, 4, 5], ""))?;
            ended.expect(0)?;
            let rung = report.text("/same_result/rungs/2/evidence");
            ensure!(
                report.text("/same_result/rungs/2/sameness") == "same",
                "{rung}"
            );
            let bits = report.text("/same_result/rungs/0/evidence");
            ensure!(bits.contains("not reproducible"), "{bits}");
            Ok(())
        },
    );
}

#[test]
fn a_run_that_learns_elsewhere_leaves_the_spread() {
    alone(
        "repeats::a_run_that_learns_elsewhere_leaves_the_spread",
        |desk| {
            let (ended, report) = desk.report_of(&experiment([1; 5], "--bug optimizer-state"))?;
            ended.expect(10)?;
            let rung = report.text("/same_result/rungs/2/evidence");
            ensure!(
                report.text("/same_result/rungs/2/sameness") == "different",
                "{rung}"
            );
            Ok(())
        },
    );
}
