//! Where state lives: one folder per user, modes 0700 and 0600, never beside what a fault acts on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The state folder: `$SQUALL_STATE_DIR`, else `/var/lib/squall` (root), else `$XDG_STATE_HOME/squall`, else `~/.local/state/squall`. `None` without any of these.
pub fn state_dir() -> Option<PathBuf> {
    resolve(
        |name| std::env::var_os(name).map(PathBuf::from),
        rustix::process::geteuid().is_root(),
    )
}

fn resolve(variable: impl Fn(&str) -> Option<PathBuf>, root: bool) -> Option<PathBuf> {
    // A relative path would name another folder after each change of directory; the XDG rules ignore it too.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    if let Some(given) = variable("SQUALL_STATE_DIR").filter(|path| !path.as_os_str().is_empty()) {
        return std::path::absolute(given).ok();
    }
    if root {
        return Some(PathBuf::from("/var/lib/squall"));
    }
    absolute("XDG_STATE_HOME")
        .map(|home| home.join("squall"))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/squall")))
}

/// The folder of all runs.
pub fn runs_dir(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Creates a folder of the state (and what is above it) with mode 0700.
pub fn create_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Opens a log of the state for appending, made with mode 0600 where it is missing.
pub fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Creates the state folder, or checks that it is ours and closed to others.
pub fn prepare(state: &Path) -> io::Result<()> {
    create_private(&runs_dir(state))?;
    for folder in [state.to_owned(), runs_dir(state)] {
        let meta = std::fs::metadata(&folder)?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to user {}", folder.display(), meta.uid()),
            ));
        }
        if meta.mode() & 0o077 != 0 {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Folders of runs below a state folder, oldest first. A missing state folder has none.
pub fn run_dirs(state: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(runs_dir(state)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_folder_is_chosen_in_the_documented_order() {
        let with = |set: &[(&str, &str)], root: bool| {
            resolve(
                |name| {
                    set.iter()
                        .find(|(key, _)| *key == name)
                        .map(|(_, value)| value.into())
                },
                root,
            )
        };
        let all = [
            ("SQUALL_STATE_DIR", "/s"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(with(&all, true), Some("/s".into()));
        assert_eq!(with(&all[1..], true), Some("/var/lib/squall".into()));
        assert_eq!(with(&all[1..], false), Some("/x/squall".into()));
        assert_eq!(
            with(&all[2..], false),
            Some("/h/.local/state/squall".into())
        );
        assert_eq!(
            with(&[("XDG_STATE_HOME", "x"), ("HOME", "/h")], false),
            Some("/h/.local/state/squall".into())
        );
        assert_eq!(with(&[], false), None);
    }
}
