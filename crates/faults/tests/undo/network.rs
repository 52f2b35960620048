//! Partitions in network namespaces of the test's own. The effect is shown by real connections, not by what the fault says.

use crate::common::{Fixture, Sleeper};
use squall_faults::fault::{Fault, Target};
use squall_faults::kind::HostFacts;
use squall_faults::network_partition::{Direction, NetworkPartition, Protocol};
use squall_faults::packet::ssh::{SESSIONS_MAX, Session};
use squall_faults::packet::traffic::Traffic;
use squall_faults::sys::nftables::Part;
use squall_faults::sys::{namespace, nftables};
use squall_faults::undo::perform::undo_injection;
use squall_faults::undo::{Undo, presence, revert};
use squall_model::event::Presence;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// A network namespace that ends with the test; `None` (said loudly) without root.
pub struct Namespace {
    _keeper: Sleeper,
    pub path: PathBuf,
}

impl Namespace {
    pub fn new() -> Option<Namespace> {
        if !rustix::process::geteuid().is_root() {
            crate::skip("network namespaces need root");
            return None;
        }
        let keeper = Sleeper::command(&[
            "unshare",
            "-n",
            "sh",
            "-c",
            "ip link set lo up; echo ready; exec sleep 60",
        ]);
        keeper.ready();
        let path = PathBuf::from(format!("/proc/{}/ns/net", keeper.pid()));
        Some(Namespace {
            _keeper: keeper,
            path,
        })
    }

    fn target(&self) -> Target {
        Target::Namespace {
            path: self.path.clone(),
        }
    }

    /// Whether a connection to `address` in the namespace comes about.
    fn connects(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().unwrap();
        namespace::inside(Some(&self.path), || {
            let listener = TcpListener::bind(address)?;
            Ok(
                TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_millis(200))
                    .is_ok(),
            )
        })
        .unwrap()
    }

    fn tables(&self) -> Vec<(u8, String)> {
        namespace::inside(Some(&self.path), nftables::tables).unwrap()
    }
}

fn cut(peers: &[&str], ports: &[u16]) -> NetworkPartition {
    NetworkPartition {
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        ports: ports.to_vec(),
        ..NetworkPartition::default()
    }
}

#[test]
fn only_the_named_peers_are_cut_in_both_families_until_the_undo() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let fixture = Fixture::new("net-peers");
    let fault = cut(&["127.0.0.2", "127.0.1.0/24", "::1"], &[]);
    assert_eq!(fault.problems(), []);
    assert_eq!(fault.unmet(&namespace.target(), &HostFacts::read()), []);
    let addresses = ["127.0.0.2:4001", "127.0.1.9:4001", "[::1]:4001"];
    let spared = ["127.0.0.3:4001", "127.0.2.9:4001"];
    assert!(
        addresses
            .iter()
            .chain(&spared)
            .all(|address| namespace.connects(address))
    );
    let mut host = fixture.host::<NetworkPartition>(0);
    fault.inject(&namespace.target(), &mut host).unwrap();
    let seen = fault.observe(&namespace.target(), &host.changes());
    assert_eq!(seen[0].presence, Presence::Present, "{seen:?}");
    assert!(seen[0].evidence.contains("packets"), "{seen:?}");
    assert_eq!(
        namespace.tables(),
        [(1, format!("squall_{}", fixture.id(0)))]
    );
    for address in addresses {
        assert!(!namespace.connects(address), "{address} is not cut");
    }
    for address in spared {
        assert!(namespace.connects(address), "{address} is cut");
    }
    host.land(None, seen).unwrap();
    let undo = host.changes().remove(0);
    let outcome = undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();
    assert_eq!(
        (outcome.stuck, outcome.observations[0].presence),
        (None, Presence::Absent)
    );
    assert!(namespace.tables().is_empty());
    assert!(addresses.iter().all(|address| namespace.connects(address)));
    revert(&undo).unwrap();
}

#[test]
fn only_the_named_ports_and_protocol_are_cut() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let fixture = Fixture::new("net-ports");
    let mut fault = cut(&[], &[4001, 4002]);
    let mut host = fixture.host::<NetworkPartition>(0);
    fault.inject(&namespace.target(), &mut host).unwrap();
    assert_eq!(
        fault.observe(&namespace.target(), &host.changes())[0].presence,
        Presence::Present
    );
    assert!(!namespace.connects("127.0.0.1:4001") && !namespace.connects("[::1]:4002"));
    assert!(namespace.connects("127.0.0.1:4003"));
    undo_injection(&fixture.journal, &fixture.id(0), "test").unwrap();

    fault.protocol = Some(Protocol::Udp);
    let mut host = fixture.host::<NetworkPartition>(1);
    fault.inject(&namespace.target(), &mut host).unwrap();
    assert_eq!(
        fault.observe(&namespace.target(), &host.changes())[0].presence,
        Presence::Present
    );
    assert!(namespace.connects("127.0.0.1:4001"));
    undo_injection(&fixture.journal, &fixture.id(1), "test").unwrap();

    fault.protocol = Some(Protocol::Tcp);
    fault.direction = Direction::Out;
    let mut host = fixture.host::<NetworkPartition>(2);
    fault.inject(&namespace.target(), &mut host).unwrap();
    assert_eq!(
        fault.observe(&namespace.target(), &host.changes())[0].presence,
        Presence::Present
    );
    assert!(!namespace.connects("127.0.0.1:4001"));
}

