//! File damage and its undo: what was there is put back exactly, and what the workload has written is never overwritten.

use crate::common::Fixture;
use squall_faults::backup;
use squall_faults::fault::{Fault, FaultError, Target};
use squall_faults::file_damage::{Damage, FileDamage};
use squall_faults::host::Host;
use squall_faults::undo::perform::undo_injection;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use squall_model::units::Bytes;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More than one range of backup, and no multiple of a block.
pub const LENGTH: u64 = 2 * backup::RANGE_MAX + 777;

/// Bytes that are not printed.
#[derive(PartialEq)]
pub struct Content(pub Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl std::ops::Deref for Content {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Everything that must come back. Reads by its own means.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    pub content: Content,
    mode: u32,
    owner: (u32, u32),
    pub mtime: (i64, i64),
    note: Option<Vec<u8>>,
    beside: Vec<PathBuf>,
}

pub fn snapshot(path: &Path) -> Snapshot {
    let meta = std::fs::metadata(path).unwrap();
    let mut note = [0u8; 64];
    let length = rustix::fs::getxattr(path, "user.note", &mut note[..]).ok();
    let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut beside: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    beside.sort();
    Snapshot {
        content: Content(std::fs::read(path).unwrap()),
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        note: length.map(|length| note[..length].to_vec()),
        beside,
    }
}

pub struct Case {
    pub fixture: Fixture,
    pub path: PathBuf,
    pub before: Snapshot,
}

impl Case {
    pub fn new(name: &str) -> Case {
        Case::prepared(name, |_| {})
    }

    /// The file is made after its folder was prepared: something may be mounted there.
    pub fn prepared(name: &str, prepare: impl FnOnce(&Path)) -> Case {
        let fixture = Fixture::new(&format!("file-{name}"));
        let folder = fixture.state.join("work");
        std::fs::create_dir_all(&folder).unwrap();
        prepare(&folder);
        let path = folder.join("checkpoint.bin");
        let content: Vec<u8> = (0..LENGTH).map(|at| (at * 31 % 251) as u8 | 1).collect();
        std::fs::write(&path, content).unwrap();
        let (name, none) = ("user.note", rustix::fs::XattrFlags::empty());
        match rustix::fs::setxattr(&path, name, b"keep me", none) {
            // Not every tmpfs has them.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => panic!("{error}"),
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), Some(2345)).unwrap();
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4741)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 123_456_789);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        let before = snapshot(&path);
        Case {
            fixture,
            path,
            before,
        }
    }

    pub fn host(&self) -> Host {
        self.fixture.host::<FileDamage>(0)
    }

    pub fn target(&self) -> Target {
        Target::File {
            path: self.path.clone(),
        }
    }

    /// Injects, and checks that it landed.
    pub fn inject(&self, damage: Damage) -> Vec<Undo> {
        let mut host = self.host();
        let fault = FileDamage {
            damage,
            limit: None,
        };
        assert_eq!(fault.unmet(&self.target(), &Default::default()), []);
        fault.inject(&self.target(), &mut host).unwrap();
        let changes = host.changes();
        let seen = fault.observe(&self.target(), &changes);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].presence, Presence::Present, "{seen:?}");
        host.land(None, seen).unwrap();
        changes
    }

    pub fn undo(&self) -> squall_faults::undo::perform::Outcome {
        undo_injection(&self.fixture.journal, &self.fixture.id(0), "test").unwrap()
    }

    pub fn backups(&self) -> PathBuf {
        self.fixture
            .run_dir()
            .join("backups")
            .join(&self.fixture.id(0).0)
    }
}

pub fn damages() -> Vec<(&'static str, Damage)> {
    vec![
        ("flip", Damage::FlipBits { count: 100 }),
        (
            "zero",
            Damage::Zero {
                at: Some(Bytes(5)),
                length: Bytes(backup::RANGE_MAX + 9),
            },
        ),
        (
            "zero-drawn",
            Damage::Zero {
                at: None,
                length: Bytes(4096),
            },
        ),
        ("truncate", Damage::Truncate { to: Bytes(100) }),
        ("delete", Damage::Delete {}),
    ]
}

#[test]
fn every_damage_lands_and_everything_comes_back_exactly_and_the_backup_goes() {
    for (name, damage) in damages() {
        let case = Case::new(name);
        let changes = case.inject(damage.clone());
        if !matches!(damage, Damage::Delete {}) {
            let now = snapshot(&case.path);
            assert_ne!(now.content, case.before.content, "{name}");
            assert_eq!(
                now.mtime, case.before.mtime,
                "{name}: rot does not change the time"
            );
        }
        for undo in &changes {
            revert(undo).unwrap();
            assert_eq!(presence(undo).presence, Presence::Absent, "{name}");
            revert(undo).unwrap();
        }
        let outcome = case.undo();
        assert_eq!((outcome.stuck, outcome.unrecorded), (None, None), "{name}");
        assert_eq!(snapshot(&case.path), case.before, "{name}");
        assert!(!case.backups().exists(), "{name}");
    }
}

