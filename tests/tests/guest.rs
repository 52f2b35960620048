//! What only a guest with a kernel of its own can show: `cargo xtask vm` runs these. Short, for every boot of a soak.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use squall_faults::fault::Target;
use squall_model::event::{Observation, Presence};
use squall_tests::compliance::trial::{Injection, RUN, build, facts};
use squall_tests::folder::Folder;
use squall_tests::poll::until;
use squall_tests::sandbox::{Sandbox, command, tmpfs};
use squall_tests::spawned::Spawned;

const LIMIT: Duration = Duration::from_secs(60);

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A mapped disk of one table, taken away at the end.
struct Mapped(&'static str);

impl Mapped {
    fn make(name: &'static str, table: &str) -> anyhow::Result<Mapped> {
        let create = ["create", name, "--noudevsync", "--table", table];
        command("dmsetup", &create)?;
        let mapped = Mapped(name);
        command("dmsetup", &["mknodes", name])?;
        Ok(mapped)
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        fs::File::open(Path::new("/dev/mapper").join(self.0))?.read_exact_at(&mut bytes, 8192)?;
        Ok(bytes)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        command("dmsetup", &["remove", "--noudevsync", self.0]).ok();
    }
}

#[test]
#[ignore = "needs a kernel with device-mapper: cargo xtask vm"]
fn a_mapped_disk_is_read_and_one_that_fails_is_not() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let file = folder.path().join("disk");
    let content: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(&file, &content)?;
    for module in ["loop", "dm-mod"] {
        command("modprobe", &[module])?;
    }
    let device = output("losetup", &["--find", "--show", &file.to_string_lossy()])?;
    let whole = Mapped::make("squall-linear", &format!("0 2048 linear {device} 0"))?;
    ensure!(whole.read()? == content[8192..8192 + 4096]);
    let broken = Mapped::make("squall-error", "0 2048 error")?;
    let error = broken.read().err().context("a read did not fail")?;
    ensure!(error.raw_os_error() == Some(5), "{error}");
    let listed = output("dmsetup", &["ls"])?;
    ensure!(listed.contains("squall-linear") && listed.contains("squall-error"));
    drop((whole, broken));
    let listed = output("dmsetup", &["ls"])?;
    ensure!(!listed.contains("squall-"), "left: {listed}");
    command("losetup", &["--detach", &device])
}

/// A cgroup of its own, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> anyhow::Result<Cgroup> {
        let path = Path::new("/sys/fs/cgroup").join(name);
        fs::create_dir(&path)?;
        Ok(Cgroup(path))
    }

    fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        fs::write(self.0.join(file), value).with_context(|| format!("{file} = {value}"))
    }

    fn value(&self, file: &str, key: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(self.0.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.with_context(|| format!("{file} has no {key}"))?
            .trim()
            .parse()
            .with_context(|| text.clone())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.write("cgroup.kill", "1").ok();
        until(LIMIT, || Ok(fs::remove_dir(&self.0).is_ok())).ok();
    }
}

#[test]
#[ignore = "needs cgroup v2 alone: cargo xtask vm"]
fn cgroup_v2_alone_freezes_limits_and_kills() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    ensure!(mounts.contains(" cgroup2 ") && !mounts.contains(" cgroup "));
    let group = Cgroup::make("frozen")?;
    let mut busy = Spawned::start(Command::new("sh").args(["-c", "while :; do :; done"]))?;
    group.write("cgroup.procs", &busy.pid().to_string())?;
    let used = || group.value("cpu.stat", "usage_usec ");
    until(LIMIT, || Ok(used()? > 50_000))?;
    group.write("cgroup.freeze", "1")?;
    until(LIMIT, || Ok(group.value("cgroup.events", "frozen ")? == 1))?;
    let frozen = used()?;
    // Another process gets time meanwhile.
    output(
        "sh",
        &["-c", "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done"],
    )?;
    ensure!(used()? == frozen, "it ran while it was frozen");
    group.write("cgroup.freeze", "0")?;
    until(LIMIT, || Ok(used()? > frozen))?;
    group.write("cgroup.kill", "1")?;
    ensure!(!busy.wait(LIMIT)?.success());

    let small = Cgroup::make("small")?;
    small.write("memory.max", "20000000")?;
    let line = format!(
        "echo $$ > {}; dd if=/dev/zero of=/dev/null bs=100M count=1",
        small.0.join("cgroup.procs").display()
    );
    let mut hungry = Spawned::start(Command::new("sh").args(["-c", &line]).stderr(Stdio::null()))?;
    ensure!(!hungry.wait(LIMIT)?.success(), "it got its memory");
    ensure!(small.value("memory.events", "oom_kill ")? > 0);
    Ok(())
}

