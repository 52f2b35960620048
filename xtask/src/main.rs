//! The project's own verbs: `cargo xtask demo | test | crash | prove | torch | keras | clients | page | mutants | vm | bench | fuzz | docs`.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for people at a terminal"
)]

mod bugs;
mod clients;
mod command;
mod crash;
mod demo;
mod docs;
mod fuzz;
mod interval;
mod keras;
mod launcher;
mod mutants;
mod needs;
mod page;
mod report;
mod test;
mod torch;
mod torch_network;
mod venv;
mod vm;

use anyhow::Result;
use command::{Profile, suite};
use std::process::ExitCode;

const USAGE: &str = "\
The project's own verbs:
  cargo xtask demo                        kill a rank every ten epochs on the toy trainer, and read the verdict
  cargo xtask test [PART …]               everything a contributor must keep green; installs what is missing as root
  cargo xtask crash --matrix [--full]     the crash matrix: fault × journal boundary × cause
  cargo xtask crash --trials N [--seed S] random kills, half at fail points, half from a timer
  cargo xtask prove [aim|bugs|clean|naming] [--count N]  many runs: kills land where aimed, bugs are found and named, clean kills are not
  cargo xtask torch                       real PyTorch under torchrun survives three kills, bit for bit (makes a virtual environment)
  cargo xtask torch --bugs N              the script's seeded bugs are found and named (0: as shipped; N: with N fresh seeds, and clean runs)
  cargo xtask torch --kills N             N clean kills, none of which may be called different
  cargo xtask torch --launcher N          how often torchrun's own restart fails with its own settings, with its interval
  cargo xtask torch --network             two nodes in namespaces of their own, under a slow, a lossy and a cut network (as root)
  cargo xtask keras                       a Keras script that ends itself every ten epochs: without checkpoints, and with
  cargo xtask clients                     real OpenAI, Anthropic and Toxiproxy clients against `squall proxy` (makes a virtual environment)
  cargo xtask page                        the report's page in a browser; renews the pictures in docs/images
  cargo xtask mutants [GROUP …] [--list] [--shard K/N]  breaks journal, guard, lease and transitions one place at a time; lists what no test notices
  cargo xtask vm [--soak N] [--only WORD] tests in an emulated guest with a Debian kernel: netem, device-mapper, cgroup v2 alone
  cargo xtask bench [NAME] [--format json]  interleaved runs, medians, ratios; exit 1 when a goal is missed
  cargo xtask fuzz [TARGET] [--seconds N] libFuzzer on what reads foreign input: experiment, journal, frames, hook, policy, http, stream, json, proxy-file (needs a C++ compiler)
  cargo xtask docs [--check]              writes schemas and reference (or fails when they have drifted)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome: Result<bool> = match arguments.first().map(String::as_str) {
        Some("demo") => demo::run(rest),
        Some("test") => test::run(rest),
        Some("crash") => crash::run(rest),
        Some("prove") => suite("squall-prove", Profile::Debug, rest),
        Some("torch") => torch::run(rest),
        Some("keras") => keras::run(rest),
        Some("page") => page::run(rest),
        Some("mutants") => mutants::run(rest),
        Some("vm") => vm::run(rest),
        Some("bench") => bench(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("clients") => clients::run(rest),
        Some("docs") => docs::run(rest),
        Some("help" | "--help" | "-h") | None => {
            println!("{USAGE}");
            Ok(true)
        }
        Some(other) => {
            eprintln!("error: `{other}` is not a verb of this project\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The bench on PyTorch is told which Python has it.
fn bench(arguments: &[String]) -> Result<bool> {
    let mut arguments = arguments.to_vec();
    if arguments.iter().any(|name| name == "hook-torch") {
        let python = venv::FRAMEWORKS.ensure()?.join("bin/python");
        arguments.extend(["--python".into(), python.to_string_lossy().into_owned()]);
    }
    suite("squall-bench", Profile::Release, &arguments)
}