#[test]
fn flipped_bits_are_as_many_as_asked_and_the_same_for_the_same_seed() {
    let flipped = |count: u32| {
        // The same run, injection and seed each time.
        let case = Case::new("bits");
        case.inject(Damage::FlipBits { count });
        let now = std::fs::read(&case.path).unwrap();
        let differ = now.iter().zip(&*case.before.content).map(|(a, b)| a ^ b);
        differ
            .enumerate()
            .filter(|(_, bits)| *bits != 0)
            .collect::<Vec<_>>()
    };
    let one = flipped(50);
    assert_eq!(
        one.iter().map(|(_, bits)| bits.count_ones()).sum::<u32>(),
        50
    );
    assert_eq!(one, flipped(50));
}

#[test]
fn two_undos_at_once_both_succeed() {
    for (name, damage) in damages() {
        let case = Case::new(&format!("two-{name}"));
        case.inject(damage);
        std::thread::scope(|scope| {
            let both = [(), ()].map(|()| scope.spawn(|| case.undo()));
            for one in both {
                let outcome = one.join().unwrap();
                assert_eq!(outcome.stuck, None, "{name}");
            }
        });
        assert_eq!(snapshot(&case.path), case.before, "{name}");
    }
}

#[test]
fn a_restore_or_a_damage_that_was_interrupted_anywhere_is_finished() {
    let case = Case::new("interrupted");
    let changes = case.inject(Damage::Zero {
        at: Some(Bytes(10)),
        length: Bytes(backup::RANGE_MAX * 2),
    });
    let file = File::options().write(true).open(&case.path).unwrap();
    // A restore notes that it begins; here the first range is restored, the second in part.
    File::create(case.backups().join("restoring")).unwrap();
    file.write_all_at(
        &case.before.content[10..10 + backup::RANGE_MAX as usize + 5000],
        10,
    )
    .unwrap();
    revert(&changes[0]).unwrap();
    assert_eq!(snapshot(&case.path), case.before);

    let case = Case::new("interrupted-cut");
    let changes = case.inject(Damage::Truncate { to: Bytes(100) });
    File::create(case.backups().join("restoring")).unwrap();
    let file = File::options().write(true).open(&case.path).unwrap();
    file.write_all_at(&case.before.content[100..70_000], 100)
        .unwrap();
    // The blocks of a lost write read as zeros.
    file.set_len(90_000).unwrap();
    revert(&changes[0]).unwrap();
    assert_eq!(snapshot(&case.path), case.before);

    // Killed between the restored bytes and the restored time.
    let case = Case::new("interrupted-time");
    let changes = case.inject(Damage::FlipBits { count: 3 });
    revert(&changes[0]).unwrap();
    File::options()
        .write(true)
        .open(&case.path)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert_eq!(presence(&changes[0]).presence, Presence::Present);
    revert(&changes[0]).unwrap();
    assert_eq!(snapshot(&case.path), case.before);
}

#[test]
fn a_change_that_never_happened_is_undone_by_doing_nothing() {
    for (name, damage) in damages() {
        let case = Case::new(&format!("never-{name}"));
        let changes = case.inject(damage);
        revert(&changes[0]).unwrap();
        // As before the act: the backup is there, the file untouched.
        revert(&changes[0]).unwrap();
        assert_eq!(presence(&changes[0]).presence, Presence::Absent);
        assert_eq!(snapshot(&case.path), case.before, "{name}");
    }
}

#[test]
fn a_lost_or_damaged_backup_is_never_restored_from() {
    let case = Case::new("bad-backup");
    let changes = case.inject(Damage::Zero {
        at: Some(Bytes(0)),
        length: Bytes(4096),
    });
    let data = case.backups().join("data");
    std::fs::write(&data, vec![7u8; 4096]).unwrap();
    let error = revert(&changes[0]).unwrap_err();
    assert!(error.because.contains("does not check"), "{error}");
    assert_eq!(std::fs::read(&case.path).unwrap()[..4096], [0u8; 4096]);
}

