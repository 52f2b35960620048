//! Cells side by side, each in a process and namespaces of its own, each with an end.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::cell::{Cell, Ended, TOKEN, Verdict, cgroup_name};
use super::cgroups;
use crate::poll::poll;
use crate::sandbox::Sandbox;

/// The longest a cell may take, whatever hangs in it.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs cells, `jobs` at a time, and gives their results in the same order. `told` hears of each as it ends.
///
/// # Errors
/// When this host lets us make no namespaces: then nothing can be proven here.
pub fn run(
    cells: &[Cell],
    program: &Path,
    jobs: usize,
    told: impl Fn(&Ended) + Sync,
) -> anyhow::Result<Vec<Ended>> {
    let flags = Sandbox::new().with_own_pids().usable_flags()?;
    let flags = flags.context("this host lets us make no namespaces, so no cell can be run")?;
    let next = AtomicUsize::new(0);
    let ended: Mutex<Vec<Ended>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let result =
                        one(cell, program, &flags).unwrap_or_else(|error| failed(cell, &error));
                    told(&result);
                    let mut ended = ended
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    ended.push(result);
                }
            });
        }
    });
    let mut ended = ended
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    ended.sort_by_key(|ended| ended.cell.number);
    Ok(ended)
}

fn failed(cell: &Cell, error: &anyhow::Error) -> Ended {
    Ended {
        cell: cell.clone(),
        verdict: Verdict::Failed(format!("{error:#}")),
        state: String::new(),
        struck: String::new(),
        blind: std::collections::BTreeMap::new(),
        took_ms: 0,
    }
}

/// A command that becomes the first process of new namespaces.
pub fn in_namespaces(flags: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new("unshare");
    command.args(flags).arg("--").arg(harness()?);
    Ok(command)
}

/// The program that knows `--cell`: this one, or the one that was built beside this test.
fn harness() -> anyhow::Result<std::path::PathBuf> {
    let ours = std::env::current_exe()?;
    let folders = ours
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("squall-crash"));
    folders
        .into_iter()
        .find(|path| path.is_file())
        .context("there is no squall-crash beside this program")
}

fn one(cell: &Cell, program: &Path, flags: &[&str]) -> anyhow::Result<Ended> {
    let (said, complained) = inside("--cell", cell, program, flags)?;
    serde_json::from_str(&said)
        .with_context(|| format!("the cell said {said:?} and {complained:?}"))
}

/// Measures in namespaces of its own how long after the agent's death the world is clean, in milliseconds.
///
/// # Errors
/// When it cannot be measured.
pub fn measure(cell: &Cell, program: &Path) -> anyhow::Result<f64> {
    let flags = Sandbox::new().with_own_pids().usable_flags()?;
    let flags =
        flags.context("this host lets us make no namespaces, so nothing can be measured")?;
    let (said, complained) = inside("--measure", cell, program, &flags)?;
    let said = said.trim();
    said.parse()
        .with_context(|| format!("{} said {said:?} and {complained}", cell.fault))
}

/// Runs the harness as the first process of new namespaces; what it said and complained.
fn inside(
    verb: &str,
    cell: &Cell,
    program: &Path,
    flags: &[&str],
) -> anyhow::Result<(String, String)> {
    // Two selections may run side by side, each with a cell of this number.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let token = format!(
        "{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::SeqCst)
    );
    let mut command = in_namespaces(flags)?;
    command.arg(verb).arg(serde_json::to_string(cell)?);
    command
        .env("SQUALL_CELL_PROGRAM", program)
        .env(TOKEN, &token);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start unshare")?;
    let ended = poll(LIMIT, || Ok(child.try_wait()?));
    if ended.is_err() {
        // The first process of the namespace is killed with it, and everything inside with that.
        child.kill()?;
        child.wait()?;
    }
    let (mut said, mut complained) = (String::new(), String::new());
    // What is printed is far smaller than a pipe.
    child
        .stdout
        .take()
        .context("no output")?
        .read_to_string(&mut said)?;
    child
        .stderr
        .take()
        .context("no output")?
        .read_to_string(&mut complained)?;
    cgroups::remove(&cgroup_name(&token));
    ended.with_context(|| format!("the cell hung: {complained}"))?;
    Ok((said, complained))
}
