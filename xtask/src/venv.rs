//! Virtual environments for the tests with real frameworks: outside the target folder, named by what is in them.
//!
//! An environment is made once for each content of its lock files, checked by importing what it is for, and only then
//! marked complete. One that is not complete is thrown away and made anew. Two commands at once wait for each other.

use crate::command::{program, root, succeeds};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What an environment is made of; paths are relative to the repository's root.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// pip requirements with every version pinned and hashed; installed as they are, without what they ask for.
    pub(crate) locks: &'static [&'static str],
    /// A script that is run with the environment's `site-packages` after the installation.
    pub(crate) finish: Option<&'static str>,
    /// Python that fails unless the environment is good.
    pub(crate) check: &'static str,
}

/// PyTorch on the CPU, and Keras with it as its backend.
pub(crate) const FRAMEWORKS: Recipe = Recipe {
    name: "frameworks",
    locks: &[
        "examples/pytorch/requirements.txt",
        "examples/keras/requirements.txt",
    ],
    finish: Some("examples/pytorch/make_stubs.py"),
    check: "import os; os.environ['KERAS_BACKEND'] = 'torch'\n\
            import torch, torch.distributed.run, keras\n\
            assert torch.distributed.is_gloo_available() and not torch.cuda.is_available()\n\
            print('torch', torch.__version__, 'keras', keras.__version__)",
};

impl Recipe {
    /// The environment's folder; makes it when it is not there.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let parent = cache_folder()?;
        fs::create_dir_all(&parent)
            .with_context(|| format!("could not make {}", parent.display()))?;
        let folder = parent.join(format!("{}-{}", self.name, self.key()?));
        let lock = File::create(folder.with_extension("lock"))?;
        lock.lock().context("could not lock the environment")?;
        let done = folder.join("complete");
        if !done.is_file() {
            let started = Instant::now();
            println!("making the virtual environment {}", folder.display());
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            self.make(&folder)?;
            fs::write(&done, "")?;
            println!("made in {:.0} s", started.elapsed().as_secs_f64());
        } else if !self.is_good(&folder)? {
            // It was complete once, and was damaged since.
            fs::remove_file(&done)?;
            bail!(
                "{} is damaged; the next run makes it anew",
                folder.display()
            );
        }
        Ok(folder)
    }

    fn make(&self, folder: &Path) -> Result<()> {
        let shown = folder.display().to_string();
        let mut steps = vec![program("python3", &["-m", "venv", &shown], "debug")];
        let python = folder.join("bin/python").display().to_string();
        for lock in self.locks {
            let arguments = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
            ];
            let mut pip = program(&python, &arguments, "debug");
            pip.args([
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
                "-r",
                lock,
            ]);
            steps.push(pip);
        }
        for mut step in steps {
            if !succeeds(&mut step)? {
                bail!("{step:?} failed; see above");
            }
        }
        if let Some(script) = self.finish {
            let packages = site_packages(&python)?;
            if !succeeds(&mut program(&python, &[script, &packages], "debug"))? {
                bail!("{script} failed; see above");
            }
        }
        if !self.is_good(folder)? {
            bail!("the new environment cannot import what it is for; see above");
        }
        Ok(())
    }

    fn is_good(&self, folder: &Path) -> Result<bool> {
        let python = folder.join("bin/python").display().to_string();
        succeeds(&mut program(&python, &["-c", self.check], "debug"))
    }

    /// Of the lock files, the finishing script, and the Python that it is made with.
    fn key(&self) -> Result<String> {
        let version = program("python3", &["-VV"], "debug").output()?;
        let mut hash = Fnv::default();
        hash.add(&version.stdout);
        for file in self.locks.iter().copied().chain(self.finish) {
            hash.add(
                &fs::read(root().join(file)).with_context(|| format!("could not read {file}"))?,
            );
        }
        Ok(format!("{:016x}", hash.0))
    }
}

fn site_packages(python: &str) -> Result<String> {
    let ask = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = program(python, &["-c", ask], "debug").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("squall-dev"))
}

/// FNV-1a with 64 bits: tells contents apart that nobody chose to collide.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, data: &[u8]) {
        for byte in data.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
