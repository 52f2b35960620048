//! kill -9 at every journal boundary of every fault with something to undo, then recovery: nothing is left. Needs the feature `crash-points`.

use crate::common::{Fixture, Sleeper, target};
use squall_faults::crash::BOUNDARIES;
use squall_faults::fault::{FaultKind, Target};
use squall_faults::file_damage::{Damage, FileDamage};
use squall_faults::network_partition::NetworkPartition;
use squall_faults::process_pause::ProcessPause;
use squall_faults::recover::{outstanding, recover_run};
use squall_faults::sys::{namespace, nftables, process};
use squall_faults::undo::perform::undo_injection;
use squall_model::units::Bytes;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// What is killed: injects one fault and undoes it, in a process of its own. Told what by its environment.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn one_life() {
    let word = |name: &str| std::env::var(name).unwrap();
    let fixture = Fixture::at(PathBuf::from(word("TEST_STATE")));
    let pid: u32 = word("TEST_PID").parse().unwrap();
    let target = match word("TEST_FAULT").as_str() {
        "process-pause" => target(&process::identity(pid).unwrap().unwrap()),
        "network-partition" => Target::Namespace {
            path: format!("/proc/{pid}/ns/net").into(),
        },
        _ => Target::File {
            path: word("TEST_FILE").into(),
        },
    };
    fn live<F: FaultKind>(fixture: &Fixture, fault: &F, target: &Target) {
        let mut host = fixture.host::<F>(0);
        fault.inject(target, &mut host).unwrap();
        let seen = fault.observe(target, &host.changes());
        host.land(None, seen).unwrap();
        drop(host);
        undo_injection(&fixture.journal, &fixture.id(0), "end").unwrap();
    }
    match word("TEST_FAULT").as_str() {
        "process-pause" => live(&fixture, &ProcessPause { tree: true }, &target),
        "network-partition" => {
            let peers = vec!["127.0.0.2".parse().unwrap()];
            live(
                &fixture,
                &NetworkPartition {
                    peers,
                    ..Default::default()
                },
                &target,
            );
        }
        "zero" => {
            let damage = Damage::Zero {
                at: Some(Bytes(10)),
                length: Bytes(2_000_000),
            };
            live(
                &fixture,
                &FileDamage {
                    damage,
                    limit: None,
                },
                &target,
            );
        }
        _ => live(
            &fixture,
            &FileDamage {
                damage: Damage::Delete {},
                limit: None,
            },
            &target,
        ),
    }
    fixture.abandon();
}

/// A state folder, a process in a network namespace, and a file.
struct World {
    state: PathBuf,
    keeper: Sleeper,
    file: PathBuf,
}

impl World {
    fn new(name: &str) -> World {
        let state =
            std::env::temp_dir().join(format!("squall-crash-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let file = state.join("checkpoint");
        std::fs::write(&file, vec![7u8; 3_000_000]).unwrap();
        let keeper = Sleeper::command(&[
            "unshare",
            "-n",
            "sh",
            "-c",
            "ip link set lo up; echo ready; exec sleep 60",
        ]);
        keeper.ready();
        World {
            state,
            keeper,
            file,
        }
    }

    fn life(&self, fault: &str, socket: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::one_life", "--ignored"])
            .env("SQUALL_CRASH_SOCKET", socket)
            .env("TEST_STATE", self.state.join("state"))
            .env("TEST_PID", self.keeper.pid().to_string())
            .env("TEST_FAULT", fault)
            .env("TEST_FILE", &self.file)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// What must be as before.
    fn snapshot(&self) -> impl PartialEq + use<> {
        let meta = std::fs::metadata(&self.file).unwrap();
        let path = format!("/proc/{}/ns/net", self.keeper.pid());
        let tables = namespace::inside(Some(Path::new(&path)), nftables::tables).unwrap();
        let beside = std::fs::read_dir(&self.state).unwrap();
        let mut beside: Vec<String> = beside
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        beside.retain(|name| name != "state" && name != "socket");
        let state = if self.keeper.state() == 'T' { 'T' } else { '-' };
        let content = std::fs::read(&self.file).unwrap();
        (
            state,
            content,
            (meta.mode(), meta.mtime(), meta.mtime_nsec()),
            tables,
            beside,
        )
    }
}

/// Lets a life go on from boundary to boundary, and kills it at the wanted one. The boundaries that were seen.
fn kill_at(world: &World, fault: &str, wanted: usize) -> Vec<String> {
    let path = world.state.join("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let mut life = world.life(fault, &path);
    let mut seen = Vec::new();
    // As many boundaries as a life has; the last connection never comes when it was not killed.
    while seen.len() <= wanted && seen.last().is_none_or(|last| last != "after-undone") {
        let (stream, _) = socket.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        assert_eq!(
            (words.len(), words[0], words[4]),
            (5, "agent", life.id().to_string().as_str())
        );
        seen.push(words[1].to_owned());
        if seen.len() > wanted {
            // Killed while it waits there.
            life.kill().unwrap();
        }
    }
    life.wait().unwrap();
    std::fs::remove_file(path).unwrap();
    seen
}

#[test]
fn killed_at_any_boundary_nothing_is_left_after_recovery() {
    if !rustix::process::geteuid().is_root() {
        crate::skip("network namespaces need root");
        return;
    }
    for fault in ["process-pause", "zero", "delete", "network-partition"] {
        let world = World::new(fault);
        let before = world.snapshot();
        let mut seen = Vec::new();
        for wanted in 0..BOUNDARIES.len() {
            seen = kill_at(&world, fault, wanted);
            let state = world.state.join("state");
            let run_dir = std::fs::read_dir(state.join("runs"))
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
            let recovered = recover_run(&run_dir, false).unwrap();
            assert_eq!(
                recovered.stuck().count(),
                0,
                "{fault} at {seen:?}: {recovered:?}"
            );
            assert!(
                world.snapshot() == before,
                "{fault} at {seen:?} left something"
            );
            assert!(outstanding(&state).unwrap().is_empty());
            let backups = std::fs::read_dir(run_dir.join("backups"));
            assert!(
                backups.is_err() || backups.unwrap().next().is_none(),
                "{fault} at {seen:?} left a backup"
            );
            std::fs::remove_dir_all(state).unwrap();
        }
        assert_eq!(seen, BOUNDARIES, "{fault}");
        std::fs::remove_dir_all(&world.state).unwrap();
    }
}
