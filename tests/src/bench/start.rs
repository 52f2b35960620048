//! From process start to the answer of `squall check`: of an ordinary file, and of files that want to do harm.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::ensure;

use super::{Figure, median};
use crate::product::{Desk, shipped};

const LINES: usize = 100;
/// Goals, in milliseconds.
const CHECK_MS: f64 = 5.0;
const HOSTILE_MS: f64 = 50.0;

pub(super) fn figures(rounds: usize) -> Vec<Figure> {
    let check = check(rounds).unwrap_or_else(|error| {
        Figure::missing("check of 100 lines", "ms", CHECK_MS, format!("{error:#}"))
    });
    let hostile = hostile(rounds).unwrap_or_else(|error| {
        Figure::missing(
            "hostile file refused",
            "ms",
            HOSTILE_MS,
            format!("{error:#}"),
        )
    });
    vec![check, hostile]
}

fn check(rounds: usize) -> anyhow::Result<Figure> {
    let desk = Desk::new()?;
    let file = desk.write("hundred-lines.yaml", &hundred_lines()?)?;
    let file = file.to_string_lossy().into_owned();
    let (mut checks, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        checks.push(milliseconds(desk.command(&["check", &file]), 0)?);
        floors.push(milliseconds(desk.command(&["--version"]), 0)?);
    }
    let middle = median(&mut checks);
    let how = format!(
        "`squall check` from process start to end, median of {rounds} (quickest {:.3} ms), interleaved with the same binary's `--version`",
        checks[0]
    );
    let figure = Figure::at_most("check of 100 lines", middle, "ms", CHECK_MS, how);
    Ok(figure.against(format!("{:.3} ms for --version", median(&mut floors))))
}

/// The slowest kind of hostile file counts.
fn hostile(rounds: usize) -> anyhow::Result<Figure> {
    let desk = Desk::new()?;
    let mut slowest = (0.0, "");
    for (name, text) in hostile_texts() {
        let file = desk.write(&format!("{name}.yaml"), &text)?;
        let file = file.to_string_lossy().into_owned();
        let mut times = Vec::new();
        for _ in 0..rounds.min(15) {
            times.push(milliseconds(desk.command(&["check", &file]), 3)?);
        }
        let time = median(&mut times);
        if time > slowest.0 {
            slowest = (time, name);
        }
    }
    let how = format!(
        "`squall check` from process start to end with code 3; the slowest of {} kinds is: {}",
        hostile_texts().len(),
        slowest.1
    );
    Ok(Figure::at_most(
        "hostile file refused",
        slowest.0,
        "ms",
        HOSTILE_MS,
        how,
    ))
}

fn milliseconds(mut command: Command, code: i32) -> anyhow::Result<f64> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status()?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(
        status.code() == Some(code),
        "{command:?} ended with {status}, not with {code}"
    );
    Ok(took)
}

/// The demo with further steps, up to a hundred lines.
fn hundred_lines() -> anyhow::Result<String> {
    let demo = shipped::text(shipped::DEMO)?;
    let kill = "  - process-kill: {target: {name: second-rank}, every: {epochs: 10}}\n";
    ensure!(demo.contains(kill), "the demo has changed");
    let mut steps = String::new();
    for step in 0..LINES - demo.lines().count() {
        writeln!(
            steps,
            "  - process-kill: {{target: {{rank: 1}}, at: {{step: {}, phase: forward}}}}",
            100 + step
        )?;
    }
    let text = demo.replace(kill, &format!("{kill}{steps}"));
    ensure!(
        text.lines().count() == LINES,
        "{} lines",
        text.lines().count()
    );
    Ok(text)
}

fn hostile_texts() -> Vec<(&'static str, String)> {
    let head = "version: 1\ntitle: hostile\nmethod:\n";
    let entries: String = (0..20_000)
        .map(|n| format!("  - nothing-{n}: {{a: [1, 2, 3]}}\n"))
        .collect();
    let aliases: String = (1..40)
        .map(|n| format!("k{n}: &a{n} [*a{0}, *a{0}]\n", n - 1))
        .collect();
    vec![
        (
            "ten thousand brackets",
            format!("{head}  - {}", "[".repeat(10_000)),
        ),
        (
            "a hundred megabytes",
            format!("{head}  - wait: {}\n", "9".repeat(100 << 20)),
        ),
        ("twenty thousand unknown faults", format!("{head}{entries}")),
        (
            "aliases of aliases",
            format!("k0: &a0 [x]\n{aliases}{head}"),
        ),
        (
            "deep indentation",
            format!(
                "{head}{}",
                (0..2_000)
                    .map(|n| format!("{}a:\n", " ".repeat(n)))
                    .collect::<String>()
            ),
        ),
        (
            "one long key",
            format!("{head}  - {}: 1\n", "k".repeat(200_000)),
        ),
        ("zero bytes", "\0".repeat(200_000)),
    ]
}
