//! The sweep: finds what carries our names, and leaves alone what it cannot explain.

use crate::common::{Abandoned, Fixture, Sleeper, wait_for};
use squall_faults::fault::{Fault, Target};
use squall_faults::file_damage::{Damage, FileDamage};
use squall_faults::lease::{Lease, LeaseFile};
use squall_faults::network_partition::NetworkPartition;
use squall_faults::recover::sweep::{Fate, Found, sweep};
use squall_faults::sys::{nftables, process};
use std::time::Duration;

#[test]
fn a_sweep_ends_what_its_own_dead_runs_left_and_nothing_that_it_cannot_explain() {
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
    let probe = Sleeper::spawn(
        std::process::Command::new("sleep")
            .arg("61")
            .env("SQUALL_PROBE", format!("{name}-4711-3")),
    );
    wait_for("the mark", || {
        process::variable(probe.pid(), "SQUALL_PROBE").is_some()
    });
    let (theirs, stranger) = start("stranger", "a-run-of-somebody-else");
    let fate = |found: &[Found], mark: &str| {
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
    assert_eq!(process::identity(probe.pid()).unwrap(), None);
    assert!(process::identity(stranger.pid()).unwrap().is_some());
}

#[test]
fn a_sweep_finds_a_guards_cgroup_by_its_name_alone() {
    let run = Abandoned::new("guards-cgroup");
    let name = run.run_dir.file_name().unwrap().to_str().unwrap();
    let id = squall_faults::guard::cgroup::id(&squall_model::id::RunId(name.into()));
    let roots = [
        "/sys/fs/cgroup/freezer",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup",
    ];
    let made: Vec<_> = roots
        .iter()
        .filter(|root| std::path::Path::new(root).join("cgroup.procs").exists())
        .map(|root| std::path::Path::new(root).join(format!("squall-{id}")))
        .filter(|folder| std::fs::create_dir(folder).is_ok())
        .collect();
    if made.is_empty() {
        crate::skip("no cgroup hierarchy that this user may write");
        return;
    }
    let left = || made.iter().filter(|folder| folder.exists()).count();
    let holder = run.hold();
    sweep(&run.state, false).unwrap();
    assert_eq!(left(), made.len(), "a live run's was removed");
    drop(holder);
    sweep(&run.state, false).unwrap();
    assert_eq!(left(), 0);
}

#[test]
fn a_sweep_restores_a_file_whose_journal_was_lost() {
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

/// Run in namespaces of its own: a forced sweep looks at everything there is.
#[test]
#[ignore = "run by the test below, where nothing else can be swept"]
fn forced_sweep_in_a_world_of_its_own() {
    let state = std::env::temp_dir().join(format!("squall-forced-{}", std::process::id()));
    std::fs::create_dir_all(&state).unwrap();
    let stranger = Sleeper::marked(&["sleep", "60"], "a-lost-run");
    wait_for("the mark", || {
        process::variable(stranger.pid(), "SQUALL_WORKLOAD").is_some()
    });
    let mut command = std::process::Command::new("sleep");
    let unmarked = Sleeper::spawn(command.arg("60").env("SQUALL_RUN", "a-lost-run"));
    wait_for("the name", || {
        process::variable(unmarked.pid(), "SQUALL_RUN").is_some()
    });
    nftables::transact(&[
        nftables::new_table("squall_aaaaaaaa"),
        nftables::new_table("not_ours"),
    ])
    .unwrap();
    let fates = |force| -> Vec<Fate> {
        sweep(&state, force)
            .unwrap()
            .into_iter()
            .map(|one| one.fate)
            .collect()
    };
    assert_eq!(fates(false), vec![Fate::Unattributed; 3]);
    assert!(process::identity(stranger.pid()).unwrap().is_some());
    assert_eq!(fates(true), vec![Fate::Removed; 3]);
    assert_eq!(process::identity(stranger.pid()).unwrap(), None);
    assert_eq!(nftables::tables().unwrap(), [(1, "not_ours".to_owned())]);
    assert_eq!(fates(true), []);
    live_run_of_another_state_folder(&state);
    sockets(&state);
    std::fs::remove_dir_all(state).unwrap();
}

/// What a run with a live lease has made is left alone whatever its state folder; once the lease is over for long it is not.
fn live_run_of_another_state_folder(state: &std::path::Path) {
    let other = Fixture::new("elsewhere");
    let mut lease = Lease::starting_now(other.run.clone(), Duration::from_secs(60)).unwrap();
    let mut file = LeaseFile::create(&other.run_dir(), &lease).unwrap();
    let cut = NetworkPartition {
        ports: vec![7],
        ..NetworkPartition::default()
    };
    cut.inject(&Target::Host, &mut other.host::<NetworkPartition>(0))
        .unwrap();
    let worker = Sleeper::spawn(
        std::process::Command::new("sleep")
            .arg("60")
            .env("SQUALL_WORKLOAD", &other.run.0)
            .env("SQUALL_RUN", &other.run.0)
            .env("SQUALL_OUT", other.run_dir().join("out")),
    );
    wait_for("the mark", || {
        process::variable(worker.pid(), "SQUALL_OUT").is_some()
    });
    let fates = || -> Vec<Fate> {
        let found = sweep(state, true).unwrap().into_iter();
        found.map(|one| one.fate).collect()
    };
    assert_eq!(fates(), vec![Fate::Live; 2]);
    assert!(process::identity(worker.pid()).unwrap().is_some());
    assert_eq!(nftables::tables().unwrap().len(), 2);
    lease.deadline_boot_ns = 1;
    file.write(&lease).unwrap();
    assert_eq!(fates(), vec![Fate::Removed; 2]);
    assert_eq!(process::identity(worker.pid()).unwrap(), None);
}

/// A socket that nobody listens at goes, one that somebody listens at stays.
fn sockets(state: &std::path::Path) {
    use std::os::unix::net::UnixListener;
    let folder = std::path::Path::new("/run/squall");
    std::fs::create_dir_all(folder).unwrap();
    let bind = |name: &str| {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let touched = std::process::Command::new("touch")
            .args(["-d", "1 hour ago"])
            .arg(&path)
            .status();
        assert!(touched.unwrap().success());
        (path, listener)
    };
    let (dead, listener) = bind("dead.hook");
    drop(listener);
    let (living, _listener) = bind("living.hook");
    let found = sweep(state, false).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("dead.hook") && found[0].fate == Fate::Removed);
    assert!(!dead.exists() && living.exists());
}

#[test]
fn a_forced_sweep_removes_what_nobody_explains_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        crate::skip("namespaces of its own need root");
        return;
    }
    // Without the cgroup mounts and with a process table and a network of its own, it cannot reach what other people run here.
    // Hierarchies may be mounted anywhere, in a container's root too.
    let script = "awk '$3 ~ /^cgroup/ {print $2}' /proc/self/mounts | while read -r point; do umount -l \"$point\" 2>/dev/null; done; mount -t tmpfs run /run; \
        exec \"$0\" --exact sweeping::forced_sweep_in_a_world_of_its_own --ignored";
    let status = std::process::Command::new("unshare")
        .args(["-pfmn", "--mount-proc", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
