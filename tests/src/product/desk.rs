//! A place to run Squall in, with a state folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::{Live, Report};
use crate::folder::Folder;

/// The longest that a command of any suite may take.
const LIMIT: Duration = Duration::from_secs(90);
/// What may be in our environment and would change what Squall does.
const FOREIGN: [&str; 6] = [
    "SQUALL_RUN",
    "SQUALL_WORKLOAD",
    "SQUALL_HOOK_SOCKET",
    "SQUALL_CRASH_SOCKET",
    "SQUALL_LEASE_MS",
    "XDG_RUNTIME_DIR",
];

/// A folder with state, home and experiments; the freshly built binaries come first on PATH.
#[derive(Debug)]
pub struct Desk {
    folder: Folder,
    binaries: PathBuf,
    before: Vec<String>,
}

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

/// Where one build leaves its binaries: beside us, or one above for tests.
///
/// # Errors
/// When there are none.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let mut folders = ours.ancestors().skip(1).take(2);
    let found = folders.find(|folder| {
        ["squall", "toy-trainer"]
            .iter()
            .all(|name| folder.join(name).is_file())
    });
    found.map(Path::to_owned).with_context(|| {
        format!(
            "squall and toy-trainer are not near {}; build them with `cargo build --workspace --all-targets`",
            ours.display()
        )
    })
}

impl Desk {
    /// A new desk.
    ///
    /// # Errors
    /// When nothing was built or no folder can be made.
    pub fn new() -> anyhow::Result<Self> {
        let desk = Self {
            folder: Folder::new()?,
            binaries: binaries()?,
            before: Vec::new(),
        };
        fs::create_dir(desk.path().join("home"))?;
        Ok(desk)
    }

    /// A desk in another folder, with other binaries, whose commands start with these words (such as `setpriv …`).
    pub fn elsewhere(folder: Folder, binaries: PathBuf, before: &[&str]) -> Self {
        Self {
            folder,
            binaries,
            before: before.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The state folder of all commands.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// `squall` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let squall = self.binaries.join("squall");
        let mut words = self.before.iter();
        let mut command = match words.next() {
            None => Command::new(&squall),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&squall);
                command
            }
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.binaries.clone()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.path());
        command.env("SQUALL_STATE_DIR", self.state());
        command.env("HOME", self.path().join("home"));
        command.env("XDG_CONFIG_HOME", self.path().join("home/config"));
        command
    }

    /// Starts `squall` with these arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<Live> {
        Live::start(self.command(arguments), self.path())
    }

    /// Starts `squall run FILE --yes`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_run(&self, file: &Path) -> anyhow::Result<Live> {
        self.start(&["run", &file.to_string_lossy(), "--yes"])
    }

    /// Runs `squall` with these arguments to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn squall(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        let started = Instant::now();
        let ended = self.start(arguments)?.wait(LIMIT)?;
        Ok(Ended {
            took: started.elapsed(),
            ..ended
        })
    }

    /// Runs an experiment to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run(&self, file: &Path) -> anyhow::Result<Ended> {
        self.squall(&["run", &file.to_string_lossy(), "--yes"])
    }

    /// Runs an experiment that is given as text, and reads its report.
    ///
    /// # Errors
    /// As `run`, and when there is no report.
    pub fn report_of(&self, text: &str) -> anyhow::Result<(Ended, Report)> {
        let file = self.write("experiment.yaml", text)?;
        let ended = self.run(&file)?;
        let report = self
            .report()
            .with_context(|| format!("the run {}", ended.told()))?;
        Ok((ended, report))
    }

    /// The report of the newest run.
    ///
    /// # Errors
    /// When there is none.
    pub fn report(&self) -> anyhow::Result<Report> {
        let ended = self.squall(&["report", "last", "--format", "json"])?;
        if ended.code != Some(0) {
            bail!("`squall report` {}", ended.told());
        }
        Report::parse(&ended.out)
    }

    /// Asserts that nothing is outstanding by Squall's own word.
    ///
    /// # Errors
    /// When `squall status` says anything but 0.
    pub fn is_clean(&self) -> anyhow::Result<()> {
        let status = self.squall(&["status"])?;
        ensure!(status.code == Some(0), "`squall status` {}", status.told());
        Ok(())
    }
}

impl Ended {
    /// How it ended and what it said, for people.
    pub fn told(&self) -> String {
        format!(
            "ended with {:?} and said:\n{}\n{}",
            self.code,
            self.out.trim(),
            self.err.trim()
        )
    }

    /// Asserts an exit code.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect(&self, code: i32) -> anyhow::Result<()> {
        ensure!(
            self.code == Some(code),
            "wanted exit code {code}, but it {}",
            self.told()
        );
        Ok(())
    }
}
