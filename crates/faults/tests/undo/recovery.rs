//! Recovery by the next command: abandoned runs, stopped holders, live runs, other users' runs, other boots.

use crate::common::{Abandoned, Fixture, Sleeper};
use squall_faults::fault::{Fault, Target};
use squall_faults::file_damage::{Damage, FileDamage};
use squall_faults::journal;
use squall_faults::journal::codec::{self, Header};
use squall_faults::journal::record::Entry;
use squall_faults::journal::state::Phase;
use squall_faults::lease::LeaseFile;
use squall_faults::process_pause::ProcessPause;
use squall_faults::recover::{
    RecoverError, is_of_another_machine, outstanding, recover_all, recover_run,
};
use squall_faults::sys::process;
use squall_faults::undo::Undo;
use squall_faults::undo::perform::{take_back, undo_injection};
use squall_model::event::Presence;
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;
use squall_model::units::Bytes;
use std::path::Path;

fn phase(run_dir: &Path) -> Phase {
    let log = journal::read_all(&run_dir.join("journal")).unwrap();
    log.state.injections().next().unwrap().phase
}

#[test]
fn an_abandoned_run_is_listed_without_being_touched_and_then_undone() {
    let run = Abandoned::new("abandoned");
    let listed = outstanding(&run.state).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].held, listed[0].injections.len()), (false, 1));
    assert!(run.is_paused());
    let results = recover_all(&run.state, false).unwrap();
    let recovered = results[0].1.as_ref().unwrap();
    assert_eq!(recovered.outcomes.len(), 1);
    assert_eq!(recovered.outcomes[0].unrecorded, None);
    assert_eq!(recovered.stuck().count(), 0);
    assert!(!run.is_paused());
    assert_eq!(phase(&run.run_dir), Phase::Undone);
    assert!(outstanding(&run.state).unwrap().is_empty());
    assert!(
        recover_run(&run.run_dir, false)
            .unwrap()
            .outcomes
            .is_empty()
    );
}

#[test]
fn a_run_that_is_known_to_be_settled_is_not_opened_again_until_its_journal_changes() {
    let run = Abandoned::new("settled");
    let mark = run.run_dir.join("journal.settled");
    assert!(recover_all(&run.state, false).unwrap()[0].1.is_ok());
    assert!(mark.exists());
    let times = |mark_ahead: bool| {
        let now = std::time::SystemTime::now();
        let late = now + std::time::Duration::from_secs(9);
        let (of_mark, of_journal) = if mark_ahead { (late, now) } else { (now, late) };
        for (path, time) in [(&mark, of_mark), (&run.run_dir.join("journal"), of_journal)] {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }
    };
    times(true);
    assert!(recover_all(&run.state, false).unwrap().is_empty());
    times(false);
    assert_eq!(recover_all(&run.state, false).unwrap().len(), 1);
}

#[test]
fn what_is_stuck_or_held_is_never_taken_for_settled() {
    let run = Abandoned::new("unsettled");
    let holder = run.hold();
    run.lease(&holder.identity, -5.0);
    assert!(recover_all(&run.state, false).unwrap()[0].1.is_err());
    assert!(!run.run_dir.join("journal.settled").exists());
    assert_eq!(outstanding(&run.state).unwrap().len(), 1);
}

#[test]
fn a_live_lease_is_never_touched_not_even_by_force() {
    let run = Abandoned::new("live");
    let holder = run.hold();
    // Live; just over; over by less than two seconds.
    for over in [-5.0, 0.1, 1.2] {
        for force in [false, true] {
            run.lease(&holder.identity, over);
            let error = recover_run(&run.run_dir, force).unwrap_err();
            assert!(
                matches!(error, RecoverError::Live { .. }),
                "{over}: {error}"
            );
            assert!(error.to_string().contains("it is live"), "{error}");
        }
        assert!(run.is_paused() && process::identity(holder.pid()).unwrap().is_some());
    }
    assert!(outstanding(&run.state).unwrap()[0].held);
}

