//! A partition aimed at the workload itself: its ranks talk over loopback in a network of their own, which is cut, and the host's is not touched.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use squall_tests::poll;
use squall_tests::product::is_alive;
use squall_tests::sandbox::command;
use squall_tests::snapshot::{HostSnapshot, Kind, Scope};

use super::{LIMIT, alone, endless, rank};

const CUT: &str = "method:\n  \
    - network-partition: {target: {workload: true}, at: {epoch: 2}, for: 700ms, peers: [127.0.0.0/8]}\n  \
    - wait: 1s\n";

/// The network namespace of a process, as a number.
fn network(pid: &str) -> anyhow::Result<u64> {
    Ok(fs::metadata(format!("/proc/{pid}/ns/net"))?.ino())
}

/// Does something on a thread that is in the network of this process.
fn in_network_of<T: Send>(
    pid: u32,
    act: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            act()
        });
        thread
            .join()
            .unwrap_or_else(|_| bail!("the thread in the network panicked"))
    })
}

/// The rules of the packet filter, by a reader that shares no code with what makes them.
fn rules() -> anyhow::Result<Vec<String>> {
    let seen = HostSnapshot::take_only(&Scope::narrow(), &[Kind::Nftables])?;
    Ok(seen
        .of(Kind::Nftables)
        .map(|(name, _)| name.to_owned())
        .collect())
}

/// Whether a packet from loopback to loopback arrives here.
fn arrives() -> anyhow::Result<bool> {
    let to = UdpSocket::bind("127.0.0.1:0")?;
    to.set_read_timeout(Some(Duration::from_millis(100)))?;
    let sent = UdpSocket::bind("127.0.0.1:0")?.send_to(b"ping", to.local_addr()?);
    Ok(sent.is_ok() && to.recv(&mut [0; 8]).is_ok())
}

#[test]
fn a_partition_aimed_at_the_workload_cuts_its_own_network_and_no_other() {
    alone(
        "own_network::a_partition_aimed_at_the_workload_cuts_its_own_network_and_no_other",
        |desk| {
            command("ip", &["link", "set", "lo", "up"])?;
            let before = rules()?;
            let file = desk.write("experiment.yaml", &endless(CUT))?;
            let plan = desk.squall(&["plan", &file.to_string_lossy()])?;
            plan.expect(0)?;
            ensure!(
                plan.out.contains("network and mount namespaces of its own"),
                "{}",
                plan.told()
            );
            let live = desk.start_run(&file)?;
            let pid = rank(1).map_err(|error| error.context(live.said()))?.pid;
            ensure!(
                network(&pid.to_string())? != network("self")?,
                "it shares our network"
            );
            let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt"));
            ensure!(
                mounts(&pid.to_string())? != mounts("self")?,
                "it shares our mounts"
            );
            ensure!(in_network_of(pid, arrives)?, "its loopback is down");
            let is_cut =
                || in_network_of(pid, || Ok(rules()?.iter().any(|it| it.contains("squall_"))));
            poll::until(LIMIT, is_cut).with_context(|| live.said())?;
            let (theirs, ours) = (in_network_of(pid, arrives)?, arrives()?);
            ensure!(is_cut()?, "it was over before it was looked at");
            ensure!(!theirs, "a packet arrives in the network that is cut");
            ensure!(
                ours && rules()? == before,
                "the host was touched: {:?}",
                rules()?
            );
            poll::until(LIMIT, || Ok(!is_cut()?)).with_context(|| live.said())?;
            ensure!(
                is_alive(pid) && in_network_of(pid, arrives)?,
                "it is still cut"
            );
            let ended = live.wait(LIMIT)?;
            let report = desk.report()?;
            ensure!(ended.code == Some(0), "{} {}", ended.told(), report.told());
            let [injection] = report.injections() else {
                bail!("{}", report.told());
            };
            let text = injection.to_string();
            ensure!(
                report.all_gone()
                    && text.contains("packets (")
                    && text.contains("the workload's own network namespace"),
                "{text}"
            );
            ensure!(rules()? == before, "the host was touched: {:?}", rules()?);
            Ok(())
        },
    );
}
