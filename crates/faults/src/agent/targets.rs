//! What a selector means right now: resolved anew at each injection, inside the selector and its bound.

use super::procs::{self, Known, Proc};
use crate::engine::{Engine, EngineError, Now};
use crate::fault::Target;
use crate::sys::process::{has_variable, lookup};
use squall_model::glob::matches;
use squall_model::id::RuleId;
use squall_model::policy::{Act, Eligible, PolicyFile, judge_now};
use squall_model::process::ProcessIdentity;
use squall_model::proxying::ToProxy;
use squall_model::seed;
use squall_model::timing::{OWN_PROXY, Selector};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use crate::undo::tree::MARK;

/// What resolving may know beside the selector.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The mark of the owned workload, and its first process.
    pub mark: Option<String>,
    pub root: Option<Known>,
    /// The control socket of the workload's own proxy.
    pub proxy: Option<PathBuf>,
    /// Ranks that a hook has announced, by the kernel's word on their process.
    pub announced: BTreeMap<u32, Known>,
    /// Squall's own processes of this run. Never targets.
    pub own: BTreeSet<u32>,
    /// The run's seed.
    pub seed: u64,
    /// Names the choice when there are more candidates than the bound allows.
    pub choice: Vec<u8>,
    /// Who had the selector's pid when the run was planned.
    pub planned: Option<ProcessIdentity>,
    /// What everything that the selector matches must satisfy.
    pub permit: Option<Permit>,
}

/// What the host's policies demand of a rule's targets at each injection.
#[derive(Debug, Clone)]
pub struct Permit {
    pub rule: RuleId,
    /// The fault's key.
    pub kind: String,
    pub policies: Vec<PolicyFile>,
}

/// Why nothing can be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTarget(pub String);

/// The targets of `selector`: at least one, at most as many as it allows.
pub fn resolve(selector: &Selector, scope: &Scope) -> Result<Vec<Target>, NoTarget> {
    let most = selector.at_most.unwrap_or(1) as usize;
    let Some(permit) = &scope.permit else {
        return find(selector, most, scope);
    };
    // Judged and chosen from are the same ones.
    let all = find(selector, usize::MAX, scope)?;
    let act = Act {
        rule: permit.rule,
        kind: &permit.kind,
        target: selector,
    };
    let refusals = judge_now(act, &permit.policies, &eligible(&all));
    match refusals.first() {
        None => Ok(choose(all, most, scope)),
        Some(refusal) => Err(NoTarget(format!(
            "refused by the policy {} ({}): {}",
            refusal.policy.file, refusal.key, refusal.what
        ))),
    }
}

/// Targets as policies see them.
pub fn eligible(found: &[Target]) -> Eligible {
    let text = |target: &Target| match target {
        Target::Process {
            identity, command, ..
        } => {
            let whole = procs::command(identity.pid);
            if whole.is_empty() {
                command.clone()
            } else {
                whole
            }
        }
        Target::File { path } | Target::Namespace { path } => {
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            path.to_string_lossy().into_owned()
        }
        Target::Container { name, .. } => name.clone(),
        Target::Host => "host".into(),
        Target::Proxy { socket } => format!("proxy {}", socket.display()),
    };
    Eligible {
        count: found.len() as u64,
        texts: found.iter().map(text).collect(),
    }
}

