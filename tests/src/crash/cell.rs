//! One cell, run as the first process of its own namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::cause::{Act, Cause, Who};
use super::cgroups::Cgroups;
use super::journal;
use super::points::{Point, Points};
use super::processes::{Ending, Own, Reaper, is_alive, own, send, tree};
use super::squall::{HOLD_MS, LEASE, Squall, WORKLOAD, experiment};
use super::strike::{Aim, FILLER, Struck};
use crate::sandbox::{self, command};
use crate::snapshot::{HostSnapshot, Kind, Scope};
use crate::spawned::Spawned;
use crate::targets::{Prey, Recipe, Size, recipe};
use rustix::process::Signal;

/// The longest that anything in a cell may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Everything that a cell makes, in a file system of its own that ends with it.
const FOLDER: &str = "/mnt";

/// When a run is struck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// When the one who acts is at this boundary.
    Boundary(String),
    /// So long after `squall run` was started, whatever it is doing.
    Microseconds(u64),
}

/// One cell of the matrix, or one trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Its place in the selection.
    pub number: usize,
    /// The fault's key, or `workload`.
    pub fault: String,
    /// `lasting`, `one-shot`, `served` or `workload`.
    pub class: String,
    /// The cause's name.
    pub cause: String,
    /// When.
    pub moment: Moment,
    /// Variables for the run: how a broken undo is planted.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}

impl Cell {
    /// `file-damage after-act kill-agent`.
    pub fn name(&self) -> String {
        match &self.moment {
            Moment::Boundary(boundary) => format!("{} {boundary} {}", self.fault, self.cause),
            Moment::Microseconds(after) => {
                format!(
                    "{} {:.1}ms {}",
                    self.fault,
                    *after as f64 / 1000.0,
                    self.cause
                )
            }
        }
    }

    fn is_one_shot(&self) -> bool {
        self.class == "one-shot"
    }

    /// A one-shot fault is never undone once it has acted, so its undo is only met by the guard, after the agent died in between.
    fn is_met_by_guard(&self) -> bool {
        self.is_one_shot()
            && matches!(&self.moment, Moment::Boundary(boundary) if boundary.contains("undo") || boundary.contains("undone"))
    }
}

/// How a cell ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As before.
    Clean,
    /// Not as before.
    Left(Vec<String>),
    /// The cell proves nothing: its boundary was never reached, or something hung.
    Failed(String),
    /// The cell makes no sense here.
    Skipped(String),
}

/// A cell's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The cell.
    pub cell: Cell,
    /// How it ended.
    pub verdict: Verdict,
    /// The last move in the journal when it was struck.
    pub state: String,
    /// What was done, in words.
    pub struck: String,
    /// What could not be read, and why.
    pub blind: BTreeMap<String, String>,
    /// How long it took.
    pub took_ms: u64,
}

/// A cell in progress.
pub(super) struct Stage {
    pub(super) cell: Cell,
    pub(super) cause: &'static Cause,
    pub(super) recipe: Option<&'static Recipe>,
    pub(super) prey: Prey,
    pub(super) squall: Squall,
    pub(super) points: Points,
    pub(super) cgroups: Cgroups,
    pub(super) reaper: Reaper,
    pub(super) scope: Scope,
    pub(super) before: HostSnapshot,
    /// Told in every error.
    pub(super) struck: Struck,
    pub(super) state: String,
}

/// Runs a cell here. This process must be the first of its namespaces.
pub fn run(cell: &Cell, program: &Path) -> Ended {
    let started = Instant::now();
    let mut ended = Ended {
        cell: cell.clone(),
        verdict: Verdict::Clean,
        state: String::new(),
        struck: String::new(),
        blind: BTreeMap::new(),
        took_ms: 0,
    };
    match Stage::set(cell, program, Size::Small) {
        Err(error) => ended.verdict = Verdict::Failed(format!("{error:#}")),
        Ok(mut stage) => {
            ended.verdict = stage.play().unwrap_or_else(|error| {
                let said = format!(
                    "{}; {}; {}",
                    stage.squall.said("run"),
                    stage.squall.said("undo"),
                    stage.squall.logged()
                );
                Verdict::Failed(format!("{error:#}; {said}; processes: {}", tree()))
            });
            if let Verdict::Left(left) = &mut ended.verdict {
                left.push(format!(
                    "({}; {}; {})",
                    stage.squall.said("run"),
                    stage.squall.said("undo"),
                    stage.squall.logged()
                ));
            }
            ended.state.clone_from(&stage.state);
            ended.struck.clone_from(&stage.struck.told);
            let blind = stage.before.blind().iter();
            ended.blind = blind
                .map(|(kind, reason)| (kind.to_string(), reason.clone()))
                .collect();
        }
    }
    ended.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    ended
}

