//! The workload's cgroup, v1 or v2, where it has one of its own.

use super::files::{Kept, field, number};
use super::{Values, series};
use crate::store::{Samples, SeriesId};

/// Samples one cgroup; nothing when the workload shares Squall's.
pub(super) struct CgroupSampler {
    readings: Vec<(SeriesId, Kept, Kind)>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// The file is one number.
    Number,
    /// The number after `usage_usec`, in microseconds.
    Microseconds,
    /// Nanoseconds, kept to the microsecond.
    Nanoseconds,
}

impl CgroupSampler {
    pub(super) fn of(pid: u32, samples: &Samples) -> CgroupSampler {
        let theirs = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let ours = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let folder = |controller: &str| {
            let path = path_in(&theirs, controller)?;
            (path_in(&ours, controller)? != path).then_some(())?;
            Some(format!("{}{path}", mount_of(&mounts, controller)?))
        };
        let mut readings = Vec::new();
        let mut add = |name, unit, per_second, file: Option<String>, kind| {
            if let Some(kept) = file.and_then(|file| Kept::open(&file)) {
                readings.push((series(samples, name, unit, per_second), kept, kind));
            }
        };
        // One microsecond a second is a ten-thousandth of a percent.
        let cpu = |file, kind, add: &mut dyn FnMut(_, _, _, _, _)| {
            add("cgroup.cpu", "%", Some(1e-4), file, kind)
        };
        if let Some(folder) = folder("") {
            cpu(
                Some(format!("{folder}/cpu.stat")),
                Kind::Microseconds,
                &mut add,
            );
            add(
                "cgroup.memory",
                "bytes",
                None,
                Some(format!("{folder}/memory.current")),
                Kind::Number,
            );
            add(
                "cgroup.pids",
                "",
                None,
                Some(format!("{folder}/pids.current")),
                Kind::Number,
            );
        }
        let v1 = |controller: &str, file: &str| {
            folder(controller).map(|folder| format!("{folder}/{file}"))
        };
        cpu(v1("cpuacct", "cpuacct.usage"), Kind::Nanoseconds, &mut add);
        add(
            "cgroup.memory",
            "bytes",
            None,
            v1("memory", "memory.usage_in_bytes"),
            Kind::Number,
        );
        add(
            "cgroup.pids",
            "",
            None,
            v1("pids", "pids.current"),
            Kind::Number,
        );
        CgroupSampler { readings }
    }

    pub(super) fn sample(&mut self, values: &mut Values) {
        for (id, file, kind) in &mut self.readings {
            let Some(text) = file.read() else {
                continue;
            };
            let value = match kind {
                Kind::Number => number(text, 0),
                Kind::Microseconds => field(text, b"usage_usec"),
                Kind::Nanoseconds => number(text, 0).map(|ns| ns / 1_000),
            };
            values.extend(value.map(|value| (*id, value as f64)));
        }
    }
}

/// The path of a controller in /proc/PID/cgroup; the empty name is the v2 hierarchy.
fn path_in<'a>(table: &'a str, controller: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

/// Where a controller's hierarchy is mounted.
fn mount_of<'a>(mounts: &'a str, controller: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        let fits = match controller {
            "" => kind == "cgroup2",
            name => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        fits.then(|| left.split(' ').nth(4)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_found_in_both_layouts() {
        let table = "5:cpu,cpuacct:/a/b\n1:name=systemd:/x\n0::/v2\n";
        assert_eq!(path_in(table, "cpuacct"), Some("/a/b"));
        assert_eq!(path_in(table, ""), Some("/v2"));
        assert_eq!(path_in(table, "memory"), None);
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of(mounts, "cpuacct"), Some("/sys/fs/cgroup/cpu"));
        assert_eq!(mount_of(mounts, ""), Some("/sys/fs/cgroup/unified"));
    }
}
