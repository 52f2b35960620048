//! The guard's own cgroup, beside the caller's: whoever ends the caller's cgroup, or the workload's below it, does not end the guard.
//!
//! Not a fault's change, so it stands in no journal: a manifest in the run's folder, synced before the folders are made, says what to remove,
//! and their name follows from the run's. Whoever is the last to go removes them: the guard (it steps out first), else the agent,
//! else the controller or the next command; without a manifest, the sweep.

use crate::cgroups;
use crate::recover::sweep;
use crate::undo::cgroup::remove_one;
use serde::{Deserialize, Serialize};
use squall_model::id::{InjectionId, RuleId, RunId};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The manifest's name in the folder of a run.
pub const FILE_NAME: &str = "guard-cgroup.json";
/// The version this build writes, and the newest it reads.
const VERSION: u32 = 1;
/// More than this is no manifest of ours, in bytes.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    folders: Vec<PathBuf>,
}

/// The id in the name of a run's guard's cgroup: one that no injection of the run has.
pub fn id(run: &RunId) -> InjectionId {
    InjectionId::derive(run, RuleId(u32::MAX), u32::MAX)
}

fn name(run: &RunId) -> String {
    format!("squall-{}", id(run))
}

/// Where the guard is, and where its children belong.
#[derive(Debug, Default)]
pub(super) struct OwnCgroup {
    /// The caller's folders: every child of the guard goes back there.
    pub(super) home: Vec<PathBuf>,
    /// Its own folders.
    folders: Vec<PathBuf>,
}

impl OwnCgroup {
    /// Moves this process into a cgroup of its own in each hierarchy that allows it. On an error it goes on without, where it was.
    pub(super) fn enter(run_dir: &Path, run: &RunId) -> io::Result<OwnCgroup> {
        let places = cgroups::beside_own(&name(run));
        if places.is_empty() {
            return Ok(OwnCgroup::default());
        }
        let folders = places.iter().map(|one| one.folder.clone()).collect();
        record(
            run_dir,
            &Manifest {
                version: VERSION,
                folders,
            },
        )?;
        let mut own = OwnCgroup::default();
        for place in places {
            std::fs::create_dir(&place.folder)
                .and_then(|()| cgroups::enter(&place.folder))
                .inspect_err(|_| {
                    own.leave().unwrap_or_default();
                    remove(run_dir, run).unwrap_or_default();
                })?;
            own.home.push(place.home);
            own.folders.push(place.folder);
        }
        Ok(own)
    }

    /// Steps out of its own folders and removes them: to the folder above, which nobody is about to end. Where version 2 lets no process
    /// in there, back to where it came from; whoever ends that again and again may then end the guard before its folders are removed.
    pub(super) fn leave(&self) -> io::Result<()> {
        for (folder, home) in self.folders.iter().zip(&self.home) {
            let above = folder.parent().map(cgroups::enter);
            if above.is_none_or(|entered| entered.is_err()) {
                cgroups::enter(home)?;
            }
        }
        // By its own knowledge: the run's folder, and the manifest in it, may have been deleted meanwhile.
        self.folders
            .iter()
            .try_for_each(|folder| remove_one(folder))
    }
}

/// Durable before anything is made, and there whole or not at all.
fn record(run_dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let draft = run_dir.join(format!("{FILE_NAME}.new"));
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec(manifest)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, run_dir.join(FILE_NAME))?;
        File::open(run_dir)?.sync_all()
    })();
    if written.is_err() {
        std::fs::remove_file(&draft).unwrap_or_default();
    }
    written
}

/// Removes the cgroup that the guard of this run had, if there is (still) one. Call it when the guard is dead or has stepped out.
pub fn remove(run_dir: &Path, run: &RunId) -> io::Result<()> {
    let path = run_dir.join(FILE_NAME);
    let mut bytes = Vec::new();
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?.take(BYTES_MAX).read_to_end(&mut bytes)?,
    };
    let refused = |because: String| {
        let text = format!(
            "{}: {because}; `squall undo --sweep` finds the cgroup by its name",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        // Torn: the name alone says what is ours.
        Err(_) => Manifest {
            version: VERSION,
            folders: sweep::cgroups_of_ours()?
                .into_iter()
                .filter(|folder| folder.file_name() == Some(name(run).as_ref()))
                .collect(),
        },
    };
    if manifest.version > VERSION {
        return Err(refused(format!(
            "version {} is newer than this squall",
            manifest.version
        )));
    }
    for folder in &manifest.folders {
        // Nothing but what carries this run's name, whatever the file says.
        if folder.file_name() != Some(name(run).as_ref()) {
            return Err(refused(format!("{} is not ours", folder.display())));
        }
        remove_one(folder)?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_with_the_name_of_the_run_are_removed() {
        let run = RunId("r".into());
        let folder = std::env::temp_dir().join(format!("squall-guard-{}", std::process::id()));
        let (ours, theirs) = (folder.join(name(&run)), folder.join("squall-abcdefgh"));
        for one in [&ours, &theirs] {
            std::fs::create_dir_all(one).unwrap();
        }
        let manifest = |version, folders: &[&PathBuf]| Manifest {
            version,
            folders: folders.iter().map(|one| (*one).clone()).collect(),
        };
        remove(&folder, &run).unwrap();
        record(&folder, &manifest(VERSION, &[&theirs])).unwrap();
        assert!(remove(&folder, &run).is_err() && theirs.exists());
        record(&folder, &manifest(VERSION + 1, &[&ours])).unwrap();
        assert!(remove(&folder, &run).is_err() && ours.exists());
        record(&folder, &manifest(VERSION, &[&ours])).unwrap();
        remove(&folder, &run).unwrap();
        assert!(!ours.exists() && !folder.join(FILE_NAME).exists());
        // As a full disk or a loss of power leaves it.
        for torn in [&b""[..], b"{\"version\":1,\"fol"] {
            std::fs::write(folder.join(FILE_NAME), torn).unwrap();
            remove(&folder, &run).unwrap();
            assert!(!folder.join(FILE_NAME).exists());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
