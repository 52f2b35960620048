//! A full disk, and cgroups.

use crate::common::{Fixture, Sleeper};
use squall_faults::fault::Fault;
use squall_faults::journal;
use squall_faults::lease::{Lease, LeaseFile};
use squall_faults::process_pause::ProcessPause;
use squall_faults::sys::process;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn a_full_disk_stops_injections_but_neither_undos_nor_their_records_nor_the_lease() {
    if !rustix::process::geteuid().is_root() {
        crate::skip("a small file system of its own needs root");
        return;
    }
    let disk = Sleeper::command(&[
        "unshare",
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs -o size=1m,mode=700 squall-test /mnt && echo ready && exec sleep 60",
    ]);
    disk.ready();
    // The mount is in the other process's namespace alone; this path leads there.
    let fixture = Fixture::at(PathBuf::from(format!(
        "/proc/{}/root/mnt/state",
        disk.pid()
    )));
    let mut lease = Lease::starting_now(fixture.run.clone(), Duration::from_secs(5)).unwrap();
    let mut lease_file = LeaseFile::create(&fixture.run_dir(), &lease).unwrap();
    let filler = fixture.state.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1u8; 4096]).is_ok() {}
    let mut paused = Vec::new();
    let refused = loop {
        let sleeper = Sleeper::start();
        let mut host = fixture.host::<ProcessPause>(u32::try_from(paused.len()).unwrap());
        match ProcessPause::default().inject(&sleeper.target(), &mut host) {
            Ok(()) => paused.push(sleeper),
            Err(error) => {
                assert_ne!(
                    sleeper.state(),
                    'T',
                    "it was changed though it was not recorded"
                );
                break error;
            }
        }
        assert!(paused.len() < 100, "the disk is never full");
    };
    assert!(
        matches!(&refused, squall_faults::fault::FaultError::Journal { source, .. }
        if source.kind() == std::io::ErrorKind::StorageFull),
        "{refused}"
    );
    assert!(paused.len() > 2 && paused.iter().all(|one| one.state() == 'T'));
    lease.renew(Duration::from_secs(6));
    lease_file.write(&lease).unwrap();
    for outcome in squall_faults::undo::perform::undo_all(&fixture.journal, "the end") {
        assert_eq!((outcome.stuck, outcome.unrecorded), (None, None));
    }
    assert!(paused.iter().all(|one| one.state() != 'T'));
    let log = journal::read_all(&fixture.run_dir().join("journal")).unwrap();
    assert_eq!(log.state.outstanding().count(), 0);
    drop(fixture);
}

/// Folders of test processes that were killed half-way.
fn remove_left_by_killed_tests() {
    for root in ["freezer", "unified", "", "memory"] {
        let root = Path::new("/sys/fs/cgroup").join(root);
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name
                .to_str()
                .and_then(|name| name.strip_prefix("squall-test-"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let undo = squall_faults::undo::Undo::RemoveCgroups {
                    paths: vec![entry.path()],
                };
                // Who is still in it keeps it.
                squall_faults::undo::revert(&undo).ok();
            }
        }
    }
}

#[test]
fn cgroups_of_both_versions_are_emptied_and_removed() {
    let mut tried = 0;
    remove_left_by_killed_tests();
    for root in [
        "/sys/fs/cgroup/freezer",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
    ] {
        let folder = Path::new(root).join(format!("squall-test-{}", std::process::id()));
        let inner = folder.join("made-by-the-workload");
        if !Path::new(root).join("cgroup.procs").exists() || std::fs::create_dir(&folder).is_err() {
            crate::skip(&format!(
                "{root} is no cgroup hierarchy that this user may write"
            ));
            continue;
        }
        tried += 1;
        std::fs::create_dir(&inner).unwrap();
        let deaf = Sleeper::command(&[
            "sh",
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 1; done",
        ]);
        deaf.ready();
        std::fs::write(inner.join("cgroup.procs"), deaf.pid().to_string()).unwrap();
        let tree = squall_faults::undo::Undo::EndTree {
            mark: "none".into(),
            cgroups: vec![folder.clone()],
            grace_ms: 50,
        };
        let groups = squall_faults::undo::Undo::RemoveCgroups {
            paths: vec![folder.clone()],
        };
        let (observations, stuck) =
            squall_faults::undo::perform::take_back(&[groups.clone(), tree], || {});
        assert_eq!(stuck, None, "{root}: {observations:?}");
        assert_eq!(process::identity(deaf.pid()).unwrap(), None);
        assert!(!folder.exists());
        squall_faults::undo::revert(&groups).unwrap();
    }
    if tried == 0 {
        crate::skip("no cgroup hierarchy at all");
    }
}
