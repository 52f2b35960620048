//! The monitor against independent readings of the same processes.

use super::*;
use crate::clock::RunClock;
use crate::store::{Store, StoredRun};
use crate::testing::{Child, Scratch, as_child, opening, until};
use squall_analysis::run::{Run, Series};
use squall_model::id::RunId;
use std::process::{Command, Stdio};

/// Monitors while `work` runs and returns what was stored.
fn monitored(config: Config, work: impl FnOnce(&Monitor)) -> Run {
    let scratch = Scratch::new("monitor");
    let clock = RunClock::start();
    let store = Store::create(scratch.path(), opening(clock)).expect("created");
    let board = Arc::new(Board::new(RunId("r".into()), clock, scratch.path().into()));
    let monitor = Monitor::start(config, board, store.samples()).expect("started");
    work(&monitor);
    monitor.stop();
    store.close().expect("closed");
    StoredRun::open(scratch.path()).expect("opened")
}

fn marked(value: &str) -> Config {
    Config {
        rate: 50,
        mark: Some(("SQUALL_TEST_MARK".into(), value.into())),
        roots: Vec::new(),
    }
}

fn of<'a>(run: &'a Run, name: &str, pid: u32) -> &'a Series {
    let pid = pid.to_string();
    run.series
        .iter()
        .find(|series| series.name == name && series.labels.get("pid") == Some(&pid))
        .unwrap_or_else(|| panic!("no {name} of {pid}"))
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("alive");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

/// Not a test: burns a processor until it is killed.
#[test]
#[ignore = "a child program of another test"]
fn child_that_burns() {
    let mut file = std::fs::File::create("/dev/null").expect("opened");
    let mut x = 1u64;
    loop {
        for _ in 0..1_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3).rotate_left(5));
        }
        std::io::Write::write_all(&mut file, &[0u8; 4096]).expect("written");
    }
}

#[test]
fn what_is_sampled_is_what_the_process_did() {
    let burner = as_child("monitor::tests::child_that_burns")
        .env("SQUALL_TEST_MARK", "burn")
        .env("RANK", "3")
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let burner = Child(burner);
    let pid = burner.0.id();
    let mut spent = (0.0, 0.0);
    let run = monitored(marked("burn"), |monitor| {
        until("first samples", || (monitor.sampled() > 200).then_some(()));
        let (before, at) = (cpu_ticks(pid), Instant::now());
        until("a second of burning", || {
            (cpu_ticks(pid) >= before + 60).then_some(())
        });
        spent = (
            cpu_ticks(pid).saturating_sub(before) as f64,
            at.elapsed().as_secs_f64(),
        );
    });
    let cpu = of(&run, "process.cpu", pid);
    assert_eq!((cpu.unit.as_str(), cpu.labels["rank"].as_str()), ("%", "3"));
    let mean = cpu.values.iter().sum::<f64>() / cpu.values.len() as f64;
    let independent = spent.0 / spent.1;
    // Two processors are shared with other work, so the share itself varies between the two windows.
    assert!(
        (mean - independent).abs() < 0.4 * independent,
        "{mean} against {independent}"
    );
    assert!(of(&run, "process.write", pid).values.iter().sum::<f64>() > 0.0);
    assert!(
        of(&run, "process.rss", pid)
            .values
            .iter()
            .all(|rss| *rss > 4096.0 && rss % 4096.0 == 0.0)
    );
    assert_eq!(
        run.series
            .iter()
            .filter(|s| s.labels.get("pid") == Some(&pid.to_string()))
            .count(),
        PROCESS_SERIES
    );
    for name in [
        "host.cpu",
        "host.memory_available",
        "host.load",
        "squall.cpu",
        "squall.rss",
    ] {
        let series = run.series.iter().find(|s| s.name == name);
        assert!(series.is_some_and(|s| !s.values.is_empty()), "{name}");
    }
    let times = &of(&run, "process.rss", pid).t_ns;
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_process_that_left_its_parent_is_found_by_its_mark_and_ends_when_it_ends() {
    let scratch = Scratch::new("stray");
    let file = scratch.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 600' &",
        file.display()
    );
    let status = Command::new("sh")
        .args(["-c", &script])
        .env("SQUALL_TEST_MARK", "stray")
        .status()
        .expect("ran");
    assert!(status.success());
    let pid: u32 = until("pid", || {
        std::fs::read_to_string(&file).ok()?.trim().parse().ok()
    });
    let run = monitored(marked("stray"), |monitor| {
        until("samples", || (monitor.sampled() > 400).then_some(()));
        let raw = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
        rustix::process::kill_process(raw, rustix::process::Signal::KILL).expect("killed");
        let before = monitor.sampled();
        until("samples after its end", || {
            (monitor.sampled() > before + 400).then_some(())
        });
    });
    let rss = of(&run, "process.rss", pid);
    let host = run
        .series
        .iter()
        .find(|s| s.name == "host.cpu")
        .expect("host");
    assert!(
        rss.t_ns.last() < host.t_ns.last(),
        "its series ends with it"
    );
    assert_eq!(rss.labels["name"], "sleep");
}

#[test]
fn strangers_are_not_sampled_and_roots_bring_their_children() {
    let parent = Command::new("sh")
        .args(["-c", "sleep 600 & wait"])
        .spawn()
        .expect("started");
    let parent = Child(parent);
    let stranger = Child(Command::new("sleep").arg("600").spawn().expect("started"));
    let config = Config {
        rate: 50,
        mark: None,
        roots: vec![parent.0.id()],
    };
    let mut child = 0;
    let run = monitored(config, |monitor| {
        until("samples of both", || {
            (monitor.sampled() > 1_500).then_some(())
        });
        let children = Command::new("pgrep")
            .args(["-P", &parent.0.id().to_string()])
            .output()
            .expect("pgrep");
        child = String::from_utf8_lossy(&children.stdout)
            .trim()
            .parse()
            .expect("one child");
    });
    assert!(!of(&run, "process.rss", parent.0.id()).values.is_empty());
    assert!(!of(&run, "process.rss", child).values.is_empty());
    let theirs = stranger.0.id().to_string();
    assert!(
        run.series
            .iter()
            .all(|s| s.labels.get("pid") != Some(&theirs))
    );
    let raw = rustix::process::Pid::from_raw(child as i32).expect("a pid");
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).expect("killed");
}
