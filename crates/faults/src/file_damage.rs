//! `file-damage`: bits flip, a range turns to zeros, the end is cut off, or the file goes, as by a failing disk, a torn write or a careless clean-up.

use crate::backup::{self, Change, Plan, RANGE_MAX};
use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::undo::{Undo, presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::Observation;
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The most bits of one injection.
const BITS_MAX: u32 = 100_000;
/// A flipped bit is told from the workload's writing by the block around it.
const BLOCK: u64 = 4096;
const LIMIT: Bytes = Bytes(1 << 30);

/// Damages a regular file. What was there is kept in the state folder and put back, unless the workload has replaced the file meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileDamage {
    /// What is done to it.
    pub damage: Damage,
    /// The most bytes that are damaged, and so kept as a backup; a larger damage is refused. 1GiB unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
}

/// A kind of damage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Damage {
    /// Inverts bits at places drawn from the run's seed.
    FlipBits {
        /// How many bits, at most 100000.
        count: u32,
    },
    /// Turns a range into zeros, as a lost block does.
    Zero {
        /// Where it begins. Drawn from the run's seed unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Bytes>,
        /// How many bytes; it ends with the file at the latest.
        length: Bytes,
    },
    /// Cuts the end off, as a write that a crash has torn.
    Truncate {
        /// The bytes that stay.
        to: Bytes,
    },
    /// Deletes the file.
    Delete {},
}

impl FaultKind for FileDamage {
    const INFO: KindInfo = KindInfo {
        kind: "file-damage",
        summary: "A file is damaged: flipped bits, a zeroed range, a lost end, or all of it.",
        class: Class::Lasting,
        layer: "the file system's content, as every reader sees it; what a process has already read into its memory is not touched, and the time of modification stays, as it does when a disk rots",
        requires: "permission to write the file (for deletion: its folder), and room for the backup in the state folder",
        after_kill: "the next `squall undo`",
        targets: &["file"],
        example: "file-damage: {target: {file: \"{out}/checkpoint-*.safetensors\"}, at: {epoch: 3}, for: 30s, damage: {flip-bits: {count: 8}}}",
    };
}

impl Fault for FileDamage {
    fn unmet(&self, target: &Target, _: &HostFacts) -> Vec<Unmet> {
        let unmet = |what: String, remedy: &str| {
            vec![Unmet {
                what,
                remedy: remedy.to_owned(),
            }]
        };
        let path = match resolved(target) {
            Ok(path) => path,
            Err(error) => {
                return unmet(
                    format!("a file that exists: {error}"),
                    "name an existing file by `file`",
                );
            }
        };
        let writable = match self.damage {
            Damage::Delete {} => path.parent().map(Path::to_owned).unwrap_or_default(),
            _ => path.clone(),
        };
        match rustix::fs::access(&writable, rustix::fs::Access::WRITE_OK) {
            Ok(()) => Vec::new(),
            Err(error) => unmet(
                format!("permission to write {}: {error}", writable.display()),
                "run squall as the user who owns it, or as root",
            ),
        }
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        match &self.damage {
            Damage::FlipBits { count } => format!("{count} bits inverted in place"),
            Damage::Zero { length, .. } => format!("{length} zeroed in place"),
            Damage::Truncate { to } => format!("truncated to {to}"),
            Damage::Delete {} => "unlinked".to_owned(),
        }
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        let path = resolved(target)?;
        let deletes = matches!(self.damage, Damage::Delete {});
        let file = backup::open(&path, !deletes).map_err(|source| os("open", &path, source))?;
        let meta = file
            .metadata()
            .map_err(|source| os("read", &path, source))?;
        if deletes && meta.nlink() > 1 {
            return Err(refused(
                &path,
                format!(
                    "it has {} hard links, and they could not be put back",
                    meta.nlink()
                ),
            ));
        }
        let plans = self.plans(&path, meta.len(), host)?;
        let folder = host.backup_dir()?;
        host.check_cancelled()?;
        let manifest = backup::make(&file, &path, &plans, &folder)
            .map_err(|source| os("back up", &path, source))?;
        let undo = Undo::RestoreFile {
            path: path.clone(),
            backup: folder.clone(),
        };
        let action = self.mechanism(&HostFacts::default());
        host.change(undo, &action, &mut || {
            if deletes {
                delete(&path, &manifest, &folder)
            } else {
                damage(&file, &manifest, &folder)
            }
        })
    }

    fn observe(&self, _: &Target, changes: &[Undo]) -> Vec<Observation> {
        changes.iter().map(presence).collect()
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        let problem = |message: &str, help: &str| {
            vec![ConfigProblem {
                key: "damage",
                message: message.to_owned(),
                help: help.to_owned(),
            }]
        };
        match self.damage {
            Damage::FlipBits { count } if count == 0 || count > BITS_MAX => problem(
                &format!("{count} bits are not between 1 and {BITS_MAX}"),
                "write `flip-bits: {count: 8}`",
            ),
            Damage::Zero {
                length: Bytes(0), ..
            } => problem(
                "a range of 0 bytes is no damage",
                "write `zero: {length: 4KiB}`",
            ),
            _ => Vec::new(),
        }
    }
}