/// The name of a cell's cgroups.
pub fn cgroup_name(token: &str) -> String {
    format!("crash-cell-{token}")
}

/// Names the cgroups of the cell.
pub const TOKEN: &str = "SQUALL_CELL_TOKEN";

impl Stage {
    pub(super) fn set(cell: &Cell, program: &Path, size: Size) -> anyhow::Result<Self> {
        ensure!(
            std::process::id() == 1,
            "a cell must be the first process of a pid namespace of its own"
        );
        command("ip", &["link", "set", "lo", "up"])?;
        sandbox::tmpfs(FOLDER, "256m")?;
        sandbox::tmpfs("/run", "16m")?;
        let folder = Path::new(FOLDER);
        let [state, logs, place] = ["state", "logs", "place"].map(|name| folder.join(name));
        for folder in [&state, &logs, &place] {
            fs::create_dir(folder)?;
        }
        let room = if size == Size::Small { "24m" } else { "256m" };
        sandbox::tmpfs(&state.to_string_lossy(), room)?;
        let cause = Cause::named(&cell.cause)
            .with_context(|| format!("there is no cause {}", cell.cause))?;
        let found = if cell.fault == WORKLOAD {
            None
        } else {
            Some(recipe(&cell.fault)?)
        };
        let prepare = found.map_or(recipe("cpu-pressure")?.prepare, |recipe| recipe.prepare);
        let prey = prepare(&place, size)?;
        let cgroups = Cgroups::create(&cgroup_name(&std::env::var(TOKEN).unwrap_or_default()));
        let mut scope = prey
            .watched(Scope::host(), !cell.is_one_shot())
            .descendants(1);
        let nothing = place.join("no-cgroups");
        fs::create_dir(&nothing)?;
        for folder in cgroups
            .folders()
            .iter()
            .chain(cgroups.is_empty().then_some(&nothing))
        {
            scope = scope.cgroup_root(folder);
        }
        let socket = folder.join("points");
        let points = Points::listen(&socket)?;
        let is_coordinated = matches!(cell.moment, Moment::Boundary(_));
        let squall = Squall {
            program: program.to_owned(),
            state,
            points: is_coordinated.then_some(socket),
            logs,
            env: cell.env.clone(),
        };
        let before = HostSnapshot::take(&scope)?;
        Ok(Self {
            cell: cell.clone(),
            cause,
            recipe: found,
            prey,
            squall,
            points,
            cgroups,
            reaper: Reaper::default(),
            scope,
            before,
            struck: Struck::default(),
            state: String::new(),
        })
    }

    fn play(&mut self) -> anyhow::Result<Verdict> {
        if self.cause.act == Act::KillCgroup && self.cgroups.is_empty() {
            return Ok(Verdict::Skipped(
                "this host lets us make no cgroup".to_owned(),
            ));
        }
        let hold = format!("{HOLD_MS}ms");
        let hold = (!self.cell.is_one_shot()).then_some(hold.as_str());
        let file = experiment(
            &self.squall.logs,
            self.recipe,
            &self.prey,
            self.cell.number,
            hold,
        )?;
        let started = Instant::now();
        let controller = self.squall.run(&file, &self.cgroups)?;
        let held = self.reach(&controller, started)?;
        self.strike(&controller)?;
        self.rescue(held, &controller)?;
        self.judge()
    }

