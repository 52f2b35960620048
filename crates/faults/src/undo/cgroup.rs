//! Cgroup folders that we made: who is in them, ending all of it, and removing them. Version 2, version 1 freezer, and neither.

use super::{UndoError, seen};
use crate::sys::process::{Process, is_gone};
use rustix::process::Signal;
use squall_model::event::{Observation, Presence};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a folder may stay busy after its last process has died.
const BUSY: Duration = Duration::from_secs(2);
/// How long a freezer may take.
const FREEZE: Duration = Duration::from_millis(500);

/// `Ok(None)` when the file or folder is gone.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // The kernel says ENODEV when the group went while its file was open.
        Err(error)
            if is_gone(&error)
                || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The folder and all folders below it, parents first.
fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let Some(entries) = present(std::fs::read_dir(&folder))? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = present(entry)? else {
                continue;
            };
            if present(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
        all.push(folder);
    }
    Ok(all)
}

/// The pids in a cgroup and below it.
pub(super) fn members(root: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for folder in folders(root)? {
        let text =
            present(std::fs::read_to_string(folder.join("cgroup.procs")))?.unwrap_or_default();
        // 0 is a process of another pid namespace.
        pids.extend(
            text.lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|pid| *pid != 0),
        );
    }
    Ok(pids)
}

/// One blow at everything in a cgroup: `cgroup.kill`, or freeze, KILL all, thaw. The caller repeats it until nobody is left.
pub(super) fn kill(root: &Path) -> io::Result<()> {
    if write(root, "cgroup.kill", "1")? {
        return Ok(());
    }
    let frozen_v2 = write(root, "cgroup.freeze", "1")?;
    let frozen_v1 = !frozen_v2 && write(root, "freezer.state", "FROZEN")?;
    let killed = (|| {
        if frozen_v1 {
            wait_frozen(root)?;
        }
        for pid in members(root)? {
            if pid == std::process::id() {
                continue;
            }
            let killed = Process::open_pid(pid).and_then(|process| match process {
                Some(process) => process.signal(Signal::KILL).map(drop),
                None => Ok(()),
            });
            match killed {
                Err(error) if !super::tree::is_refused(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    })();
    // Thawed whatever happened above: the frozen cannot die.
    if frozen_v2 {
        write(root, "cgroup.freeze", "0")?;
    }
    if frozen_v1 {
        write(root, "freezer.state", "THAWED")?;
    }
    killed
}

fn wait_frozen(root: &Path) -> io::Result<()> {
    let deadline = Instant::now() + FREEZE;
    while Instant::now() < deadline {
        match present(std::fs::read_to_string(root.join("freezer.state")))? {
            Some(state) if state.trim() != "FROZEN" => std::thread::sleep(Duration::from_millis(1)),
            _ => break,
        }
    }
    Ok(())
}

/// Writes to a file of the group; false when there is no such file.
fn write(root: &Path, file: &str, text: &str) -> io::Result<bool> {
    let path = root.join(file);
    if !path.exists() {
        return Ok(false);
    }
    Ok(present(std::fs::write(path, text))?.is_some())
}

/// Removes the folders and what the workload made below them, innermost first.
pub(super) fn remove(paths: &[PathBuf]) -> Result<(), UndoError> {
    let mut failures = Vec::new();
    for path in paths {
        if let Err(error) = remove_one(path) {
            failures.push((path, error));
        }
    }
    let Some((path, error)) = failures.first() else {
        return Ok(());
    };
    Err(UndoError::new(
        format!("remove the cgroup {}", path.display()),
        error,
        failures
            .iter()
            .map(|(path, _)| format!("rmdir {}", path.display()))
            .collect::<Vec<_>>()
            .join(" && "),
    ))
}

/// Removes one folder and what is below it, waiting a moment for the last of its processes to go.
pub(crate) fn remove_one(root: &Path) -> io::Result<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        let mut busy = None;
        for folder in folders(root)?.iter().rev() {
            match present(std::fs::remove_dir(folder)) {
                Ok(_) => {}
                Err(error) => busy = Some(error),
            }
        }
        match busy {
            None => return Ok(()),
            Some(error) if Instant::now() >= deadline => return Err(error),
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Reads whether one of the folders is there.
pub(super) fn presence(paths: &[PathBuf]) -> Observation {
    let source = "cgroup file system";
    let mut left = Vec::new();
    for path in paths {
        match path.try_exists() {
            Ok(true) => left.push(path.display().to_string()),
            Ok(false) => {}
            Err(error) => {
                return seen(
                    Presence::Unknown,
                    source,
                    format!("{}: {error}", path.display()),
                );
            }
        }
    }
    if left.is_empty() {
        return seen(
            Presence::Absent,
            source,
            "its processes are ended and its cgroup is gone",
        );
    }
    seen(
        Presence::Present,
        source,
        format!("there still: {}", left.join(", ")),
    )
}