#[test]
fn a_stopped_holder_is_ended_first_and_then_everything_is_undone() {
    let run = Abandoned::new("stopped-holder");
    let holder = run.hold();
    run.lease(&holder.identity, 2.5);
    let recovered = recover_run(&run.run_dir, false).unwrap();
    assert_eq!(recovered.ended, std::slice::from_ref(&holder.identity));
    assert_eq!(process::identity(holder.pid()).unwrap(), None);
    assert!(!run.is_paused());
}

#[test]
fn a_process_that_got_the_pid_of_a_dead_holder_is_not_ended() {
    let run = Abandoned::new("reused-holder");
    let innocent = Sleeper::start();
    let holder = run.hold();
    let dead = ProcessIdentity {
        start_time: innocent.identity.start_time - 1,
        ..innocent.identity.clone()
    };
    run.lease(&dead, 60.0);
    // The real holder goes by itself meanwhile.
    let recovered = std::thread::scope(|scope| {
        let recovery = scope.spawn(|| recover_run(&run.run_dir, false));
        drop(holder);
        recovery.join().unwrap().unwrap()
    });
    assert!(recovered.ended.is_empty());
    assert!(process::identity(innocent.pid()).unwrap().is_some());
    assert!(!run.is_paused());
}

#[test]
fn a_lock_without_a_lease_needs_force() {
    let run = Abandoned::new("no-lease");
    let holder = run.hold();
    let error = recover_run(&run.run_dir, false).unwrap_err();
    assert!(
        matches!(error, RecoverError::HeldByUnknown { .. }),
        "{error}"
    );
    assert!(run.is_paused());
    let recovered = recover_run(&run.run_dir, true).unwrap();
    assert_eq!(recovered.ended, std::slice::from_ref(&holder.identity));
    assert!(!run.is_paused());
}

#[test]
fn a_lock_with_a_damaged_lease_needs_force() {
    let run = Abandoned::new("damaged-lease");
    let holder = run.hold();
    std::fs::write(run.run_dir.join(squall_faults::lease::FILE_NAME), b"torn").unwrap();
    let error = recover_run(&run.run_dir, false).unwrap_err();
    assert!(
        matches!(error, RecoverError::HeldByUnknown { .. }),
        "{error}"
    );
    assert!(run.is_paused());
    let recovered = recover_run(&run.run_dir, true).unwrap();
    assert_eq!(recovered.ended, std::slice::from_ref(&holder.identity));
    assert!(!run.is_paused());
}

#[test]
fn backups_that_cannot_be_read_are_told_and_not_taken_for_none() {
    let run = Abandoned::new("no-backups");
    std::fs::write(run.run_dir.join("backups"), b"x").unwrap();
    let error = recover_run(&run.run_dir, false).unwrap_err();
    assert!(error.to_string().contains("backups"), "{error}");
    assert!(!run.is_paused());
}

#[test]
fn another_users_run_is_refused() {
    if !rustix::process::geteuid().is_root() {
        crate::skip("giving a folder to another user needs root");
        return;
    }
    let run = Abandoned::new("foreign");
    for path in [run.run_dir.join("journal"), run.run_dir.clone()] {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let error = recover_run(&run.run_dir, true).unwrap_err();
        assert!(
            matches!(
                error,
                RecoverError::Foreign {
                    owner: 12345,
                    own: 0,
                    ..
                }
            ),
            "{error}"
        );
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    }
    assert!(run.is_paused());
}

#[test]
fn a_newer_journal_is_refused_and_listed_and_the_others_are_still_undone() {
    let run = Abandoned::new("newer");
    let newer = run.state.join("runs").join("00000000-newer");
    std::fs::create_dir(&newer).unwrap();
    let mut bytes = std::fs::read(run.run_dir.join("journal")).unwrap();
    bytes[8] = 9;
    std::fs::write(newer.join("journal"), bytes).unwrap();
    let results = recover_all(&run.state, true).unwrap();
    assert!(
        results[0]
            .1
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("journal version 9")
    );
    assert!(results[1].1.is_ok() && !run.is_paused());
    let listed = outstanding(&run.state).unwrap();
    assert!(
        listed[0]
            .problem
            .as_ref()
            .unwrap()
            .contains("journal version 9")
    );
}

