//! Cgroup folders with their limits and freezers, in every mounted hierarchy of either version.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Facts, Scope, mounts};

/// Files that hold a setting, not a measurement.
const SETTINGS: [&str; 39] = [
    "blkio.bfq.weight",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.write_iops_device",
    "cgroup.freeze",
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.subtree_control",
    "cgroup.type",
    "cpu.cfs_burst_us",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.rt_runtime_us",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.cpus.partition",
    "cpuset.mems",
    "devices.list",
    "freezer.self_freezing",
    "freezer.state",
    "io.latency",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.low",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.min",
    "memory.oom.group",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "memory.swappiness",
    "pids.max",
];

pub(super) fn read(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    let mut left: Vec<PathBuf> = scope.cgroup_roots.clone();
    if left.is_empty() {
        let hierarchies = mounts::of("self")?
            .into_iter()
            .filter(|mount| mount.file_system.starts_with("cgroup"));
        left.extend(hierarchies.map(|mount| PathBuf::from(mount.point)));
    }
    while let Some(folder) = left.pop() {
        // A cgroup may go away while we look; then it is gone, not unreadable.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut settings = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            } else if SETTINGS.binary_search(&name.as_str()).is_ok() {
                settings.extend(setting(&entry.path(), &name));
            }
        }
        settings.sort();
        facts.add(folder.to_string_lossy(), settings.join("; "));
    }
    Ok(())
}

fn setting(path: &Path, name: &str) -> Option<String> {
    let value = fs::read_to_string(path).ok()?;
    Some(format!("{name}={}", value.trim().replace('\n', ",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_sorted_so_that_they_are_found() {
        assert!(SETTINGS.is_sorted());
    }
}
