//! A small but real data-parallel trainer that survives the loss of its processes, for trying out Squall without
//! Python, a GPU or a cluster. `README.md` says what it does and which mistakes can be switched on.

mod checkpoint;
mod console;
mod data;
mod failure;
mod fleet;
mod hook;
mod model;
mod observer;
mod optimizer;
mod options;
mod progress;
mod random;
mod rank;
mod ring;
mod signal;
mod snapshot;
mod supervisor;
mod training;

use std::process::ExitCode;

use options::Command;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let outcome = match options::parse(&arguments) {
        Ok(Command::Help) => {
            console::say(format_args!("{}", options::HELP.trim_end()));
            Ok(0)
        }
        Ok(Command::Supervise(options)) => supervisor::run(&options),
        Ok(Command::Rank(options)) => rank::run(&options),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            console::complain(format_args!("toy-trainer: {failure}"));
            ExitCode::from(failure.code)
        }
    }
}
