//! `squall run`: plan, ask, live progress, verdict.

use super::{plan, state_dir};
use crate::Outcome;
use crate::arguments::{Format, Run};
use crate::live::{Printer, for_terminal};
use crate::output::{Failure, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use squall_analysis::render;
use squall_control::run::{Conclusion, Interrupt, LocalHost, Request, conduct};
use squall_model::exit::Exit;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &Run) -> Outcome {
    let prepared = plan::prepare(&arguments.file, arguments.seed)?;
    if arguments.format == Format::Text {
        let plan = plan::text(&prepared.plan, crate::output::Stream::Error);
        eprintln!("{}", for_terminal(plan.trim_end()));
    }
    if !arguments.yes && !confirmed()? {
        eprintln!("nothing was done");
        return Ok(Exit::Interrupted);
    }
    let state_dir = state_dir()?;
    let interrupt = Arc::new(Interrupt::default());
    listen(&interrupt)?;
    let mut printer = Printer::new(arguments.format);
    let mut host = LocalHost::default();
    let conclusion = conduct(Request {
        script: prepared.script,
        state_dir,
        host: &mut host,
        observer: &mut printer,
        interrupt: &interrupt,
        lease: squall_faults::crash::lease().unwrap_or(LEASE),
    });
    printer.clear();
    let conclusion = conclusion.map_err(|error| Failure::new(error.exit(), error, None))?;
    conclude(arguments.format, &conclusion)?;
    Ok(conclusion.exit)
}

/// Signals end the run and undo everything; the second only asks what remains.
fn listen(interrupt: &Arc<Interrupt>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| {
        Failure::new(
            Exit::Bug,
            format!("could not listen for signals, because {error}"),
            None,
        )
    })?;
    let interrupt = Arc::clone(interrupt);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            interrupt.raise(match signal {
                SIGINT => "SIGINT",
                SIGTERM => "SIGTERM",
                _ => "SIGHUP",
            });
        }
    });
    Ok(())
}

/// Asks at a terminal; without one, `--yes` is needed.
fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "could not ask before injecting, because standard input is not a terminal",
            Some("add --yes when nobody is to be asked"),
        ));
    }
    eprint!(" inject?  [y/N] ");
    std::io::stderr().flush().unwrap_or_default();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn conclude(format: Format, conclusion: &Conclusion) -> Result<(), Failure> {
    let path = conclusion
        .report_path
        .as_ref()
        .map(|path| path.display().to_string());
    if format == Format::Json {
        return json(&serde_json::json!({
            "version": "squall.conclusion/1", "exit": conclusion.exit.code(), "run": conclusion.run,
            "dir": conclusion.run_dir, "report": path, "outstanding": conclusion.outstanding, "problems": conclusion.problems,
        }));
    }
    if let Some(report) = &conclusion.report {
        print!("{}", render::text::ending(report, path.as_deref()));
    }
    for problem in &conclusion.problems {
        eprintln!("problem: {problem}");
    }
    if !conclusion.outstanding.is_empty() {
        eprintln!("still injected; type: squall undo {}", conclusion.run);
    }
    Ok(())
}