#[test]
fn after_another_boot_files_are_restored_and_no_process_is_signalled() {
    let fixture = Fixture::new("boot");
    let path = fixture.state.join("checkpoint");
    std::fs::write(&path, vec![7u8; 10_000]).unwrap();
    let damage = FileDamage {
        damage: Damage::Truncate { to: Bytes(1) },
        limit: None,
    };
    damage
        .inject(
            &Target::File { path: path.clone() },
            &mut fixture.host::<FileDamage>(0),
        )
        .unwrap();
    // A process that has the pid and even the start time of the one paused before the machine was started again.
    let sleeper = Sleeper::start();
    sleeper.stop();
    let old = ProcessIdentity {
        boot_id: "the boot before".into(),
        ..sleeper.identity.clone()
    };
    fixture.record_pause(1, &old);
    let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
    fixture.abandon();
    // This machine's, in another pid namespace of the boot before: nothing of it is left elsewhere.
    remade(&run_dir, |header| {
        header.boot_id = "the boot before".into();
        another_pid_namespace(header);
    });
    let recovered = recover_run(&run_dir, false).unwrap();
    assert_eq!(
        (recovered.outcomes.len(), recovered.stuck().count()),
        (2, 0)
    );
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 10_000]);
    assert_eq!(sleeper.state(), 'T');
    std::fs::remove_dir_all(state).unwrap();
}

#[test]
fn recovery_goes_on_past_a_failure_and_reports_it_with_a_remedy() {
    let fixture = Fixture::new("past");
    let sleeper = Sleeper::start();
    ProcessPause::default()
        .inject(&sleeper.target(), &mut fixture.host::<ProcessPause>(0))
        .unwrap();
    let path = fixture.state.join("file");
    std::fs::write(&path, vec![7u8; 10_000]).unwrap();
    let damage = FileDamage {
        damage: Damage::Truncate { to: Bytes(1) },
        limit: None,
    };
    damage
        .inject(
            &Target::File { path: path.clone() },
            &mut fixture.host::<FileDamage>(1),
        )
        .unwrap();
    let backup = fixture.run_dir().join("backups").join(&fixture.id(1).0);
    let good = std::fs::read(backup.join("data")).unwrap();
    std::fs::write(backup.join("data"), b"rotten").unwrap();
    let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
    fixture.abandon();
    let recovered = recover_run(&run_dir, false).unwrap();
    assert_eq!(recovered.outcomes.len(), 2);
    let stuck = recovered.stuck().next().unwrap();
    assert!(
        stuck
            .stuck
            .as_ref()
            .unwrap()
            .remedy
            .contains("manifest.json")
    );
    assert_ne!(sleeper.state(), 'T');
    assert_eq!(outstanding(&state).unwrap()[0].injections.len(), 1);
    // Once the person has repaired what was wrong, the next try succeeds.
    std::fs::write(backup.join("data"), good).unwrap();
    assert_eq!(recover_run(&run_dir, false).unwrap().stuck().count(), 0);
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 10_000]);
    assert!(!backup.exists());
    std::fs::remove_dir_all(state).unwrap();
}

#[test]
fn a_backup_whose_injection_never_began_is_removed() {
    let run = Abandoned::new("orphan-backup");
    let orphan = run.run_dir.join("backups").join("aaaaaaaa");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("data"), b"x").unwrap();
    recover_run(&run.run_dir, false).unwrap();
    assert!(!orphan.exists());
}