#[test]
fn what_cannot_be_put_back_or_is_too_much_is_refused_untouched() {
    let case = Case::new("refused");
    let fault = |damage, limit| FileDamage { damage, limit };
    let refused = |fault: &FileDamage| {
        let mut host = case.host();
        let error = fault.inject(&case.target(), &mut host).unwrap_err();
        assert!(host.changes().is_empty());
        assert!(snapshot(&case.path).content == case.before.content);
        error
    };
    let error = refused(&fault(Damage::Truncate { to: Bytes(10) }, Some(Bytes(100))));
    assert!(matches!(error, FaultError::Limit { .. }), "{error}");
    let error = refused(&fault(Damage::Truncate { to: Bytes(LENGTH) }, None));
    assert!(matches!(error, FaultError::Target { .. }), "{error}");
    std::fs::hard_link(&case.path, case.path.with_extension("link")).unwrap();
    let error = refused(&fault(Damage::Delete {}, None));
    assert!(error.to_string().contains("2 hard links"), "{error}");
    assert_eq!(
        fault(Damage::FlipBits { count: 0 }, None).problems().len(),
        1
    );
}

#[test]
fn damage_through_a_link_is_damage_to_the_file_and_the_link_stays() {
    let case = Case::new("link");
    let link = case.path.with_file_name("latest");
    std::os::unix::fs::symlink("checkpoint.bin", &link).unwrap();
    let mut host = case.host();
    let fault = FileDamage {
        damage: Damage::Delete {},
        limit: None,
    };
    fault
        .inject(&Target::File { path: link.clone() }, &mut host)
        .unwrap();
    assert!(!case.path.exists() && link.is_symlink());
    assert_eq!(case.undo().stuck, None);
    assert!(std::fs::read(&link).unwrap() == case.before.content.0);
}

fn changed_at(folder: &std::path::Path) -> std::time::SystemTime {
    std::fs::metadata(folder).unwrap().modified().unwrap()
}

#[test]
fn the_folder_of_a_deleted_file_gets_its_time_back_unless_somebody_else_changed_it() {
    for (interrupted, disturbed) in [(false, false), (true, false), (false, true)] {
        let case = Case::new(&format!("folder-time-{interrupted}-{disturbed}"));
        let folder = case.path.parent().unwrap().to_owned();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_007);
        std::fs::File::open(&folder)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let changes = case.inject(Damage::Delete {});
        assert_ne!(changed_at(&folder), long_ago);
        if disturbed {
            std::fs::write(folder.join("the-workloads-own"), "x").unwrap();
        }
        let disturbed_at = changed_at(&folder);
        for undo in &changes {
            revert(undo).unwrap();
            if interrupted {
                // As when the first try had made the file again and was killed right after.
                made_again(&case.path);
                revert(undo).unwrap();
            }
        }
        let now = changed_at(&folder);
        if disturbed {
            assert!(now != long_ago && now >= disturbed_at);
        } else {
            assert_eq!(now, long_ago, "interrupted: {interrupted}");
        }
        assert_eq!(case.undo().stuck, None);
    }
}

/// The file's name is gone and there again: the folder's time is that of the file's last change, as after the first try's own link.
fn made_again(path: &Path) {
    let aside = path.with_extension("aside");
    std::fs::rename(path, &aside).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

#[test]
fn a_second_try_leaves_the_time_of_a_folder_that_the_workload_has_changed_since_the_first() {
    let case = Case::new("folder-time-second-try");
    let folder = case.path.parent().unwrap().to_owned();
    let changes = case.inject(Damage::Delete {});
    for undo in &changes {
        revert(undo).unwrap();
    }
    made_again(&case.path);
    let own = folder.join("the-workloads-own");
    // The kernel's clock for files stands still for some milliseconds at a time.
    crate::common::wait_for("a later time", || {
        std::fs::write(&own, "x").unwrap();
        let later = changed_at(&folder) > changed_of(&case.path);
        if !later {
            std::fs::remove_file(&own).unwrap();
        }
        later
    });
    let theirs = changed_at(&folder);
    for undo in &changes {
        revert(undo).unwrap();
    }
    assert_eq!(changed_at(&folder), theirs);
    assert_eq!(case.undo().stuck, None);
}

/// When anything of a file was last changed.
fn changed_of(path: &Path) -> std::time::SystemTime {
    let meta = std::fs::metadata(path).unwrap();
    std::time::UNIX_EPOCH + std::time::Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32)
}

#[test]
fn a_folder_of_somebody_else_keeps_its_time_and_the_undo_is_no_failure() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    if !rustix::process::geteuid().is_root() {
        return crate::skip("giving a folder to another user needs root");
    }
    let case = Case::new("folder-of-another");
    std::os::unix::fs::chown(case.path.parent().unwrap(), Some(1234), None).unwrap();
    std::os::unix::fs::chown(&case.path, Some(0), Some(0)).unwrap();
    // On a thread of its own, which alone loses the right to set times of what it does not own.
    std::thread::scope(|scope| {
        let without = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::FOWNER);
            set_capabilities(None, sets).unwrap();
            case.inject(Damage::Delete {});
            case.undo()
        });
        assert_eq!(without.join().unwrap().stuck, None);
    });
    assert!(snapshot(&case.path).content == case.before.content);
}
