//! Three containers of one image that holds one static program, under an engine of our own, which ends with the test.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use squall_tests::folder::Folder;
use squall_tests::poll::{poll, until};
use squall_tests::spawned::Spawned;

const START: Duration = Duration::from_secs(60);
/// In our own /run, as all that the engine keeps there: paths of sockets are short.
pub(crate) const SOCKET: &str = "/run/engine.sock";
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The engine and its containers.
pub(crate) struct Cluster {
    engine: Spawned,
    folder: Folder,
    group: String,
}

impl Cluster {
    /// Starts an engine with a state of its own, makes the image, and starts the nodes.
    pub(crate) fn start() -> anyhow::Result<Cluster> {
        let folder = Folder::new()?;
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let group = format!("/squall-test-{}", std::process::id());
        let log = fs::File::create(folder.path().join("engine.log"))?;
        let mut command = Command::new("dockerd");
        command.args(["--data-root", &at("data"), "--cgroup-parent", &group]);
        command.args(["-H", &format!("unix://{SOCKET}")]);
        command.stdout(log.try_clone()?).stderr(log);
        let engine = Spawned::start(&mut command)?;
        let cluster = Cluster {
            engine,
            folder,
            group,
        };
        let told = || fs::read_to_string(cluster.folder.path().join("engine.log"));
        until(START, || Ok(cluster.docker(&["version"]).is_ok()))
            .with_context(|| format!("the engine said:\n{}", told().unwrap_or_default()))?;
        cluster.make_image()?;
        cluster.docker(&["network", "create", "--subnet", "10.233.77.0/24", "toy"])?;
        for name in NAMES {
            cluster.run(name)?;
        }
        Ok(cluster)
    }

    fn make_image(&self) -> anyhow::Result<()> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/node.rs");
        let folder = self.folder.path().join("image");
        fs::create_dir(&folder)?;
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let compiled = Command::new(compiler)
            .args([
                "--edition",
                "2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
                "-o",
            ])
            .arg(folder.join("node"))
            .arg(&source)
            .status()?;
        ensure!(compiled.success(), "the node's program was not compiled");
        let packed = self.folder.path().join("image.tar");
        let status = Command::new("tar")
            .arg("-cf")
            .arg(&packed)
            .arg("-C")
            .arg(&folder)
            .arg("node")
            .status()?;
        ensure!(status.success(), "the image was not packed");
        let entry = "ENTRYPOINT [\"/node\"]";
        self.docker(&["import", "-c", entry, &packed.to_string_lossy(), "node:1"])
            .map(drop)
    }

    fn run(&self, name: &str) -> anyhow::Result<()> {
        let peers: Vec<String> = NAMES
            .iter()
            .filter(|one| **one != name)
            .map(|one| address(one))
            .collect();
        let (label, ip) = (format!("node={name}"), address(name));
        let container = format!("node-{name}");
        let mut words = vec!["run", "--detach", "--network", "toy", "--name", &container];
        words.extend([
            "--label", "toy", "--label", &label, "--ip", &ip, "node:1", name,
        ]);
        words.extend(peers.iter().map(String::as_str));
        self.docker(&words).map(drop)
    }

    /// What `docker` with these words prints.
    pub(crate) fn docker(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .args(["-H", &format!("unix://{SOCKET}")])
            .args(words)
            .env("DOCKER_CONFIG", self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "docker {words:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whom a node has heard lately.
    pub(crate) fn heard(&self, name: &str) -> anyhow::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(b"?", (address(name), 7000))?;
        let mut word = [0; 64];
        let (length, _) = socket.recv_from(&mut word)?;
        Ok(String::from_utf8_lossy(&word[..length]).into_owned())
    }

    /// Waits until each node hears exactly these.
    pub(crate) fn hear(&self, expected: [&str; 3]) -> anyhow::Result<()> {
        let mut last = String::new();
        poll(Duration::from_secs(15), || {
            let all: Vec<String> = NAMES
                .iter()
                .map(|name| self.heard(name))
                .collect::<anyhow::Result<_>>()?;
            last = format!("{all:?}");
            Ok((all == expected).then_some(()))
        })
        .with_context(|| format!("they hear {last}, not {expected:?}"))
    }

    /// The first process of a container.
    pub(crate) fn pid(&self, name: &str) -> anyhow::Result<String> {
        self.docker(&[
            "inspect",
            "--format",
            "{{.State.Pid}}",
            &format!("node-{name}"),
        ])
    }

    /// The names of our tables in the network namespaces of all nodes.
    pub(crate) fn tables(&self) -> anyhow::Result<Vec<String>> {
        let rules = self.rules()?;
        let tables = rules.lines().filter_map(|line| line.strip_prefix("table "));
        Ok(tables
            .filter(|table| table.contains("squall_"))
            .map(str::to_owned)
            .collect())
    }

    /// What nft lists in the network namespaces of all nodes.
    pub(crate) fn rules(&self) -> anyhow::Result<String> {
        let mut all = String::new();
        for name in NAMES {
            let pid = self.pid(name)?;
            let output = Command::new("nsenter")
                .args(["--net", "--target", &pid, "nft", "list", "ruleset"])
                .output()?;
            ensure!(output.status.success(), "nft in {name}: {output:?}");
            all.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(all)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for name in NAMES {
            drop(self.docker(&["rm", "--force", &format!("node-{name}")]));
        }
        // In order, so that its mounts and groups are gone; what is left is killed with our pid namespace.
        drop(self.engine.signal(Signal::TERM));
        drop(self.engine.wait(Duration::from_secs(20)));
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            drop(fs::remove_dir(hierarchy.path().join(&self.group[1..])));
        }
    }
}

/// The address of a node.
pub(crate) fn address(name: &str) -> String {
    let at = NAMES.iter().position(|one| *one == name).unwrap_or(9);
    format!("10.233.77.{}", at + 11)
}
