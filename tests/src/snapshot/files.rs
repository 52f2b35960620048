//! Files: content, mode, owner, size, times, attributes, and which exist at all.
//!
//! Compared is what an undo promises to put back; not the inode, nor access and change times, nor
//! the times and sizes of folders, which follow from what was made and removed in them.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{IFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::proc::hexed;
use super::{Facts, Scope, hex};

/// Files that names are resolved by.
const RESOLVER: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];
/// An attribute as large as Linux allows.
const ATTRIBUTE_MAX: usize = 1 << 16;

pub(super) fn watched(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    let mut left: Vec<PathBuf> = scope.files.clone();
    while let Some(path) = left.pop() {
        let Some(described) = describe(&path)? else {
            continue;
        };
        facts.add(hexed(path.as_os_str()), described.text);
        if described.is_folder {
            match fs::read_dir(&path) {
                Ok(entries) => left.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("list {}", path.display()));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn resolver(facts: &mut Facts) -> anyhow::Result<()> {
    for name in RESOLVER {
        let path = Path::new(name);
        if let Some(described) = describe(path)? {
            // Where it is a link, what it leads to counts too.
            let content = fs::read(path).unwrap_or_default();
            facts.add(
                name,
                format!(
                    "{} leads to {}",
                    described.text,
                    hex(&Sha256::digest(&content))
                ),
            );
        }
    }
    Ok(())
}

struct Described {
    text: String,
    is_folder: bool,
}

/// A file in words; none when it is not there or goes away meanwhile.
fn describe(path: &Path) -> anyhow::Result<Option<Described>> {
    let described = fs::symlink_metadata(path).and_then(|metadata| {
        Ok(Described {
            text: describe_present(path, &metadata)?,
            is_folder: metadata.is_dir(),
        })
    });
    match described {
        Ok(described) => Ok(Some(described)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn describe_present(path: &Path, metadata: &Metadata) -> io::Result<String> {
    let kind = metadata.file_type();
    let mut text = format!(
        "mode {:o} owner {}:{}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid()
    );
    if !kind.is_dir() {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        text += &format!(
            " mtime {seconds}.{nanoseconds:09} size {} links {}",
            metadata.len(),
            metadata.nlink()
        );
    }
    if kind.is_file() {
        text += &format!(" sha256 {}", digest(path)?);
    } else if kind.is_symlink() {
        text += &format!(" to {}", hexed(fs::read_link(path)?.as_os_str()));
    } else if kind.is_block_device() || kind.is_char_device() {
        text += &format!(" device {:x}", metadata.rdev());
    }
    if kind.is_file() || kind.is_dir() {
        text += &flags(path);
    }
    text += &attributes(path)?;
    Ok(text)
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Immutable, append-only and their like, where the file system has them.
fn flags(path: &Path) -> String {
    let kept = IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NOATIME | IFlags::SYNC | IFlags::NODUMP;
    let opened = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let flags = opened
        .and_then(rustix::fs::ioctl_getflags)
        .unwrap_or(IFlags::empty())
        & kept;
    if flags.is_empty() {
        String::new()
    } else {
        format!(" flags {:x}", flags.bits())
    }
}

fn attributes(path: &Path) -> io::Result<String> {
    let mut list = vec![0u8; ATTRIBUTE_MAX];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names: Vec<_> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    let mut text = String::new();
    let mut value = vec![0u8; ATTRIBUTE_MAX];
    for name in names {
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        text += &format!(
            " {}={}",
            String::from_utf8_lossy(name),
            hex(&value[..length])
        );
    }
    Ok(text)
}
