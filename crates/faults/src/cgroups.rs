//! Where this process may make cgroups: version 2 (also in a hybrid layout), and of version 1 the freezer and what systemd keeps its units in.

use rustix::fs::{Access, access};
use std::io;
use std::path::{Path, PathBuf};

/// What a hierarchy is for. Those of version 1 that only count or limit (memory, pids, …) are never left: a limit that was set holds for us too.
/// In version 2 limits and membership are one: whoever leaves the caller's cgroup leaves its memory.max and pids.max.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Version 2: everything.
    Unified,
    /// Version 1: stops a tree of processes, so that it can be ended.
    Freezer,
    /// Version 1: what systemd ends a unit by.
    Systemd,
}

/// A hierarchy by which a tree of processes is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    kind: Kind,
    /// Where it is mounted: the topmost folder that can be seen.
    top: PathBuf,
    /// This process's own folder in it.
    own: PathBuf,
}

/// One mounted hierarchy as a line of /proc/self/mountinfo tells it: its kind, its root, its mount point.
fn mount(line: &str) -> Option<(Kind, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let has = |name| {
        right
            .get(2)
            .is_some_and(|all| all.split(',').any(|option| option == name))
    };
    let kind = match *right.first()? {
        "cgroup2" => Kind::Unified,
        "cgroup" if has("freezer") => Kind::Freezer,
        "cgroup" if has("name=systemd") => Kind::Systemd,
        _ => return None,
    };
    Some((kind, left.get(3)?, left.get(4)?))
}

/// The path of this process in a hierarchy, by /proc/self/cgroup.
fn own_path(membership: &str, kind: Kind) -> Option<&str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let has = |name| controllers.split(',').any(|one| one == name);
        let fits = match kind {
            Kind::Unified => controllers.is_empty(),
            Kind::Freezer => has("freezer"),
            Kind::Systemd => has("name=systemd"),
        };
        fits.then_some(path)
    })
}

fn find(mounts: &str, membership: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for (kind, root, point) in mounts.lines().filter_map(mount) {
        let Some(path) = own_path(membership, kind) else {
            continue;
        };
        // In a container the mount shows only a part of the hierarchy.
        let Ok(below) = Path::new(path).strip_prefix(root) else {
            continue;
        };
        if !found.iter().any(|known| known.kind == kind) {
            found.push(Hierarchy {
                kind,
                top: PathBuf::from(point),
                // Without the slash that joining nothing would leave.
                own: Path::new(point)
                    .components()
                    .chain(below.components())
                    .collect(),
            });
        }
    }
    found
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    find(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

fn writable(folder: &Path) -> bool {
    access(folder, Access::WRITE_OK).is_ok() && writable_members(folder)
}

fn writable_members(folder: &Path) -> bool {
    access(folder.join(MEMBERS), Access::WRITE_OK).is_ok()
}

/// The file of a cgroup that lists who is in it, and takes who enters.
pub(crate) const MEMBERS: &str = "cgroup.procs";

/// This process enters `folder`.
pub(crate) fn enter(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join(MEMBERS), "0")
}

/// The folders named `name` that could be made below our own, one in each hierarchy that can end what is in it.
pub(crate) fn below_own(name: &str) -> Vec<PathBuf> {
    let usable = hierarchies()
        .into_iter()
        .filter(|hierarchy| hierarchy.kind != Kind::Systemd && writable(&hierarchy.own));
    usable.map(|hierarchy| hierarchy.own.join(name)).collect()
}

/// A folder beside our own, and the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Where this process is now.
    pub(crate) home: PathBuf,
    /// What could be made.
    pub(crate) folder: PathBuf,
}

/// The folders named `name` that could be made beside our own, one in each hierarchy where we may enter them and come back.
pub(crate) fn beside_own(name: &str) -> Vec<Beside> {
    let all = hierarchies().into_iter();
    let placed = all.filter_map(|hierarchy| beside(&hierarchy, name));
    // Version 2 asks for the right to write where both meet, which is the folder above; version 1 only at the ends.
    placed
        .filter(|one| one.folder.parent().is_some_and(writable) && writable_members(&one.home))
        .collect()
}

/// Beside our own folder, so that what ends our own and all below it does not reach it. The topmost that can be seen has nothing beside it:
/// nobody here can end all of that, so below it is as good.
fn beside(hierarchy: &Hierarchy, name: &str) -> Option<Beside> {
    let above = if hierarchy.own == hierarchy.top {
        &hierarchy.own
    } else {
        hierarchy.own.parent()?
    };
    Some(Beside {
        home: hierarchy.own.clone(),
        folder: above.join(name),
    })
}

#[cfg(test)]
mod tests {
    use super::{Beside, Hierarchy, Kind, beside, find};

    #[test]
    fn layouts_are_told_apart_and_a_container_sees_its_part() {
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            find(v2, "0::/user.slice/a.scope\n"),
            [Hierarchy {
                kind: Kind::Unified,
                top: "/sys/fs/cgroup".into(),
                own: "/sys/fs/cgroup/user.slice/a.scope".into()
            }]
        );
        let hybrid = "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
                      32 24 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      34 24 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let found = find(
            hybrid,
            "6:freezer:/job\n4:memory:/m\n1:name=systemd:/s/u\n0::/\n",
        );
        let kinds: Vec<Kind> = found.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Unified, Kind::Freezer, Kind::Systemd]);
        let own: Vec<_> = found.iter().map(|one| one.own.to_str().unwrap()).collect();
        assert_eq!(
            own,
            [
                "/sys/fs/cgroup/unified",
                "/sys/fs/cgroup/freezer/job",
                "/sys/fs/cgroup/systemd/s/u"
            ]
        );
        let container = "40 1 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw";
        assert_eq!(
            find(container, "0::/docker/abc\n")[0].own.to_str(),
            Some("/sys/fs/cgroup")
        );
        assert!(find(container, "0::/elsewhere\n").is_empty());
    }

    #[test]
    fn beside_our_own_is_out_of_its_reach_and_below_only_where_nothing_is_above() {
        let at = |own: &str| Hierarchy {
            kind: Kind::Unified,
            top: "/cg".into(),
            own: own.into(),
        };
        let placed = |own: &str, folder: &str| Beside {
            home: own.into(),
            folder: folder.into(),
        };
        let cases = [
            ("/cg/job/step", "/cg/job/squall-x"),
            ("/cg/job", "/cg/squall-x"),
            ("/cg", "/cg/squall-x"),
        ];
        for (own, folder) in cases {
            assert_eq!(beside(&at(own), "squall-x"), Some(placed(own, folder)));
        }
    }
}