fn find(selector: &Selector, most: usize, scope: &Scope) -> Result<Vec<Target>, NoTarget> {
    let none = |because: String| Err(NoTarget(because));
    if selector.host == Some(true) {
        return Ok(vec![Target::Host]);
    }
    if let Some(proxy) = &selector.proxy {
        return self::proxy(proxy, scope).map(|socket| vec![Target::Proxy { socket }]);
    }
    if let Some(pattern) = &selector.file {
        return newest_file(pattern).map(|path| vec![Target::File { path }]);
    }
    if let Some(name) = &selector.namespace {
        return namespace(name).map(|path| vec![Target::Namespace { path }]);
    }
    if selector.container.is_some() || selector.container_label.is_some() {
        return containers(selector, most, scope);
    }
    let found = if let Some(rank) = selector.rank {
        ranked(rank, scope)?
    } else if selector.workload == Some(true) {
        // The tree is one thing: its first process, and as many below it as the bound allows.
        let mut tree = workload(scope)?;
        tree.truncate(most.max(1));
        tree
    } else if let Some(pid) = selector.pid {
        vec![the_planned(by_pid(pid, scope)?, scope)?]
    } else if let Some(path) = &selector.pid_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| NoTarget(format!("the pid file {path} cannot be read: {error}")))?;
        let pid = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        vec![by_pid(
            pid.ok_or_else(|| NoTarget(format!("the pid file {path} holds no pid")))?,
            scope,
        )?]
    } else if let Some(pattern) = &selector.command {
        commanded(pattern, scope)?
    } else {
        return none("the selector names nothing".into());
    };
    let chosen = choose(found, most, scope);
    let targets: Vec<Target> = chosen
        .into_iter()
        .filter_map(|process| process_target(&process, selector.rank))
        .collect();
    if targets.is_empty() {
        none("the process ended while it was looked up".into())
    } else {
        Ok(targets)
    }
}

/// The network namespace of the owned workload. One that it shares with this agent is none of its own, and is never acted on.
pub fn own_namespace(scope: &Scope) -> Result<Target, NoTarget> {
    use crate::sys::namespace::inode;
    let unreadable =
        |error: std::io::Error| NoTarget(format!("our own namespace cannot be read: {error}"));
    let ours = inode(None).map_err(unreadable)?;
    let paths = workload(scope)?
        .into_iter()
        .map(|process| PathBuf::from(format!("/proc/{}/ns/net", process.pid)));
    paths
        .into_iter()
        .find(|path| inode(Some(path)).is_ok_and(|theirs| theirs != ours))
        .map(|path| Target::Namespace { path })
        .ok_or_else(|| NoTarget("the workload has no network namespace of its own".into()))
}

/// A process that is known by its own connection, as the kernel names its other end.
pub fn connected(known: Known, rank: Option<u32>, scope: &Scope) -> Result<Target, NoTarget> {
    let process = known
        .read()
        .filter(|found| alive(found) && !scope.own.contains(&known.pid));
    process
        .and_then(|process| process_target(&process, rank))
        .ok_or_else(|| NoTarget(format!("process {} does not run", known.pid)))
}

/// Running containers, by name or label, as the engine knows them.
fn containers(selector: &Selector, most: usize, scope: &Scope) -> Result<Vec<Target>, NoTarget> {
    let engine = Engine::at(selector.engine.as_deref());
    let failed = |error: EngineError| NoTarget(error.to_string());
    let found = match (&selector.container, &selector.container_label) {
        (Some(name), _) => match engine.look(name).map_err(failed)? {
            Now::Running(container) => vec![container],
            Now::Ended(status) => {
                return Err(NoTarget(format!(
                    "the container {name} does not run: {status}"
                )));
            }
            Now::Unknown => {
                return Err(NoTarget(format!(
                    "the engine at {} knows no container {name}",
                    engine.socket().display()
                )));
            }
        },
        (None, label) => {
            let label = label.as_deref().unwrap_or_default();
            let found = engine.labelled(label).map_err(failed)?;
            if found.is_empty() {
                return Err(NoTarget(format!(
                    "no running container of the engine at {} carries the label {label}",
                    engine.socket().display()
                )));
            }
            found
        }
    };
    let chosen = choose(found, most, scope).into_iter();
    chosen
        .map(|container| container.target(&engine).map_err(NoTarget))
        .collect()
}

