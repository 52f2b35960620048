//! Verified backups of what a file fault is about to damage, and what tells the damage, the original and the workload's own writing apart.
//!
//! A backup is made in the state folder, read again and compared before anything is touched. Its manifest lists ranges of at most 1 MiB,
//! each with the digests of its original and of its damage. The damage is a pure function of the original, so a range that a crash
//! left half damaged or half restored is recognised byte by byte as ours; anything else in it is the workload's.

pub mod metadata;
pub mod place;

use metadata::{born, hex, xattrs};
use place::Mount;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The version this build writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// The longest range.
pub const RANGE_MAX: u64 = 1024 * 1024;
const DATA: &str = "data";
/// The manifest's name in the folder of a backup.
pub const MANIFEST: &str = "manifest.json";

/// What was done to a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Every byte became 0.
    Zero,
    /// These bits were inverted: offset in the range, mask.
    Flip { bits: Vec<(u32, u8)> },
    /// It was cut off the end of the file.
    Cut,
    /// It went with the whole file.
    Delete,
}

/// A range of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Where in the file.
    pub at: u64,
    pub length: u64,
    /// Where in the backup's data.
    pub backup_at: u64,
    pub change: Change,
    /// SHA-256 in hex.
    pub original: String,
    /// SHA-256 in hex of the damaged range; of nothing, for what was cut off or deleted.
    pub damage: String,
}

/// Everything that is put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// Without symbolic links.
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// When the inode was made (seconds and nanoseconds), where the file system tells: inode numbers are reused at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<(u64, u32)>,
    /// Device and inode of the folder it lies in.
    pub parent: (u64, u64),
    /// The mount it lies in. Manifests of before there was this key have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
    /// When that folder was last changed (seconds and nanoseconds), before a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_mtime: Option<(i64, i64)>,
    pub length: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Names and hex values.
    pub xattrs: Vec<(String, String)>,
    pub ranges: Vec<Range>,
}

/// A range to be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub at: u64,
    pub length: u64,
    pub change: Change,
}

/// What a range holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Original,
    Damage,
    /// A mixture of the two: an interrupted damage or restore.
    Mixture,
    /// Something that is not ours.
    Foreign,
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Change {
    /// What the change makes of `original`; empty for what is cut off or deleted.
    pub fn damage(&self, original: &[u8]) -> Vec<u8> {
        match self {
            Change::Zero => vec![0; original.len()],
            Change::Flip { bits } => {
                let mut bytes = original.to_vec();
                for (at, mask) in bits {
                    if let Some(byte) = bytes.get_mut(*at as usize) {
                        *byte ^= mask;
                    }
                }
                bytes
            }
            Change::Cut | Change::Delete => Vec::new(),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|part| *part == ZEROS[..part.len()])
}

impl Range {
    /// Tells what `current` is, given the original from the backup. `current` is shorter where the file ends.
    pub fn holds(&self, current: &[u8], original: &[u8]) -> Holds {
        if current == original {
            return Holds::Original;
        }
        if self.change == Change::Zero && current.len() == original.len() && is_zero(current) {
            return Holds::Damage;
        }
        let damage = self.change.damage(original);
        if current == damage {
            return Holds::Damage;
        }
        // Where an interrupted restore of a cut range was lost with the machine, the file system shows zeros.
        let ours = match self.change {
            Change::Cut => current
                .iter()
                .zip(original)
                .all(|(now, was)| now == was || *now == 0),
            _ => {
                current.len() == original.len()
                    && current
                        .iter()
                        .zip(original)
                        .zip(&damage)
                        .all(|((now, was), ill)| now == was || now == ill)
            }
        };
        if ours { Holds::Mixture } else { Holds::Foreign }
    }
}

/// Opens a regular file without following a link at its end.
pub fn open(path: &Path, write: bool) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .write(write)
        .custom_flags(no_follow.bits() as i32)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
}

/// Reads up to `length` bytes at `at`; fewer where the file ends.
pub fn read_range(file: &File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_range_into(file, at, length, &mut bytes)?;
    Ok(bytes)
}

/// The same into a buffer that is used again and again: fresh memory for each range costs the kernel more than reading it.
pub fn read_range_into(file: &File, at: u64, length: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(())
}

