//! The server of a packet queue dies: what it held is counted as lost, its rule goes, and packets pass. Whoever holds programs at hooks dies:
//! they go with it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod run;

use run::{Run, signal, state, until};
use serde_json::{Value, json};
use squall_faults::sys::raw::OWN_MARK;
use squall_faults::sys::traffic_control::SIDES;
use squall_faults::sys::{bpf, mmsg, namespace, nftables};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A network namespace that ends with the test.
struct Namespace {
    keeper: Child,
    path: PathBuf,
}

impl Namespace {
    fn new() -> Option<Namespace> {
        if !rustix::process::geteuid().is_root() {
            run::skip::skip("network namespaces need root");
            return None;
        }
        let mut keeper = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up; echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = keeper.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let path = PathBuf::from(format!("/proc/{}/ns/net", keeper.id()));
        Some(Namespace { keeper, path })
    }

    fn tables(&self) -> Vec<(u8, String)> {
        namespace::inside(Some(&self.path), nftables::tables).unwrap()
    }

    /// Two sockets inside: where datagrams come from, and where they go to.
    fn sockets(&self) -> (UdpSocket, UdpSocket) {
        namespace::inside(Some(&self.path), || {
            let to = UdpSocket::bind("127.0.0.1:0")?;
            let from = UdpSocket::bind("127.0.0.1:0")?;
            from.connect(to.local_addr()?)?;
            to.set_nonblocking(true)?;
            Ok((from, to))
        })
        .unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.keeper.kill().ok();
        self.keeper.wait().ok();
    }
}

/// The child of the guard that serves this.
fn server(run: &Run, kind: &str) -> u32 {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_its = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        parent == Some(&run.guard.to_string()) && words.contains(kind)
    };
    pids.find(is_its).expect("it is served")
}

/// A run that delays what arrives at the socket, for long; 20 datagrams wait.
fn holding(namespace: &Namespace) -> (Run, UdpSocket, UdpSocket) {
    let mut run = Run::start();
    let (from, to) = namespace.sockets();
    let port = to.local_addr().unwrap().port();
    run.arm(
        0,
        "network-delay",
        json!({"delay": "20s", "ports": [port], "protocol": "udp"}),
        json!({"namespace": namespace.path}),
        json!({"for": "1h"}),
    );
    let landed = run.event("landed");
    let evidence = landed["observations"][0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("its queue read by process"), "{landed}");
    for _ in 0..20 {
        from.send(b"waits").unwrap();
    }
    assert!(to.recv(&mut [0; 8]).is_err(), "nothing has arrived yet");
    (run, from, to)
}

fn arrives(from: &UdpSocket, to: &UdpSocket) {
    from.send(b"after").unwrap();
    let mut bytes = [0; 8];
    until("a datagram that is sent afterwards", || {
        let length = to.recv(&mut bytes).ok()?;
        (bytes[..length] == *b"after").then_some(())
    });
}