/// Picks at most `most`, by the run's seed, in an order that does not depend on how they were found.
fn choose<T>(mut found: Vec<T>, most: usize, scope: &Scope) -> Vec<T> {
    if found.len() <= most {
        return found;
    }
    let mut chosen = Vec::new();
    while chosen.len() < most && !found.is_empty() {
        let draw = (chosen.len() as u64).to_le_bytes();
        let at = if found.len() == 1 {
            0
        } else {
            seed::index(scope.seed, &[b"target", &scope.choice, &draw], found.len())
        };
        chosen.push(found.remove(at));
    }
    chosen
}

fn process_target(process: &Proc, rank: Option<u32>) -> Option<Target> {
    let identity =
        procs::identity(process.pid).filter(|found| found.start_time == process.start_time)?;
    let command = short(&procs::command(process.pid));
    Some(Target::Process {
        identity,
        rank,
        command,
    })
}

/// The program's name and its first words: enough to recognise a process by.
fn short(command: &str) -> String {
    const WORDS: usize = 40;
    let (program, rest) = command.split_once(' ').unwrap_or((command, ""));
    let program = program.rsplit('/').next().unwrap_or(program);
    let text = format!("{program} {rest}");
    let text = text.trim_end();
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

fn alive(process: &Proc) -> bool {
    !matches!(process.state, 'Z' | 'X') && !process.kernel && process.pid != 1
}

fn table() -> Result<BTreeMap<u32, Proc>, NoTarget> {
    procs::all().map_err(|error| NoTarget(format!("/proc cannot be read: {error}")))
}

/// Every living process of the owned workload, its first one first, then by start.
fn workload(scope: &Scope) -> Result<Vec<Proc>, NoTarget> {
    let Some(mark) = &scope.mark else {
        return Err(NoTarget("this run has no workload of its own".into()));
    };
    let mark = format!("{MARK}={mark}");
    let is_root = |process: &Proc| scope.root.is_some_and(|root| root.is(process));
    let mut tree: Vec<Proc> = table()?
        .into_values()
        .filter(|process| alive(process) && !scope.own.contains(&process.pid))
        .filter(|process| is_root(process) || has_variable(process.pid, &mark))
        .collect();
    tree.sort_by_key(|process| (!is_root(process), process.start_time, process.pid));
    if tree.is_empty() {
        Err(NoTarget("no process of the workload is left".into()))
    } else {
        Ok(tree)
    }
}

/// The topmost process that carries the rank: data-loader workers inherit the variable.
fn ranked(rank: u32, scope: &Scope) -> Result<Vec<Proc>, NoTarget> {
    if let Some(process) = scope.announced.get(&rank).and_then(Known::read)
        && alive(&process)
        && !scope.own.contains(&process.pid)
    {
        return Ok(vec![process]);
    }
    let variable = format!("RANK={rank}");
    let carriers: BTreeMap<u32, Proc> = workload(scope)?
        .into_iter()
        .filter(|process| has_variable(process.pid, &variable))
        .map(|process| (process.pid, process))
        .collect();
    let topmost = carriers
        .values()
        .filter(|process| !carriers.contains_key(&process.parent));
    // After a restart the old one may still be going down: the youngest is the one that trains.
    topmost
        .max_by_key(|process| (process.start_time, process.pid))
        .map(|process| vec![process.clone()])
        .ok_or_else(|| NoTarget(format!("no process of the workload carries RANK={rank}; set it for a script that does not, or aim at `workload`")))
}

fn by_pid(pid: u32, scope: &Scope) -> Result<Proc, NoTarget> {
    let process = procs::read(pid)
        .filter(alive)
        .ok_or_else(|| NoTarget(format!("process {pid} does not run")))?;
    if scope.own.contains(&pid) || is_squall(pid) {
        return Err(NoTarget(format!("process {pid} is Squall's own")));
    }
    if !ours(pid) {
        return Err(NoTarget(format!("process {pid} belongs to another user")));
    }
    Ok(process)
}

/// Refuses whoever got the pid after the run was planned.
fn the_planned(process: Proc, scope: &Scope) -> Result<Proc, NoTarget> {
    let pid = process.pid;
    let Some(planned) = scope.planned.as_ref().filter(|one| one.pid == pid) else {
        return Ok(process);
    };
    match lookup(planned) {
        Ok(Some(stat)) if stat.start_time == process.start_time => Ok(process),
        Ok(_) => Err(NoTarget(format!(
            "process {pid} is not the one that was planned: that has ended, and its number was given to another"
        ))),
        Err(error) => Err(NoTarget(format!("process {pid} cannot be read: {error}"))),
    }
}

fn commanded(pattern: &str, scope: &Scope) -> Result<Vec<Proc>, NoTarget> {
    let regex = regex::Regex::new(pattern)
        .map_err(|error| NoTarget(format!("the pattern `{pattern}` cannot be read: {error}")))?;
    let mut found: Vec<Proc> = table()?
        .into_values()
        .filter(|process| alive(process) && !scope.own.contains(&process.pid))
        .filter(|process| regex.is_match(&procs::command(process.pid)))
        .filter(|process| ours(process.pid) && !is_squall(process.pid))
        .collect();
    found.sort_by_key(|process| (process.start_time, process.pid));
    if found.is_empty() {
        return Err(NoTarget(format!(
            "no process of this user has a command line that matches `{pattern}`"
        )));
    }
    Ok(found)
}

/// Root may act on anyone, others on their own processes.
fn ours(pid: u32) -> bool {
    let us = rustix::process::geteuid();
    us.is_root() || procs::user(pid) == Some(us.as_raw())
}

/// Runs the same program file as this process.
fn is_squall(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: String| {
        std::fs::metadata(path)
            .ok()
            .map(|meta| (meta.dev(), meta.ino()))
    };
    let own = file("/proc/self/exe".into());
    own.is_some() && file(format!("/proc/{pid}/exe")) == own
}

/// `*` and `?` in the last part; the newest regular file that matches.
fn newest_file(pattern: &str) -> Result<PathBuf, NoTarget> {
    let path = Path::new(pattern);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let unreadable =
        |error: std::io::Error| NoTarget(format!("{} cannot be read: {error}", folder.display()));
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry
            .file_name()
            .to_str()
            .is_some_and(|found| matches(name.as_bytes(), found.as_bytes()))
        {
            continue;
        }
        // Not through a symbolic link: what it points to was not named.
        let Ok(meta) = std::fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let key = (
            meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            entry.path(),
        );
        if meta.is_file() && newest.as_ref().is_none_or(|newest| *newest < key) {
            newest = Some(key);
        }
    }
    newest
        .map(|(_, path)| path)
        .ok_or_else(|| NoTarget(format!("no regular file matches `{pattern}`")))
}

