//! The reader is proven able to see: one leftover of each kind is planted in namespaces of our own,
//! the difference names exactly it, and removing it makes the difference empty.

use std::cell::Cell;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::Context as _;
use squall_tests::folder::Folder;
use squall_tests::nft_writer::Nft;
use squall_tests::proof::inside;
use squall_tests::sandbox::command;
use squall_tests::snapshot::Kind;

const TMPFS: [&str; 4] = ["-t", "tmpfs", "planted", "-o"];

/// Puts an empty file system over a folder, for this test only.
fn cover(folder: &str) -> anyhow::Result<()> {
    command("mount", &[&TMPFS[..], &["mode=755", folder]].concat())
}

#[test]
fn a_qdisc_is_seen() {
    inside("a_qdisc_is_seen", |inside| {
        let tbf = "qdisc add dev lo root tbf rate 1mbit burst 10k latency 10ms";
        let plant = || command("tc", &tbf.split(' ').collect::<Vec<_>>());
        let remove = || command("tc", &["qdisc", "del", "dev", "lo", "root"]);
        inside.sees(&inside.scope(), &[(Kind::Qdisc, "lo root")], plant, remove)
    });
}

#[test]
fn an_ingress_hook_is_seen() {
    inside("an_ingress_hook_is_seen", |inside| {
        let change = |verb| command("tc", &["qdisc", verb, "dev", "lo", "clsact"]);
        let expected = [(Kind::Qdisc, "lo parent ffff:fff1")];
        inside.sees(
            &inside.scope(),
            &expected,
            || change("add"),
            || change("del"),
        )
    });
}

#[test]
fn an_nftables_table_is_seen_with_its_chain_and_rule() {
    inside(
        "an_nftables_table_is_seen_with_its_chain_and_rule",
        |inside| {
            let nft = Nft::open()?;
            let plant = || {
                nft.add_table("squall_t")?;
                nft.add_output_chain("squall_t", "out")?;
                nft.add_counter("squall_t", "out")
            };
            let names = [
                "chain ip squall_t out",
                "rule ip squall_t out 1",
                "table ip squall_t",
            ];
            let expected = names.map(|name| (Kind::Nftables, name));
            inside.sees(&inside.scope(), &expected, plant, || {
                nft.delete_table("squall_t")
            })
        },
    );
}

#[test]
fn a_rule_in_anothers_chain_is_seen_and_its_counting_is_not() {
    inside(
        "a_rule_in_anothers_chain_is_seen_and_its_counting_is_not",
        |inside| {
            let nft = Nft::open()?;
            nft.add_table("theirs")?;
            nft.add_output_chain("theirs", "out")?;
            nft.add_counter("theirs", "out")?;
            let count = || {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.send_to(b"counted", socket.local_addr()?)?;
                anyhow::Ok(())
            };
            let plant = || {
                count()?;
                nft.add_counter("theirs", "out")
            };
            let remove = || {
                nft.flush("theirs", "out")?;
                nft.add_counter("theirs", "out")
            };
            inside.sees(
                &inside.scope(),
                &[(Kind::Nftables, "rule ip theirs out 2")],
                plant,
                remove,
            )
        },
    );
}

#[test]
fn an_interface_is_seen() {
    inside("an_interface_is_seen", |inside| {
        let plant = || {
            command(
                "ip",
                &["link", "add", "sqa", "type", "veth", "peer", "name", "sqb"],
            )
        };
        let remove = || command("ip", &["link", "del", "sqa"]);
        inside.sees(
            &inside.scope(),
            &[(Kind::Link, "sqa"), (Kind::Link, "sqb")],
            plant,
            remove,
        )
    });
}

#[test]
fn a_changed_mtu_is_seen() {
    inside("a_changed_mtu_is_seen", |inside| {
        let mtu = |size| command("ip", &["link", "set", "lo", "mtu", size]);
        inside.sees(
            &inside.scope(),
            &[(Kind::Link, "lo")],
            || mtu("9000"),
            || mtu("65536"),
        )
    });
}

#[test]
fn an_address_is_seen() {
    inside("an_address_is_seen", |inside| {
        let change = |verb| command("ip", &["address", verb, "198.51.100.9/32", "dev", "lo"]);
        let expected = [(Kind::Address, "lo 198.51.100.9/32")];
        inside.sees(
            &inside.scope(),
            &expected,
            || change("add"),
            || change("del"),
        )
    });
}