/// What the injection's counts say when it is undone.
fn counted(undone: &Value) -> String {
    undone["observations"][0]["evidence"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_killed_server_loses_what_it_held_and_its_rule_goes() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (mut run, from, to) = holding(&namespace);
    let pid = server(&run, "packet-queue");
    assert_eq!(namespace.tables().len(), 1);
    // All twenty are counted before the strike.
    until("that all wait", || {
        let folder = std::fs::read_dir(run.folder.join("backups")).ok()?;
        let counts = folder.flatten().next()?.path().join("counts");
        let read = squall_faults::packet::counts::Counts::read(&counts).ok()?;
        (read.received >= 20).then_some(())
    });
    let struck = Instant::now();
    signal(pid, "KILL");
    until("the end of the table", || {
        namespace.tables().is_empty().then_some(())
    });
    let took = struck.elapsed();
    let begun = run.event("undo-begun");
    let because = begun["because"].as_str().unwrap();
    assert!(
        because.contains("its served child was lost: signal 9"),
        "{begun}"
    );
    let undone = run.event("undone");
    let counted = counted(&undone);
    let lost: u64 = counted
        .split(", ")
        .find_map(|part| part.strip_suffix(" lost with their server")?.parse().ok())
        .unwrap_or(0);
    assert!((20..=24).contains(&lost), "{counted}");
    arrives(&from, &to);
    writeln(&format!(
        "the table went {took:.1?} after the kill; {counted}"
    ));
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn what_waits_goes_on_when_the_fault_ends() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (mut run, from, to) = holding(&namespace);
    let injection = run.event("landed")["injection"].clone();
    run.send(json!({"undo": {"injection": injection}}));
    let undone = run.event("undone");
    let counted = counted(&undone);
    assert!(!counted.contains("lost with"), "{counted}");
    let mut arrived = 0;
    let mut bytes = [0; 8];
    until("what had waited", || {
        while to
            .recv(&mut bytes)
            .is_ok_and(|length| bytes[..length] == *b"waits")
        {
            arrived += 1;
        }
        (arrived == 20).then_some(())
    });
    assert!(namespace.tables().is_empty());
    arrives(&from, &to);
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn with_everybody_killed_packets_pass_and_the_next_command_removes_the_table() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (mut run, from, to) = holding(&namespace);
    let pid = server(&run, "packet-queue");
    for one in [run.guard, run.agent] {
        signal(one, "STOP");
    }
    // The guard last: with it ends what it serves.
    for one in [run.agent, pid, run.guard] {
        signal(one, "KILL");
    }
    run.controller.kill().unwrap();
    let all = [run.guard, run.agent, pid];
    until("their deaths", || {
        all.iter().all(|one| state(*one).is_none()).then_some(())
    });
    assert_eq!(namespace.tables().len(), 1, "nobody has removed it");
    arrives(&from, &to);
    let recovered = squall_faults::recover::recover_run(&run.folder, false).unwrap();
    assert_eq!(recovered.stuck().count(), 0);
    assert!(namespace.tables().is_empty());
    arrives(&from, &to);
    run.ends_with_nothing_left();
}

#[test]
fn packets_that_a_stopped_server_had_no_room_for_are_counted() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (mut run, from, _to) = holding(&namespace);
    let pid = server(&run, "packet-queue");
    signal(pid, "STOP");
    until("its stop", || (state(pid) == Some('T')).then_some(()));
    // More than its socket has room for.
    for _ in 0..200_000 {
        from.send(b"waits").unwrap();
    }
    signal(pid, "CONT");
    let counts = std::fs::read_dir(run.folder.join("backups")).unwrap();
    let counts = counts.flatten().next().unwrap().path().join("counts");
    until("that the overflow is counted", || {
        from.send(b"later").unwrap();
        let read = squall_faults::packet::counts::Counts::read(&counts).ok()?;
        (read.overflowed > 0).then_some(())
    });
    let injection = run.event("landed")["injection"].clone();
    run.send(json!({"undo": {"injection": injection}}));
    let undone = run.event("undone");
    let counted = counted(&undone);
    assert!(counted.contains("did not fit into the queue"), "{counted}");
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn a_chance_lands_when_it_has_hit_a_packet_and_not_before() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let mut run = Run::start();
    let target = json!({"namespace": namespace.path});
    let lossy = |loss: &str| json!({"loss": loss, "ports": [4001]});
    let keys = json!({"for": "1h"});
    run.arm(
        0,
        "network-loss",
        lossy("0.000001%"),
        target.clone(),
        keys.clone(),
    );
    let missed = run.event("not-landed");
    let evidence = missed["observations"][0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("has acted on no packet"), "{missed}");
    assert!(evidence.contains("none treated"), "{missed}");
    run.arm(1, "network-loss", lossy("3%"), target, keys);
    let landed = run.event("landed");
    let evidence = landed["observations"][0]["evidence"].as_str().unwrap();
    assert!(evidence.contains(" dropped"), "{landed}");
    run.hang_up();
    run.ends_with_nothing_left();
}

/// The programs at the hooks of the namespace's loopback, by name.
fn programs(namespace: &Namespace) -> Vec<String> {
    let found = namespace::inside(Some(&namespace.path), || {
        let sides = SIDES.map(|side| bpf::hooked(1, side));
        sides.into_iter().collect::<std::io::Result<Vec<_>>>()
    });
    let found = found.unwrap().into_iter().flatten();
    found.map(|one| one.name).collect()
}

/// A run that loses every datagram that arrives at the socket, for long.
fn losing(namespace: &Namespace) -> Option<(Run, UdpSocket, UdpSocket)> {
    if !squall_faults::kind::tcx() {
        run::skip::skip("the kernel has no TCX hook");
        return None;
    }
    let mut run = Run::start();
    let (from, to) = namespace.sockets();
    let port = to.local_addr().unwrap().port();
    run.arm(
        0,
        "network-loss",
        json!({"loss": "100%", "ports": [port], "protocol": "udp"}),
        json!({"namespace": namespace.path}),
        json!({"for": "1h"}),
    );
    let landed = run.event("landed");
    let evidence = landed["observations"][0]["evidence"].as_str().unwrap();
    for words in [
        "eBPF program squall_",
        "at the TCX hooks of lo (in), held by process",
        " dropped",
    ] {
        assert!(evidence.contains(words), "{landed}");
    }
    assert_eq!(programs(namespace).len(), 1);
    from.send(b"lost").unwrap();
    assert!(to.recv(&mut [0; 8]).is_err(), "it has arrived");
    Some((run, from, to))
}