/// A proxy that listens for orders now.
fn proxy(name: &str, scope: &Scope) -> Result<PathBuf, NoTarget> {
    let socket = match name {
        OWN_PROXY => scope.proxy.clone(),
        path => Some(PathBuf::from(path)),
    };
    let socket = socket.ok_or_else(|| NoTarget("this run has no proxy of its own".into()))?;
    let order = ToProxy::Tell {
        rule: String::new(),
    };
    match crate::proxy::ask(&socket, &order) {
        Ok(Some(_)) => Ok(socket),
        Ok(None) => Err(NoTarget(format!(
            "no proxy listens at {}",
            socket.display()
        ))),
        Err(error) => Err(NoTarget(format!(
            "the proxy at {} does not answer: {error}",
            socket.display()
        ))),
    }
}

fn namespace(name: &str) -> Result<PathBuf, NoTarget> {
    let path = if name.contains('/') {
        PathBuf::from(name)
    } else {
        Path::new("/run/netns").join(name)
    };
    let allowed = ["/proc/", "/run/netns/", "/var/run/netns/"]
        .iter()
        .any(|root| path.starts_with(root));
    if !allowed {
        return Err(NoTarget(format!(
            "{} is not below /proc or /run/netns",
            path.display()
        )));
    }
    match std::fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(NoTarget(format!(
            "the namespace {} cannot be opened: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests;
