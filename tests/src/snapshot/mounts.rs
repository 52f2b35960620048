//! Mounts, of this mount namespace and of those of watched processes.
//!
//! Named by mount point; several on one point are numbered in their order. Left out are mount and
//! peer group numbers, which no undo can bring back.

use std::fs;

use anyhow::Context as _;

use super::{Facts, Scope};

/// A line of mountinfo(5), as far as it is compared.
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) file_system: String,
    text: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let dash = words.iter().position(|word| *word == "-")?;
        let [device, root, point, options] = words.get(2..6)? else {
            return None;
        };
        let tags: Vec<_> = words
            .get(6..dash)?
            .iter()
            .filter_map(|tag| tag.split(':').next())
            .collect();
        let [file_system, source, super_options] = words.get(dash + 1..dash + 4)? else {
            return None;
        };
        let text = format!(
            "{file_system} {source} {device} {root} {options} [{}] {super_options}",
            tags.join(",")
        );
        Some(Self {
            point: (*point).to_owned(),
            file_system: (*file_system).to_owned(),
            text,
        })
    }
}

/// The mounts that a process sees.
pub(super) fn of(process: &str) -> anyhow::Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    text.lines()
        .map(|line| Mount::parse(line).with_context(|| format!("a mount in {line:?}")))
        .collect()
}

pub(super) fn read(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    for mount in of("self")? {
        facts.add(mount.point, mount.text);
    }
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let own = namespace("self");
    for pid in &scope.pids {
        let process = pid.to_string();
        if namespace(&process).is_none_or(|other| Some(other) == own) {
            continue;
        }
        for mount in of(&process).unwrap_or_default() {
            facts.add(format!("pid {pid}: {}", mount.point), mount.text);
        }
    }
    Ok(())
}
