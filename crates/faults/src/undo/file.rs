//! Puts a damaged or deleted file back from its verified backup, in place and range by range.
//!
//! What the workload has itself replaced or deleted meanwhile is superseded, and left alone. What it has written into a damaged range is never
//! overwritten: that is for a person to decide.

use super::{UndoError, folder_time, seen};
use crate::backup::place::Place;
use crate::backup::{self, Data, Holds, Manifest, Range};
use squall_model::event::{Observation, Presence};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Says, in a backup's folder, that the damage was complete and the time of modification put back on it.
pub(crate) const COMPLETE: &str = "complete";
/// Says that the workload had written to the file after the damage: its time of modification is then not ours to put back.
const WRITTEN: &str = "written-since";

/// The most threads of one restore, and the fewest ranges that are worth one.
const THREADS_MAX: usize = 4;
const SHARE_MIN: usize = 8;

/// What lies at the path now.
enum There {
    /// The very file that was damaged.
    Same(File),
    /// Nothing.
    Nothing,
    /// Another file, or its folder was replaced.
    Other(String),
}

/// Why it cannot be told what became of the file: its file system is not at its place.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Away(String);

fn there(manifest: &Manifest, write: bool) -> io::Result<There> {
    let found = found(manifest, write)?;
    let is_certain = match &found {
        There::Same(file) => file.metadata()?.dev() == manifest.device,
        There::Nothing | There::Other(_) => false,
    };
    // Asked last: what was not found may have been away, what is there now has not been missed.
    if is_certain {
        return Ok(found);
    }
    match manifest.place()? {
        Place::There => Ok(found),
        Place::Away(because) => Err(io::Error::other(Away(because))),
        Place::Gone(what) => Ok(There::Other(what)),
    }
}

fn found(manifest: &Manifest, write: bool) -> io::Result<There> {
    let parent = match std::fs::metadata(manifest.path.parent().unwrap_or(Path::new("/"))) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(There::Other("its folder was deleted".to_owned()));
        }
        Err(error) => return Err(error),
    };
    // Where no birth is told, a file system that was mounted anew may number its files anew.
    let numbers_tell = manifest.born.is_some() || parent.dev() == manifest.parent.0;
    if numbers_tell && !manifest.is_in(&parent) {
        return Ok(There::Other("its folder was replaced".to_owned()));
    }
    let meta = match std::fs::symlink_metadata(&manifest.path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(error) => return Err(error),
    };
    let other = || {
        // One that was deleted is known by its content.
        if !numbers_tell && !manifest.is_deletion() && manifest.may_be(&meta) {
            return Err(io::Error::other(
                "its file system was mounted anew and numbers its files anew, so it cannot be told from another one",
            ));
        }
        Ok(There::Other("another file lies at its path".to_owned()))
    };
    if !manifest.is_of(&meta) {
        return other();
    }
    let file = backup::open(&manifest.path, write)?;
    // Opened after it was looked at: it may have been replaced between the two.
    if !manifest.is_of(&file.metadata()?) {
        return other();
    }
    Ok(There::Same(file))
}

/// Puts everything back.
pub(super) fn restore(path: &Path, folder: &Path) -> Result<(), UndoError> {
    let fail = |because: String| {
        UndoError::new(
            format!("restore {}", path.display()),
            because,
            format!(
                "compare {} with {}/manifest.json and {}/data, and copy back what you need by hand; then remove the folder {}",
                path.display(),
                folder.display(),
                folder.display(),
                folder.display(),
            ),
        )
    };
    if is_given_up(folder) {
        return Ok(());
    }
    let restored = (|| {
        let manifest = backup::load(folder)?;
        let data = Data::open(folder)?;
        if manifest.is_deletion() {
            recreate(&manifest, &data, folder)
        } else {
            repair(&manifest, &data, folder)
        }
    })();
    match restored {
        Ok(foreign) if foreign.is_empty() => Ok(()),
        Ok(foreign) => {
            let bytes: Vec<String> = foreign
                .iter()
                .map(|range| format!("{}..{}", range.at, range.at + range.length))
                .collect();
            Err(fail(format!(
                "the workload has written into the damaged bytes {}",
                bytes.join(", ")
            )))
        }
        Err(error) if error.get_ref().is_some_and(|error| error.is::<Away>()) => {
            Err(UndoError::new(
                format!("restore {}", path.display()),
                error,
                format!(
                    "mount it there again (or unmount what lies over it) and type: squall undo --all   # gone for good? then remove the folder {} first",
                    folder.display()
                ),
            ))
        }
        Err(error) => Err(fail(error.to_string())),
    }
}

