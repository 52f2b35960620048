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

/// A network namespace that is held open: whatever its path leads to later, acts stay in this one, and no other gets its inode number.
#[derive(Debug)]
pub struct Namespace {
    path: Option<PathBuf>,
    file: File,
    inode: u64,
}

impl Namespace {
    /// Opens what a path leads to now (`None`: our own).
    pub fn open(path: Option<&Path>) -> io::Result<Namespace> {
        let file = File::open(path.unwrap_or(Path::new(OWN)))?;
        Ok(Namespace {
            path: path.map(Path::to_owned),
            inode: file.metadata()?.ino(),
            file,
        })
    }

    /// Opens what a path leads to now, if it is the one with this inode number.
    pub fn open_known(path: Option<&Path>, number: u64) -> io::Result<Namespace> {
        let opened = Namespace::open(path)?;
        if opened.inode == number {
            return Ok(opened);
        }
        let path = path.unwrap_or(Path::new(OWN)).display();
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{path} leads to another network namespace by now"),
        ))
    }

    /// The path it was opened by; `None`: it is our own.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The number that names it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `act` inside it.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.path.is_none() {
            return act();
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                act()
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

/// Runs `act` inside a network namespace (`None`: our own).
pub fn inside<T: Send>(
    path: Option<&Path>,
    act: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    match path {
        Some(path) => Namespace::open(Some(path))?.inside(act),
        None => act(),
    }
}

/// As [`find`], held open. Where the path has come to lead elsewhere meanwhile, it is an error.
pub fn find_open(path: Option<&Path>, number: Option<u64>) -> io::Result<Option<Namespace>> {
    let Some(found) = find(path, number)? else {
        return Ok(None);
    };
    match number {
        Some(number) => Namespace::open_known(Some(&found), number),
        None => Namespace::open(Some(&found)),
    }
    .map(Some)
}

/// Every network namespace that a name below `/run/netns` or `/run/docker/netns`, or a process, leads to, each once.
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
    // Where `ip netns` and Docker keep theirs: one may outlive every process in it.
    for folder in ["/run/netns", "/run/docker/netns"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            add(entry.path());
        }
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
