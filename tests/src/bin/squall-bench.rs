//! `cargo xtask bench`: what Squall costs. See `squall_tests::bench`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use squall_tests::bench::{CHILD, Effort, Figure, child, engine, network, proxy, report, torch};

const USAGE: &str = "squall-bench [engine|report|network|proxy|hook-torch] [--minutes N] [--rounds N] [--format text|json]
    --minutes N   how long monitor and store are measured; 10 for the whole (half a minute unless said)
    --rounds N    pairs of interleaved short runs (61; proxy: 7; hook-torch: 300)
    --python PATH one that has PyTorch (hook-torch)";

struct Options {
    effort: Effort,
    json: bool,
    report: bool,
    network: bool,
    /// Rounds of the proxy's bench.
    proxy: Option<usize>,
    /// Pairs of the hook's bench on PyTorch.
    torch: Option<usize>,
    /// A Python that has PyTorch.
    python: Option<String>,
    rounds: Option<usize>,
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

fn options(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        effort: Effort {
            rounds: 61,
            length: Duration::from_secs(30),
        },
        json: false,
        report: false,
        network: false,
        proxy: None,
        torch: None,
        python: None,
        rounds: None,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} wants a value\n{USAGE}"))
        };
        match argument.as_str() {
            "engine" => {}
            "report" => options.report = true,
            "network" => options.network = true,
            "proxy" => options.proxy = Some(7),
            "hook-torch" => options.torch = Some(torch::PAIRS),
            "--minutes" => {
                options.effort.length = Duration::from_secs_f64(value()?.parse::<f64>()? * 60.0)
            }
            "--python" => options.python = Some(value()?.clone()),
            "--rounds" => options.rounds = Some(value()?.parse::<usize>()?.max(1)),
            "--format" => options.json = value()? == "json",
            _ => bail!("`{argument}` is not known\n{USAGE}"),
        }
    }
    options.effort.rounds = options.rounds.unwrap_or(options.effort.rounds);
    options.proxy = options.proxy.map(|usual| options.rounds.unwrap_or(usual));
    options.torch = options.torch.map(|usual| options.rounds.unwrap_or(usual));
    Ok(options)
}

fn run() -> anyhow::Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == CHILD
    {
        say(&mut std::io::stdout(), &child(rest)?);
        return Ok(true);
    }
    let options = options(&arguments)?;
    let figures = if options.network {
        network::figures()
    } else if let Some(rounds) = options.proxy {
        proxy::figures(rounds)
    } else if let Some(pairs) = options.torch {
        torch::figures(pairs, options.python.as_deref())
    } else if options.report {
        report::figures()
    } else {
        engine(options.effort)
    };
    if options.json {
        say(
            &mut std::io::stdout(),
            &serde_json::to_string_pretty(&figures)?,
        );
    } else {
        let lines: Vec<String> = figures.iter().map(Figure::text).collect();
        say(&mut std::io::stdout(), &lines.join("\n"));
    }
    Ok(figures.iter().all(|figure| figure.met != Some(false)))
}