#[test]
fn rules_that_no_packet_met_are_not_said_to_have_landed() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let fixture = Fixture::new("net-unmet");
    // Nothing arrives from there, and nothing can be sent that would.
    let fault = NetworkPartition {
        direction: Direction::In,
        ..cut(&["192.0.2.1"], &[])
    };
    let mut host = fixture.host::<NetworkPartition>(0);
    fault.inject(&namespace.target(), &mut host).unwrap();
    let seen = fault.observe(&namespace.target(), &host.changes());
    assert_eq!(seen[0].presence, Presence::Unknown, "{seen:?}");
    assert!(
        seen[0].evidence.contains("no packet has met them"),
        "{seen:?}"
    );
}

#[test]
fn a_table_is_found_by_its_namespace_when_the_path_has_gone() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let inode = namespace::inode(Some(&namespace.path)).unwrap();
    namespace::inside(Some(&namespace.path), || {
        nftables::transact(&[nftables::new_table("squall_aaaaaaaa")])
    })
    .unwrap();
    let undo = Undo::DeleteTable {
        family: "inet".into(),
        table: "squall_aaaaaaaa".into(),
        namespace: Some("/run/netns/there-is-none-of-this-name".into()),
        namespace_inode: Some(inode),
    };
    assert_eq!(presence(&undo).presence, Presence::Present);
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).presence, Presence::Absent);
    assert!(namespace.tables().is_empty());
    // A path that leads elsewhere by now is not followed.
    let found = namespace::find(Some("/proc/self/ns/net".as_ref()), Some(inode)).unwrap();
    assert_eq!(namespace::inode(found.as_deref()).unwrap(), inode);
    // A namespace that is gone took its tables along.
    drop(namespace);
    revert(&undo).unwrap();
    assert_eq!(presence(&undo).evidence, "the network namespace is gone");
}

#[test]
fn a_path_that_has_come_to_lead_elsewhere_is_not_entered() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let link = std::env::temp_dir().join(format!("squall-namespace-{}", std::process::id()));
    std::os::unix::fs::symlink(&namespace.path, &link).unwrap();
    let held = namespace::Namespace::open(Some(&link)).unwrap();
    let inode = namespace::inode(Some(&namespace.path)).unwrap();
    assert_eq!(held.inode(), inode);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/proc/self/ns/net", &link).unwrap();
    let error = namespace::Namespace::open_known(Some(&link), inode).unwrap_err();
    std::fs::remove_file(&link).unwrap();
    assert!(error.to_string().contains("another network namespace"));
    // What was opened before still acts where it was opened.
    let own = std::path::Path::new("/proc/thread-self/ns/net");
    let acted = held.inside(|| namespace::inode(Some(own))).unwrap();
    assert_eq!(acted, inode);
}

#[test]
fn a_failed_transaction_changes_nothing() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let table = "squall_aaaaaaab";
    let error = namespace::inside(Some(&namespace.path), || {
        nftables::transact(&[
            nftables::new_table(table),
            nftables::new_rule(table, "no-such-chain", &[]),
        ])
    })
    .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(namespace.tables().is_empty());
}

#[test]
fn the_longest_lists_fit_into_one_transaction() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let fixture = Fixture::new("net-long");
    let peers: Vec<String> = (0..64).map(|host| format!("fd00::{host:x}/120")).collect();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    let ports: Vec<u16> = (5000..5064).collect();
    let fault = cut(&peers, &ports);
    assert_eq!(fault.problems(), []);
    let mut host = fixture.host::<NetworkPartition>(0);
    fault.inject(&namespace.target(), &mut host).unwrap();
    let counted = namespace::inside(Some(&namespace.path), || {
        nftables::counted(nftables::INET, &format!("squall_{}", fixture.id(0)))
    });
    // And one each way that spares packets of our own.
    assert_eq!(counted.unwrap().rules, 2 * (1 + 64) + 4 * 64);
}

#[test]
fn the_most_sessions_and_addresses_fit_into_one_transaction() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let networks: Vec<_> = (0..256)
        .map(|host| format!("fd00::{host:x}").parse().unwrap())
        .collect();
    let spared: Vec<Session> = (0..SESSIONS_MAX)
        .map(|host| Session {
            local: "[fd00::1]:22".parse().unwrap(),
            remote: format!("[fd01::{host:x}]:40000").parse().unwrap(),
        })
        .collect();
    let traffic = Traffic {
        ports: (5000..5064).collect(),
        ..Traffic::default()
    };
    let table = "squall_aaaaaaac";
    let messages = traffic.table(table, &networks, &spared, &[Part::Drop]);
    let counted = namespace::inside(Some(&namespace.path), || {
        nftables::transact(&messages)?;
        nftables::counted(nftables::INET, table)
    });
    assert_eq!(counted.unwrap().rules, 2 * (1 + 256 + 256) + 4 * 64);
}

#[test]
fn what_would_cut_everything_is_refused() {
    let messages = |fault: NetworkPartition| -> Vec<String> {
        fault
            .problems()
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    };
    assert!(messages(cut(&[], &[]))[0].contains("everything would be cut"));
    assert!(messages(cut(&["0.0.0.0/0"], &[]))[0].contains("every peer there is"));
    assert!(messages(cut(&["::/0"], &[80])).is_empty());
    let many: Vec<u16> = (1..=65).collect();
    assert!(messages(cut(&[], &many))[0].contains("more than 64"));
    for wrong in ["10.0.0", "10.0.0.0/33", "::1/129", "host", "10.0.0.0/-1"] {
        assert!(
            wrong.parse::<squall_faults::network::Network>().is_err(),
            "{wrong}"
        );
    }
    let fixture = Fixture::new("net-all");
    let mut host = fixture.host::<NetworkPartition>(0);
    assert!(cut(&[], &[]).inject(&Target::Host, &mut host).is_err());
    assert!(host.changes().is_empty());
}
