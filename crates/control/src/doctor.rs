//! What this host is, in words: what every fault and recovery rests on, and what to do about what is missing.

use squall_faults::kind::HostFacts;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

const UNIT: &str = "squall-recover.service";

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
    let output = Command::new("python3")
        .args(["-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let version = output.ok().filter(|output| output.status.success());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
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
    let remedy = format!(
        "after a crash of the machine, `squall undo --all` must be typed; to have it done at boot: systemctl enable {UNIT}"
    );
    Fact::new("boot unit", enabled, Health::Limited, found, &remedy)
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
