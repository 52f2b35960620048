//! Where this process may make cgroups below its own: version 2 (also in a hybrid layout), and the freezer of version 1.

use std::path::{Path, PathBuf};

/// A hierarchy that can hold and end a tree of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    v2: bool,
    /// This process's own folder in it.
    own: PathBuf,
}

/// One mounted hierarchy as a line of /proc/self/mountinfo tells it: version 2 or not, its root, its mount point.
fn mount(line: &str) -> Option<(bool, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let freezer = right.get(2)?.split(',').any(|option| option == "freezer");
    match *right.first()? {
        "cgroup2" => Some((true, left.get(3)?, left.get(4)?)),
        "cgroup" if freezer => Some((false, left.get(3)?, left.get(4)?)),
        _ => None,
    }
}

/// The path of this process in a hierarchy, by /proc/self/cgroup.
fn own_path(membership: &str, v2: bool) -> Option<&str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = if v2 {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == "freezer")
        };
        fits.then_some(path)
    })
}

fn find(mounts: &str, membership: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for (v2, root, point) in mounts.lines().filter_map(mount) {
        let Some(path) = own_path(membership, v2) else {
            continue;
        };
        // In a container the mount shows only a part of the hierarchy.
        let Ok(below) = Path::new(path).strip_prefix(root) else {
            continue;
        };
        if !found.iter().any(|known| known.v2 == v2) {
            found.push(Hierarchy {
                v2,
                own: Path::new(point).join(below),
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
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK).is_ok()
        && access(folder.join("cgroup.procs"), Access::WRITE_OK).is_ok()
}

/// The folders named `name` that could be made, one in each hierarchy.
pub(super) fn candidates(name: &str) -> Vec<PathBuf> {
    let usable = hierarchies()
        .into_iter()
        .filter(|hierarchy| writable(&hierarchy.own));
    usable.map(|hierarchy| hierarchy.own.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, find};

    #[test]
    fn layouts_are_told_apart_and_a_container_sees_its_part() {
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            find(v2, "0::/user.slice/a.scope\n"),
            [Hierarchy {
                v2: true,
                own: "/sys/fs/cgroup/user.slice/a.scope".into()
            }]
        );
        let hybrid = "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
                      32 24 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      33 24 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let found = find(hybrid, "6:freezer:/job\n4:memory:/m\n0::/\n");
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1].own,
            std::path::Path::new("/sys/fs/cgroup/freezer/job")
        );
        let container = "40 1 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw";
        assert_eq!(
            find(container, "0::/docker/abc\n")[0].own,
            std::path::Path::new("/sys/fs/cgroup/")
        );
        assert!(find(container, "0::/elsewhere\n").is_empty());
    }
}
