//! `squall`: breaks AI workloads on purpose, takes everything back, and says with proof what that did.
//!
//! Parses arguments, prints, exits. All logic lives in the crates below.
#![forbid(unsafe_code)]

// In place of the standard library's, which panic when nobody reads any more (`squall faults | head`): the one crate
// that prints must not end a run because of that.
macro_rules! print {
    ($($it:tt)*) => { $crate::output::put(&mut std::io::stdout(), format_args!($($it)*)) };
}
macro_rules! println {
    () => { print!("\n") };
    ($($it:tt)*) => { print!("{}\n", format_args!($($it)*)) };
}
macro_rules! eprint {
    ($($it:tt)*) => { $crate::output::put(&mut std::io::stderr(), format_args!($($it)*)) };
}
macro_rules! eprintln {
    ($($it:tt)*) => { eprint!("{}\n", format_args!($($it)*)) };
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
        Command::Faults(faults) => command::faults::run(&faults),
        Command::Doctor(doctor) => command::doctor::run(&doctor),
        Command::Schema(schema) => command::schema::run(&schema),
        Command::Guard(inner) => return command::inner::guard(&inner.arguments),
        Command::Agent(inner) => return command::inner::agent(&inner.arguments),
        Command::ServeFault(inner) => return command::inner::serve(&inner.arguments),
    };
    ExitCode::from(
        exit.unwrap_or_else(|failure| {
            eprint!("{failure}");
            failure.exit
        })
        .code(),
    )
}

/// The outcome of a command: how to exit, or what could not be done.
type Outcome = Result<Exit, output::Failure>;
