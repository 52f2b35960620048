//! Tests in namespaces of their own, so that what they plant never touches the host.
//!
//! A test runs its own executable again under `unshare`, naming itself, and the second run does the
//! work: in new network, mount, IPC and UTS namespaces (and a user namespace where we are not root).
//! The work never starts without proof that the network namespace is another one. Where a host
//! cannot do it, the test says so by name on the real standard error; with `SQUALL_NO_SKIP=1` that
//! is a failure.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::spawned::Spawned;

/// Names the test that runs inside.
const INSIDE: &str = "SQUALL_SANDBOX";
/// The network namespace that the inside must not be in.
const OUTSIDE: &str = "SQUALL_SANDBOX_OUTSIDE";
/// Turns a skip into a failure.
const NO_SKIP: &str = "SQUALL_NO_SKIP";
/// How many times slower than others this machine is, where it is emulated: limits are so much longer.
const SLOW: &str = "SQUALL_SLOW";

/// Which namespaces a test gets besides network, mount, IPC and UTS.
#[derive(Debug, Clone)]
pub struct Sandbox {
    has_own_pids: bool,
    limit: Duration,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Network, mount, IPC and UTS namespaces; a minute to finish.
    pub fn new() -> Self {
        Self {
            has_own_pids: false,
            limit: Duration::from_secs(60),
        }
    }

    /// Also a pid namespace with its own `/proc`: others' processes are not seen, and whatever the
    /// test starts ends with it.
    pub fn with_own_pids(mut self) -> Self {
        self.has_own_pids = true;
        self
    }

    /// Another time limit.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs `body` inside, for the test function of this full name (`module::function`).
    ///
    /// # Panics
    /// When the body fails, or the host cannot do it and skips are failures: this is a test's end.
    pub fn run(&self, test: &str, body: impl FnOnce() -> anyhow::Result<()>) {
        let result = match std::env::var(INSIDE) {
            Ok(inside) if inside == test => enter().and_then(|()| body()),
            Ok(inside) => Err(anyhow::anyhow!(
                "{test} was started inside the sandbox of {inside}"
            )),
            Err(_) => self.start_again(test),
        };
        if let Err(error) = result {
            panic!("{test}: {error:#}");
        }
    }

    fn start_again(&self, test: &str) -> anyhow::Result<()> {
        let Some(flags) = self.usable_flags()? else {
            return skip(test, "this host lets us make no namespaces");
        };
        let log = std::env::temp_dir().join(format!(
            "sandbox-{}-{}",
            std::process::id(),
            test.replace("::", "-")
        ));
        let output = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new("unshare");
        command.args(&flags).arg("--");
        if self.has_own_pids {
            // A shell as the first process reaps orphans, which a test's executable does not.
            command.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
        }
        command.arg(std::env::current_exe()?).args([
            test,
            "--exact",
            "--include-ignored",
            "--nocapture",
        ]);
        command.env(INSIDE, test).env(OUTSIDE, network_namespace()?);
        command.stdout(output.try_clone()?).stderr(output);
        let slowness = std::env::var(SLOW)
            .ok()
            .and_then(|times| times.parse().ok());
        let limit = self.limit * slowness.unwrap_or(1);
        let ended = Spawned::start(&mut command).and_then(|mut child| child.wait(limit));
        let told = fs::read(&log).map(|text| String::from_utf8_lossy(&text).into_owned());
        fs::remove_file(&log)?;
        let told = told?;
        match ended {
            Ok(status) if status.success() && told.contains("1 passed") => pass_on(&told),
            Ok(status) if status.success() => {
                bail!("no test is called so; the inside said:\n{told}")
            }
            Ok(status) => bail!("the inside ended with {status}:\n{told}"),
            Err(error) => Err(error.context(format!("the inside said:\n{told}"))),
        }
    }

    /// The first flags for `unshare` that work here; none where the host lets us make no namespaces.
    ///
    /// # Errors
    /// When trying them hangs.
    pub fn usable_flags(&self) -> anyhow::Result<Option<Vec<&'static str>>> {
        let mut wanted = vec!["--mount", "--net", "--ipc", "--uts"];
        if self.has_own_pids {
            wanted.extend(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        }
        let as_user: Vec<_> = ["--map-root-user"]
            .into_iter()
            .chain(wanted.iter().copied())
            .collect();
        let candidates = if rustix::process::geteuid().is_root() {
            vec![wanted, as_user]
        } else {
            vec![as_user]
        };
        for flags in candidates {
            let mut probe = Command::new("unshare");
            probe.args(&flags).arg("true").stderr(Stdio::null());
            let Ok(mut child) = Spawned::start(&mut probe) else {
                continue;
            };
            if child.wait(Duration::from_secs(10))?.success() {
                return Ok(Some(flags));
            }
        }
        Ok(None)
    }
}

/// Passes on what was skipped inside.
fn pass_on(told: &str) -> anyhow::Result<()> {
    for line in told.lines().filter(|line| line.starts_with("SKIPPED")) {
        loudly(line)?;
    }
    Ok(())
}

/// Says that a test is not run here, and why.
///
/// # Errors
/// Where `SQUALL_NO_SKIP=1` forbids it and `tests/allowed-skips.txt` does not allow it.
pub fn skip(test: &str, reason: &str) -> anyhow::Result<()> {
    let allowed = include_str!("../allowed-skips.txt")
        .lines()
        .filter_map(|line| line.split_once(" | "))
        .any(|(beginning, _)| reason.starts_with(beginning));
    if !allowed && std::env::var_os(NO_SKIP).is_some_and(|value| value == "1") {
        bail!(
            "may not be skipped ({NO_SKIP}=1; tests/allowed-skips.txt does not list it): {reason}"
        );
    }
    loudly(&format!("SKIPPED {test}: {reason}"))
}

/// Writes past the test harness, which would swallow a passing test's output.
fn loudly(line: &str) -> anyhow::Result<()> {
    std::io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}

fn network_namespace() -> anyhow::Result<String> {
    let link = fs::read_link("/proc/self/ns/net").context("which network namespace this is")?;
    Ok(link.to_string_lossy().into_owned())
}

/// Puts an empty file system over a folder, which ends with the mount namespace. What was mounted below the folder is
/// taken away first where it may be: a name that its owner removes elsewhere would vanish from our list of mounts in the middle of a test.
///
/// # Errors
/// When it cannot be mounted.
pub fn tmpfs(folder: &str, size: &str) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("what is mounted")?;
    let below = format!("{folder}/");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // A mount on another comes after it.
    let points: Vec<_> = points.filter(|point| point.starts_with(&below)).collect();
    for point in points.into_iter().rev() {
        // Its owner may be quicker, and in a user namespace it is not ours to take away.
        command("umount", &["--lazy", point]).unwrap_or_default();
    }
    let options = format!("mode=755,size={size}");
    command("mount", &["-t", "tmpfs", "sandbox", "-o", &options, folder])
}

/// Proves that we are inside and brings the loopback up.
fn enter() -> anyhow::Result<()> {
    let outside = std::env::var(OUTSIDE).with_context(|| format!("{OUTSIDE} is not set"))?;
    ensure!(
        network_namespace()? != outside,
        "not in a network namespace of our own"
    );
    command("ip", &["link", "set", "lo", "up"])
}

/// Runs a command that must succeed.
///
/// # Errors
/// With what it said on its standard error.
pub fn command(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        arguments.join(" "),
        output.status,
        said.trim()
    );
    Ok(())
}
