//! `cargo xtask torch`: the main job on real PyTorch under torchrun, with kills, and the hook's tests with a real torch.
//! `--bugs N`: seeded bugs are named. `--kills N`: N clean kills, and none is called different.
//! `--launcher N`: how often torchrun's own restart fails without the settings that make it dependable.

use crate::command::{cargo, program, root, succeeds, target_dir};
use crate::launcher::Findings;
use crate::needs;
use crate::venv::FRAMEWORKS;
use crate::{interval, report};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EXPERIMENT: &str = "examples/pytorch/kill-a-rank-every-ten-epochs.yaml";
const LAUNCHER: &str = "examples/pytorch/launcher-defaults.yaml";
const USAGE: &str = "`cargo xtask torch` takes nothing, or one of `--network`, `--bugs N`, `--kills N`, `--launcher N`";
/// Kills of one run of the main job.
const KILLS: u32 = 3;
/// Where the clean kills of `--kills` land, one after the other.
const PHASES: [&str; 5] = [
    "forward",
    "backward",
    "optimizer-step",
    "data-wait",
    "step-end",
];

pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let asked = match arguments[..] {
        [] => None,
        ["--network"] => Some(("--network", 0)),
        [verb, count] => Some((verb, count.parse::<u32>().context(USAGE)?)),
        _ => bail!(USAGE),
    };
    let (verb, count) = asked.unwrap_or(("", 0));
    let known = matches!(
        (verb, count),
        ("", _) | ("--bugs" | "--network", _) | ("--kills" | "--launcher", 1..)
    );
    if !known {
        bail!(USAGE);
    }
    needs::install(needs::FRAMEWORKS)?;
    let bench = Bench::ready("squall-torch")?;
    match verb {
        "--launcher" => measure_the_launcher(&bench, count),
        "--kills" => clean_kills(&bench, count),
        "--network" => crate::torch_network::run(&bench),
        "--bugs" => crate::bugs::run(&bench, count),
        _ => Ok(hook_tests(&bench)? && main_job(&bench)? && crate::bugs::run(&bench, 0)?),
    }
}

/// The built product, the environment, and a state folder of their own.
pub(crate) struct Bench {
    pub(crate) environment: PathBuf,
    pub(crate) state: PathBuf,
}

/// One run of an experiment.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) folder: PathBuf,
}

impl Bench {
    pub(crate) fn ready(state: &str) -> Result<Bench> {
        let environment = FRAMEWORKS.ensure()?;
        if !cargo(&["build", "--package", "squall"])? {
            bail!("the build failed; see above");
        }
        let state = target_dir().join(state);
        fs::create_dir_all(&state)?;
        Ok(Bench { environment, state })
    }

    /// A program with the environment's programs first on PATH, after ours.
    pub(crate) fn program(&self, name: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = program(&name.to_string_lossy(), arguments, "debug");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = vec![self.environment.join("bin"), target_dir().join("debug")];
        folders.extend(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders)?);
        command
            .env("SQUALL_STATE_DIR", &self.state)
            .env_remove("PYTHONPATH");
        Ok(command)
    }

    /// The same for an experiment of `examples/pytorch` that was changed.
    pub(crate) fn text(&self, name: &str, text: &str) -> Result<Ran> {
        let script = root().join("examples/pytorch/train_gpt.py");
        let file = self.state.join(format!("{name}.yaml"));
        fs::write(
            &file,
            text.replace("train_gpt.py", &script.to_string_lossy()),
        )?;
        self.experiment(&file.to_string_lossy())
    }

    /// `squall run` with our own output; the run's folder is the one that is new afterwards.
    pub(crate) fn experiment(&self, file: &str) -> Result<Ran> {
        let before = self.runs();
        println!("$ squall run {file} --yes");
        let squall = target_dir().join("debug/squall");
        let status = self
            .program(&squall, &["run", file, "--yes"])?
            .stdin(Stdio::null())
            .status()?;
        let folder = self.runs().into_iter().rfind(|run| !before.contains(run));
        let folder = folder
            .with_context(|| format!("{file} left no run folder in {}", self.state.display()))?;
        Ok(Ran {
            code: status.code(),
            folder,
        })
    }

    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state.join("runs"))
            .into_iter()
            .flatten()
            .flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        found.sort();
        found
    }
}

impl Ran {
    /// What the logs of the workload and of its reference tell of failures.
    pub(crate) fn findings(&self) -> Findings {
        let log = |name: &str| {
            fs::read_to_string(self.folder.join("logs").join(name)).unwrap_or_default()
        };
        Findings::of(&(log("reference.log") + "\n" + &log("workload.log")))
    }
}

fn hook_tests(bench: &Bench) -> Result<bool> {
    let python = bench.environment.join("bin/python");
    let arguments = [
        "-m",
        "unittest",
        "discover",
        "-s",
        "python/tests",
        "-p",
        "real_torch*.py",
    ];
    succeeds(
        bench
            .program(&python, &arguments)?
            .env("OMP_NUM_THREADS", "1"),
    )
}