    /// Waits for the moment. The process that is held goes on when the result is dropped.
    fn reach(&mut self, controller: &Spawned, started: Instant) -> anyhow::Result<Option<Point>> {
        let boundary = match self.cell.moment.clone() {
            Moment::Boundary(boundary) => boundary,
            Moment::Microseconds(after) => {
                let at = started + Duration::from_micros(after);
                while Instant::now() < at {
                    self.reaper.reap();
                    std::thread::sleep(
                        at.saturating_duration_since(Instant::now())
                            .min(Duration::from_millis(5)),
                    );
                }
                return Ok(None);
            }
        };
        let by_guard = self.cell.is_met_by_guard();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            self.reaper.reap();
            if self.reaper.ending(controller.pid()).is_some() {
                bail!("the run ended and never reached {boundary}");
            }
            let Some(point) = self.points.next(Duration::from_millis(20))? else {
                continue;
            };
            if point.kind != self.cell.fault {
                continue;
            }
            if by_guard && point.role == "agent" && point.boundary == "after-intent" {
                send(point.pid, Signal::KILL);
            }
            let by = if by_guard { "guard" } else { "agent" };
            if point.role == by && point.boundary == boundary {
                return Ok(Some(point));
            }
        }
        bail!("{boundary} was not reached within {LIMIT:?}")
    }

    fn strike(&mut self, controller: &Spawned) -> anyhow::Result<()> {
        let boundary = match &self.cell.moment {
            Moment::Boundary(boundary) => Some(boundary.as_str()),
            Moment::Microseconds(_) => None,
        };
        let aim = Aim {
            program: &self.squall.program,
            state: &self.squall.state,
            controller: controller.pid(),
            cgroups: &self.cgroups,
            boundary,
            agent_is_gone: self.cell.is_met_by_guard(),
        };
        self.struck = aim.strike(self.cause, &mut self.reaper)?;
        self.state = journal::state(&self.squall.state, &self.cell.fault);
        Ok(())
    }

    /// Whether only the next command can undo.
    fn is_left_to_next_command(&self) -> bool {
        let kills =
            |who| matches!(self.cause.act, Act::Signal(Signal::KILL, whom) if whom.contains(&who));
        let last_is_killed =
            self.cell.is_met_by_guard() && (kills(Who::Agent) || kills(Who::Guard));
        self.cause.removes_every_rescuer() || last_is_killed
    }

    /// Waits until the rescue is over; where nobody is left to rescue, lets the next command do it.
    fn rescue(&mut self, held: Option<Point>, controller: &Spawned) -> anyhow::Result<()> {
        if self.cause.act == Act::LeaseEnds {
            // Whoever is at the boundary only goes on when the lease is over.
            self.wait(LEASE + Duration::from_millis(500))?;
        }
        drop(held);
        if self.is_left_to_next_command() {
            self.settle("the holders are gone", |verb| {
                ["run", "guard", "agent"].contains(&verb)
            })?;
            self.next_command()?;
        } else if self.cell.is_met_by_guard() && self.cause.stops_somebody() {
            // The last rescuer may be stopped in the middle of its work: its lease covers that, so it goes on when it is continued.
            self.wait(LEASE + Duration::from_millis(500))?;
        } else {
            self.settle("the rescuers are done", |_| true)?;
        }
        for pid in std::mem::take(&mut self.struck.stopped) {
            send(pid, Signal::CONT);
        }
        self.settle("everybody is gone", |_| true)?;
        ensure!(!is_alive(controller.pid()), "the controller is alive");
        Ok(())
    }

    /// Waits until none of the processes of ours is left that counts and is not stopped by us.
    pub(super) fn settle(
        &mut self,
        until: &str,
        counts: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.reaper.reap();
            drop(self.points.next(Duration::from_millis(2))?);
            let left: Vec<_> = own(&self.squall.program)
                .into_iter()
                .filter(|process| {
                    counts(&process.verb) && !self.struck.stopped.contains(&process.pid)
                })
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "waiting until {until}: {} did not end within {LIMIT:?}",
                verbs(&left)
            );
        }
    }

    fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.reaper.reap();
            drop(self.points.next(Duration::from_millis(20))?);
        }
        Ok(())
    }

    /// `squall undo --all`, with a stranger on every pid that the journal remembers and nobody has any more.
    fn next_command(&mut self) -> anyhow::Result<()> {
        let strangers = self.strangers()?;
        let other_boot = [("SQUALL_BOOT_ID", "00000000-0000-4000-8000-000000000000")];
        let env: &[_] = if self.cause.act == Act::OtherBoot {
            &other_boot
        } else {
            &[]
        };
        let stopped_before = self.prey.is_stopped();
        let undo = self.squall.start(&["undo", "--all"], env)?;
        let exit = self.end_of(&undo)?;
        ensure!(exit == Ending::Exit(0), "undo --all ended with {exit:?}");
        if self.cause.act == Act::OtherBoot && stopped_before {
            ensure!(
                self.prey.is_stopped(),
                "on another boot, a process with the remembered pid was signalled"
            );
            send(self.prey.pid(), Signal::CONT);
        }
        for stranger in strangers {
            ensure!(
                is_alive(stranger.pid()),
                "a stranger with the remembered pid {} was ended",
                stranger.pid()
            );
            send(stranger.pid(), Signal::KILL);
        }
        Ok(())
    }

    fn strangers(&mut self) -> anyhow::Result<Vec<Spawned>> {
        let mut strangers = Vec::new();
        for pid in journal::remembered_pids(&self.squall.state) {
            self.reaper.reap();
            // The kernel gives the next free pid after the last one given.
            let is_free = !Path::new(&format!("/proc/{pid}")).exists() && pid > 1;
            if is_free && fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_ok() {
                strangers.push(Spawned::sleeper()?);
            }
        }
        Ok(strangers)
    }

    fn end_of(&mut self, process: &Spawned) -> anyhow::Result<Ending> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            self.reaper.reap();
            if let Some(ending) = self.reaper.ending(process.pid()) {
                return Ok(ending);
            }
            drop(self.points.next(Duration::from_millis(2))?);
        }
        bail!("pid {} did not end within {LIMIT:?}", process.pid())
    }

    /// Compares the host with the one before, and asks `status` whether it knows of anything outstanding.
    fn judge(&mut self) -> anyhow::Result<Verdict> {
        let left = self.left_at_last()?;
        if !left.is_empty() {
            return Ok(Verdict::Left(left));
        }
        if self.cause.act == Act::DiskFull {
            fs::remove_file(self.squall.state.join(FILLER))?;
        }
        let status = self.squall.start(&["status"], &[])?;
        let exit = self.end_of(&status)?;
        if exit != Ending::Exit(0) {
            let said = self.squall.said("status");
            return Ok(Verdict::Left(vec![format!(
                "status ended with {exit:?}; {said}"
            )]));
        }
        Ok(Verdict::Clean)
    }

    /// What is left when everything has had its time: a dead process goes only when it is collected.
    pub(super) fn left_at_last(&mut self) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            self.reaper.reap();
            let left = self.left()?;
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn left(&self) -> anyhow::Result<Vec<String>> {
        let after = HostSnapshot::take(&self.scope)?;
        let spared = format!("pid {}", self.prey.pid());
        let differences = self.before.diff(&after).into_iter();
        let is_target = |kind: Kind, name: &str| {
            self.cell.is_one_shot()
                && name == spared
                && matches!(kind, Kind::StrayProcess | Kind::ProcessState)
        };
        Ok(differences
            .filter(|difference| !is_target(difference.kind, &difference.name))
            .map(|difference| difference.to_string())
            .collect())
    }
}

/// `guard 17, agent 18`.
fn verbs(processes: &[Own]) -> String {
    let each = processes
        .iter()
        .map(|process| format!("{} {}", process.verb, process.pid));
    each.collect::<Vec<_>>().join(", ")
}

/// The binary that a cell was told to use.
pub fn program() -> anyhow::Result<PathBuf> {
    std::env::var_os("SQUALL_CELL_PROGRAM")
        .map(PathBuf::from)
        .context("SQUALL_CELL_PROGRAM is not set")
}
