//! Processes: stopped, traced, stray, or set otherwise than before.
//!
//! A process is told by pid and start time, so a reused pid is a difference. What a running process
//! does by itself (running, sleeping, waiting for a disk) is one and the same state here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{Facts, Scope, hex};

/// What a process is doing, as coarsely as an undo can promise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Running, sleeping or waiting.
    Live,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a tracer.
    TracingStop,
    /// Ended and not yet reaped.
    Zombie,
    /// No such process.
    Gone,
}

impl ProcessState {
    fn of(letter: &str) -> Self {
        match letter {
            "T" => Self::Stopped,
            "t" => Self::TracingStop,
            "Z" => Self::Zombie,
            "X" | "x" => Self::Gone,
            _ => Self::Live,
        }
    }
}

/// The fields of `/proc/PID/stat` that are asked for here.
struct Stat {
    command: String,
    fields: Vec<String>,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join("stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The command may hold blanks and brackets; the last bracket closes it.
        let (head, tail) = text.rsplit_once(')')?;
        let (_, command) = head.split_once('(')?;
        let fields = tail.split_whitespace().map(str::to_owned).collect();
        Some(Self {
            command: command.to_owned(),
            fields,
        })
    }

    /// A field by its number in proc(5).
    fn field(&self, number: usize) -> &str {
        self.fields.get(number - 3).map_or("?", String::as_str)
    }

    fn state(&self) -> ProcessState {
        ProcessState::of(self.field(3))
    }
}

fn folder(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// What a process is doing now.
pub fn process_state(pid: u32) -> ProcessState {
    Stat::read(&folder(pid)).map_or(ProcessState::Gone, |stat| stat.state())
}

/// When a process started, in clock ticks since boot; none when there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    Stat::read(&folder(pid))?.field(22).parse().ok()
}

/// Every process that `/proc` shows.
pub(super) fn all_pids() -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("list /proc")?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// A line of `/proc/PID/status` by its key.
fn status<'text>(text: &'text str, key: &str) -> &'text str {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or("?").trim()
}

pub(super) fn states(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    for pid in &scope.pids {
        let shown = match Stat::read(&folder(*pid)) {
            None => format!("{:?}", ProcessState::Gone),
            Some(stat) => {
                let text = fs::read_to_string(folder(*pid).join("status")).unwrap_or_default();
                format!(
                    "{:?}, started at tick {}, tracer {}",
                    stat.state(),
                    stat.field(22),
                    status(&text, "TracerPid")
                )
            }
        };
        facts.add(format!("pid {pid}"), shown);
    }
    if scope.all_processes {
        let watched: BTreeSet<_> = scope.pids.iter().collect();
        for pid in all_pids()?.iter().filter(|pid| !watched.contains(pid)) {
            if let Some(shown) = halted(*pid) {
                facts.add(format!("pid {pid}"), shown);
            }
        }
    }
    Ok(())
}

/// How a process of this user is held up, if it is.
fn halted(pid: u32) -> Option<String> {
    let text = fs::read_to_string(folder(pid).join("status")).ok()?;
    let owner = status(&text, "Uid").split_whitespace().next()?;
    let tracer = status(&text, "TracerPid");
    let state = ProcessState::of(status(&text, "State").split_whitespace().next()?);
    let is_ours = owner == rustix::process::getuid().as_raw().to_string();
    let is_halted =
        matches!(state, ProcessState::Stopped | ProcessState::TracingStop) || tracer != "0";
    (is_ours && is_halted)
        .then(|| format!("{} is {state:?}, tracer {tracer}", status(&text, "Name")))
}

pub(super) fn strays(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    let stats: BTreeMap<u32, Stat> = all_pids()?
        .into_iter()
        .filter_map(|pid| Some((pid, Stat::read(&folder(pid))?)))
        .collect();
    for (pid, stat) in &stats {
        let mut reasons: Vec<_> = mark(scope, *pid).into_iter().collect();
        if let Some(name) = own_name(scope, *pid, stat) {
            reasons.push(format!("is {name}"));
        }
        if let Some(root) = scope
            .descendants_of
            .iter()
            .find(|root| descends(&stats, *pid, **root))
        {
            reasons.push(format!("descends from {root}"));
        }
        if !reasons.is_empty() {
            facts.add(
                format!("pid {pid}"),
                format!("{} {}", stat.command, reasons.join(", ")),
            );
        }
    }
    Ok(())
}

