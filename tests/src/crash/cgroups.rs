//! A cgroup for the run of one cell, in each hierarchy that lets us: so that the whole run can be killed as a container is, and leftovers below it be seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use super::processes::send;
use crate::poll::until;

/// Hierarchies that may hold what a run makes. The others (cpuset, …) need settings before they can be entered.
const WANTED: [&str; 4] = ["", "freezer", "pids", "name=systemd"];

/// The folders of one cell.
#[derive(Debug)]
pub struct Cgroups {
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
            if fs::create_dir(&folder).is_ok() {
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

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Runs `body` with this process inside, so that what it starts is inside too.
    ///
    /// # Errors
    /// When a cgroup cannot be entered or left, and as `body`.
    pub fn inside<T>(&self, body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        for folder in &self.folders {
            enter(folder)?;
        }
        let result = body();
        for parent in &self.parents {
            enter(parent)?;
        }
        result
    }

    /// Kills all inside and below, again and again until nobody is left.
    ///
    /// # Errors
    /// When somebody survives.
    pub fn kill(&self) -> anyhow::Result<usize> {
        let mut killed = 0;
        until(Duration::from_secs(5), || {
            let inside: Vec<u32> = self
                .folders
                .iter()
                .flat_map(|folder| members(folder))
                .collect();
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
