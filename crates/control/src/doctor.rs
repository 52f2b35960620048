//! What this host is, in words: what every fault and recovery rests on, and what to do about what is missing.

use squall_faults::kind::HostFacts;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const UNIT: &str = "squall-recover.service";
/// How long Python may take to say its version.
const PYTHON: Duration = Duration::from_secs(5);

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it should be.
    Good,
    /// Something is not possible here, or not by the better way.
    Limited,
    /// A person should act.
    Bad,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fact {
    /// What it is about.
    pub name: &'static str,
    /// How well it is.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do, or what serves instead.
    pub remedy: Option<String>,
}

impl Fact {
    fn new(
        name: &'static str,
        good: bool,
        otherwise: Health,
        found: impl Into<String>,
        remedy: &str,
    ) -> Fact {
        Fact {
            name,
            health: if good { Health::Good } else { otherwise },
            found: found.into(),
            remedy: (!good).then(|| remedy.to_owned()),
        }
    }
}

/// Looks at everything. Changes nothing.
pub fn examine(state_dir: Option<&Path>) -> Vec<Fact> {
    let facts = HostFacts::read();
    let mut all = vec![
        kernel(&facts),
        cgroup(&facts),
        capabilities(&facts),
        nftables(&facts),
        clock(),
        python(),
        boot_unit(),
        policies(),
    ];
    match state_dir {
        Some(state_dir) => {
            all.push(state(state_dir));
            all.push(journals(state_dir));
        }
        None => all.push(Fact::new(
            "state folder",
            false,
            Health::Bad,
            "none",
            "set SQUALL_STATE_DIR or HOME",
        )),
    }
    all
}

fn kernel(facts: &HostFacts) -> Fact {
    let mut numbers = facts
        .kernel
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let remedy = "Squall is made for Linux 5.4 and later";
    Fact::new(
        "kernel",
        version >= (5, 4),
        Health::Bad,
        &facts.kernel,
        remedy,
    )
}

fn cgroup(facts: &HostFacts) -> Fact {
    let remedy = "workloads are then found by their environment alone";
    Fact::new(
        "cgroups",
        !facts.cgroup.starts_with("none"),
        Health::Limited,
        &facts.cgroup,
        remedy,
    )
}

fn capabilities(facts: &HostFacts) -> Fact {
    let held = [
        ("CAP_KILL", facts.kill),
        ("CAP_NET_ADMIN", facts.net_admin),
        ("CAP_SYS_ADMIN", facts.sys_admin),
    ];
    let names = |wanted: bool| {
        held.iter()
            .filter(|(_, has)| *has == wanted)
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let found = match names(true) {
        held if held.is_empty() => "none".into(),
        held => held,
    };
    let remedy = format!(
        "without {}: only this user's own processes and files can be reached",
        names(false)
    );
    Fact::new(
        "capabilities",
        held.iter().all(|(_, has)| *has),
        Health::Limited,
        found,
        &remedy,
    )
}

fn nftables(facts: &HostFacts) -> Fact {
    let found = if facts.nftables {
        "the kernel answers"
    } else {
        "the kernel does not answer"
    };
    Fact::new(
        "nftables",
        facts.nftables,
        Health::Limited,
        found,
        "network faults need it: run as root on a kernel with nf_tables",
    )
}

fn clock() -> Fact {
    let source =
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let found = source.map_or_else(
        |_| "unknown source".to_owned(),
        |text| text.trim().to_owned(),
    );
    Fact::new(
        "clock",
        crate::clock::boot_ns() > 0,
        Health::Bad,
        format!("boot-time clock, {found}"),
        "the boot-time clock cannot be read",
    )
}

fn python() -> Fact {
    let mut command = Command::new("python3");
    command.args(["-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]);
    let version = match answer(&mut command, PYTHON) {
        Ok(version) => version,
        Err(Late) => {
            let found = format!("python3 did not answer within {} s", PYTHON.as_secs());
            let remedy = "see what `python3 -c 'import sys'` waits for; log patterns work without";
            return Fact::new("training hook", false, Health::Limited, found, remedy);
        }
    };
    let new_enough = version.as_ref().is_some_and(|version| {
        let mut parts = version
            .split('.')
            .map_while(|part| part.parse::<u32>().ok());
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (3, 8)
    });
    let found = version.map_or_else(
        || "no python3".to_owned(),
        |version| format!("python3 {version}"),
    );
    Fact::new(
        "training hook",
        new_enough,
        Health::Limited,
        found,
        "the hook for Python scripts needs Python 3.8 or later; log patterns work without",
    )
}

/// It did not answer in time.
struct Late;

/// The first line that a program prints before it ends well; ended by force when it takes too long.
fn answer(command: &mut Command, within: Duration) -> Result<Option<String>, Late> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let Ok(mut child) = child else {
        return Ok(None);
    };
    let deadline = Instant::now() + within;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok(Some(status)) => {
                // What it started may hold its output open: no more is read than a version takes, and for no longer.
                let mut text = [0u8; 64];
                let Some(mut out) = child.stdout.take() else {
                    return Ok(None);
                };
                if !readable(&out, deadline) {
                    end_group(&child);
                    return Err(Late);
                }
                let length = out.read(&mut text).unwrap_or(0);
                let text = &text[..length];
                let line = String::from_utf8_lossy(text).trim().to_owned();
                return Ok((status.success() && !line.is_empty()).then_some(line));
            }
            _ => {
                // One that has just ended is what is wanted.
                end_group(&child);
                child.wait().ok();
                return Err(Late);
            }
        }
    }
}

