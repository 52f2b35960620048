//! The policy files of this host: all apply, the strictest wins, and one that cannot be read refuses the run.

use squall_model::diagnostic::Diagnostic;
use squall_model::policy::{Policies, PolicyFile, merge, read};
use squall_model::syntax::FaultList;
use std::io;
use std::path::{Path, PathBuf};

/// A policy file is small; more is a mistake or an attack.
const SIZE_MAX: u64 = 1 << 20;

/// Why the policies of this host are not known. The run is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is there and cannot be read.
    #[error("could not read the policy file {path}, because {source}; a policy that cannot be read refuses every run", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is there and is not a policy.
    #[error("could not understand the policy file {path}, because it has {} problem(s); a policy that is not understood refuses every run", problems.len(), path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Its text, so that the problems can be shown at their place.
        text: String,
        /// All of them.
        problems: Vec<Diagnostic>,
    },
}

/// Where policy files may be: `/etc/squall/policy.yaml`, and the user's own.
pub fn places() -> Vec<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config =
        variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let own = config.map(|config| config.join("squall/policy.yaml"));
    [PathBuf::from("/etc/squall/policy.yaml")]
        .into_iter()
        .chain(own)
        .collect()
}

/// Reads every policy file that is there.
pub fn policies<F: FaultList>(places: &[PathBuf]) -> Result<Policies, PolicyError> {
    let mut files = Vec::new();
    for path in places {
        if let Some(text) = text(path)? {
            files.push(parse::<F>(path, text)?);
        }
    }
    Ok(merge(files))
}

/// The text of a file; nothing when there is none. A link to nowhere is a file that cannot be read, not one that is absent.
fn text(path: &Path) -> Result<Option<String>, PolicyError> {
    let unreadable = |source| PolicyError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    }
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    if meta.len() > SIZE_MAX {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    std::fs::read_to_string(path).map(Some).map_err(unreadable)
}

fn parse<F: FaultList>(path: &Path, text: String) -> Result<PolicyFile, PolicyError> {
    read::<F>(&text, &path.to_string_lossy()).map_err(|problems| PolicyError::Invalid {
        path: path.to_path_buf(),
        text,
        problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use squall_catalog::Faults;

    fn write(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn all_files_apply_and_are_named_with_their_checksum() {
        let scratch = Scratch::new("policies");
        let one = write(&scratch, "a.yaml", "version: 1\nmaximum-duration: 30s\n");
        let two = write(
            &scratch,
            "b.yaml",
            "version: 1\nmaximum-duration: 10s\nforbidden-faults: [process-kill]\n",
        );
        let missing = scratch.path().join("none/policy.yaml");
        let found = policies::<Faults>(&[one, missing, two]).expect("read");
        assert_eq!(found.files.len(), 2);
        assert_eq!(
            found
                .maximum_duration()
                .map(|span| span.to_string())
                .as_deref(),
            Some("10s")
        );
        assert!(
            found
                .files
                .iter()
                .all(|file| file.source.sha256.len() == 64)
        );
    }

    #[test]
    fn a_policy_that_is_not_understood_refuses() {
        let scratch = Scratch::new("bad-policy");
        for text in [
            "version: 1\nmaximum-duraton: 30s\n",
            "",
            "version: 1\nforbidden-faults: [process-kil]\n",
            ": [",
        ] {
            let path = write(&scratch, "p.yaml", text);
            let error = policies::<Faults>(&[path]).expect_err(text);
            assert!(matches!(error, PolicyError::Invalid { .. }), "{error}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_refuses() {
        let scratch = Scratch::new("unreadable");
        let folder = scratch.path().join("folder");
        std::fs::create_dir(&folder).expect("made");
        let dangling = scratch.path().join("dangling");
        std::os::unix::fs::symlink("/no/such/file", &dangling).expect("linked");
        let binary = scratch.path().join("binary");
        std::fs::write(&binary, [0xff, 0xfe]).expect("written");
        for path in [folder, dangling, binary] {
            let error = policies::<Faults>(std::slice::from_ref(&path)).expect_err("refused");
            assert!(matches!(error, PolicyError::Unreadable { .. }), "{error}");
        }
    }
}