#[test]
fn the_other_changes_of_an_injection_are_undone_past_a_failure() {
    let sleeper = Sleeper::start();
    sleeper.stop();
    let undos = [
        Undo::Continue {
            process: sleeper.identity.clone(),
        },
        Undo::RestoreFile {
            path: "/nowhere".into(),
            backup: "/nowhere/backup".into(),
        },
    ];
    let (observations, stuck) = take_back(&undos, || {});
    assert_ne!(sleeper.state(), 'T');
    assert_eq!(observations[0].presence, Presence::Absent);
    assert_eq!(observations[1].presence, Presence::Unknown);
    assert!(stuck.unwrap().because.contains("/nowhere"));
}

#[test]
fn changes_are_undone_from_the_last_to_the_first_with_one_moment_between() {
    let (first, last) = (Sleeper::start(), Sleeper::start());
    first.stop();
    last.stop();
    let undo = |sleeper: &Sleeper| Undo::Continue {
        process: sleeper.identity.clone(),
    };
    let between = std::cell::RefCell::new(Vec::new());
    take_back(&[undo(&first), undo(&last)], || {
        between
            .borrow_mut()
            .push((first.state() == 'T', last.state() == 'T'));
    });
    assert_eq!(between.into_inner(), [(true, false)]);
    assert_ne!(first.state(), 'T');
}

#[test]
fn an_undo_says_what_it_could_not_clean_away_and_is_not_done_twice() {
    let fixture = Fixture::new("unrecorded");
    let sleeper = Sleeper::start();
    fixture.record_pause(0, &sleeper.identity);
    let id = fixture.id(0);
    // A file where the backup's folder would be cannot be removed as one.
    let backups = fixture.run_dir().join("backups");
    std::fs::create_dir(&backups).unwrap();
    std::fs::write(backups.join(&id.0), b"x").unwrap();
    // An earlier try was cut off.
    let cut_off = Entry::Undoing {
        injection: id.clone(),
        because: "the first try".into(),
    };
    fixture.journal.lock().unwrap().append(cut_off).unwrap();
    let outcome = undo_injection(&fixture.journal, &id, "end").unwrap();
    assert_eq!(outcome.stuck, None);
    let said = outcome.unrecorded.unwrap();
    assert!(said.contains("could not remove"), "{said}");
    assert_eq!(fixture.phase(0), Phase::Undone);
    let records = || fixture.journal.lock().unwrap().state().seq();
    assert_eq!(records(), 3, "intent, undoing, undone");
    let again = undo_injection(&fixture.journal, &id, "end").unwrap();
    assert_eq!((again.unrecorded, again.stuck, records()), (None, None, 3));
    let unknown = InjectionId("zzzzzzzz".into());
    assert_eq!(undo_injection(&fixture.journal, &unknown, "end"), None);
}

