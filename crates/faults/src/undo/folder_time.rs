//! The time of modification of the folder that a deleted file lay in: put back with the file, unless somebody else has changed the folder since.

use crate::backup::Manifest;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Holds, in a backup's folder, the folder's time right after the deletion.
const AFTER: &str = "folder-after";
/// Says that nobody else had changed the folder when the restoring began.
const OURS: &str = "folder-ours";

fn now(parent: &File) -> io::Result<(i64, i64)> {
    let meta = parent.metadata()?;
    Ok((meta.mtime(), meta.mtime_nsec()))
}

/// Notes the folder's time right after the deletion.
pub(crate) fn note(parent: &File, backup: &Path) -> io::Result<()> {
    std::fs::write(backup.join(AFTER), serde_json::to_vec(&now(parent)?)?)
}

/// Before the file is made again: finds out whether the folder is as the deletion left it, and remembers that for a second try.
pub(super) fn before(parent: &File, backup: &Path) -> io::Result<()> {
    let mut noted = Vec::new();
    match File::open(backup.join(AFTER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?.take(256).read_to_end(&mut noted)?,
    };
    let noted = serde_json::from_slice::<(i64, i64)>(&noted).ok();
    if noted == Some(now(parent)?) {
        File::create(backup.join(OURS))?.sync_all()?;
    }
    Ok(())
}

/// After our own link has made the file again. The time of a folder of somebody else's may not be ours to set: it is then left as it is.
pub(super) fn put_back(parent: &File, manifest: &Manifest, backup: &Path) -> io::Result<()> {
    let Some((seconds, nanoseconds)) = manifest.parent_mtime else {
        return Ok(());
    };
    if !backup.join(OURS).exists() {
        return Ok(());
    }
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds))
    else {
        return Ok(());
    };
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    match parent.set_modified(time) {
        Err(error) if is_refused(error.kind()) => Ok(()),
        other => other,
    }
}

fn is_refused(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// At a second try: only where the folder's last change was the one that gave the file its name, which the file's own time of change tells.
pub(super) fn put_back_later(
    parent: &File,
    made: &Path,
    manifest: &Manifest,
    backup: &Path,
) -> io::Result<()> {
    let made = std::fs::symlink_metadata(made)?;
    if (made.ctime(), made.ctime_nsec()) == now(parent)? {
        put_back(parent, manifest, backup)?;
    }
    Ok(())
}