/// A backup that an outstanding injection needs is removed by nobody but a person who has done what a stuck undo had asked for.
fn is_given_up(folder: &Path) -> bool {
    let missing = |path: &Path| path.try_exists().is_ok_and(|there| !there);
    missing(folder) && folder.parent().is_some_and(|all| !missing(all))
}

/// Restores damaged ranges in place. Gives those that hold something of the workload's.
fn repair(manifest: &Manifest, data: &Data, folder: &Path) -> io::Result<Vec<Range>> {
    let There::Same(file) = there(manifest, true)? else {
        return Ok(Vec::new());
    };
    let before = file.metadata()?;
    let untouched_since = (before.mtime(), before.mtime_nsec()) == manifest.mtime;
    let written = folder.join(WRITTEN);
    if !untouched_since && folder.join(COMPLETE).exists() && !folder.join("restoring").exists() {
        // Best effort: without room for the note, the original time is put back.
        File::create(&written)
            .and_then(|note| note.sync_all())
            .or_else(ignore_full_disk)?;
    }
    let foreign = put_back(&file, data, &manifest.ranges, folder)?;
    if foreign.is_empty() {
        let mtime = if written.exists() {
            None
        } else {
            Some(manifest.mtime)
        };
        manifest.put_metadata(&file, mtime)?;
    }
    file.sync_all()?;
    Ok(foreign)
}

/// Puts ranges back, on several processors where there are many: what a trainer loads meanwhile is damaged until it is done.
fn put_back(file: &File, data: &Data, ranges: &[Range], folder: &Path) -> io::Result<Vec<Range>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = ranges
        .len()
        .div_ceil(processors.min(THREADS_MAX))
        .max(SHARE_MIN);
    let restoring = Mutex::new(false);
    let mut parts = ranges.chunks(share);
    let Some(first) = parts.next() else {
        return Ok(Vec::new());
    };
    std::thread::scope(|scope| {
        let work = |part| put_back_part(file, data, part, folder, &restoring);
        let others: Vec<_> = parts
            .map(|part| {
                let started = std::thread::Builder::new().spawn_scoped(scope, move || work(part));
                // No thread to be had: this one does it all.
                started.map_err(|_| part)
            })
            .collect();
        let mut foreign = work(first)?;
        for other in others {
            foreign.extend(match other {
                Ok(thread) => thread
                    .join()
                    .map_err(|_| io::Error::other("a restoring thread panicked"))??,
                Err(part) => work(part)?,
            });
        }
        Ok(foreign)
    })
}

fn put_back_part(
    file: &File,
    data: &Data,
    ranges: &[Range],
    folder: &Path,
    restoring: &Mutex<bool>,
) -> io::Result<Vec<Range>> {
    let mut foreign = Vec::new();
    let (mut original, mut current) = (Vec::new(), Vec::new());
    for range in ranges {
        data.original_into(range, &mut original)?;
        backup::read_range_into(file, range.at, range.length, &mut current)?;
        match range.holds(&current, &original) {
            Holds::Original => {}
            Holds::Foreign => foreign.push(range.clone()),
            Holds::Damage | Holds::Mixture => {
                let mut noted = restoring.lock().unwrap_or_else(PoisonError::into_inner);
                if !*noted {
                    File::create(folder.join("restoring"))
                        .and_then(|note| note.sync_all())
                        .or_else(ignore_full_disk)?;
                    *noted = true;
                }
                drop(noted);
                file.write_all_at(&original, range.at)?;
            }
        }
    }
    Ok(foreign)
}

fn ignore_full_disk(error: io::Error) -> io::Result<()> {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if full.contains(&error.kind()) {
        Ok(())
    } else {
        Err(error)
    }
}

/// Makes a deleted file again, unless the workload has made another. It appears complete, under its name, or not at all.
fn recreate(manifest: &Manifest, data: &Data, folder: &Path) -> io::Result<Vec<Range>> {
    let parent = manifest.path.parent().unwrap_or(Path::new("/"));
    match there(manifest, false)? {
        There::Nothing => {}
        // Made again by a try that did not come to its end, or by the workload.
        There::Other(what) if look_at_remade(manifest, &what)?.0 == Presence::Absent => {
            remove_draft(manifest, folder)?;
            folder_time::put_back_later(&File::open(parent)?, &manifest.path, manifest, folder)?;
            return Ok(Vec::new());
        }
        _ => return remove_draft(manifest, folder),
    }
    let opened = File::open(parent)?;
    folder_time::before(&opened, folder).or_else(ignore_full_disk)?;
    remove_draft(manifest, folder)?;
    // Not every file system has files without a name, nor can each give them one.
    let made = match make_unnamed(manifest, data, parent) {
        Ok(made) => made,
        Err(_) => make_draft(manifest, data, &draft(manifest, folder))?,
    };
    if made {
        folder_time::put_back(&opened, manifest, folder)?;
    }
    opened.sync_all()?;
    Ok(Vec::new())
}

