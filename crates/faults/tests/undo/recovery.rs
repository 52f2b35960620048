//! Recovery by the next command: abandoned runs, stopped holders, live runs, other users' runs, other boots.

use crate::common::{Fixture, Sleeper, wait_for};
use squall_faults::fault::{Fault, Target};
use squall_faults::file_damage::{Damage, FileDamage};
use squall_faults::journal;
use squall_faults::journal::state::Phase;
use squall_faults::lease::{Lease, LeaseFile};
use squall_faults::process_pause::ProcessPause;
use squall_faults::recover::{RecoverError, outstanding, recover_all, recover_run};
use squall_faults::sys::process;
use squall_model::process::ProcessIdentity;
use squall_model::units::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run whose agent has died with one process paused.
struct Abandoned {
    state: PathBuf,
    run_dir: PathBuf,
    sleeper: Sleeper,
}

impl Abandoned {
    fn new(name: &str) -> Abandoned {
        let fixture = Fixture::new(name);
        let sleeper = Sleeper::start();
        let mut host = fixture.host::<ProcessPause>(0);
        ProcessPause::default()
            .inject(&sleeper.target(), &mut host)
            .unwrap();
        drop(host);
        let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
        fixture.abandon();
        Abandoned {
            state,
            run_dir,
            sleeper,
        }
    }

    /// Another process that holds the lock, as a stopped agent does.
    fn hold(&self) -> Sleeper {
        let script = "exec 9<>journal; flock -n 9 || exit 1; echo ready; exec sleep 60";
        let holder = Sleeper::spawn(
            std::process::Command::new("sh")
                .args(["-c", script])
                .current_dir(&self.run_dir),
        );
        holder.ready();
        assert!(journal::is_held(&self.run_dir).unwrap());
        holder.stop();
        holder
    }

    /// Writes a lease that ran out `over` ago, or runs on when that is negative.
    fn lease(&self, holder: &ProcessIdentity, over: f64) {
        let run = squall_faults::recover::run_of(&self.run_dir);
        let mut lease = Lease::starting_now(run, Duration::ZERO).unwrap();
        lease.deadline_boot_ns = (lease.deadline_boot_ns as f64 - over * 1e9) as u64;
        lease.agent = Some(holder.clone());
        LeaseFile::create(&self.run_dir, &lease).unwrap();
    }

    fn is_paused(&self) -> bool {
        self.sleeper.state() == 'T'
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.state).unwrap();
    }
}

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
fn a_live_lease_is_never_touched_not_even_by_force() {
    let run = Abandoned::new("live");
    let holder = run.hold();
    // Live; just over; over by less than two seconds.
    for over in [-5.0, 0.1, 1.5] {
        run.lease(&holder.identity, over);
        for force in [false, true] {
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
fn another_users_run_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: giving a folder to another user needs root");
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
fn a_full_disk_stops_injections_but_neither_undos_nor_their_records_nor_the_lease() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a small file system of its own needs root");
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

#[test]
fn cgroups_of_both_versions_are_emptied_and_removed() {
    let mut tried = 0;
    for root in [
        "/sys/fs/cgroup/freezer",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/memory",
    ] {
        let folder = Path::new(root).join(format!("squall-test-{}", std::process::id()));
        let inner = folder.join("made-by-the-workload");
        if !Path::new(root).join("cgroup.procs").exists() || std::fs::create_dir(&folder).is_err() {
            eprintln!("SKIPPED: {root} is no cgroup hierarchy that this user may write");
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
        eprintln!("SKIPPED: no cgroup hierarchy at all");
    }
}

#[test]
fn a_sweep_ends_what_its_own_dead_runs_left_and_nothing_that_it_cannot_explain() {
    use squall_faults::recover::sweep::{Fate, sweep};
    let run = Abandoned::new("sweep");
    let name = run
        .run_dir
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let start = |mark: &str, run: &str| {
        let mark = crate::common::mark(mark);
        let process = Sleeper::spawn(
            std::process::Command::new("sleep")
                .arg("60")
                .env("SQUALL_WORKLOAD", &mark)
                .env("SQUALL_RUN", run),
        );
        wait_for("the mark", || {
            process::variable(process.pid(), "SQUALL_RUN").is_some()
        });
        (mark, process)
    };
    let (ours, dead) = start("swept", &name);
    let (theirs, stranger) = start("stranger", "a-run-of-somebody-else");
    let fate = |found: &[squall_faults::recover::sweep::Found], mark: &str| {
        found
            .iter()
            .find(|one| one.what.contains(mark))
            .map(|one| one.fate.clone())
    };
    let holder = run.hold();
    assert_eq!(
        fate(&sweep(&run.state, false).unwrap(), &ours),
        Some(Fate::Live)
    );
    assert!(process::identity(dead.pid()).unwrap().is_some());
    drop(holder);
    let found = sweep(&run.state, false).unwrap();
    assert_eq!(fate(&found, &ours), Some(Fate::Removed));
    assert_eq!(fate(&found, &theirs), Some(Fate::Unattributed));
    assert_eq!(process::identity(dead.pid()).unwrap(), None);
    assert!(process::identity(stranger.pid()).unwrap().is_some());
}

#[test]
fn a_sweep_restores_a_file_whose_journal_was_lost() {
    use squall_faults::recover::sweep::{Fate, sweep};
    let fixture = Fixture::new("lost-journal");
    let path = fixture.state.join("checkpoint");
    std::fs::write(&path, vec![7u8; 10_000]).unwrap();
    let damage = FileDamage {
        damage: Damage::Delete {},
        limit: None,
    };
    damage
        .inject(
            &Target::File { path: path.clone() },
            &mut fixture.host::<FileDamage>(0),
        )
        .unwrap();
    let (state, run_dir) = (fixture.state.clone(), fixture.run_dir());
    fixture.abandon();
    std::fs::remove_file(run_dir.join("journal")).unwrap();
    let found = sweep(&state, false).unwrap();
    let ours: Vec<_> = found
        .iter()
        .filter(|one| one.what.contains("without a journal"))
        .collect();
    assert_eq!((ours.len(), &ours[0].fate), (1, &Fate::Removed));
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 10_000]);
    std::fs::remove_dir_all(state).unwrap();
}
