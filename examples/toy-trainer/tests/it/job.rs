//! Starts the trainer in a directory of its own and waits for it with a deadline.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::agent::Agent;

/// Longest a job of these tests may take; it normally takes well under a second.
const DEADLINE: Duration = Duration::from_secs(60);

/// A job to run: 6 epochs of 8 steps with 2 ranks unless told otherwise.
pub(crate) struct Job {
    pub(crate) directory: PathBuf,
    command: Command,
    /// Connections of its agent that are not yet read to their end.
    talking: Arc<AtomicUsize>,
}

/// A job that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    directory: PathBuf,
    talking: Arc<AtomicUsize>,
}

/// A job that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) log: String,
    pub(crate) directory: PathBuf,
}

impl Job {
    /// A job with further options.
    pub(crate) fn new(options: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "job-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self::again(directory, options)
    }

    /// A job in the directory of an earlier one.
    pub(crate) fn again(directory: PathBuf, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_toy-trainer"));
        command
            .args(["--epochs", "6", "--steps-per-epoch", "8", "--batch", "8"])
            .args(options);
        command.arg("--out").arg(directory.join("out"));
        command
            .env_remove("SQUALL_HOOK_SOCKET")
            .env_remove("SQUALL_RUN");
        Self {
            directory,
            command,
            talking: Arc::default(),
        }
    }

    /// Lets the job talk to `agent`.
    pub(crate) fn with(mut self, agent: &Agent) -> Self {
        self.talking = agent.open.clone();
        self.command
            .env("SQUALL_HOOK_SOCKET", &agent.path)
            .env("SQUALL_RUN", "r1");
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let log = std::fs::File::create(self.directory.join("log")).unwrap();
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running {
            child,
            directory: self.directory,
            talking: self.talking,
        }
    }

    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }
}

impl Running {
    /// Polls until the job has ended and its agent has heard everything; kills it at the deadline.
    pub(crate) fn wait(mut self) -> Ended {
        let mut status = None;
        let ended = poll_until(DEADLINE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            self.child.kill().unwrap();
        }
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
        assert!(ended, "the job did not end in time; its log:\n{log}");
        let heard = || self.talking.load(Ordering::SeqCst) == 0;
        assert!(
            poll_until(DEADLINE, heard),
            "the agent is still being talked to"
        );
        Ended {
            code: status.unwrap().code(),
            log,
            directory: self.directory,
        }
    }
}

impl Ended {
    /// The bytes of the final parameters of a job that must have succeeded.
    pub(crate) fn parameters(&self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "{}", self.log);
        let bytes = std::fs::read(self.directory.join("out/final.safetensors")).unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
        bytes
    }

    /// Held-out losses in the order of the log.
    pub(crate) fn held_out(&self) -> Vec<f64> {
        let value = |line: &str| {
            line.split_once("held-out loss ")
                .map(|(_, loss)| loss.parse().unwrap())
        };
        self.log.lines().filter_map(value).collect()
    }
}

/// Final parameters of an undisturbed job.
pub(crate) fn undisturbed(options: &[&str]) -> Vec<u8> {
    Job::new(options).run().parameters()
}

/// Looks at `condition` until it holds (true) or `limit` has passed (false).
pub(crate) fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