#[test]
fn a_manifest_of_the_guards_cgroup_that_cannot_be_used_does_not_fail_the_undo() {
    let run = Abandoned::new("torn-cgroup");
    let manifest = run.run_dir.join("guard-cgroup.json");
    // Of a newer version: its cgroup is left to the sweep, and the run is looked at again.
    std::fs::write(&manifest, r#"{"version":99,"folders":[]}"#).unwrap();
    let recovered = recover_run(&run.run_dir, false).unwrap();
    assert_eq!(
        (recovered.outcomes.len(), recovered.stuck().count()),
        (1, 0)
    );
    assert!(!run.is_paused());
    assert!(manifest.exists() && !run.run_dir.join("journal.settled").exists());
    // Torn by a full disk.
    std::fs::write(&manifest, "").unwrap();
    recover_run(&run.run_dir, false).unwrap();
    assert!(!manifest.exists());
}

/// The same journal, as made elsewhere.
fn remade(run_dir: &Path, change: impl FnOnce(&mut Header)) {
    let path = run_dir.join("journal");
    let log = journal::read_all(&path).unwrap();
    let mut header = log.header.clone();
    change(&mut header);
    let mut bytes = codec::encode_header(&header);
    let mut chain = codec::first_chain(&header);
    for record in &log.records {
        let (frame, next) = codec::encode(record, chain).unwrap();
        bytes.extend(frame);
        chain = next;
    }
    std::fs::write(path, bytes).unwrap();
}

fn another_machine(header: &mut Header) {
    header.boot_id = "the boot of another machine".into();
    let origin = header.origin.as_mut().unwrap();
    (origin.machine, origin.hostname) = ("4711".into(), "node-a".into());
}

fn another_pid_namespace(header: &mut Header) {
    let origin = header.origin.as_mut().unwrap();
    (origin.pid_ns, origin.hostname) = (origin.pid_ns + 1, "trainer-container".into());
}

#[test]
fn a_run_of_another_machine_or_pid_namespace_is_refused_by_name_and_left_as_it_is() {
    type Change = fn(&mut Header);
    let cases: [(&str, Change, &str); 2] = [
        ("machine", another_machine, "node-a"),
        ("pid-ns", another_pid_namespace, "trainer-container"),
    ];
    for (name, change, there) in cases {
        let run = Abandoned::new(name);
        remade(&run.run_dir, change);
        let bytes = || std::fs::read(run.run_dir.join("journal")).unwrap();
        let before = bytes();
        let error = recover_run(&run.run_dir, false).unwrap_err();
        assert!(matches!(error, RecoverError::Elsewhere { .. }), "{error}");
        let id = &squall_faults::recover::run_of(&run.run_dir).0;
        let text = error.to_string();
        assert!(
            text.contains(there) && text.contains(&format!("squall undo {id}")),
            "{text}"
        );
        assert!(recover_all(&run.state, false).unwrap()[0].1.is_err());
        assert!(run.is_paused() && bytes() == before, "{name}");
        assert!(!run.run_dir.join("journal.settled").exists());
        let listed = outstanding(&run.state).unwrap();
        assert_eq!(listed[0].injections.len(), 1);
        assert!(listed[0].elsewhere.is_some(), "{name}");
        // Who says that the other place is gone for good may undo here what is left: the processes there are not among it.
        let recovered = recover_run(&run.run_dir, true).unwrap();
        assert_eq!(
            (recovered.outcomes.len(), recovered.stuck().count()),
            (1, 0)
        );
    }
}

#[test]
fn a_lease_of_another_machine_is_not_over_for_that_its_boot_is_another() {
    let run = Abandoned::new("lease-elsewhere");
    run.lease(&run.sleeper.identity, 5.0);
    let mut lease = squall_faults::lease::read(&run.run_dir).unwrap().unwrap();
    assert!(!is_of_another_machine(&run.run_dir));
    lease.boot_id = "the boot before".into();
    assert!(lease.standing().unwrap().is_abandoned());
    lease.origin.as_mut().unwrap().machine = "4711".into();
    assert!(lease.standing().is_err());
    LeaseFile::create(&run.run_dir, &lease).unwrap();
    assert!(is_of_another_machine(&run.run_dir));
}

#[test]
fn files_of_another_pid_namespace_are_restored_and_another_machines_settled_run_is_not_touched() {
    let fixture = Fixture::new("files-elsewhere");
    let path = fixture.state.join("checkpoint");
    std::fs::write(&path, vec![7u8; 10_000]).unwrap();
    let damage = FileDamage {
        damage: Damage::Truncate { to: Bytes(1) },
        limit: None,
    };
    let target = Target::File { path: path.clone() };
    damage
        .inject(&target, &mut fixture.host::<FileDamage>(0))
        .unwrap();
    let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
    fixture.abandon();
    remade(&run_dir, another_pid_namespace);
    assert_eq!(recover_run(&run_dir, false).unwrap().outcomes.len(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 10_000]);
    let mark = run_dir.join("journal.settled");
    std::fs::remove_file(&mark).unwrap();
    remade(&run_dir, another_machine);
    assert!(recover_run(&run_dir, false).unwrap().outcomes.is_empty());
    assert!(!mark.exists());
    std::fs::remove_dir_all(state).unwrap();
}
