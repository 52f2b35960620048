//! The command line. Supervisor and ranks read the same options, so a rank is started with its supervisor's own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{Failure, Result};

pub(crate) const HELP: &str = "\
Trains a small classifier with several data-parallel processes and restarts them when one is lost.

Usage: toy-trainer [OPTIONS] --out DIR

  --out DIR               where checkpoints, progress and final.safetensors go (resumes from what is there)
  --world N               ranks, 1 to 64 [2]
  --epochs N              epochs to train [40]
  --steps-per-epoch N     steps in an epoch [16]
  --batch N               samples per rank and step [16]
  --seed N                seed of data, parameters, order and noise [1]
  --max-restarts N        restarts before giving up [8]
  --checkpoint-every N    epochs between checkpoints [1]
  --step-sleep-ms N       extra time in each forward phase, ms [0]
  --peer-timeout-ms N     silence after which a peer counts as lost, ms [10000]
  --phase-log FILE        append a synced line at every begin and end of a phase
  --bug NAME              torn-checkpoint, optimizer-state, samples, learning-rate, rank0-state or save-handler
  -h, --help              this text

Exit codes: 0 trained, 1 gave up after --max-restarts, 2 wrong usage, 143 stopped by SIGTERM after saving.
";

/// Mistakes in resuming that a resilience test should find. None shows in an undisturbed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    TornCheckpoint,
    OptimizerState,
    Samples,
    LearningRate,
    Rank0State,
    SaveHandler,
}

const BUGS: [(&str, Bug); 6] = [
    ("torn-checkpoint", Bug::TornCheckpoint),
    ("optimizer-state", Bug::OptimizerState),
    ("samples", Bug::Samples),
    ("learning-rate", Bug::LearningRate),
    ("rank0-state", Bug::Rank0State),
    ("save-handler", Bug::SaveHandler),
];

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) out: PathBuf,
    pub(crate) world: usize,
    pub(crate) epochs: u64,
    pub(crate) steps_per_epoch: u64,
    /// Samples per rank and step.
    pub(crate) batch: usize,
    pub(crate) seed: u64,
    pub(crate) max_restarts: u32,
    /// Epochs between checkpoints.
    pub(crate) checkpoint_every: u64,
    pub(crate) step_sleep: Duration,
    pub(crate) peer_timeout: Duration,
    pub(crate) phase_log: Option<PathBuf>,
    pub(crate) bug: Option<Bug>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Supervise(Options),
    /// Hidden: one rank, started by a supervisor.
    Rank(Options),
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Command> {
    let is_rank = arguments.first().is_some_and(|first| first == "rank");
    let mut options = Options {
        out: PathBuf::new(),
        world: 2,
        epochs: 40,
        steps_per_epoch: 16,
        batch: 16,
        seed: 1,
        max_restarts: 8,
        checkpoint_every: 1,
        step_sleep: Duration::ZERO,
        peer_timeout: Duration::from_secs(10),
        phase_log: None,
        bug: None,
    };
    let mut rest = arguments.iter().skip(usize::from(is_rank));
    while let Some(argument) = rest.next() {
        let Some(name) = argument.to_str() else {
            return Err(Failure::usage(format!(
                "unknown option {}",
                argument.to_string_lossy()
            )));
        };
        if name == "-h" || name == "--help" {
            return Ok(Command::Help);
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (name, rest.next().cloned()),
        };
        set(&mut options, name, value)?;
    }
    if options.out.as_os_str().is_empty() {
        return Err(Failure::usage(
            "--out DIR is missing (where checkpoints go)",
        ));
    }
    // Paths go into events, whose reader has another working directory.
    options.out = std::path::absolute(&options.out)
        .map_err(|error| Failure::usage(format!("--out: {error}")))?;
    Ok(if is_rank {
        Command::Rank(options)
    } else {
        Command::Supervise(options)
    })
}

fn set(options: &mut Options, name: &str, value: Option<OsString>) -> Result<()> {
    const KNOWN: [&str; 12] = [
        "--out",
        "--world",
        "--epochs",
        "--steps-per-epoch",
        "--batch",
        "--seed",
        "--max-restarts",
        "--checkpoint-every",
        "--step-sleep-ms",
        "--peer-timeout-ms",
        "--phase-log",
        "--bug",
    ];
    if !KNOWN.contains(&name) {
        return Err(Failure::usage(format!(
            "unknown option {name}; --help lists them"
        )));
    }
    let Some(value) = value else {
        return Err(Failure::usage(format!("{name} needs a value")));
    };
    let number = |least: u64, most: u64| {
        let text = value.to_string_lossy();
        let parsed = text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number));
        parsed.ok_or_else(|| {
            Failure::usage(format!(
                "{name} takes a number from {least} to {most}, not {text:?}"
            ))
        })
    };
    match name {
        "--out" => options.out = value.into(),
        "--phase-log" => options.phase_log = Some(value.into()),
        "--world" => options.world = number(1, 64)? as usize,
        "--epochs" => options.epochs = number(1, 1_000_000)?,
        "--steps-per-epoch" => options.steps_per_epoch = number(1, 10_000)?,
        "--batch" => options.batch = number(1, 1024)? as usize,
        "--seed" => options.seed = number(0, u64::MAX)?,
        "--max-restarts" => options.max_restarts = number(0, 1_000_000)? as u32,
        "--checkpoint-every" => options.checkpoint_every = number(1, 1_000_000)?,
        "--step-sleep-ms" => options.step_sleep = Duration::from_millis(number(0, 600_000)?),
        "--peer-timeout-ms" => options.peer_timeout = Duration::from_millis(number(1, 86_400_000)?),
        _ => options.bug = Some(bug(&value.to_string_lossy())?),
    }
    Ok(())
}

fn bug(name: &str) -> Result<Bug> {
    let found = BUGS.iter().find(|(known, _)| *known == name);
    found.map(|(_, bug)| *bug).ok_or_else(|| {
        let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
        Failure::usage(format!(
            "--bug takes one of {}, not {name:?}",
            names.join(", ")
        ))
    })
}

impl Options {
    /// Steps of the whole training.
    pub(crate) fn total_steps(&self) -> u64 {
        self.epochs * self.steps_per_epoch
    }

    /// Numbers that must be the same when a checkpoint is loaded as when it was saved.
    pub(crate) fn fingerprint(&self) -> [u64; 5] {
        [
            self.world as u64,
            self.epochs,
            self.steps_per_epoch,
            self.batch as u64,
            self.seed,
        ]
    }

    /// Whether `bug` was asked for.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        parse(&arguments).expect_err("must be refused").message
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        assert_eq!(
            failure(&["--world", "0", "--out", "x"]),
            "--world takes a number from 1 to 64, not \"0\""
        );
        assert_eq!(
            failure(&["--frob"]),
            "unknown option --frob; --help lists them"
        );
        assert_eq!(failure(&["--seed"]), "--seed needs a value");
        assert_eq!(failure(&[]), "--out DIR is missing (where checkpoints go)");
        assert!(failure(&["--bug", "x"]).starts_with("--bug takes one of torn-checkpoint, "));
    }

    #[test]
    fn an_option_may_hold_its_value_after_an_equals_sign() {
        let parsed = parse(&["rank".into(), "--out=x".into(), "--batch=3".into()]);
        assert!(matches!(parsed, Ok(Command::Rank(options)) if options.batch == 3));
    }
}
