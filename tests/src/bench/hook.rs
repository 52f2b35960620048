//! What the hook costs a trainer: the Python hook by its own bench, the toy trainer with and without.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::Figure;
use crate::folder::Folder;
use crate::product::{binaries, shipped};

/// Goal: percent of a core at steps of 10 ms.
const CPU_PERCENT: f64 = 1.0;
/// Seconds of the Python loop.
const PYTHON_SECONDS: &str = "10";
const ROUNDS: usize = 4;
const RANKS: f64 = 2.0;
/// Clock ticks a second, as `/proc` counts them on every architecture.
const TICKS: f64 = 100.0;

pub(super) fn figures() -> Vec<Figure> {
    let mut figures = python().unwrap_or_else(|error| {
        vec![Figure::missing(
            "Python hook at 10 ms steps",
            "% of a core",
            CPU_PERCENT,
            format!("{error:#}"),
        )]
    });
    figures.extend(toy().unwrap_or_else(|error| {
        vec![Figure::missing(
            "toy trainer's hook at 10 ms steps",
            "% of a core",
            CPU_PERCENT,
            format!("{error:#}"),
        )]
    }));
    figures
}

fn python() -> anyhow::Result<Vec<Figure>> {
    let script = shipped::repository().join("python/bench/overhead.py");
    let output = Command::new("python3")
        .arg(&script)
        .arg(PYTHON_SECONDS)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start python3")?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        script.display(),
        output.status
    );
    let told: Value =
        serde_json::from_slice(&output.stdout).context("what the Python bench says")?;
    let number = |name: &str| {
        told[name]
            .as_f64()
            .with_context(|| format!("no {name} in {told}"))
    };
    let how = format!(
        "Python {}, 7 events and 4 hold points a step, {PYTHON_SECONDS} s, less the bare loop",
        told["python"].as_str().unwrap_or("?")
    );
    let percent = Figure::at_most(
        "Python hook at 10 ms steps",
        number("cpu_percent_at_10_ms")?,
        "% of a core",
        CPU_PERCENT,
        how,
    );
    Ok(vec![
        percent.against(format!(
            "{:.2} % for the bare loop",
            number("cpu_percent_bare_loop")?
        )),
        Figure::shown(
            "Python hook, an event",
            number("event_us")?,
            "µs",
            "processor time, median of 9 rounds",
        ),
        Figure::shown(
            "Python hook, a hold point",
            number("hold_point_us")?,
            "µs",
            "not armed; processor time, median of 9 rounds",
        ),
    ])
}

/// Processor and wall time of one training.
#[derive(Default)]
struct Cost {
    cpu: f64,
    wall: f64,
}

fn toy() -> anyhow::Result<Vec<Figure>> {
    let folder = Folder::new()?;
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).context("bind the hook's socket")?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drain(stream));
        }
    });
    let (mut with, mut without) = (Cost::default(), Cost::default());
    for round in 0..ROUNDS {
        train(
            &folder.path().join(format!("a{round}")),
            Some(&socket),
            &mut with,
        )?;
        train(&folder.path().join(format!("b{round}")), None, &mut without)?;
    }
    let percent = |cost: &Cost| cost.cpu / cost.wall / RANKS * 100.0;
    let figure = Figure::at_most(
        "toy trainer's hook at 10 ms steps",
        (percent(&with) - percent(&without)).max(0.0),
        "% of a core",
        CPU_PERCENT,
        format!(
            "processor time of {RANKS} ranks and their supervisor, a rank; {ROUNDS} pairs, interleaved; all events and hold points, none armed"
        ),
    );
    let longer = (with.wall / without.wall - 1.0) * 100.0;
    Ok(vec![
        figure.against(format!("{:.2} % without a hook", percent(&without))),
        Figure::shown(
            "toy trainer's hook, longer training",
            longer,
            "%",
            "wall time with the hook against without",
        ),
    ])
}

/// Welcomes a trainer and reads whatever it says.
fn drain(mut stream: UnixStream) {
    let mut buffer = [0; 1 << 16];
    let welcome = b"{\"welcome\":{\"v\":1,\"arm\":[]}}\n";
    // A trainer that is gone is what ends this.
    stream.write_all(welcome).ok();
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

fn train(out: &Path, socket: Option<&Path>, cost: &mut Cost) -> anyhow::Result<()> {
    let mut command = Command::new(binaries()?.join("toy-trainer"));
    command
        .args(["--epochs", "13", "--step-sleep-ms", "10", "--out"])
        .arg(out);
    command
        .env_remove("SQUALL_HOOK_SOCKET")
        .env("SQUALL_RUN", "bench");
    command.envs(socket.map(|socket| ("SQUALL_HOOK_SOCKET", socket)));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let (before, began) = (children_cpu()?, Instant::now());
    let status = command.status()?;
    ensure!(status.success(), "the trainer ended with {status}");
    cost.wall += began.elapsed().as_secs_f64();
    cost.cpu += children_cpu()? - before;
    Ok(())
}

/// Processor time of all children that were waited for, in seconds.
fn children_cpu() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or("");
    let ticks = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}
