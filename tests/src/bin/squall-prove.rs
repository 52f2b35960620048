//! `cargo xtask prove`: the promises that need many runs. See `squall_tests::prove`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use squall_tests::prove::{Proof, aim, bugs, clean, naming, unheld};

const USAGE: &str = "squall-prove [aim|bugs|clean|naming]… [--count N] [--first-seed N] [--jobs N] [--format text|json]
    aim    N kills (100) with hold points land in the aimed step and phase; without, the distance is shown
    bugs   every seeded bug with N seeds (5) gives the verdict 'different'
    clean  N clean kills (100) never do
    naming every seeded bug with N fresh seeds (20) is named in the report, and 30 clean runs name none";

struct Options {
    names: Vec<String>,
    count: Option<usize>,
    first_seed: usize,
    jobs: usize,
    json: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(to: &mut dyn std::io::Write, line: &str) {
    // Nobody is left to tell.
    writeln!(to, "{line}").ok();
}

fn options(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options {
        names: Vec::new(),
        count: None,
        first_seed: naming::FIRST_SEED,
        jobs: 2,
        json: false,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} wants a value\n{USAGE}"))
        };
        match argument.as_str() {
            "aim" | "bugs" | "clean" | "naming" => options.names.push(argument),
            "--count" => options.count = Some(value()?.parse()?),
            "--first-seed" => options.first_seed = value()?.parse()?,
            "--jobs" => options.jobs = value()?.parse()?,
            "--format" => options.json = value()? == "json",
            _ => bail!("`{argument}` is not known\n{USAGE}"),
        }
    }
    if options.names.is_empty() {
        options.names = ["aim", "bugs", "clean", "naming"]
            .map(str::to_owned)
            .to_vec();
    }
    Ok(options)
}

fn run() -> anyhow::Result<bool> {
    let options = options(std::env::args().skip(1))?;
    let mut proofs = Vec::new();
    for name in &options.names {
        for proof in proofs_of(name, &options) {
            let started = Instant::now();
            let proof = proof();
            let seconds = started.elapsed().as_secs_f64();
            if !options.json {
                say(
                    &mut std::io::stdout(),
                    &format!("{}\n    {seconds:.0} s", proof.text()),
                );
            }
            proofs.push(proof);
        }
    }
    if options.json {
        let all: Vec<_> = proofs.iter().map(Proof::json).collect();
        say(&mut std::io::stdout(), &serde_json::to_string_pretty(&all)?);
    }
    Ok(proofs.iter().all(Proof::holds))
}

/// The proofs behind a name, to be run one after the other.
fn proofs_of(name: &str, options: &Options) -> Vec<Box<dyn FnOnce() -> Proof>> {
    let (jobs, many) = (options.jobs, options.count.unwrap_or(100));
    let seeds = options.count.unwrap_or(5);
    let (fresh, first) = (options.count.unwrap_or(20), options.first_seed);
    match name {
        "aim" => vec![
            Box::new(move || aim::prove(many, jobs)),
            Box::new(aim::prove_once),
            Box::new(move || unheld::prove(many, jobs)),
        ],
        "bugs" => vec![Box::new(move || bugs::prove(seeds, jobs))],
        "naming" => vec![Box::new(move || {
            naming::prove(fresh, naming::CLEAN, first, jobs)
        })],
        _ => vec![Box::new(move || clean::prove(many, jobs))],
    }
}
