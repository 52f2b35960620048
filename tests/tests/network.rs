//! Network faults beside what others have installed, with an SSH session that must live, and their rates.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use squall_faults::fault::Target;
use squall_faults::sys::diag;
use squall_model::event::Presence;
use squall_tests::catalogue::kinds;
use squall_tests::compliance::trial::{Injection, RUN, build, facts};
use squall_tests::compliance::{in_every_way, lifecycle};
use squall_tests::folder::Folder;
use squall_tests::pair::Pair;
use squall_tests::poll::{poll, until};
use squall_tests::sandbox::{Sandbox, command, skip, tmpfs};

const LIMIT: Duration = Duration::from_secs(20);

fn inside(test: &str, body: impl FnOnce() -> anyhow::Result<()>) {
    let sandbox = Sandbox::new()
        .with_own_pids()
        .limit(Duration::from_secs(180));
    sandbox.run(test, || {
        tmpfs("/run", "16m")?;
        body()
    });
}

/// What a command prints, without counters.
fn dump(program: &str, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    let output = Command::new(program).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let without = |line: &str| -> String {
        // Every byte but the numbers: spaces too.
        let mut words: Vec<&str> = line.split(' ').collect();
        // `counter packets 3 bytes 120` and `:INPUT ACCEPT [3:120]`; comments carry the time.
        for at in 0..words.len() {
            if ["packets", "bytes"].contains(&words[at]) && at + 1 < words.len() {
                words[at + 1] = "N";
            }
            if words[at].starts_with('[') {
                words[at] = "[N]";
            }
        }
        words.join(" ")
    };
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(without)
        .collect())
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// An HTB tree with filters on the loopback.
fn plant_tree() -> anyhow::Result<()> {
    for line in [
        "qdisc add dev lo root handle 1: htb default 20",
        "class add dev lo parent 1: classid 1:1 htb rate 10gbit",
        "class add dev lo parent 1:1 classid 1:10 htb rate 1gbit ceil 10gbit",
        "class add dev lo parent 1:1 classid 1:20 htb rate 5gbit ceil 10gbit",
        "filter add dev lo parent 1: protocol ip prio 3 u32 match ip dport 7 0xffff flowid 1:10",
        "filter add dev lo parent 1: protocol ipv6 prio 4 u32 match ip6 dport 7 0xffff flowid 1:10",
    ] {
        command("tc", &line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A table on the same hooks at the same priority as ours.
fn plant_table(folder: &Path) -> anyhow::Result<()> {
    let rules = "table inet foreign {
        chain in { type filter hook input priority -400; policy accept; tcp dport 7 counter accept; counter; }
        chain out { type filter hook output priority -400; policy accept; udp dport 7 counter drop; counter; }
    }
    table ip older {
        chain in { type filter hook input priority -400; ip saddr 192.0.2.1 drop; }
    }";
    let file = folder.join("rules");
    std::fs::write(&file, rules)?;
    command("nft", &["-f", &file.to_string_lossy()])
}

fn plant_iptables(program: &str) -> anyhow::Result<()> {
    for line in [
        "-A INPUT -p tcp --dport 7 -j ACCEPT",
        "-A OUTPUT -p udp --dport 7 -j DROP",
        "-t mangle -A PREROUTING -p tcp --dport 7 -j MARK --set-mark 5",
    ] {
        command(program, &line.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// All that was planted, as its own tools show it.
fn planted() -> anyhow::Result<Vec<String>> {
    let mut lines = dump("nft", &["-a", "list", "table", "inet", "foreign"])?;
    lines.extend(dump("nft", &["-a", "list", "table", "ip", "older"])?);
    lines.extend(dump("iptables-legacy-save", &[])?);
    lines.extend(dump("ip6tables-legacy-save", &[])?);
    for what in ["qdisc", "class"] {
        lines.extend(dump("tc", &[what, "show", "dev", "lo"])?);
    }
    lines.extend(dump(
        "tc",
        &["filter", "show", "dev", "lo", "parent", "1:"],
    )?);
    Ok(lines)
}

#[test]
fn what_others_have_installed_is_the_same_afterwards() {
    let test = "what_others_have_installed_is_the_same_afterwards";
    let tools = ["nft", "iptables-legacy", "ip6tables-legacy", "tc"];
    if let Some(missing) = tools.iter().find(|tool| !is_there(tool)) {
        skip(test, &format!("there is no {missing} here")).unwrap();
        return;
    }
    inside(test, || {
        let folder = Folder::new()?;
        plant_tree()?;
        plant_table(folder.path())?;
        plant_iptables("iptables-legacy")?;
        plant_iptables("ip6tables-legacy")?;
        let before = planted()?;
        ensure!(before.len() > 30, "little was planted: {before:#?}");
        let of_network = kinds()
            .iter()
            .filter(|info| info.kind.starts_with("network-"));
        for info in of_network {
            // Seen, undone, and the snapshot of the whole host equal: that holds the same things, read without their tools.
            in_every_way(info, lifecycle::is_seen_and_gone).context(info.kind)?;
            let after = planted()?;
            ensure!(after == before, "{}: {after:#?}", info.kind);
        }
        Ok(())
    });
}

/// A server of SSH with a key of its own, on a port of the sandbox.
struct Ssh {
    server: Child,
    client: Child,
    input: std::process::ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

const SSH_PORT: u16 = 2222;

impl Ssh {
    fn start(folder: &Path, sshd: &str) -> anyhow::Result<Ssh> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        for name in ["host", "user"] {
            command(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-f", &path(name)],
            )?;
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        std::fs::create_dir_all("/run/sshd")?;
        // The server wants a user of its own; this one is known in the sandbox only.
        let users = std::fs::read_to_string("/etc/passwd")?;
        std::fs::write(
            path("passwd"),
            format!("{users}sshd:x:64321:65534::/run/sshd:/bin/false\n"),
        )?;
        command("mount", &["--bind", &path("passwd"), "/etc/passwd"])?;
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {SSH_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n",
            path("host"),
            path("user.pub"),
        );
        std::fs::write(path("config"), config)?;
        let server = Command::new(sshd)
            .args(["-D", "-e", "-f", &path("config")])
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(path("log"))?)
            .spawn()?;
        until(LIMIT, || {
            Ok(TcpStream::connect(("127.0.0.1", SSH_PORT)).is_ok())
        })
        .with_context(|| std::fs::read_to_string(path("log")).unwrap_or_default())?;
        let mut client = Command::new("ssh")
            .args([
                "-F",
                "none",
                "-p",
                &SSH_PORT.to_string(),
                "-i",
                &path("user"),
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .args(["-o", "BatchMode=yes", "root@127.0.0.1", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let input = client.stdin.take().context("input")?;
        let output = BufReader::new(client.stdout.take().context("output")?);
        Ok(Ssh {
            server,
            client,
            input,
            output,
        })
    }

    /// A line goes there and back. The sandbox's limit ends a session that is cut.
    fn answers(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{line}")?;
        let mut back = String::new();
        self.output.read_line(&mut back)?;
        ensure!(back.trim() == line, "it answered {back:?}");
        Ok(())
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        for child in [&mut self.client, &mut self.server] {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn greeted() -> bool {
    let address = ([127, 0, 0, 1], SSH_PORT).into();
    let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("SSH-")
}

#[test]
fn an_established_ssh_session_lives_while_everything_else_is_cut() {
    let test = "an_established_ssh_session_lives_while_everything_else_is_cut";
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin"]);
    let sshd = folders
        .map(|folder| format!("{folder}/sshd"))
        .find(|path| Path::new(path).is_file());
    let Some(sshd) = sshd else {
        skip(test, "there is no sshd here").unwrap();
        return;
    };
    inside(test, || {
        let folder = Folder::new()?;
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys)?;
        let mut ssh = Ssh::start(&keys, &sshd)?;
        ssh.answers("before")?;
        ensure!(greeted(), "the server greets before the fault");
        for (kind, config) in [
            (
                "network-partition",
                serde_json::json!({"ports": [SSH_PORT]}),
            ),
            (
                "network-loss",
                serde_json::json!({"loss": "100%", "ports": [SSH_PORT], "direction": "both"}),
            ),
            (
                "network-loss",
                serde_json::json!({"loss": "100%", "peers": ["0.0.0.0/0", "::/0"]}),
            ),
        ] {
            let state = folder
                .path()
                .join(format!("state-{kind}-{}", config["direction"]));
            std::fs::create_dir_all(state.join("runs").join(RUN))?;
            let injection = Injection::begin(&state, &build(kind, config)?, Target::Host)?;
            injection.inject().context(kind)?;
            ensure!(!greeted(), "{kind}: a new session is cut");
            ssh.answers("during").context(kind)?;
            injection.undo().context("the journal knows it")?;
            until(LIMIT, || Ok(greeted())).context("after the undo")?;
            ssh.answers("after")?;
        }
        Ok(())
    });
}

/// Datagrams for a rate.
const DATAGRAMS: u32 = 20_000;
/// So many fit into the room of a socket.
const AT_ONCE: u32 = 100;

/// How many were missing, came twice, came after a later one, were wrong.
fn stream(from: &UdpSocket, to: &UdpSocket) -> anyhow::Result<[u32; 4]> {
    let address = to.local_addr()?;
    let datagram = |number: u32| number.to_le_bytes().repeat(16);
    let mut times = vec![0u32; DATAGRAMS as usize];
    let (mut overtaken, mut wrong, mut highest) = (0, 0, 0);
    let mut bytes = [0; 256];
    // The probe of the landing is none of ours.
    to.set_nonblocking(true)?;
    while to.recv(&mut bytes).is_ok() {}
    to.set_nonblocking(false)?;
    let mut take = |within: Duration| -> anyhow::Result<u32> {
        to.set_read_timeout(Some(within))?;
        let mut came = 0;
        while let Ok(length) = to.recv(&mut bytes) {
            came += 1;
            let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if number >= DATAGRAMS || bytes[..length] != datagram(number) {
                wrong += 1;
                continue;
            }
            times[number as usize] += 1;
            overtaken += u32::from(number < highest);
            highest = highest.max(number);
        }
        Ok(came)
    };
    for first in (0..DATAGRAMS).step_by(AT_ONCE as usize) {
        for number in first..first + AT_ONCE {
            from.send_to(&datagram(number), address)?;
        }
        take(Duration::from_millis(5))?;
    }
    while take(Duration::from_millis(300))? > 0 {}
    let missing = times.iter().filter(|count| **count == 0).count() as u32;
    let doubled = times.iter().filter(|count| **count > 1).count() as u32;
    Ok([missing, doubled, overtaken, wrong])
}

#[test]
fn rates_are_inside_the_binomial_interval_in_both_families() {
    let test = "rates_are_inside_the_binomial_interval_in_both_families";
    inside(test, || {
        let chance = 0.05;
        // The 99 % interval of a binomial share, twenty times over two families and five faults: three in a thousand may lie outside by
        // chance, so that the seed is fixed, and with it the decisions.
        let margin = 2.576 * (chance * (1.0 - chance) / f64::from(DATAGRAMS)).sqrt();
        let cases = [
            ("network-loss", serde_json::json!({"loss": "5%"}), 0),
            (
                "network-duplicate",
                serde_json::json!({"duplicates": "5%"}),
                1,
            ),
            ("network-reorder", serde_json::json!({"reordered": "5%"}), 2),
            ("network-corrupt", serde_json::json!({"corrupted": "5%"}), 0),
            (
                "network-corrupt",
                serde_json::json!({"corrupted": "5%", "checksum": "fitting"}),
                3,
            ),
        ];
        for address in ["127.0.0.1:0", "[::1]:0"] {
            for (kind, config, what) in &cases {
                let to = UdpSocket::bind(address)?;
                let from = UdpSocket::bind((to.local_addr()?.ip(), 0))?;
                let mut config = config.clone();
                config["ports"] = serde_json::json!([to.local_addr()?.port()]);
                config["protocol"] = serde_json::json!("udp");
                let state = Folder::new()?;
                std::fs::create_dir_all(state.path().join("runs").join(RUN))?;
                let injection =
                    Injection::begin(state.path(), &build(kind, config.clone())?, Target::Host)?;
                injection.inject().context(*kind)?;
                let mut seen = stream(&from, &to)?;
                let mut share = f64::from(seen[*what]) / f64::from(DATAGRAMS);
                if (share - chance).abs() > margin && facts().netem {
                    // What the kernel rolls has no seed of ours: one in a hundred lies outside, two in a row one in ten thousand.
                    seen = stream(&from, &to)?;
                    share = f64::from(seen[*what]) / f64::from(DATAGRAMS);
                }
                let outcome = injection.undo().context("the journal knows it")?;
                let told = &outcome.observations[0].evidence;
                ensure!(
                    (share - chance).abs() <= margin,
                    "{kind} {config}: {share} of {chance} ± {margin}; {seen:?}; {told}"
                );
                // Nothing else happened to them.
                let others: u32 = (0..4).filter(|one| one != what).map(|one| seen[one]).sum();
                let wrong_is_missing = *what == 3;
                ensure!(
                    others == if wrong_is_missing { seen[0] } else { 0 },
                    "{kind} {config}: {seen:?}; {told}"
                );
            }
        }
        Ok(())
    });
}

/// What an injection into the second of a pair says when it has landed.
fn injected(
    pair: &Pair,
    kind: &str,
    config: &serde_json::Value,
) -> anyhow::Result<(Injection, String, Folder)> {
    let state = Folder::new()?;
    std::fs::create_dir_all(state.path().join("runs").join(RUN))?;
    let target = Target::Namespace { path: pair.path(1) };
    let injection = Injection::begin(state.path(), &build(kind, config.clone())?, target)?;
    let observed = injection.inject().context(kind.to_owned())?;
    let evidence = observed.first().map(|one| one.evidence.clone());
    let landed = observed.iter().all(|one| one.presence == Presence::Present);
    ensure!(landed, "{kind}: {observed:?}");
    Ok((injection, evidence.unwrap_or_default(), state))
}

fn undone(injection: &Injection) -> anyhow::Result<String> {
    let outcome = injection.undo().context("the journal knows it")?;
    ensure!(outcome.stuck.is_none(), "{outcome:?}");
    Ok(outcome.observations[0].evidence.clone())
}

#[test]
fn between_interfaces_programs_have_the_same_rates_in_both_families() {
    let test = "between_interfaces_programs_have_the_same_rates_in_both_families";
    inside(test, || {
        if !facts().tcx {
            return skip(test, "the kernel has no TCX hook");
        }
        let pair = Pair::new()?;
        let chance = 0.05;
        let margin = 2.576 * (chance * (1.0 - chance) / f64::from(DATAGRAMS)).sqrt();
        let cases = [
            (
                "network-loss",
                serde_json::json!({"loss": "5%", "protocol": "udp"}),
                0,
            ),
            (
                "network-duplicate",
                serde_json::json!({"duplicates": "5%", "protocol": "udp"}),
                1,
            ),
            (
                "network-corrupt",
                serde_json::json!({"corrupted": "5%", "checksum": "fitting"}),
                3,
            ),
        ];
        for is_v6 in [false, true] {
            for (kind, config, what) in &cases {
                let (from, to) = pair.sockets(is_v6)?;
                let mut config = config.clone();
                config["ports"] = serde_json::json!([to.local_addr()?.port()]);
                let (injection, evidence, _state) = injected(&pair, kind, &config)?;
                ensure!(
                    evidence.contains("at the TCX hooks of lo (in), vb (in)"),
                    "{evidence}"
                );
                let seen = stream(&from, &to)?;
                let told = undone(&injection)?;
                let share = f64::from(seen[*what]) / f64::from(DATAGRAMS);
                ensure!(
                    (share - chance).abs() <= margin,
                    "{kind} {config}: {share} of {chance} ± {margin}; {seen:?}; {told}"
                );
                let others: u32 = (0..4).filter(|one| one != what).map(|one| seen[one]).sum();
                ensure!(
                    others == if *what == 3 { seen[0] } else { 0 },
                    "{kind} {config}: {seen:?}; {told}"
                );
                ensure!(
                    stream(&from, &to)? == [0; 4],
                    "{kind}: it goes on after the undo"
                );
            }
        }
        Ok(())
    });
}

#[test]
fn what_programs_cannot_do_exactly_the_queue_does() {
    let test = "what_programs_cannot_do_exactly_the_queue_does";
    inside(test, || {
        if !facts().tcx || facts().netem {
            return skip(test, "the kernel has no TCX hook, or netem beside it");
        }
        let pair = Pair::new()?;
        let is_by = |kind: &str, config: serde_json::Value, words: &str| {
            let (injection, evidence, _state) = injected(&pair, kind, &config)?;
            ensure!(evidence.contains(words), "{kind} {config}: {evidence}");
            undone(&injection).map(drop)
        };
        let (queue, hook) = ("its queue read by process", "at the TCX hooks of");
        let ports = serde_json::json!([4001]);
        let loss = serde_json::json!({"loss": "50%", "ports": ports});
        let udp = serde_json::json!({"loss": "50%", "ports": ports, "protocol": "udp"});
        let fitting =
            serde_json::json!({"corrupted": "50%", "ports": ports, "checksum": "fitting"});
        let broken = serde_json::json!({"corrupted": "50%", "ports": ports});
        is_by("network-loss", loss, queue)?;
        is_by("network-loss", udp.clone(), hook)?;
        is_by("network-corrupt", fitting.clone(), hook)?;
        is_by("network-corrupt", broken, queue)?;
        // With forwarding and one way out nothing is forwarded; with two, it may be.
        pair.inside(1, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?;
        is_by("network-loss", udp.clone(), hook)?;
        pair.ip(1, "link add vc type veth peer name vd")?;
        pair.ip(1, "link set vc up")?;
        is_by("network-loss", udp, queue)?;
        is_by("network-corrupt", fitting, queue)
    });
}

/// The number before these words in what was counted.
fn number(told: &str, words: &str) -> anyhow::Result<u64> {
    let mut parts = told.split(", ");
    let part = parts.find_map(|part| part.strip_suffix(words));
    part.and_then(|part| part.parse().ok())
        .with_context(|| format!("{words} in {told}"))
}

#[test]
fn each_packet_on_the_wire_has_its_chance_in_a_large_one_too() {
    let test = "each_packet_on_the_wire_has_its_chance_in_a_large_one_too";
    inside(test, || {
        if !facts().tcx {
            return skip(test, "the kernel has no TCX hook");
        }
        const BYTES: usize = 64 << 20;
        let pair = Pair::new()?;
        let chance = 0.01;
        let listener = pair.inside(1, || TcpListener::bind("10.99.0.2:0"))?;
        let address = listener.local_addr()?;
        let mut out = pair.inside(0, || TcpStream::connect(address))?;
        let (mut into, _) = listener.accept()?;
        let config = serde_json::json!({"corrupted": "1%", "checksum": "fitting", "ports": [address.port()]});
        let (injection, evidence, _state) = injected(&pair, "network-corrupt", &config)?;
        ensure!(evidence.contains("at the TCX hooks of"), "{evidence}");
        let sender = std::thread::spawn(move || out.write_all(&vec![0; BYTES]));
        let (mut bytes, mut turned, mut came) = (vec![0; 256 << 10], 0u64, 0);
        loop {
            let count = into.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            came += count;
            turned += bytes[..count]
                .iter()
                .map(|byte| u64::from(byte.count_ones()))
                .sum::<u64>();
        }
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(came == BYTES, "{came} bytes came");
        let told = undone(&injection)?;
        let (met, altered) = (
            number(&told, " packets received")?,
            number(&told, " changed")?,
        );
        // An Ethernet's packet carries 1,448 of them. The probe of the landing was met too.
        let packets = BYTES.div_ceil(1448) as u64;
        ensure!((packets..packets * 11 / 10).contains(&met), "{told}");
        ensure!(
            (turned..turned + 20).contains(&altered),
            "{turned} bits came turned; {told}"
        );
        let share = turned as f64 / packets as f64;
        let margin = 2.576 * (chance * (1.0 - chance) / packets as f64).sqrt();
        ensure!(
            (share - chance).abs() <= margin,
            "{share} of {chance} ± {margin}; {told}"
        );
        Ok(())
    });
}

/// Two ends of an idle connection by loopback.
fn connection(address: &str) -> anyhow::Result<[TcpStream; 2]> {
    let listener = TcpListener::bind(address)?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    for end in [&one, &other] {
        end.set_nonblocking(true)?;
    }
    Ok([one, other])
}

/// Why an end is over, once it is.
fn ended_with(end: &mut TcpStream) -> anyhow::Result<ErrorKind> {
    poll(LIMIT, || match end.read(&mut [0; 8]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Ok(Some(error.kind())),
        Ok(count) => anyhow::bail!("it read {count} bytes"),
    })
}

#[test]
fn both_ends_of_a_connection_report_a_reset_in_both_families() {
    let test = "both_ends_of_a_connection_report_a_reset_in_both_families";
    inside(test, || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            for is_busy in [false, true] {
                let mut ends = connection(address)?;
                let mut spared = connection(address)?;
                if is_busy {
                    // What is under way or unread changes the numbers, not the end.
                    ends[0].write_all(&[1; 5000])?;
                    ends[1].write_all(&[2; 300])?;
                }
                let port = ends[0].local_addr()?.port();
                let state = Folder::new()?;
                std::fs::create_dir_all(state.path().join("runs").join(RUN))?;
                let config = serde_json::json!({"ports": [port]});
                let fault = build("network-reset", config)?;
                let injection = Injection::begin(state.path(), &fault, Target::Host)?;
                let observed = injection.inject()?;
                ensure!(observed[0].presence == Presence::Present, "{observed:?}");
                for end in &mut ends {
                    if is_busy {
                        // A reset does not wait for what was not read.
                        let error = end.take_error()?.map(|error| error.kind());
                        ensure!(error == Some(ErrorKind::ConnectionReset), "{error:?}");
                    } else {
                        let why = ended_with(end)?;
                        ensure!(why == ErrorKind::ConnectionReset, "{address}: {why:?}");
                    }
                }
                for end in &mut spared {
                    let read = end.read(&mut [0; 8]).map_err(|error| error.kind());
                    ensure!(read == Err(ErrorKind::WouldBlock), "{read:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_connection_destroyed_by_the_kernel_is_aborted_here_and_reset_there() {
    let test = "a_connection_destroyed_by_the_kernel_is_aborted_here_and_reset_there";
    inside(test, || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let [mut here, mut there] = connection(address)?;
            let (local, remote) = (here.local_addr()?, here.peer_addr()?);
            ensure!(diag::destroy(local, remote)?, "there is one");
            ensure!(ended_with(&mut here)? == ErrorKind::ConnectionAborted);
            ensure!(ended_with(&mut there)? == ErrorKind::ConnectionReset);
            ensure!(!diag::destroy(local, remote)?, "there is none any more");
        }
        Ok(())
    });
}