impl FileDamage {
    /// The ranges that change, none longer than [`RANGE_MAX`].
    fn plans(&self, path: &Path, length: u64, host: &dyn Door) -> Result<Vec<Plan>, FaultError> {
        if length == 0 && !matches!(self.damage, Damage::Delete {}) {
            return Err(refused(path, "it is empty".to_owned()));
        }
        let span = |at: u64, length: u64, change: &Change| pieces(at, length, change);
        let plans = match &self.damage {
            Damage::FlipBits { count } => flips(*count, length, host),
            Damage::Zero { at, length: wanted } => {
                let wanted = wanted.0.min(length);
                let drawn = (host.draw("offset") * (length - wanted + 1) as f64) as u64;
                let at = at.map_or(drawn, |at| at.0);
                if at >= length {
                    return Err(refused(
                        path,
                        format!("it has {length} bytes, and the range begins at {at}"),
                    ));
                }
                span(at, wanted.min(length - at), &Change::Zero)
            }
            Damage::Truncate { to } if to.0 >= length => {
                return Err(refused(
                    path,
                    format!("it has only {length} bytes, so nothing would be cut off"),
                ));
            }
            Damage::Truncate { to } => span(to.0, length - to.0, &Change::Cut),
            // An empty file too is a file to make again.
            Damage::Delete {} if length == 0 => vec![Plan {
                at: 0,
                length: 0,
                change: Change::Delete,
            }],
            Damage::Delete {} => span(0, length, &Change::Delete),
        };
        let limit = self.limit.unwrap_or(LIMIT);
        let total: u64 = plans.iter().map(|plan| plan.length).sum();
        if total > limit.0 {
            return Err(FaultError::Limit {
                action: format!("damage {total} bytes of {}", path.display()),
                because: format!(
                    "the limit is {limit}; raise it with `limit:` if you have the room for a backup"
                ),
            });
        }
        Ok(plans)
    }
}

fn pieces(at: u64, length: u64, change: &Change) -> Vec<Plan> {
    let end = at + length;
    (at..end)
        .step_by(RANGE_MAX as usize)
        .map(|at| Plan {
            at,
            length: RANGE_MAX.min(end - at),
            change: change.clone(),
        })
        .collect()
}

/// Distinct bits, drawn one by one; those in one block share a range.
fn flips(count: u32, length: u64, host: &dyn Door) -> Vec<Plan> {
    let all = length.saturating_mul(8);
    let mut bits = BTreeSet::new();
    for number in 0..count {
        let mut bit = (host.draw(&format!("bit-{number}")) * all as f64) as u64 % all;
        // A taken bit passes its turn to the next free one, so the count holds in small files too.
        while !bits.insert(bit) && (bits.len() as u64) < all {
            bit = (bit + 1) % all;
        }
    }
    let mut blocks: BTreeMap<u64, Vec<(u32, u8)>> = BTreeMap::new();
    for bit in bits {
        let (byte, mask) = (bit / 8, 1u8 << (bit % 8));
        blocks
            .entry(byte / BLOCK * BLOCK)
            .or_default()
            .push(((byte % BLOCK) as u32, mask));
    }
    let plan = |(at, bits): (u64, Vec<(u32, u8)>)| Plan {
        at,
        length: BLOCK.min(length - at),
        change: Change::Flip { bits },
    };
    blocks.into_iter().map(plan).collect()
}

/// Damages in place; then puts the time of modification back, because rot does not change it.
fn damage(file: &File, manifest: &backup::Manifest, folder: &Path) -> io::Result<()> {
    let data = backup::Data::open(folder)?;
    for range in &manifest.ranges {
        if range.change != Change::Cut {
            file.write_all_at(&range.change.damage(&data.original(range)?), range.at)?;
        }
    }
    if manifest.damaged_length() < manifest.length {
        file.set_len(manifest.damaged_length())?;
    }
    manifest.put_metadata(file, Some(manifest.mtime))?;
    file.sync_all()?;
    File::create(folder.join(crate::undo::file::COMPLETE))?.sync_all()
}

/// Unlinks, if it is still the file that was backed up.
fn delete(path: &Path, manifest: &backup::Manifest, folder: &Path) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    if !manifest.is_of(&meta) {
        return Err(io::Error::other("it was replaced while it was backed up"));
    }
    std::fs::remove_file(path)?;
    let parent = File::open(path.parent().unwrap_or(Path::new("/")))?;
    parent.sync_all()?;
    // A note that is lost only means that the folder's time is left as it is.
    crate::undo::folder_time::note(&parent, folder).unwrap_or_default();
    Ok(())
}

/// The target's path without symbolic links: what they lead to is what is damaged and restored.
fn resolved(target: &Target) -> Result<PathBuf, FaultError> {
    match target {
        Target::File { path } => {
            std::fs::canonicalize(path).map_err(|source| os("find", path, source))
        }
        other => Err(FaultError::Target {
            target: format!("{other:?}"),
            because: "it is not a file".to_owned(),
        }),
    }
}

fn os(action: &str, path: &Path, source: io::Error) -> FaultError {
    FaultError::Os {
        action: action.to_owned(),
        object: path.display().to_string(),
        source,
    }
}

fn refused(path: &Path, because: String) -> FaultError {
    FaultError::Target {
        target: path.display().to_string(),
        because,
    }
}