#[test]
fn programs_go_with_whoever_held_them_and_the_injection_is_undone() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let Some((mut run, from, to)) = losing(&namespace) else {
        return;
    };
    assert!(namespace.tables().is_empty(), "no table is made");
    signal(server(&run, "packet-hook"), "KILL");
    until("that the hook is empty", || {
        programs(&namespace).is_empty().then_some(())
    });
    arrives(&from, &to);
    let begun = run.event("undo-begun");
    let because = begun["because"].as_str().unwrap();
    assert!(because.contains("its served child was lost"), "{begun}");
    let undone = run.event("undone");
    let counted = counted(&undone);
    assert!(counted.contains(" dropped"), "{counted}");
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn programs_are_gone_when_the_fault_ends_and_their_count_is_whole() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let Some((mut run, from, to)) = losing(&namespace) else {
        return;
    };
    for _ in 0..200 {
        from.send(b"lost").unwrap();
    }
    // What we make ourselves carries our mark, and is spared. SOL_SOCKET and SO_MARK.
    mmsg::set_option(&from, 1, 36, OWN_MARK.cast_signed()).unwrap();
    from.send(b"ours").unwrap();
    let mut bytes = [0; 8];
    until("a datagram with our mark", || {
        let length = to.recv(&mut bytes).ok()?;
        (bytes[..length] == *b"ours").then_some(())
    });
    let injection = run.event("landed")["injection"].clone();
    run.send(json!({"undo": {"injection": injection}}));
    let undone = run.event("undone");
    assert!(programs(&namespace).is_empty());
    let evidence = &undone["observations"];
    let gone = evidence.as_array().unwrap().iter().any(|one| {
        let words = one["evidence"].as_str().unwrap();
        words.starts_with("no program squall_") && words.ends_with("at any TCX hook")
    });
    assert!(gone, "{undone}");
    let counted = counted(&undone);
    let number = |what: &str| -> u64 {
        let mut parts = counted.split(", ");
        let part = parts.find_map(|part| part.strip_suffix(what));
        part.unwrap_or_else(|| panic!("{counted}")).parse().unwrap()
    };
    assert!(number(" dropped") > 200, "{counted}");
    assert_eq!(number(" dropped"), number(" packets received"), "{counted}");
    assert_eq!(number(" passed"), 0, "{counted}");
    arrives(&from, &to);
    run.hang_up();
    run.ends_with_nothing_left();
}

#[test]
fn with_everybody_killed_programs_are_gone_before_anybody_recovers() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let Some((mut run, from, to)) = losing(&namespace) else {
        return;
    };
    let pid = server(&run, "packet-hook");
    for one in [run.guard, run.agent] {
        signal(one, "STOP");
    }
    for one in [run.agent, run.guard, pid] {
        signal(one, "KILL");
    }
    run.controller.kill().unwrap();
    let all = [run.guard, run.agent, pid];
    until("their deaths", || {
        all.iter().all(|one| state(*one).is_none()).then_some(())
    });
    until("that the hook is empty", || {
        programs(&namespace).is_empty().then_some(())
    });
    arrives(&from, &to);
    let recovered = squall_faults::recover::recover_run(&run.folder, false).unwrap();
    assert_eq!(recovered.stuck().count(), 0);
    run.ends_with_nothing_left();
}

#[test]
fn the_next_command_takes_programs_away_from_a_stopped_owner() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let Some((mut run, from, to)) = losing(&namespace) else {
        return;
    };
    // Nobody is left but the owner, and it does not run: the undo ends it, and finds the hook empty.
    let pid = server(&run, "packet-hook");
    for one in [run.guard, run.agent, pid] {
        signal(one, "STOP");
    }
    for one in [run.agent, run.guard] {
        signal(one, "KILL");
    }
    run.controller.kill().unwrap();
    let both = [run.guard, run.agent];
    until("their deaths", || {
        both.iter().all(|one| state(*one).is_none()).then_some(())
    });
    assert_eq!(programs(&namespace).len(), 1, "its owner lives");
    let recovered = squall_faults::recover::recover_run(&run.folder, false).unwrap();
    assert_eq!(recovered.stuck().count(), 0);
    assert!(programs(&namespace).is_empty());
    arrives(&from, &to);
    run.ends_with_nothing_left();
}

/// Past the test harness: a measured time is worth reading.
fn writeln(line: &str) {
    use std::io::Write as _;
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}
