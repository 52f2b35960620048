//! `squall`: breaks AI workloads on purpose, takes everything back, and says with proof what that did.
//!
//! Parses arguments, prints, exits. All logic lives in the crates below.
#![forbid(unsafe_code)]

/// As std's, but a reader that went away (`squall report last | head`) is no panic: what is left is not said, and a run
/// goes on to its undo.
macro_rules! print {
    ($($part:tt)*) => { $crate::output::say($crate::output::Stream::Out, format_args!($($part)*)) };
}
macro_rules! println {
    () => { $crate::output::say($crate::output::Stream::Out, format_args!("\n")) };
    ($($part:tt)*) => { $crate::output::say($crate::output::Stream::Out, format_args!("{}\n", format_args!($($part)*))) };
}
macro_rules! eprint {
    ($($part:tt)*) => { $crate::output::say($crate::output::Stream::Error, format_args!($($part)*)) };
}
macro_rules! eprintln {
    ($($part:tt)*) => { $crate::output::say($crate::output::Stream::Error, format_args!("{}\n", format_args!($($part)*))) };
}

mod arguments;
mod command;
mod live;
mod output;

use arguments::{Arguments, Command};
use clap::Parser;
use squall_model::exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let exit = match arguments.command {
        Command::Run(run) => command::run::run(&run),
        Command::Check(check) => command::check::run(&check),
        Command::Plan(plan) => command::plan::run(&plan),
        Command::Status(status) => command::status::run(&status),
        Command::Undo(undo) => command::undo::run(&undo),
        Command::Runs(runs) => command::runs::run(&runs),
        Command::Report(report) => command::report::run(&report),
        Command::Ettr(ettr) => command::ettr::run(&ettr),
        Command::Proxy(proxy) => command::proxy::run(&proxy),
        Command::Faults(faults) => command::faults::run(&faults),
        Command::Doctor(doctor) => command::doctor::run(&doctor),
        Command::Schema(schema) => command::schema::run(&schema),
        Command::Guard(inner) => return command::inner::guard(&inner.arguments),
        Command::Agent(inner) => return command::inner::agent(&inner.arguments),
        Command::ServeFault(inner) => return command::inner::serve(&inner.arguments),
    };
    let exit = exit.unwrap_or_else(|failure| {
        eprint!("{failure}");
        failure.exit
    });
    ExitCode::from(output::after_all(exit).code())
}

/// The outcome of a command: how to exit, or what could not be done.
type Outcome = Result<Exit, output::Failure>;
