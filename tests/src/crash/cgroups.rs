//! Two cgroups for the run of one cell, in each hierarchy that lets us: an outer one, below which leftovers are seen, and within it the one that the run is
//! started in, which can be killed with all below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use super::processes::send;
use crate::poll::until;

/// Hierarchies by which others end a tree of processes. The rest only counts and limits.
const WANTED: [&str; 3] = ["", "freezer", "name=systemd"];
/// The folder that the run is started in.
const RUN: &str = "run";

/// The folders of one cell.
#[derive(Debug)]
pub struct Cgroups {
    /// The outer ones.
    folders: Vec<PathBuf>,
    parents: Vec<PathBuf>,
}

/// Where this process is, in each wanted hierarchy: the folders of its cgroups.
fn own_folders() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for place in places.lines() {
        let mut parts = place.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if !WANTED.contains(&names) {
            continue;
        }
        let mount = mounts.lines().find_map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            let mut tail = tail.split(' ');
            let (kind, options) = (tail.next()?, tail.nth(1)?);
            let fits = match names {
                "" => kind == "cgroup2",
                names => {
                    kind == "cgroup"
                        && options.split(',').any(|option| {
                            option == names.trim_start_matches("name=") || option == names
                        })
                }
            };
            fits.then(|| head.split(' ').nth(4)).flatten()
        });
        if let Some(mount) = mount {
            folders.push(Path::new(mount).join(path.trim_start_matches('/')));
        }
    }
    folders
}

impl Cgroups {
    /// Makes a folder of this name below our own cgroup wherever that is possible; maybe nowhere.
    pub fn create(name: &str) -> Self {
        let (mut folders, mut parents) = (Vec::new(), Vec::new());
        for parent in own_folders() {
            let folder = parent.join(name);
            if fs::create_dir_all(folder.join(RUN)).is_ok() {
                folders.push(folder);
                parents.push(parent);
            }
        }
        Self { folders, parents }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The outer folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Runs `body` with this process inside, so that what it starts is inside too.
    ///
    /// # Errors
    /// When a cgroup cannot be entered or left, and as `body`.
    pub fn inside<T>(&self, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        for folder in &self.folders {
            enter(&folder.join(RUN))?;
        }
        let result = body();
        for parent in &self.parents {
            enter(parent)?;
        }
        result
    }

    /// Kills all in the cgroup that the run was started in and below it, again and again until nobody is left there.
    ///
    /// # Errors
    /// When somebody survives.
    pub fn kill(&self) -> anyhow::Result<usize> {
        let all = self.folders.iter().map(|folder| folder.join(RUN));
        Self::kill_in(&all.collect::<Vec<_>>())
    }

    /// Kills what a run has put beside that cgroup too.
    ///
    /// # Errors
    /// When somebody survives.
    pub fn kill_all(&self) -> anyhow::Result<usize> {
        Self::kill_in(&self.folders)
    }

    fn kill_in(folders: &[PathBuf]) -> anyhow::Result<usize> {
        let mut killed = 0;
        until(Duration::from_secs(5), || {
            let inside: Vec<u32> = folders.iter().flat_map(|folder| members(folder)).collect();
            killed += inside.len();
            inside.iter().for_each(|pid| send(*pid, Signal::KILL));
            Ok(inside.is_empty())
        })
        .context("killing everything in a cgroup")?;
        Ok(killed)
    }
}

/// Removes what a cell of this name has left below our own cgroups.
pub fn remove(name: &str) {
    for parent in own_folders() {
        remove_below(&parent.join(name));
    }
}

fn remove_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    // One that is not empty is named by the snapshot of its cell.
    fs::remove_dir(folder).ok();
}

fn enter(folder: &Path) -> anyhow::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
        .with_context(|| format!("enter {}", folder.display()))
}

fn members(folder: &Path) -> Vec<u32> {
    let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = listed
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid != 0)
        .collect();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(members(&entry.path()));
        }
    }
    pids
}