fn mark(scope: &Scope, pid: u32) -> Option<String> {
    let environment = fs::read(folder(pid).join("environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let found = entries.find(|entry| {
        scope
            .process_marks
            .iter()
            .any(|mark| entry.starts_with(mark.as_bytes()))
    })?;
    Some(format!("carries {}", String::from_utf8_lossy(found)))
}

fn own_name(scope: &Scope, pid: u32, stat: &Stat) -> Option<String> {
    let executable = fs::read_link(folder(pid).join("exe")).unwrap_or_default();
    let file = executable.file_name().unwrap_or_default().to_string_lossy();
    let file = file.trim_end_matches(" (deleted)");
    let is_ours = |name: &&String| stat.command == **name || file == name.as_str();
    scope.process_names.iter().find(is_ours).cloned()
}

fn descends(stats: &BTreeMap<u32, Stat>, pid: u32, root: u32) -> bool {
    let mut at = pid;
    while let Some(parent) = stats.get(&at).and_then(|stat| stat.field(4).parse().ok()) {
        if parent == root {
            return true;
        }
        at = parent;
    }
    false
}

pub(super) fn settings(scope: &Scope, facts: &mut Facts) -> anyhow::Result<()> {
    for pid in &scope.pids {
        let folder = folder(*pid);
        let read =
            |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|_| "?".to_owned());
        facts.add(format!("pid {pid} threads"), thread_settings(&folder));
        facts.add(
            format!("pid {pid} oom_score_adj"),
            read("oom_score_adj").trim(),
        );
        facts.add(
            format!("pid {pid} timerslack_ns"),
            read("timerslack_ns").trim(),
        );
        facts.add(
            format!("pid {pid} cgroups"),
            read("cgroup").trim().replace('\n', " "),
        );
        for limit in read("limits").lines().skip(1) {
            let (name, values) = limit.split_at_checked(26).unwrap_or((limit, ""));
            let values: Vec<_> = values.split_whitespace().collect();
            facts.add(format!("pid {pid} limit {}", name.trim()), values.join(" "));
        }
    }
    Ok(())
}

/// The different settings that the threads of a process have; threads themselves may come and go.
fn thread_settings(folder: &Path) -> String {
    let threads = fs::read_dir(folder.join("task"))
        .into_iter()
        .flatten()
        .flatten();
    let settings: BTreeSet<_> = threads
        .filter_map(|thread| thread_setting(&thread.path()))
        .collect();
    settings.into_iter().collect::<Vec<_>>().join(" | ")
}

fn thread_setting(thread: &Path) -> Option<String> {
    let stat = Stat::read(thread)?;
    let text = fs::read_to_string(thread.join("status")).ok()?;
    let (policy, priority, nice) = (stat.field(41), stat.field(40), stat.field(19));
    let (processors, nodes) = (
        status(&text, "Cpus_allowed_list"),
        status(&text, "Mems_allowed_list"),
    );
    Some(format!(
        "policy {policy} priority {priority} nice {nice} processors {processors} nodes {nodes}"
    ))
}

/// BPF links held by any readable process, and whatever is pinned.
pub(super) fn bpf(facts: &mut Facts) -> anyhow::Result<()> {
    for pid in all_pids()? {
        let descriptors = fs::read_dir(folder(pid).join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        for descriptor in descriptors {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if matches!(
                target.to_str(),
                Some("anon_inode:bpf_link" | "anon_inode:bpf-link")
            ) {
                let about = folder(pid).join("fdinfo").join(descriptor.file_name());
                let about = fs::read_to_string(about).unwrap_or_default();
                facts.add(
                    format!("link {}", status(&about, "link_id")),
                    about.replace('\n', " "),
                );
            }
        }
    }
    for pinned in fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten() {
        facts.add(format!("pin {}", hexed(&pinned.file_name())), "pinned");
    }
    Ok(())
}

/// A file name as text; as hexadecimal where it is none.
pub(super) fn hexed(name: &std::ffi::OsStr) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    name.to_str()
        .map_or_else(|| format!("0x{}", hex(name.as_bytes())), str::to_owned)
}