/// Makes the backup in `folder`: data and manifest, synced, read again and compared.
pub fn make(file: &File, path: &Path, plans: &[Plan], folder: &Path) -> io::Result<Manifest> {
    let meta = file.metadata()?;
    let parent = std::fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let mut data = private(&folder.join(DATA))?;
    let mut ranges = Vec::new();
    let mut backup_at = 0;
    for plan in plans {
        let original = read_range(file, plan.at, plan.length)?;
        if original.len() as u64 != plan.length {
            return Err(io::Error::other(
                "the file became shorter while it was backed up",
            ));
        }
        data.write_all(&original)?;
        ranges.push(Range {
            at: plan.at,
            length: plan.length,
            backup_at,
            change: plan.change.clone(),
            original: digest(&original),
            damage: digest(&plan.change.damage(&original)),
        });
        backup_at += plan.length;
    }
    data.sync_all()?;
    let manifest = Manifest {
        version: VERSION,
        path: path.to_owned(),
        device: meta.dev(),
        inode: meta.ino(),
        born: born(&meta),
        parent: (parent.dev(), parent.ino()),
        mount: Some(Mount::of(file, path)?),
        parent_mtime: Some((parent.mtime(), parent.mtime_nsec())),
        length: meta.len(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        xattrs: xattrs(file)?,
        ranges,
    };
    let mut out = private(&folder.join(MANIFEST))?;
    out.write_all(&serde_json::to_vec(&manifest).map_err(io::Error::other)?)?;
    out.sync_all()?;
    // Up to the run's folder, whose own name the journal has made durable.
    for folder in folder.ancestors().take(3) {
        File::open(folder)?.sync_all()?;
    }
    verify(folder, &manifest)?;
    Ok(manifest)
}

fn private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Reads the backup again and compares it with its digests.
fn verify(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    if load(folder)? != *manifest {
        return Err(io::Error::other("the manifest reads back differently"));
    }
    let data = Data::open(folder)?;
    manifest
        .ranges
        .iter()
        .try_for_each(|range| data.original(range).map(|_| ()))
}

/// Reads the manifest of a backup.
pub fn load(folder: &Path) -> io::Result<Manifest> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let mut text = Vec::new();
    File::open(folder.join(MANIFEST))?.read_to_end(&mut text)?;
    let Versioned { version } = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if version > VERSION {
        return Err(io::Error::other(format!(
            "the manifest has version {version} and this squall knows up to {VERSION}"
        )));
    }
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// The data of a backup.
#[derive(Debug)]
pub struct Data(File);

impl Data {
    /// Opens it.
    pub fn open(folder: &Path) -> io::Result<Data> {
        File::open(folder.join(DATA)).map(Data)
    }

    /// The original bytes of a range, checked.
    pub fn original(&self, range: &Range) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.original_into(range, &mut bytes)?;
        Ok(bytes)
    }

    /// The same into a buffer that is used again and again.
    pub fn original_into(&self, range: &Range, bytes: &mut Vec<u8>) -> io::Result<()> {
        read_range_into(&self.0, range.backup_at, range.length, bytes)?;
        if digest(bytes) != range.original {
            return Err(io::Error::other(format!(
                "the backup of the range at {} does not check",
                range.at
            )));
        }
        Ok(())
    }
}

impl Manifest {
    /// Whether this is the very file that was backed up. Where its device has another number, that holds as long as its file system is not away.
    pub fn is_of(&self, meta: &std::fs::Metadata) -> bool {
        meta.is_file()
            && meta.ino() == self.inode
            && born(meta) == self.born
            && (meta.dev() == self.device || self.mount.is_some())
    }

    /// The same for the folder it lay in.
    pub fn is_in(&self, parent: &std::fs::Metadata) -> bool {
        parent.ino() == self.parent.1 && (parent.dev() == self.parent.0 || self.mount.is_some())
    }

    /// The whole file is gone, rather than damaged where it lies.
    pub fn is_deletion(&self) -> bool {
        self.ranges
            .iter()
            .any(|range| range.change == Change::Delete)
    }

    /// Its length after the damage.
    pub fn damaged_length(&self) -> u64 {
        self.ranges
            .iter()
            .filter(|range| range.change == Change::Cut)
            .map(|range| range.at)
            .min()
            .unwrap_or(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by version 0.1.0 of Squall. It must be readable by every later one.
    #[test]
    fn the_manifest_of_version_1_is_understood_and_a_newer_one_is_refused() {
        let folder = std::env::temp_dir().join(format!("squall-manifest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = include_str!("../tests/fixtures/manifest-v1.json");
        std::fs::write(folder.join(MANIFEST), text).unwrap();
        let manifest = load(&folder).unwrap();
        assert_eq!((manifest.ranges.len(), manifest.born), (4, Some((3, 4))));
        assert_eq!(
            manifest.ranges[1].change,
            Change::Flip { bits: vec![(0, 1)] }
        );
        std::fs::write(
            folder.join(MANIFEST),
            text.replace("\"version\": 1", "\"version\": 2"),
        )
        .unwrap();
        assert!(
            load(&folder)
                .unwrap_err()
                .to_string()
                .contains("knows up to 1")
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_range_knows_its_damage_and_its_half_damage_from_foreign_bytes() {
        let range = |change| Range {
            at: 0,
            length: 4,
            backup_at: 0,
            change,
            original: String::new(),
            damage: String::new(),
        };
        let was = [1u8, 2, 3, 4];
        let zero = range(Change::Zero);
        assert_eq!(zero.holds(&was, &was), Holds::Original);
        assert_eq!(zero.holds(&[0; 4], &was), Holds::Damage);
        assert_eq!(zero.holds(&[1, 2, 0, 0], &was), Holds::Mixture);
        assert_eq!(zero.holds(&[1, 2, 0, 9], &was), Holds::Foreign);
        assert_eq!(zero.holds(&[1, 2], &was), Holds::Foreign);
        let flip = range(Change::Flip { bits: vec![(1, 4)] });
        assert_eq!(flip.holds(&[1, 6, 3, 4], &was), Holds::Damage);
        assert_eq!(flip.holds(&[1, 7, 3, 4], &was), Holds::Foreign);
        let cut = range(Change::Cut);
        assert_eq!(cut.holds(&[], &was), Holds::Damage);
        assert_eq!(cut.holds(&[1, 2], &was), Holds::Mixture);
        assert_eq!(cut.holds(&[1, 2, 0, 0], &was), Holds::Mixture);
        assert_eq!(cut.holds(&[9], &was), Holds::Foreign);
    }
}