/// Three kills. A failure of the launcher alone is repeated once; anything else counts at once.
fn main_job(bench: &Bench) -> Result<bool> {
    for attempt in 1..=2 {
        let ran = bench.experiment(EXPERIMENT)?;
        let findings = ran.findings();
        for line in &findings.launcher {
            println!("launcher: {line}");
        }
        let failures = findings.launcher.len();
        println!("launcher failures seen: {failures}");
        if ran.code == Some(0) {
            return report::is_whole(&ran.folder, 3);
        }
        let finished = report::workload_exit(&ran.folder) == Some(0);
        if finished || !findings.blame_the_launcher() {
            for line in &findings.own {
                eprintln!("a rank failed by itself: {line}");
            }
            eprintln!(
                "exit status {:?}: the experiment did not hold; see {}",
                ran.code,
                ran.folder.display()
            );
            return Ok(false);
        }
        println!(
            "inconclusive: launcher (attempt {attempt} of 2); see {}",
            ran.folder.display()
        );
    }
    eprintln!("torchrun's own restart failed twice in a row");
    Ok(false)
}

/// The main job again and again, each time with another seed and another phase. What the launcher lost is not counted.
fn clean_kills(bench: &Bench, wanted: u32) -> Result<bool> {
    let shipped = fs::read_to_string(root().join(EXPERIMENT))?;
    let (mut kills, mut recovered, mut different, mut launcher, mut other) = (0, 0, 0, 0, 0);
    for number in 0..wanted.div_ceil(KILLS) {
        let seed = 1_001 + number;
        let phase = PHASES[number as usize % PHASES.len()];
        let text = shipped
            .replace("--epochs 40", &format!("--epochs 40 --seed {seed}"))
            .replace(
                "every: {epochs: 10}",
                &format!(
                    "every: {{steps: {}, phase: {phase}}}, times: 3",
                    83 + number % 10
                ),
            );
        let ran = bench.text(&format!("kills-{seed}"), &text)?;
        let outcome = report::outcome(&ran.folder)?;
        if !outcome.finished && ran.findings().blame_the_launcher() {
            launcher += 1;
        } else {
            kills += outcome.landed;
            recovered += outcome.recovered;
            different += u32::from(outcome.sameness == "different");
            other += u32::from(!matches!(outcome.sameness.as_str(), "same" | "different"));
        }
        let runs = number + 1;
        let summary = format!(
            "clean kills of PyTorch: {kills} in {runs} runs, {recovered} recovered\n\
             called different though nothing was wrong: {} runs\n\
             not decided: {other} · lost by the launcher, not counted: {launcher}\n",
            interval::of(different, runs - launcher),
        );
        print!("\n{summary}");
        fs::write(bench.state.join("kills.txt"), &summary)?;
    }
    Ok(different == 0 && other == 0 && kills >= wanted.saturating_sub(launcher * KILLS))
}

/// One kill a trial, torchrun and gloo as they come.
fn measure_the_launcher(bench: &Bench, trials: u32) -> Result<bool> {
    let mut counts = [0_u32; 4];
    for trial in 1..=trials {
        let ran = bench.experiment(LAUNCHER)?;
        let kind = Trial::of(&ran)?;
        counts[kind as usize] += 1;
        println!("trial {trial} of {trials}: {}", kind.words());
    }
    let [clean, restarts, failed, unclear] = counts;
    let counted = trials - unclear;
    let wrong = restarts + failed;
    let summary = format!(
        "torchrun's restart after one kill, as it comes, {counted} trials:\n\
         clean {clean} · more than one restart {restarts} · lost or hung {failed} · not counted (no kill landed, or a rank failed by itself) {unclear}\n\
         went wrong: {} · lost or hung: {}\n",
        interval::of(wrong, counted),
        interval::of(failed, counted),
    );
    print!("\n{summary}");
    fs::write(root().join("target").join("launcher.txt"), &summary)
        .or_else(|_| fs::write(bench.state.join("launcher.txt"), &summary))?;
    Ok(counted > 0)
}

/// What became of one kill.
#[derive(Clone, Copy)]
enum Trial {
    Clean = 0,
    MoreRestarts = 1,
    Failed = 2,
    Unclear = 3,
}

impl Trial {
    fn of(ran: &Ran) -> Result<Trial> {
        let findings = ran.findings();
        let (landed, restarts) = report::landed_and_restarts(&ran.folder)?;
        Ok(if landed != 1 || !findings.own.is_empty() {
            Trial::Unclear
        } else if report::workload_exit(&ran.folder) != Some(0) {
            Trial::Failed
        } else if restarts > 1 || !findings.launcher.is_empty() {
            Trial::MoreRestarts
        } else {
            Trial::Clean
        })
    }

    fn words(self) -> &'static str {
        match self {
            Trial::Clean => "one restart, and training went on",
            Trial::MoreRestarts => "training went on, but the restart itself failed first",
            Trial::Failed => "the job was lost, or hung until the limit",
            Trial::Unclear => "not counted",
        }
    }
}
