//! Files that the workload has touched between the damage and the undo.

use crate::files::{Case, LENGTH, damages, snapshot};
use squall_faults::file_damage::Damage;
use squall_faults::journal::state::Phase;
use squall_model::event::Presence;
use squall_model::units::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt;

#[test]
fn a_file_that_the_workload_has_replaced_or_deleted_is_superseded_and_left_alone() {
    for (name, damage) in damages() {
        let case = Case::new(&format!("replaced-{name}"));
        case.inject(damage);
        let new = case.path.with_extension("new");
        std::fs::write(&new, b"a newer checkpoint").unwrap();
        std::fs::rename(&new, &case.path).unwrap();
        let outcome = case.undo();
        assert_eq!(outcome.stuck, None, "{name}");
        assert_eq!(
            outcome.observations[0].presence,
            Presence::Superseded,
            "{name}"
        );
        assert_eq!(std::fs::read(&case.path).unwrap(), b"a newer checkpoint");
    }
    let case = Case::new("deleted");
    case.inject(Damage::FlipBits { count: 1 });
    std::fs::remove_file(&case.path).unwrap();
    let outcome = case.undo();
    assert_eq!(outcome.observations[0].presence, Presence::Superseded);
    assert!(!case.path.exists());
}

#[test]
fn a_folder_that_the_workload_has_deleted_or_replaced_is_superseded_and_the_backup_goes() {
    for (name, damage) in damages() {
        for way in ["deleted", "replaced", "linked"] {
            let case = Case::new(&format!("folder-{way}-{name}"));
            case.inject(damage.clone());
            let folder = case.path.parent().unwrap();
            match way {
                "deleted" => std::fs::remove_dir_all(folder).unwrap(),
                "replaced" => {
                    // The old one is there still, so the new one has another number.
                    std::fs::rename(folder, folder.with_extension("old")).unwrap();
                    std::fs::create_dir(folder).unwrap();
                }
                _ => {
                    std::fs::remove_dir_all(folder).unwrap();
                    // Into another file system, which nobody has mounted there.
                    std::os::unix::fs::symlink("/proc", folder).unwrap();
                }
            }
            let outcome = case.undo();
            assert_eq!(outcome.stuck, None, "{way} {name}");
            let seen = &outcome.observations[0];
            assert_eq!(seen.presence, Presence::Superseded, "{way} {name}");
            assert!(!case.backups().exists(), "{way} {name}");
        }
    }
}

#[test]
fn a_new_file_with_the_inode_number_of_the_old_one_is_not_taken_for_it() {
    let case = Case::new("reused");
    case.inject(Damage::Delete {});
    // ext4 gives the number of the file deleted last to the next one made; elsewhere this is one more replaced file.
    std::fs::write(&case.path, b"other").unwrap();
    let outcome = case.undo();
    assert_eq!(outcome.stuck, None);
    assert_eq!(outcome.observations[0].presence, Presence::Superseded);
    assert_eq!(std::fs::read(&case.path).unwrap(), b"other");
}

#[test]
fn what_the_workload_wrote_into_the_damage_is_kept_and_a_person_is_told() {
    let cases = [
        (
            "zero",
            Damage::Zero {
                at: Some(Bytes(0)),
                length: Bytes(4096),
            },
            100,
        ),
        ("truncate", Damage::Truncate { to: Bytes(100) }, 100),
    ];
    for (name, damage, at) in cases {
        let case = Case::new(&format!("foreign-{name}"));
        case.inject(damage);
        let file = File::options().write(true).open(&case.path).unwrap();
        file.write_all_at(b"the workload's words", at).unwrap();
        let outcome = case.undo();
        let stuck = outcome.stuck.unwrap();
        assert!(
            stuck
                .because
                .contains("the workload has written into the damaged bytes"),
            "{}",
            stuck.because
        );
        assert!(stuck.remedy.contains("manifest.json"), "{}", stuck.remedy);
        let now = std::fs::read(&case.path).unwrap();
        assert_eq!(
            &now[usize::try_from(at).unwrap()..][..20],
            b"the workload's words"
        );
        assert_eq!(case.fixture.phase(0), Phase::Stuck);
        assert!(
            case.backups().join("data").exists(),
            "the backup is kept for the person"
        );
    }
}

#[test]
fn what_the_workload_wrote_elsewhere_in_the_file_stays_with_its_time() {
    let case = Case::new("elsewhere");
    case.inject(Damage::Zero {
        at: Some(Bytes(0)),
        length: Bytes(4096),
    });
    let file = File::options().write(true).open(&case.path).unwrap();
    file.write_all_at(b"appended", LENGTH).unwrap();
    assert_eq!(case.undo().stuck, None);
    let now = snapshot(&case.path);
    assert!(now.content.0 == [&case.before.content[..], b"appended"].concat());
    assert_ne!(now.mtime, case.before.mtime);
}

#[test]
fn a_person_ends_a_stuck_undo_by_removing_the_backup_as_the_remedy_says() {
    let case = Case::new("given-up");
    case.inject(Damage::Truncate { to: Bytes(0) });
    std::fs::write(&case.path, b"the workload's words").unwrap();
    let stuck = case.undo().stuck.unwrap();
    let removal = format!("remove the folder {}", case.backups().display());
    assert!(stuck.remedy.contains(&removal), "{}", stuck.remedy);
    std::fs::remove_dir_all(case.backups()).unwrap();
    let outcome = case.undo();
    assert_eq!((outcome.stuck, outcome.unrecorded), (None, None));
    assert_eq!(outcome.observations[0].presence, Presence::Superseded);
    assert_eq!(case.fixture.phase(0), Phase::Undone);
    let now = std::fs::read(&case.path).unwrap();
    assert!(now.starts_with(b"the workload's words"));
}