/// Whether there is something to read, or the end, before the deadline.
fn readable(out: &std::process::ChildStdout, deadline: Instant) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    poll(&mut [PollFd::new(out, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Ends a program that leads a group of its own, and what it has started.
fn end_group(child: &Child) {
    let leader = i32::try_from(child.id()).ok();
    if let Some(leader) = leader.and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process_group(leader, rustix::process::Signal::KILL).ok();
    }
}

fn boot_unit() -> Fact {
    let wanted = [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let enabled = wanted.iter().any(|root| {
        let targets = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        targets
            .filter(|entry| {
                [".wants", ".requires"]
                    .iter()
                    .any(|end| entry.file_name().to_string_lossy().ends_with(end))
            })
            .any(|entry| entry.path().join(UNIT).symlink_metadata().is_ok())
    });
    let found = if enabled { "enabled" } else { "not enabled" };
    let remedy = "after a crash of the machine, `squall undo --all` must be typed; to have it done at boot: copy packaging/squall-recover*.service to /etc/systemd/system/, then systemctl enable squall-recover squall-recover-late";
    Fact::new("boot unit", enabled, Health::Limited, found, remedy)
}

fn policies() -> Fact {
    let places = crate::policy_files::places();
    match crate::policy_files::policies::<squall_catalog::Faults>(&places) {
        Ok(found) if found.files.is_empty() => {
            Fact::new("policies", true, Health::Good, "none", "")
        }
        Ok(found) => {
            let names: Vec<&str> = found
                .files
                .iter()
                .map(|file| file.source.file.as_str())
                .collect();
            Fact::new("policies", true, Health::Good, names.join(", "), "")
        }
        Err(error) => Fact::new(
            "policies",
            false,
            Health::Bad,
            error.to_string(),
            "mend the file; until then every run is refused",
        ),
    }
}

fn state(state_dir: &Path) -> Fact {
    use std::os::unix::fs::MetadataExt;
    let found = state_dir.display().to_string();
    match std::fs::metadata(state_dir) {
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => Fact::new(
            "state folder",
            false,
            Health::Bad,
            format!("{found} belongs to user {}", meta.uid()),
            "set SQUALL_STATE_DIR to a folder of yours",
        ),
        Ok(meta) => {
            let closed = meta.mode() & 0o077 == 0;
            Fact::new(
                "state folder",
                closed,
                Health::Limited,
                found,
                "others can read it; the next run closes it",
            )
        }
        Err(_) => Fact::new(
            "state folder",
            true,
            Health::Good,
            format!("{found} (made by the first run)"),
            "",
        ),
    }
}

fn journals(state_dir: &Path) -> Fact {
    match crate::status::status(state_dir) {
        Ok(status) => {
            let found = match (status.outstanding.len(), status.live.len()) {
                (0, 0) => "nothing".to_owned(),
                (0, live) => format!("nothing; {live} live"),
                (1, live) => format!("1 run left something; {live} live"),
                (left, live) => format!("{left} runs left something; {live} live"),
            };
            Fact::new(
                "outstanding",
                status.outstanding.is_empty(),
                Health::Bad,
                found,
                "squall undo --all",
            )
        }
        Err(error) => Fact::new(
            "outstanding",
            false,
            Health::Bad,
            error.to_string(),
            "mend the state folder",
        ),
    }
}

/// What a run records of its host.
pub fn host_words() -> BTreeMap<String, String> {
    let facts = HostFacts::read();
    BTreeMap::from([
        ("kernel".to_owned(), facts.kernel),
        ("cores".to_owned(), facts.cores.to_string()),
        ("memory".to_owned(), format!("{} bytes", facts.memory_total)),
        ("cgroups".to_owned(), facts.cgroup),
        (
            "root".to_owned(),
            if facts.root { "yes" } else { "no" }.to_owned(),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn a_program_that_does_not_answer_is_given_up() {
        let begun = Instant::now();
        let late = answer(Command::new("sleep").arg("600"), Duration::from_millis(50));
        assert!(late.is_err() && begun.elapsed() < Duration::from_secs(60));
        let said = answer(Command::new("echo").arg("3.11.2"), Duration::from_secs(60));
        assert_eq!(said.ok().flatten().as_deref(), Some("3.11.2"));
        // Its child holds the pipe; one of them says its pid elsewhere, to be looked at.
        let scratch = Scratch::new("doctor-group");
        let pid = scratch.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}", pid.display());
        let begun = Instant::now();
        let late = answer(
            Command::new("sh").args(["-c", &script]),
            Duration::from_secs(2),
        );
        assert!(late.is_err() && begun.elapsed() < Duration::from_secs(30));
        let pid = std::fs::read_to_string(pid).unwrap_or_default();
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_alive = || {
            std::fs::read_to_string(&stat)
                .is_ok_and(|stat| !stat.contains(") Z ") && stat.contains("(sleep)"))
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while is_alive() {
            assert!(Instant::now() < deadline, "{pid} goes on");
        }
        assert!(matches!(
            answer(&mut Command::new("/no/such/python"), PYTHON),
            Ok(None)
        ));
    }

    #[test]
    fn a_unit_that_is_not_enabled_is_to_be_copied_first() {
        let fact = boot_unit();
        let Some(remedy) = fact.remedy else {
            assert_eq!(fact.found, "enabled");
            return;
        };
        let (copy, enable) = (
            remedy.find("copy packaging/"),
            remedy.find("systemctl enable"),
        );
        assert!(copy.is_some() && copy < enable, "{remedy}");
    }

    #[test]
    fn everything_is_said_and_what_is_missing_has_a_remedy() {
        let scratch = Scratch::new("doctor");
        let facts = examine(Some(scratch.path()));
        assert_eq!(facts.len(), 10);
        for fact in &facts {
            assert_eq!(
                fact.health == Health::Good,
                fact.remedy.is_none(),
                "{fact:?}"
            );
            assert!(!fact.found.is_empty(), "{fact:?}");
        }
        assert_eq!(
            std::fs::read_dir(scratch.path()).map(Iterator::count).ok(),
            Some(0),
            "it only looks"
        );
    }
}
