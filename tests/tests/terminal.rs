//! `squall run` at a terminal, in a log, and without colours: the same words, a live area only where one can be, nothing of it left behind.

use std::time::Duration;

use squall_tests::product::screen::{Screen, on_a_terminal};
use squall_tests::product::{Desk, Ended, Live};

const LIMIT: Duration = Duration::from_secs(60);
const EXPERIMENT: &str = "\
version: 1
title: a rank stands still while somebody watches
requirement: {goal: training-reliability, because: somebody watches, accept: nothing is lost}
seed: 7
workload:
  training: {run: 'toy-trainer --out {out} --world 2 --epochs 12 --step-sleep-ms 8'}
steady-state:
  - probe: {training-event: {every: epoch, within: 30s}}
    interval: 100ms
baseline: 300ms
method:
  - process-pause: {target: {rank: 1}, at: {step: 80, phase: forward}, for: 2s}
expect:
  - completes: {exit: 0}
";

fn at_a_terminal(columns: usize, plain: bool) -> anyhow::Result<(Screen, Ended)> {
    let desk = Desk::new()?;
    let file = desk.write("watched.yaml", EXPERIMENT)?;
    let run = desk.command(&["run", &file.to_string_lossy(), "--yes"]);
    let mut command = on_a_terminal(&run, columns);
    if plain {
        command.env("NO_COLOR", "1");
    }
    let ended = Live::start(command, desk.path())?.wait(LIMIT)?;
    ended.expect(0)?;
    Ok((Screen::of(&ended.out), ended))
}

/// Labels of the live area.
const LIVE: [&str; 4] = [" lease    ", " injected ", " probes   ", " next     "];

fn is_live(line: &str) -> bool {
    LIVE.iter().any(|label| line.starts_with(label))
}

#[test]
fn the_live_area_shows_what_happens_and_leaves_nothing_behind() {
    for columns in [80, 120] {
        let (screen, ended) = at_a_terminal(columns, false).unwrap();
        let drawn = screen.drawings.last().map_or(0, Vec::len);
        assert!(screen.drawings.len() > 8, "{drawn}: {}", ended.told());
        assert!(screen.strange.is_empty(), "{:?}", screen.strange);
        assert!(screen.colours > 0);
        let folder = |line: &str| line.contains('/');
        for line in screen.drawings.iter().flatten().chain(screen.lines()) {
            // A line that the terminal itself would break would be counted wrongly and stay.
            assert!(
                line.chars().count() <= columns || folder(line),
                "{columns}: {line}"
            );
        }
        let ever = |wanted: &[&str]| {
            let mut all = screen.drawings.iter().flatten();
            all.any(|line| wanted.iter().all(|word| line.contains(word)))
        };
        assert!(ever(&[
            " injected process-pause   rank 1 pid",
            "in step 80"
        ]));
        assert!(ever(&[" lease    ", " s left"]));
        assert!(ever(&[" probes   ✓ steady state"]));
        assert!(ever(&[" next     process-pause in step 80"]));
        let pictured = |line: &String| {
            line.contains("loss ")
                && line.contains("steps/s ")
                && line.matches(|c| ('▁'..='█').contains(&c)).count() > 8
        };
        assert!(screen.drawings.iter().flatten().any(pictured));
        let together = |frame: &Vec<String>| {
            frame.iter().any(|line| line.starts_with(" injected "))
                && frame.iter().any(|line| line.starts_with(" next "))
        };
        assert!(
            !screen.drawings.iter().any(together),
            "what acts does not come next"
        );
        assert!(
            !screen.lines().iter().any(|line| is_live(line)),
            "{:#?}",
            screen.lines()
        );
        assert!(
            screen
                .lines()
                .iter()
                .any(|line| line.starts_with(" verdict  HELD"))
        );
    }
}

/// Words of a run without what differs from one to the next: times, pids, ids, folders, states of a process, readings of the probe.
fn words(lines: &str) -> Vec<String> {
    let differs =
        |word: &str| word.contains(|c: char| c.is_ascii_digit() || c == '/') || word.len() < 3;
    lines
        .lines()
        .filter(|line| !line.contains("steady state:"))
        .flat_map(str::split_whitespace)
        .filter(|word| !differs(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_log_has_the_same_words_and_no_escapes() {
    let (screen, _) = at_a_terminal(80, true).unwrap();
    assert_eq!(screen.colours, 0, "NO_COLOR is not respected");
    assert!(screen.drawings.len() > 8);
    let desk = Desk::new().unwrap();
    let file = desk.write("watched.yaml", EXPERIMENT).unwrap();
    let ended = desk.run(&file).unwrap();
    ended.expect(0).unwrap();
    let log = ended.err.clone() + &ended.out;
    assert!(
        !log.contains('\x1b') && !log.contains('\r'),
        "{}",
        ended.told()
    );
    assert!(!log.lines().any(is_live), "{}", ended.told());
    assert_eq!(words(&screen.lines().join("\n")), words(&log));
}
