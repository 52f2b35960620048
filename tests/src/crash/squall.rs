//! The real `squall` in a cell: its experiment, its environment, its commands.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::cgroups::Cgroups;
use crate::spawned::Spawned;
use crate::targets::{Prey, Recipe};

/// The pseudo fault of cells that only own a workload.
pub const WORKLOAD: &str = "workload";
/// The same without root and so without a cgroup of its own: strays are found by their environment alone.
pub const WORKLOAD_OF_NOBODY: &str = "workload-without-root";
/// A user without any right here.
pub const NOBODY: u32 = 65534;
/// How long the lease of a run in a cell is.
pub const LEASE: Duration = Duration::from_millis(600);
/// How long a fault stays when nobody interferes.
pub const HOLD_MS: u64 = 60;
/// What a workload becomes that wants to be rid of us: a child in a session of its own whose child is in another, all parents but one gone.
const WORKLOAD_COMMAND: &str =
    "sh -c 'setsid -f sh -c \"setsid -f sleep 3601; exec sleep 3602\"; exec sleep 3603'";

/// Where the real binary is, and what it is given in a cell.
#[derive(Debug, Clone)]
pub struct Squall {
    /// The binary.
    pub program: PathBuf,
    /// Its state folder.
    pub state: PathBuf,
    /// The socket of its crash points; none for uncoordinated kills.
    pub points: Option<PathBuf>,
    /// Where its output goes.
    pub logs: PathBuf,
    /// Whether it runs without root.
    pub is_nobody: bool,
    /// Further variables.
    pub env: Vec<(String, String)>,
}

impl Squall {
    /// The binary beside this one, as one build leaves them.
    ///
    /// # Errors
    /// When it is not there, or was built by itself and so without crash points.
    pub fn beside_us() -> anyhow::Result<PathBuf> {
        const BUILD: &str = "build everything with `cargo build --workspace --all-targets`";
        let ours = std::env::current_exe()?;
        let folders = ours.ancestors().skip(1).take(2);
        let found = folders
            .map(|folder| folder.join("squall"))
            .find(|path| path.is_file());
        let found = found
            .with_context(|| format!("there is no squall near {}; {BUILD}", ours.display()))?;
        let bytes = fs::read(&found)?;
        let has_points = String::from_utf8_lossy(&bytes).contains("SQUALL_CRASH_SOCKET");
        ensure!(
            has_points,
            "{} was built without crash points; {BUILD}",
            found.display()
        );
        Ok(found)
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let verb = arguments.first().unwrap_or(&"squall");
        let mut command = if self.is_nobody {
            let mut command = Command::new("setpriv");
            let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
            command
                .args(user)
                .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command.args(arguments).stdin(Stdio::null());
        command.stdout(File::create(self.logs.join(format!("{verb}.out")))?);
        command.stderr(File::create(self.logs.join(format!("{verb}.err")))?);
        command
            .env("SQUALL_STATE_DIR", &self.state)
            .env("HOME", &self.logs)
            .env("TMPDIR", &self.logs);
        command.env_remove("SQUALL_CRASH_SOCKET");
        command.env("SQUALL_LEASE_MS", LEASE.as_millis().to_string());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Starts `squall run` in a process group of its own, inside these cgroups.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, experiment: &Path, cgroups: &Cgroups) -> anyhow::Result<Spawned> {
        let file = experiment.to_string_lossy();
        let mut command = self.command(&["run", &file, "--yes", "--format", "json"])?;
        if let Some(points) = &self.points {
            command.env("SQUALL_CRASH_SOCKET", points);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.process_group(0);
        cgroups.inside(|| Spawned::start(&mut command))
    }

    /// Starts another command, without crash points.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Spawned> {
        let mut command = self.command(arguments)?;
        command.envs(env.iter().copied());
        Spawned::start(&mut command)
    }

    /// What a command has said, for people.
    pub fn said(&self, verb: &str) -> String {
        let read = |end: &str| {
            let text =
                fs::read_to_string(self.logs.join(format!("{verb}.{end}"))).unwrap_or_default();
            let skipped = text.chars().count().saturating_sub(1500);
            text.trim().chars().skip(skipped).collect::<String>()
        };
        format!("{verb} said: {} {}", read("out"), read("err"))
    }

    /// What guard and agent have logged, for people.
    pub fn logged(&self) -> String {
        let runs = fs::read_dir(self.state.join("runs"))
            .into_iter()
            .flatten()
            .flatten();
        let logs = runs.flat_map(|run| {
            fs::read_dir(run.path().join("logs"))
                .into_iter()
                .flatten()
                .flatten()
        });
        logs.filter_map(|log| {
            let text = fs::read_to_string(log.path()).ok()?;
            (!text.trim().is_empty())
                .then(|| format!("{}: {}", log.file_name().to_string_lossy(), text.trim()))
        })
        .collect::<Vec<_>>()
        .join("; ")
    }
}

/// Writes the experiment of a cell: one fault on its prey, or nothing but an owned workload. JSON is YAML too.
///
/// # Errors
/// When it cannot be written.
pub fn experiment(
    folder: &Path,
    recipe: Option<&Recipe>,
    prey: &Prey,
    turn: usize,
    hold: Option<&str>,
) -> anyhow::Result<PathBuf> {
    let mut file = json!({"version": 1, "title": "one cell of the crash matrix", "seed": 1, "baseline": "1ms"});
    match recipe {
        Some(recipe) => file["method"] = json!([step(recipe, prey, turn, hold)]),
        None => {
            file["workload"] = json!({"process": {"run": WORKLOAD_COMMAND}});
            file["method"] = json!([{"wait": hold.unwrap_or("60ms")}]);
        }
    }
    let path = folder.join("experiment.yaml");
    fs::write(&path, serde_json::to_vec_pretty(&file)?)?;
    Ok(path)
}

/// One step of a method; the ways to use the fault take turns.
pub fn step(recipe: &Recipe, prey: &Prey, turn: usize, hold: Option<&str>) -> Value {
    let variants = (recipe.variants)(prey);
    let mut body = variants[turn % variants.len()].clone();
    body["target"] = (recipe.selector)(prey);
    if let Some(hold) = hold {
        body["for"] = json!(hold);
    }
    json!({recipe.kind: body})
}
