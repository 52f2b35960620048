//! Where a file lies: which file system holds it, and whether that one is still in its place.
//!
//! What is missing because its file system is not mounted, or lies under another one, is neither deleted nor replaced. Device numbers tell little:
//! a mount may get another each time, and the next boot may give one to somebody else. The root of the mount is known by its inode and its time of birth.

use super::Manifest;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, makedev, statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The magic numbers of tmpfs and ramfs.
const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// The topmost path of the mount that a file lies in, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub root: PathBuf,
    pub inode: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<(u64, u32)>,
    /// The boot that what it holds ends with, where it holds it in memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_with_boot: Option<String>,
}

/// What is at one path, not followed at its end.
struct Spot {
    /// Tells mounts apart while none changes; none before Linux 5.8.
    mount: Option<u64>,
    device: u64,
    inode: u64,
    born: Option<(u64, u32)>,
    link: bool,
}

impl Spot {
    fn at(path: &Path) -> io::Result<Spot> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
        let told = StatxFlags::from_bits_retain(found.stx_mask);
        let born = u64::try_from(found.stx_btime.tv_sec)
            .ok()
            .map(|seconds| (seconds, found.stx_btime.tv_nsec));
        Ok(Spot {
            mount: told
                .contains(StatxFlags::MNT_ID)
                .then_some(found.stx_mnt_id),
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: born.filter(|_| told.contains(StatxFlags::BTIME)),
            link: FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink,
        })
    }

    fn shares_mount_with(&self, other: &Spot) -> bool {
        match (self.mount, other.mount) {
            (Some(one), Some(two)) => one == two,
            _ => self.device == other.device,
        }
    }
}

impl Mount {
    /// The mount that `file` at `path` lies in. The path has no symbolic links.
    pub(super) fn of(file: &File, path: &Path) -> io::Result<Mount> {
        let here = Spot::at(path)?;
        let (mut root, mut top) = (path, here);
        for folder in path.ancestors().skip(1) {
            let above = Spot::at(folder)?;
            if !above.shares_mount_with(&top) {
                break;
            }
            (root, top) = (folder, above);
        }
        let kind = rustix::fs::fstatfs(file)?.f_type;
        let in_memory = MEMORY.contains(&(kind as u32));
        Ok(Mount {
            root: root.to_owned(),
            inode: top.inode,
            born: top.born,
            ends_with_boot: in_memory.then(crate::sys::process::boot_id).transpose()?,
        })
    }

    fn unmounted(&self) -> io::Result<Place> {
        if let Some(boot) = &self.ends_with_boot
            && *boot != crate::sys::process::boot_id()?
        {
            let words = "it lay in memory, and the machine has started anew since";
            return Ok(Place::Gone(words.to_owned()));
        }
        let root = self.root.display();
        let words = format!("the file system that held it is not mounted at {root}");
        Ok(Place::Away(words))
    }
}

/// Whether the file system that a file lay in is at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is: what is missing was deleted or replaced.
    There,
    /// It is not, in words: nothing is known of the file.
    Away(String),
    /// It is nowhere any more, in words.
    Gone(String),
}

impl Manifest {
    /// Looks for the file system at its place.
    pub fn place(&self) -> io::Result<Place> {
        match &self.mount {
            Some(mount) => self.place_in(mount),
            None => self.place_by_device(),
        }
    }

    fn place_in(&self, mount: &Mount) -> io::Result<Place> {
        let root = match Spot::at(&mount.root) {
            Err(error) if is_missing(&error) => return mount.unmounted(),
            root => root?,
        };
        if (root.inode, root.born) != (mount.inode, mount.born) {
            return mount.unmounted();
        }
        // Down from the root: what is missing first, or is a link by now, was deleted or replaced in its own file system.
        let below: Vec<&Path> = self
            .path
            .ancestors()
            .take_while(|path| *path != mount.root)
            .collect();
        for path in below.into_iter().rev() {
            match Spot::at(path) {
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(error),
                Ok(spot) if spot.link => break,
                Ok(spot) if !spot.shares_mount_with(&root) => {
                    let over = path.display();
                    let words = format!("another file system is mounted over {over}");
                    return Ok(Place::Away(words));
                }
                Ok(_) => {}
            }
        }
        Ok(Place::There)
    }

    /// For manifests that tell no mount: whether the nearest folder that is there has the device of the file's.
    fn place_by_device(&self) -> io::Result<Place> {
        for folder in self.path.ancestors().skip(1) {
            match Spot::at(folder) {
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
                Ok(spot) if spot.device == self.parent.0 => return Ok(Place::There),
                Ok(_) => break,
            }
        }
        let folder = self.path.parent().unwrap_or(Path::new("/")).display();
        let words = format!("the file system that held {folder} is not mounted there");
        Ok(Place::Away(words))
    }

    /// Whether a file with other numbers may still be it: it has the length and the time that the damage left.
    pub fn may_be(&self, meta: &std::fs::Metadata) -> bool {
        use std::os::unix::fs::MetadataExt;
        meta.len() == self.damaged_length() && (meta.mtime(), meta.mtime_nsec()) == self.mtime
    }
}

fn is_missing(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