#[test]
#[ignore = "needs a kernel with netem: cargo xtask vm"]
fn this_kernel_has_what_packets_are_delayed_with() -> anyhow::Result<()> {
    // The path matters: a shell of busybox has a lesser `tc` within.
    let line = "ip link set lo up && /usr/sbin/tc qdisc add dev lo root netem delay 100ms && /usr/sbin/tc -s qdisc show dev lo && ping -c 2 -W 5 127.0.0.1";
    let said = output("unshare", &["--net", "sh", "-c", line])?;
    ensure!(
        said.contains("netem") && said.contains("delay 100"),
        "{said}"
    );
    let fastest = said
        .lines()
        .find_map(|line| line.split_once("min/avg/max = "))
        .and_then(|(_, times)| times.split('/').next()?.parse::<f64>().ok())
        .context(said.clone())?;
    // There and back, each 100 ms.
    ensure!((195.0..2000.0).contains(&fastest), "{said}");
    Ok(())
}

fn inside(test: &str, body: impl FnOnce() -> anyhow::Result<()>) {
    let sandbox = Sandbox::new().with_own_pids();
    sandbox.run(test, || {
        tmpfs("/run", "16m")?;
        body()
    });
}

fn tc(line: &str) -> anyhow::Result<String> {
    output("tc", &line.split(' ').collect::<Vec<_>>())
}

/// What traffic control holds at the loopback, and which interfaces there are, without counters.
fn held() -> anyhow::Result<Vec<String>> {
    let mut found = vec![
        tc("qdisc show")?,
        tc("class show dev lo")?,
        output("ip", &["-o", "link"])?,
    ];
    for parent in ["1:", "ingress", "egress"] {
        // Where there is no such parent it complains.
        let shown = Command::new("tc")
            .args(["filter", "show", "dev", "lo", parent])
            .output()?;
        found.push(String::from_utf8_lossy(&shown.stdout).into_owned());
    }
    Ok(found)
}

/// An injection, what it said, and what it takes to connect meanwhile.
fn injected(
    kind: &str,
    config: serde_json::Value,
    meanwhile: impl FnOnce(&[Observation]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let state = Folder::new()?;
    fs::create_dir_all(state.path().join("runs").join(RUN))?;
    let injection = Injection::begin(state.path(), &build(kind, config)?, Target::Host)?;
    let observed = injection.inject()?;
    meanwhile(&observed)?;
    let outcome = injection.undo().context("the journal knows it")?;
    ensure!(outcome.stuck.is_none(), "{outcome:?}");
    Ok(())
}

fn says(observed: &[Observation], words: &str) -> anyhow::Result<()> {
    let landed = observed
        .iter()
        .any(|one| one.presence == Presence::Present && one.evidence.contains(words));
    ensure!(landed, "it does not say `{words}`: {observed:?}");
    Ok(())
}

/// The quickest of three connections.
fn connecting(listener: &TcpListener) -> anyhow::Result<Duration> {
    let address = listener.local_addr()?;
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        drop(TcpStream::connect_timeout(
            &address,
            Duration::from_secs(10),
        )?);
        quickest = quickest.min(begun.elapsed());
        listener.accept()?;
    }
    Ok(quickest)
}

const WAIT: Duration = Duration::from_millis(100);

#[test]
#[ignore = "needs a kernel with netem: cargo xtask vm"]
fn netem_serves_beside_a_tree_of_others_and_the_queue_where_their_filters_are() {
    inside(
        "netem_serves_beside_a_tree_of_others_and_the_queue_where_their_filters_are",
        || {
            ensure!(facts().netem, "the kernel is not known to have netem");
            for line in [
                "qdisc add dev lo root handle 1: htb default 20",
                "class add dev lo parent 1: classid 1:20 htb rate 10gbit",
                "filter add dev lo parent 1: protocol ip prio 3 u32 match ip dport 7 0xffff flowid 1:20",
            ] {
                tc(line)?;
            }
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(address)?;
                let port = listener.local_addr()?.port();
                let config = serde_json::json!({"delay": "100ms", "ports": [port]});
                for is_taken in [false, true] {
                    if is_taken {
                        tc("qdisc add dev lo clsact")?;
                        tc(
                            "filter add dev lo ingress protocol ip prio 9 u32 match ip dport 7 0xffff action ok",
                        )?;
                    }
                    let before = held()?;
                    let words = if is_taken {
                        "its queue read by"
                    } else {
                        "netem at sq"
                    };
                    injected("network-delay", config.clone(), |observed| {
                        says(observed, words)?;
                        let shown = tc("qdisc show")?;
                        ensure!(shown.contains("netem") != is_taken, "{shown}");
                        ensure!(shown.contains("htb 1: dev lo root"), "{shown}");
                        let took = connecting(&listener)?;
                        ensure!((WAIT * 2..WAIT * 30).contains(&took), "{took:?}");
                        Ok(())
                    })?;
                    let after = held()?;
                    ensure!(before == after, "{before:#?} became {after:#?}");
                    ensure!(connecting(&listener)? < WAIT);
                }
                tc("qdisc delete dev lo clsact")?;
            }
            Ok(())
        },
    );
}
