//! `cargo xtask crash`: the crash matrix. See `squall_tests::crash`.

use std::iter::Peekable;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, bail};
use squall_tests::compliance::crashes;
use squall_tests::crash::cell::{self, Cell, Ended, Verdict};
use squall_tests::crash::report::Report;
use squall_tests::crash::squall::Squall;
use squall_tests::crash::{latency, pool, select};

const USAGE: &str = "squall-crash --matrix [--full] | --trials N [--seed S] | --agent-kill-latency
    [--only WORDS] [--jobs N] [--repeat N] [--list] [--format text|json]";

#[derive(Debug, Default)]
struct Options {
    matrix: bool,
    full: bool,
    trials: Option<usize>,
    seed: Option<u64>,
    only: Vec<String>,
    jobs: Option<usize>,
    repeat: Option<usize>,
    latency: bool,
    list: bool,
    json: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(to: &mut dyn std::io::Write, line: &str) {
    // Nobody is left to tell.
    writeln!(to, "{line}").ok();
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} wants a value\n{USAGE}"))
        };
        match argument.as_str() {
            "--matrix" => options.matrix = true,
            "--full" => options.full = true,
            "--agent-kill-latency" => options.latency = true,
            "--list" => options.list = true,
            "--trials" => options.trials = Some(value()?.parse()?),
            "--seed" => options.seed = Some(value()?.parse()?),
            "--only" => options.only.push(value()?),
            "--jobs" => options.jobs = Some(value()?.parse()?),
            "--repeat" => options.repeat = Some(value()?.parse()?),
            "--format" => options.json = value()? == "json",
            _ => bail!("`{argument}` is not known\n{USAGE}"),
        }
    }
    if !options.latency && options.matrix == options.trials.is_some() {
        bail!("say either --matrix or --trials N\n{USAGE}");
    }
    Ok(options)
}

/// The word behind `verb`, if that is the first one.
fn asked(arguments: &mut Peekable<impl Iterator<Item = String>>, verb: &str) -> Option<String> {
    arguments.next_if(|first| first == verb)?;
    arguments.next()
}

fn run() -> anyhow::Result<bool> {
    let mut arguments = std::env::args().skip(1).peekable();
    if let Some(cell) = asked(&mut arguments, "--cell") {
        let cell: Cell = serde_json::from_str(&cell)?;
        let ended = cell::run(&cell, &cell::program()?);
        say(&mut std::io::stdout(), &serde_json::to_string(&ended)?);
        return Ok(true);
    }
    if let Some(kind) = asked(&mut arguments, "serve-fault") {
        return Ok(
            squall_faults::serve::main(&kind, squall_catalog::served::body) == ExitCode::SUCCESS,
        );
    }
    if let Some(order) = asked(&mut arguments, "--inject") {
        return crashes::obey(&order).map(|()| true);
    }
    if let Some(state) = asked(&mut arguments, "--recover") {
        return crashes::recover(state.as_ref()).map(|()| true);
    }
    if let Some(cell) = asked(&mut arguments, "--measure") {
        let milliseconds = latency::measure(&serde_json::from_str(&cell)?, &cell::program()?)?;
        say(&mut std::io::stdout(), &milliseconds.to_string());
        return Ok(true);
    }
    let options = options(arguments)?;
    if options.latency {
        return measure(options.repeat.unwrap_or(20), &options.only);
    }
    let cells = selected(&options);
    if options.list {
        for cell in &cells {
            say(&mut std::io::stdout(), &cell.name());
        }
        return Ok(true);
    }
    if cells.is_empty() {
        bail!("no cell is called so");
    }
    let program = Squall::beside_us()?;
    let jobs = options
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let progress = Progress {
        started: Instant::now(),
        count: AtomicUsize::new(0),
        of: cells.len(),
    };
    let ended = pool::run(&cells, &program, jobs, |one| progress.tell(one))?;
    let report = Report::of(&ended);
    let mut out = std::io::stdout();
    if options.json {
        say(&mut out, &serde_json::to_string_pretty(&report.json())?);
    } else {
        if let Some(seed) = options.trials.and(options.seed) {
            say(&mut out, &format!("seed {seed}"));
        }
        say(
            &mut out,
            &format!(
                "{}took {:.1} s",
                report.text(),
                progress.started.elapsed().as_secs_f64()
            ),
        );
    }
    Ok(report.passed())
}

/// Prints a JSON array of {name, value, unit, against, goal, met}. One-shot faults leave nothing to wait for.
fn measure(repetitions: usize, only: &[String]) -> anyhow::Result<bool> {
    let program = Squall::beside_us()?;
    let mut measured = Vec::new();
    for (fault, class) in select::subjects() {
        if class == "one-shot" || !(only.is_empty() || only.contains(&fault)) {
            continue;
        }
        let cells = (1..=repetitions).map(|number| latency::cell(number, &fault, &class));
        let values: Vec<f64> = cells
            .map(|cell| pool::measure(&cell, &program))
            .collect::<Result<_, _>>()?;
        say(&mut std::io::stderr(), &format!("{fault}: {values:.1?}"));
        measured.push((fault, values));
    }
    let rows = latency::results(&measured);
    say(
        &mut std::io::stdout(),
        &serde_json::to_string_pretty(&rows)?,
    );
    Ok(rows.iter().all(|row| row["met"] == true))
}

fn selected(options: &Options) -> Vec<Cell> {
    let subjects = select::subjects();
    let all = match options.trials {
        Some(count) => select::trials(&subjects, count, options.seed.unwrap_or(1)),
        None if options.full => select::full(&subjects),
        None => select::regular(&subjects),
    };
    let is_asked_for = |cell: &Cell| {
        let name = format!(" {} ", cell.name());
        options.only.iter().all(|words| {
            words
                .split(' ')
                .all(|word| name.contains(&format!(" {word} ")))
        })
    };
    let asked: Vec<Cell> = all.into_iter().filter(is_asked_for).collect();
    let repeated = std::iter::repeat_n(asked, options.repeat.unwrap_or(1)).flatten();
    repeated
        .enumerate()
        .map(|(index, cell)| Cell {
            number: index + 1,
            ..cell
        })
        .collect()
}

struct Progress {
    started: Instant,
    count: AtomicUsize,
    of: usize,
}

impl Progress {
    /// On standard error: a line for whatever is not clean, and one for every twentieth cell.
    fn tell(&self, ended: &Ended) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        let seconds = self.started.elapsed().as_secs_f64();
        let line = match &ended.verdict {
            Verdict::Clean if !count.is_multiple_of(20) && count != self.of => return,
            Verdict::Clean => format!("{count} of {} cells after {seconds:.0} s", self.of),
            Verdict::Left(left) => format!(
                "LEFT {}: {}",
                ended.cell.name(),
                left.first().map_or("", String::as_str)
            ),
            Verdict::Failed(_) => format!("FAILED {}", ended.cell.name()),
            Verdict::Skipped(why) => format!("SKIPPED {}: {why}", ended.cell.name()),
        };
        say(&mut std::io::stderr(), &line);
    }
}
