//! The reader is proven able to see: one leftover of each kind is planted in namespaces of our own,
//! the difference names exactly it, and removing it makes the difference empty.

mod harness;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use harness::{Folder, LIMIT, Nft, inside};
use rustix::process::Signal;
use squall_tests::sandbox::command;
use squall_tests::snapshot::{HostSnapshot, Kind, ProcessState};
use squall_tests::spawned::Spawned;

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
        let mut listener = None;
        let plant = || {
            listener = Some(UnixListener::bind(path)?);
            Ok(())
        };
        let listening = format!("{path} open, listening");
        let expected = [(Kind::Socket, path), (Kind::Socket, listening.as_str())];
        let scope = inside.scope();
        let before = HostSnapshot::take(&scope)?;
        inside
            .sees(&scope, &expected, plant, || Ok(fs::remove_file(path)?))
            .expect_err("it is still open");
        drop(listener);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_stopped_process_is_seen_watched_or_not() {
    inside("a_stopped_process_is_seen_watched_or_not", |inside| {
        let child = Spawned::sleeper()?;
        let name = format!("pid {}", child.pid());
        for scope in [inside.scope(), inside.scope().pid(child.pid())] {
            let plant = || {
                child.signal(Signal::STOP)?;
                child.reaches(ProcessState::Stopped, LIMIT)
            };
            inside.sees(&scope, &[(Kind::ProcessState, &name)], plant, || {
                child.signal(Signal::CONT)
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_watched_process_that_is_gone_is_seen() {
    inside("a_watched_process_that_is_gone_is_seen", |inside| {
        let mut child = Spawned::sleeper()?;
        let scope = inside.scope().pid(child.pid());
        let before = HostSnapshot::take(&scope)?;
        child.end()?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let name = format!("pid {}", child.pid());
        anyhow::ensure!(
            left.iter()
                .any(|left| left.kind == Kind::ProcessState && left.name == name),
            "{left:?}"
        );
        Ok(())
    });
}

#[test]
fn a_process_with_our_mark_is_seen() {
    inside("a_process_with_our_mark_is_seen", |inside| {
        // The first process of the namespace is 1; the next pid is not known before.
        let mut child = None;
        let scope = inside.scope();
        let before = HostSnapshot::take(&scope)?;
        let started = Spawned::start(
            Command::new("sleep")
                .arg("3600")
                .env("SQUALL_RUN", "planted"),
        )?;
        let name = format!("pid {}", started.pid());
        child.replace(started);
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|left| (left.kind, left.name.as_str()))
            .collect();
        anyhow::ensure!(named == [(Kind::StrayProcess, name.as_str())], "{left:?}");
        drop(child);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_stray_child_is_seen() {
    inside("a_stray_child_is_seen", |inside| {
        let scope = inside.scope().descendants(std::process::id());
        let before = HostSnapshot::take(&scope)?;
        let child = Spawned::sleeper()?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|left| (left.kind, left.name.clone()))
            .collect();
        anyhow::ensure!(
            named == [(Kind::StrayProcess, format!("pid {}", child.pid()))],
            "{left:?}"
        );
        drop(child);
        anyhow::ensure!(before.diff(&HostSnapshot::take(&scope)?).is_empty());
        Ok(())
    });
}

#[test]
fn a_changed_affinity_and_oom_score_are_seen() {
    inside("a_changed_affinity_and_oom_score_are_seen", |inside| {
        let child = Spawned::sleeper()?;
        let pid = child.rustix_pid()?;
        let scope = inside.scope().pid(child.pid());
        let threads = format!("pid {} threads", child.pid());
        let before = rustix::thread::sched_getaffinity(Some(pid))?;
        let mut one = rustix::thread::CpuSet::new();
        one.set(
            (0..rustix::thread::CpuSet::MAX_CPU)
                .find(|cpu| before.is_set(*cpu))
                .context("no processor")?,
        );
        if before.count() > 1 {
            let set = |to| Ok(rustix::thread::sched_setaffinity(Some(pid), to)?);
            inside.sees(
                &scope,
                &[(Kind::ProcessSetting, &threads)],
                || set(&one),
                || set(&before),
            )?;
        }
        let path = format!("/proc/{}/oom_score_adj", child.pid());
        let score = format!("pid {} oom_score_adj", child.pid());
        let was = fs::read_to_string(&path)?;
        let write = |value: &str| Ok(fs::write(&path, value)?);
        inside.sees(
            &scope,
            &[(Kind::ProcessSetting, &score)],
            || write("900"),
            || write(&was),
        )
    });
}

#[test]
fn a_changed_niceness_is_seen() {
    inside("a_changed_niceness_is_seen", |inside| {
        let child = Spawned::sleeper()?;
        let pid = Some(child.rustix_pid()?);
        let scope = inside.scope().pid(child.pid());
        let threads = format!("pid {} threads", child.pid());
        let before = HostSnapshot::take(&scope)?;
        rustix::process::setpriority_process(pid, 7)?;
        let left = before.diff(&HostSnapshot::take(&scope)?);
        anyhow::ensure!(left.len() == 1 && left[0].name == threads, "{left:?}");
        anyhow::ensure!(
            left[0]
                .after
                .as_ref()
                .is_some_and(|after| after.contains("nice 7")),
            "{left:?}"
        );
        Ok(())
    });
}

#[test]
fn a_cgroup_and_a_frozen_cgroup_are_seen() {
    inside("a_cgroup_and_a_frozen_cgroup_are_seen", |inside| {
        // Cgroups are host-wide whatever the namespace: a folder laid out like a hierarchy stands in.
        let hierarchy = Folder::new()?;
        let group = hierarchy.path().join("theirs");
        fs::create_dir(&group)?;
        fs::write(group.join("freezer.state"), "THAWED\n")?;
        let scope = squall_tests::snapshot::Scope::host().cgroup_root(hierarchy.path());
        let left = hierarchy.path().join("squall-left");
        let expected = [(Kind::Cgroup, left.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::create_dir(&left)?),
            || Ok(fs::remove_dir(&left)?),
        )?;
        let freeze = |state| Ok(fs::write(group.join("freezer.state"), state)?);
        let expected = [(Kind::Cgroup, group.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || freeze("FROZEN\n"),
            || freeze("THAWED\n"),
        )
    });
}

#[test]
fn a_files_content_mode_times_and_attributes_are_seen() {
    inside(
        "a_files_content_mode_times_and_attributes_are_seen",
        |inside| {
            let folder = Folder::new()?;
            let path = folder.path().join("checkpoint");
            fs::write(&path, "weights")?;
            let scope = inside.scope().file(folder.path());
            let expected = [(Kind::File, path.to_str().context("a name")?)];
            let modified = fs::metadata(&path)?.modified()?;
            let set_time = |time| {
                anyhow::Ok(
                    fs::File::options()
                        .write(true)
                        .open(&path)?
                        .set_modified(time)?,
                )
            };
            let write = |content: &str| {
                fs::write(&path, content)?;
                set_time(modified)
            };
            inside.sees(&scope, &expected, || write("weightz"), || write("weights"))?;
            let later = modified + std::time::Duration::from_nanos(1000);
            inside.sees(&scope, &expected, || set_time(later), || set_time(modified))?;
            let mode = |bits| {
                Ok(fs::set_permissions(
                    &path,
                    fs::Permissions::from_mode(bits),
                )?)
            };
            mode(0o644)?;
            inside.sees(&scope, &expected, || mode(0o600), || mode(0o644))?;
            let flags = rustix::fs::XattrFlags::empty();
            let plant = || Ok(rustix::fs::lsetxattr(&path, "user.planted", b"x", flags)?);
            let remove = || Ok(rustix::fs::lremovexattr(&path, "user.planted")?);
            inside.sees(&scope, &expected, plant, remove)
        },
    );
}

#[test]
fn a_new_file_and_a_deleted_one_are_seen() {
    inside("a_new_file_and_a_deleted_one_are_seen", |inside| {
        let folder = Folder::new()?;
        let (new, aside) = (folder.path().join("new"), Folder::new()?);
        let kept = folder.path().join("kept");
        fs::write(&kept, "kept")?;
        let scope = inside.scope().file(folder.path());
        let expected = [(Kind::File, new.to_str().context("a name")?)];
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::write(&new, "")?),
            || Ok(fs::remove_file(&new)?),
        )?;
        let expected = [(Kind::File, kept.to_str().context("a name")?)];
        let (here, there) = (&kept, aside.path().join("kept"));
        inside.sees(
            &scope,
            &expected,
            || Ok(fs::rename(here, &there)?),
            || Ok(fs::rename(&there, here)?),
        )
    });
}
