//! A cell in progress: the prey, the run, the moment, the strike, the judgement.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use super::cause::{Act, Cause, KILL_AGENT};
use super::cell::{Cell, Moment, TOKEN, Verdict, cgroup_name};
use super::cgroups::Cgroups;
use super::journal;
use super::points::{Point, Points};
use super::processes::{Ending, Reaper, send};
use super::squall::{HOLD_MS, NOBODY, Squall, WORKLOAD, WORKLOAD_OF_NOBODY, experiment};
use super::strike::{Aim, FILLER, Struck};
use crate::sandbox::{self, command};
use crate::snapshot::{HostSnapshot, Kind, Scope};
use crate::spawned::Spawned;
use crate::targets::{Prey, Recipe, Size, recipe};

/// The longest that anything in a cell may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Everything that a cell makes, in a file system of its own that ends with it.
const FOLDER: &str = "/mnt";

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
        let found = if cell.kind() == WORKLOAD {
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
        let is_nobody = cell.fault == WORKLOAD_OF_NOBODY;
        let program = if is_nobody {
            open_to_nobody(program, folder, &[&state, &logs], &socket)?
        } else {
            program.to_owned()
        };
        let is_coordinated = matches!(cell.moment, Moment::Boundary(_));
        let squall = Squall {
            program,
            is_nobody,
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

    pub(super) fn play(&mut self) -> anyhow::Result<Verdict> {
        if matches!(self.cause.act, Act::KillCgroup | Act::KillCgroups) && self.cgroups.is_empty() {
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
        self.began_too_early()?;
        self.judge()
    }

    /// That an injection has begun is only told when its undo is durable, so never by an agent that was killed before that.
    fn began_too_early(&self) -> anyhow::Result<()> {
        let before = matches!(&self.cell.moment, Moment::Boundary(name) if name == "before-intent");
        if before && self.cause.name == KILL_AGENT {
            let said = fs::read_to_string(self.squall.logs.join("run.out"))?;
            ensure!(
                !said.contains("injection-begun"),
                "an injection was told before its undo was durable"
            );
        }
        Ok(())
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
            if point.kind != self.cell.kind() {
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
        self.state = journal::state(&self.squall.state, self.cell.kind());
        Ok(())
    }

    /// Compares the host with the one before, and asks `status` whether it knows of anything outstanding.
    pub(super) fn judge(&mut self) -> anyhow::Result<Verdict> {
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

/// Lets a user without rights into what a cell made, and gives them a binary that they can reach.
fn open_to_nobody(
    program: &Path,
    folder: &Path,
    own: &[&PathBuf],
    socket: &Path,
) -> anyhow::Result<PathBuf> {
    let here = folder.join("squall");
    File::create(&here)?;
    command(
        "mount",
        &[
            "--bind",
            &program.to_string_lossy(),
            &here.to_string_lossy(),
        ],
    )?;
    for path in own {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    std::os::unix::fs::chown(socket, Some(NOBODY), Some(NOBODY))?;
    Ok(here)
}
