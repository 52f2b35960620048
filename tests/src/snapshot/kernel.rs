//! Kernel state that is neither network rule, nor mount, nor process: parameters, names, devices,
//! shared memory, and sockets of ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::proc::hexed;
use super::{Facts, Scope};

/// Where parameters are read.
const PARAMETERS: [&str; 5] = ["fs", "kernel", "net", "user", "vm"];
/// Parameters that move by themselves, have a kind of their own, or do something when read.
const SKIPPED: [&str; 28] = [
    "fs/aio-nr",
    "fs/binfmt_misc",
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/mqueue",
    "fs/quota",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/ns_last_pid",
    "kernel/perf_cpu_time_max_percent",
    "kernel/perf_event_max_sample_rate",
    "kernel/pty/nr",
    "kernel/random",
    "kernel/tainted",
    "kernel/tracepoint_printk",
    "net/ipv4/route/flush",
    "net/ipv4/tcp_allowed_congestion_control",
    "net/ipv4/tcp_available_congestion_control",
    "net/ipv4/tcp_available_ulp",
    "net/ipv4/tcp_fastopen_key",
    "net/ipv6/route/flush",
    "net/netfilter/nf_conntrack_count",
    "vm/compact_memory",
    "vm/drop_caches",
    "vm/lowmem_reserve_ratio",
    "vm/stat_refresh",
];
/// Settings under `/sys` that are host-wide; a star stands for any one name.
const HOST_SETTINGS: [&str; 8] = [
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/devices/system/cpu/smt/control",
    "sys/devices/system/cpu/*/online",
    "sys/devices/system/cpu/*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/*/cpufreq/scaling_max_freq",
    "sys/block/*/queue/scheduler",
    "sys/block/*/queue/read_ahead_kb",
];

pub(super) fn sysctls(facts: &mut Facts) -> anyhow::Result<()> {
    let root = Path::new("/proc/sys");
    let mut left: Vec<PathBuf> = PARAMETERS.iter().map(|name| root.join(name)).collect();
    while let Some(path) = left.pop() {
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            left.extend(listed(&path));
        } else if let Ok(value) = fs::read(&path) {
            // What may only be written, or holds nothing yet, refuses to be read: no state to compare.
            facts.add(name, String::from_utf8_lossy(&value).trim());
        }
    }
    for pattern in HOST_SETTINGS {
        for path in matching(Path::new("/"), pattern) {
            if let Ok(value) = fs::read_to_string(&path) {
                facts.add(path.to_string_lossy(), value.trim());
            }
        }
    }
    Ok(())
}

/// The paths below `root` that fit the pattern.
fn matching(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/') {
        found = match part {
            "*" => found.iter().flat_map(|path| listed(path)).collect(),
            part => found
                .iter()
                .map(|path| path.join(part))
                .filter(|path| path.exists())
                .collect(),
        };
    }
    found
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

pub(super) fn hostname(facts: &mut Facts) -> anyhow::Result<()> {
    let names = rustix::system::uname();
    facts.add("hostname", names.nodename().to_string_lossy());
    facts.add("domainname", names.domainname().to_string_lossy());
    Ok(())
}

pub(super) fn network_namespaces(facts: &mut Facts) -> anyhow::Result<()> {
    for path in listed(Path::new("/run/netns")) {
        facts.add(hexed(path.file_name().unwrap_or_default()), "named");
    }
    Ok(())
}

/// Block devices that stand on something: read below `root`, which is `/` but in tests.
pub(super) fn block_devices(root: &Path, facts: &mut Facts) -> anyhow::Result<()> {
    for (pattern, levels) in [
        ("sys/block/*/loop/backing_file", 2),
        ("sys/block/*/dm/name", 2),
    ] {
        for path in matching(root, pattern) {
            let device = path
                .ancestors()
                .nth(levels)
                .and_then(Path::file_name)
                .unwrap_or_default();
            if let Ok(value) = fs::read_to_string(&path) {
                facts.add(hexed(device), value.trim());
            }
        }
    }
    let swaps = fs::read_to_string(root.join("proc/swaps")).unwrap_or_default();
    for line in swaps.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        // The fourth word is how much of it is in use.
        facts.add(
            format!("swap {}", words.first().unwrap_or(&"?")),
            words.get(1..3).unwrap_or_default().join(" "),
        );
    }
    Ok(())
}

pub(super) fn shared_memory(facts: &mut Facts) -> anyhow::Result<()> {
    for (kind, columns) in [("shm", 4), ("sem", 4), ("msg", 3)] {
        let path = format!("/proc/sysvipc/{kind}");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let name = format!("{kind} {}", words.get(1).unwrap_or(&"?"));
            facts.add(name, words.get(..columns).unwrap_or_default().join(" "));
        }
    }
    Ok(())
}

pub(super) fn sockets(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    for folder in &scope.socket_folders {
        for path in listed(folder) {
            facts.add(hexed(path.as_os_str()), "in a socket folder");
        }
    }
    let text = fs::read_to_string("/proc/net/unix").context("/proc/net/unix")?;
    for line in text.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some(path) = words.get(7).filter(|path| path.contains("squall")) else {
            continue;
        };
        // The fourth word's mark tells a listener from a connection.
        let role = if words.get(3) == Some(&"00010000") {
            "open, listening"
        } else {
            "open"
        };
        facts.add(format!("{path} {role}"), "socket");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_device_and_a_mapped_one_are_seen_and_an_idle_one_is_not() {
        let root = std::env::temp_dir().join(format!("snapshot-blocks-{}", std::process::id()));
        for folder in [
            "sys/block/loop0",
            "sys/block/loop7/loop",
            "sys/block/dm-0/dm",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(
            root.join("sys/block/loop7/loop/backing_file"),
            "/tmp/disk\n",
        )
        .unwrap();
        fs::write(root.join("sys/block/dm-0/dm/name"), "slow\n").unwrap();
        let mut facts = Facts::default();
        let read = block_devices(&root, &mut facts);
        fs::remove_dir_all(&root).unwrap();
        read.unwrap();
        let seen: Vec<_> = facts
            .0
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        assert_eq!(seen, ["dm-0 slow", "loop7 /tmp/disk"]);
    }
}