#[test]
fn a_route_is_seen() {
    inside("a_route_is_seen", |inside| {
        let change = |verb| command("ip", &["route", verb, "blackhole", "198.51.100.0/24"]);
        let expected = [(Kind::Route, "-4 blackhole 198.51.100.0/24")];
        inside.sees(
            &inside.scope(),
            &expected,
            || change("add"),
            || change("del"),
        )
    });
}

#[test]
fn a_routing_rule_is_seen() {
    inside("a_routing_rule_is_seen", |inside| {
        let change = |verb| command("ip", &["rule", verb, "pref", "5000", "lookup", "100"]);
        inside.sees(
            &inside.scope(),
            &[(Kind::RoutingRule, "-4 5000")],
            || change("add"),
            || change("del"),
        )
    });
}

#[test]
fn a_kernel_parameter_is_seen() {
    inside("a_kernel_parameter_is_seen", |inside| {
        let path = "/proc/sys/net/ipv4/tcp_retries2";
        let before = fs::read_to_string(path)?;
        let expected = [(Kind::Sysctl, "net/ipv4/tcp_retries2")];
        let write = |value: &str| fs::write(path, value).context(path);
        inside.sees(&inside.scope(), &expected, || write("3"), || write(&before))
    });
}

#[test]
fn a_resolver_entry_is_seen() {
    inside("a_resolver_entry_is_seen", |inside| {
        let folder = Folder::new()?;
        let stand_in = folder.path().join("resolv.conf");
        fs::write(&stand_in, "nameserver 192.0.2.1\n")?;
        let path = Path::new("/etc/resolv.conf");
        command(
            "mount",
            &["--bind", &stand_in.to_string_lossy(), "/etc/resolv.conf"],
        )?;
        let modified = fs::metadata(path)?.modified()?;
        let plant = || Ok(fs::write(path, "nameserver 192.0.2.66\n")?);
        let remove = || {
            fs::write(path, "nameserver 192.0.2.1\n")?;
            Ok(fs::File::options()
                .write(true)
                .open(path)?
                .set_modified(modified)?)
        };
        inside.sees(
            &inside.scope(),
            &[(Kind::Resolver, "/etc/resolv.conf")],
            plant,
            remove,
        )
    });
}

#[test]
fn a_hostname_is_seen() {
    inside("a_hostname_is_seen", |inside| {
        let before = rustix::system::uname().nodename().to_owned();
        let plant = || Ok(rustix::system::sethostname(b"planted")?);
        let remove = || Ok(rustix::system::sethostname(before.to_bytes())?);
        inside.sees(
            &inside.scope(),
            &[(Kind::Hostname, "hostname")],
            plant,
            remove,
        )
    });
}

#[test]
fn a_network_namespace_is_seen() {
    inside("a_network_namespace_is_seen", |inside| {
        cover("/run")?;
        // The first one makes a mount of the folder itself, which stays.
        command("ip", &["netns", "add", "theirs"])?;
        let change = |verb| command("ip", &["netns", verb, "left"]);
        let expected = [
            (Kind::NetworkNamespace, "left"),
            (Kind::Mount, "/run/netns/left"),
        ];
        inside.sees(
            &inside.scope(),
            &expected,
            || change("add"),
            || change("del"),
        )
    });
}

#[test]
fn a_mount_is_seen_even_over_another() {
    inside("a_mount_is_seen_even_over_another", |inside| {
        cover("/mnt")?;
        inside.sees(
            &inside.scope(),
            &[(Kind::Mount, "/mnt #2")],
            || cover("/mnt"),
            || command("umount", &["/mnt"]),
        )
    });
}

#[test]
fn shared_memory_is_seen() {
    inside("shared_memory_is_seen", |inside| {
        let plant = || command("ipcmk", &["-M", "4096"]);
        let remove = || command("ipcrm", &["-m", "0"]);
        inside.sees(
            &inside.scope(),
            &[(Kind::SharedMemory, "shm 0")],
            plant,
            remove,
        )
    });
}

#[test]
fn a_socket_is_seen_open_and_as_a_file() {
    inside("a_socket_is_seen_open_and_as_a_file", |inside| {
        cover("/run")?;
        fs::create_dir("/run/squall")?;
        let path = "/run/squall/agent";
        let listener = Cell::new(None);
        let plant = || {
            listener.set(Some(UnixListener::bind(path)?));
            Ok(())
        };
        let remove = || {
            drop(listener.take());
            Ok(fs::remove_file(path)?)
        };
        let listening = format!("{path} open, listening");
        let expected = [(Kind::Socket, path), (Kind::Socket, listening.as_str())];
        inside.sees(&inside.scope(), &expected, plant, remove)
    });
}
