//! A run under a controller of its own process, and what can be seen of it from outside.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod skip;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Run {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) controller: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) guard: u32,
    pub(crate) agent: u32,
    /// Everything the controller has printed.
    pub(crate) seen: Vec<Value>,
    /// Rules that the next workload is started with.
    pub(crate) first: Vec<Value>,
}

/// Asks until the answer is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not see in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// State letter of a process; None when it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?
        .1
        .trim_start()
        .chars()
        .next()
        .filter(|state| *state != 'Z')
}

/// Processes whose environment holds `NAME=value`, this one not among them.
pub(crate) fn carrying(variable: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes())
            && state(pid).is_some()
        {
            found.push(pid);
        }
    }
    found
}

/// One fault step, as the agent is told of it.
pub(crate) fn rule(id: u32, kind: &str, config: Value, target: Value, keys: Value) -> Value {
    json!({"id": id, "kind": kind, "config": config, "target": target, "keys": keys, "last_epoch": null})
}

impl Run {
    pub(crate) fn start() -> Run {
        Run::start_with(&[])
    }

    /// Every process of it has these variables in its environment.
    pub(crate) fn start_with(variables: &[(&str, &std::path::Path)]) -> Run {
        let name = format!(
            "t{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut controller = Command::new(env!("CARGO_BIN_EXE_squall-faults-harness"))
            .arg("controller")
            .arg(&folder)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = controller.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sender.send(line).unwrap_or_default();
            }
        });
        let first = lines.recv_timeout(PATIENCE).unwrap();
        let (guard, agent) = first.split_once(' ').unwrap();
        let input = controller.stdin.take();
        let (guard, agent) = (guard.parse().expect(&first), agent.parse().expect(&first));
        let mut run = Run {
            folder,
            name,
            controller,
            input,
            lines,
            guard,
            agent,
            seen: Vec::new(),
            first: Vec::new(),
        };
        run.send(json!({"hello": {"v": 1, "run": run.name, "seed": 7, "lease_ms": 1500, "patterns_rate_max": 1000}}));
        run
    }

    pub(crate) fn send(&mut self, message: Value) {
        let input = self.input.as_mut().expect("the controller listens");
        input.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    /// The controller leaves: its lines end.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    pub(crate) fn start_workload(&mut self, argv: &[&str], env: Value, patterns: Value) {
        std::fs::create_dir_all(self.out()).unwrap();
        self.send(json!({"start-workload": {"argv": argv, "env": env, "directory": self.folder, "out": self.out(),
            "reference": false, "log": self.folder.join("logs/workload.log"), "patterns": patterns, "hook": true, "first": self.first}}));
        self.event("workload-started");
    }

    /// Waits until the trainer's own log says so.
    pub(crate) fn until_line(&self, line: &str) {
        let file = self.out().join("truth");
        until(line, || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.lines().any(|one| one == line).then_some(())
        });
    }

    /// The toy trainer under its supervisor.
    pub(crate) fn train(&mut self, env: Value) {
        self.start_workload(
            &[env!("CARGO_BIN_EXE_squall-faults-harness"), "supervisor"],
            env,
            json!([]),
        );
    }

    pub(crate) fn arm(&mut self, id: u32, kind: &str, config: Value, target: Value, keys: Value) {
        self.send(json!({"arm": rule(id, kind, config, target, keys)}));
    }

    /// Takes in what has been printed.
    pub(crate) fn look(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            let (guard, text) = line
                .strip_prefix("guard ")
                .map_or((false, line.as_str()), |rest| (true, rest));
            let value: Value = serde_json::from_str(text).expect(text);
            self.seen.push(if guard {
                json!({"guard": value})
            } else {
                value
            });
        }
    }

    /// The bodies of all events of a kind so far.
    pub(crate) fn events(&mut self, kind: &str) -> Vec<Value> {
        self.look();
        let bodies = self.seen.iter().map(|one| &one["event"]["body"][kind]);
        bodies.filter(|body| !body.is_null()).cloned().collect()
    }

    /// The first event of a kind.
    pub(crate) fn event(&mut self, kind: &str) -> Value {
        self.nth(kind, 0)
    }

    pub(crate) fn nth(&mut self, kind: &str, n: usize) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.events(kind).get(n) {
                return found.clone();
            }
            assert!(
                Instant::now() < deadline,
                "no event {n} of {kind} in {:#?}",
                self.quiet()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everything but training, with the moments.
    pub(crate) fn story(&mut self) -> Vec<String> {
        self.look();
        self.quiet()
            .into_iter()
            .map(|one| format!("{} {}", one["event"]["boot_ns"], one["event"]["body"]))
            .collect()
    }

    /// What was seen, without what fills pages.
    fn quiet(&self) -> Vec<&Value> {
        self.seen
            .iter()
            .filter(|one| one["line"].is_null() && one["event"]["body"]["training"].is_null())
            .collect()
    }

    /// A message of the agent (`refused`, `finished`, …) or `guard`.
    pub(crate) fn message(&mut self, kind: &str) -> Value {
        until(kind, || {
            self.look();
            self.seen
                .iter()
                .map(|one| &one[kind])
                .find(|one| !one.is_null())
                .cloned()
        })
    }

    pub(crate) fn guard_says(&mut self, kind: &str) -> Value {
        until(kind, || {
            self.look();
            self.seen
                .iter()
                .map(|one| &one["guard"][kind])
                .find(|one| !one.is_null())
                .cloned()
        })
    }

    /// Waits until guard and agent are gone, and proves that nothing of the run is left.
    pub(crate) fn ends_with_nothing_left(&mut self) {
        let (guard, agent) = (self.guard, self.agent);
        until("the end of guard and agent", || {
            (state(guard).is_none() && state(agent).is_none()).then_some(())
        });
        self.nothing_left();
    }

    pub(crate) fn nothing_left(&self) {
        let left = carrying(&format!("SQUALL_RUN={}", self.name));
        assert!(left.is_empty(), "processes left: {left:?}");
        let log = squall_faults::journal::read_all(&self.folder.join("journal")).unwrap();
        let open: Vec<_> = log.state.outstanding().collect();
        assert!(open.is_empty(), "outstanding: {open:?}");
        for root in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/freezer",
            "/sys/fs/cgroup/unified",
        ] {
            let run = squall_model::id::RunId(self.name.clone());
            let guard = squall_faults::guard::cgroup::id(&run);
            let injections = log.state.injections().map(|one| one.id.clone());
            for id in injections.chain([guard]) {
                let path = PathBuf::from(root).join(format!("squall-{id}"));
                assert!(!path.exists(), "{} is left", path.display());
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.input = None;
        for pid in [self.controller.id(), self.guard, self.agent] {
            if std::thread::panicking() && state(pid).is_some() {
                Command::new("kill")
                    .args(["-CONT", &pid.to_string()])
                    .status()
                    .ok();
            }
        }
        self.controller.kill().ok();
        self.controller.wait().ok();
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}