/// False when the workload was quicker: superseded.
fn make_unnamed(manifest: &Manifest, data: &Data, parent: &Path) -> io::Result<bool> {
    let flags =
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(
        parent,
        flags,
        rustix::fs::Mode::from_raw_mode(0o600),
    )?);
    fill(manifest, data, &file)?;
    link_unnamed(&file, &manifest.path)
}

/// False when the workload was quicker.
fn make_draft(manifest: &Manifest, data: &Data, draft: &Path) -> io::Result<bool> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    fill(manifest, data, &file)?;
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(
        cwd,
        draft,
        cwd,
        &manifest.path,
        rustix::fs::RenameFlags::NOREPLACE,
    ) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => std::fs::remove_file(draft).map(|()| false),
        Err(error) => Err(error.into()),
    }
}

fn fill(manifest: &Manifest, data: &Data, file: &File) -> io::Result<()> {
    for range in &manifest.ranges {
        file.write_all_at(&data.original(range)?, range.at)?;
    }
    file.set_len(manifest.length)?;
    manifest.put_metadata(file, Some(manifest.mtime))?;
    file.sync_all()
}

fn link_unnamed(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    match rustix::fs::linkat(rustix::fs::CWD, unnamed, rustix::fs::CWD, path, follow) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The name of a file that is being made again, where the file system has no files without a name. Hidden, so that no trainer loads it.
fn draft(manifest: &Manifest, folder: &Path) -> PathBuf {
    let id = folder.file_name().unwrap_or_default().to_string_lossy();
    manifest.path.with_file_name(format!(".squall-{id}"))
}

fn remove_draft(manifest: &Manifest, folder: &Path) -> io::Result<Vec<Range>> {
    match std::fs::remove_file(draft(manifest, folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Vec::new()),
    }
}

/// Reads whether the damage is there.
pub(super) fn presence(path: &Path, folder: &Path) -> Observation {
    let source = "file content";
    match look(folder) {
        Ok((presence, evidence)) => {
            seen(presence, source, format!("{}: {evidence}", path.display()))
        }
        Err(error) => seen(
            Presence::Unknown,
            source,
            format!("{}: {error}", path.display()),
        ),
    }
}

fn look(folder: &Path) -> io::Result<(Presence, String)> {
    if is_given_up(folder) {
        return Ok((
            Presence::Superseded,
            "its backup was removed by hand".to_owned(),
        ));
    }
    let manifest = backup::load(folder)?;
    if draft(&manifest, folder).exists() {
        return Ok((
            Presence::Present,
            "an unfinished copy of it lies beside it".to_owned(),
        ));
    }
    let file = match there(&manifest, false)? {
        There::Same(file) => file,
        There::Nothing if manifest.is_deletion() => {
            return Ok((Presence::Present, "it does not exist".to_owned()));
        }
        There::Nothing => {
            return Ok((
                Presence::Superseded,
                "the workload has deleted it".to_owned(),
            ));
        }
        There::Other(what) if manifest.is_deletion() => return look_at_remade(&manifest, &what),
        There::Other(what) => return Ok((Presence::Superseded, what)),
    };
    let length = file.metadata()?.len();
    let mut differing = 0;
    let mut current = Vec::new();
    for range in &manifest.ranges {
        backup::read_range_into(&file, range.at, range.length, &mut current)?;
        if backup::digest(&current) != range.original {
            differing += 1;
        }
    }
    let all = manifest.ranges.len();
    if differing > 0 {
        return Ok((
            Presence::Present,
            format!(
                "{differing} of {all} ranges differ from the original, length {length} of {}",
                manifest.length
            ),
        ));
    }
    let ours = !folder.join(WRITTEN).exists();
    if let Some(what) =
        manifest.metadata_differs(&file, ours && folder.join("restoring").exists())?
    {
        return Ok((Presence::Present, what));
    }
    Ok((
        Presence::Absent,
        format!("all {all} ranges have the digest of the original"),
    ))
}

/// A file at the path of a deleted one: ours when it holds the original, else the workload's.
fn look_at_remade(manifest: &Manifest, what: &str) -> io::Result<(Presence, String)> {
    let superseded = Ok((Presence::Superseded, what.to_owned()));
    let Ok(file) = backup::open(&manifest.path, false) else {
        return superseded;
    };
    if file.metadata()?.len() != manifest.length {
        return superseded;
    }
    for range in &manifest.ranges {
        let current = backup::read_range(&file, range.at, range.length)?;
        if backup::digest(&current) != range.original {
            return superseded;
        }
    }
    Ok((
        Presence::Absent,
        "it has the digest of the original again".to_owned(),
    ))
}
