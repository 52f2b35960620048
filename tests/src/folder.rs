//! Temporary folders of tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// A folder that goes with its guard.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty one.
    ///
    /// # Errors
    /// When no place can be written.
    pub fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("squall-test-{}-{count}", unique());
        // On the disk of the build, whose file system has attributes, where another user did not build.
        let executable = std::env::current_exe()?;
        let built = executable.with_file_name(&name);
        let path = if fs::create_dir(&built).is_ok() {
            built
        } else {
            std::env::temp_dir().join(&name)
        };
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// A new, empty one in this folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new_in(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("squall-test-{}", unique()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is under the build or temporary folder, and harmless.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A name that no other run has: pids repeat where every test has a pid namespace.
fn unique() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
