//! Acting inside another network namespace: on a thread of its own, so that no other thread of this process ever leaves ours.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const OWN: &str = "/proc/self/ns/net";

/// The inode number that names a network namespace (`None`: our own).
pub fn inode(path: Option<&Path>) -> io::Result<u64> {
    Ok(std::fs::metadata(path.unwrap_or(Path::new(OWN)))?.ino())
}

/// Runs `act` inside a network namespace (`None`: our own).
pub fn inside<T: Send>(
    path: Option<&Path>,
    act: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(path) = path else {
        return act();
    };
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            act()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Every network namespace that a name below `/run/netns` or a process leads to, each once.
pub fn all() -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let mut add = |path: PathBuf| {
        if let Ok(meta) = std::fs::metadata(&path)
            && !found.iter().any(|(inode, _)| *inode == meta.ino())
        {
            found.push((meta.ino(), path));
        }
    };
    add(PathBuf::from(OWN));
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        add(entry.path());
    }
    for pid in crate::sys::process::pids()? {
        add(PathBuf::from(format!("/proc/{pid}/ns/net")));
    }
    Ok(found)
}

/// A path that leads to this namespace now: the recorded one while it still does, else any other. `None`: nothing leads there any more.
pub fn find(path: Option<&Path>, number: Option<u64>) -> io::Result<Option<PathBuf>> {
    let recorded = path.unwrap_or(Path::new(OWN)).to_owned();
    match (inode(Some(&recorded)), number) {
        (Ok(_), None) => return Ok(Some(recorded)),
        (Ok(now), Some(number)) if now == number => return Ok(Some(recorded)),
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(all()?
        .into_iter()
        .find(|(inode, _)| Some(*inode) == number)
        .map(|(_, path)| path))
}
