//! What each fault is let loose on in the compliance suite and the crash matrix, and how its effect is seen without any of its code.
//!
//! A fault in the catalogue without a recipe here fails both suites.

pub mod names;
mod packets;
mod requests;

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::snapshot::{Kind, ProcessState, Scope, process_state};
use crate::spawned::Spawned;

/// How much of it: as little as shows, or what the latency goals are measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Quick to make and to undo.
    Small,
    /// 256 MiB of memory, a file of 64 MiB.
    Large,
}

impl Size {
    fn file_bytes(self) -> usize {
        match self {
            Self::Small => 256 << 10,
            Self::Large => 64 << 20,
        }
    }

    fn memory_mib(self) -> u64 {
        match self {
            Self::Small => 16,
            Self::Large => 256,
        }
    }
}

/// What a fault attacks, all of it started or made here.
#[derive(Debug)]
pub struct Prey {
    /// How much of it.
    pub size: Size,
    /// A process that does nothing.
    pub process: Option<Spawned>,
    /// A file with mode, attribute and an old modification time.
    pub file: Option<PathBuf>,
    /// Its content, and its time of modification.
    content: Vec<u8>,
    modified: Option<SystemTime>,
    /// Those who accept connections, one by IPv4 and one by IPv6.
    listeners: Vec<TcpListener>,
    /// Those who take datagrams, one by IPv4 and one by IPv6.
    sockets: Vec<UdpSocket>,
    /// Connections, both their ends.
    connections: Vec<[TcpStream; 2]>,
    /// A proxy, and a client that asks through it all the time.
    proxy: Option<requests::Proxied>,
}

/// How one fault is tried.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The fault's key.
    pub kind: &'static str,
    /// Makes what it attacks, in an empty folder.
    pub prepare: fn(&Path, Size) -> anyhow::Result<Prey>,
    /// Its target, as a selector of the experiment file.
    pub selector: fn(&Prey) -> Value,
    /// Its own keys: one way to use it after the other.
    pub variants: fn(&Prey) -> Vec<Value>,
    /// Whether the world shows it, read without its code.
    pub is_seen: fn(&Prey) -> anyhow::Result<bool>,
    /// The kinds of the snapshot in which it shows: for quick readings.
    pub shows_in: &'static [Kind],
}

/// The recipe for a fault.
///
/// # Errors
/// When there is none: a fault without a target is a fault without a proof.
pub fn recipe(kind: &str) -> anyhow::Result<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.kind == kind).with_context(|| {
        format!("the fault {kind} has no recipe in tests/src/targets.rs: say there what it is let loose on and how its effect is seen")
    })
}

/// Every recipe.
pub static RECIPES: [Recipe; 32] = [
    Recipe {
        kind: "process-pause",
        prepare: a_process,
        selector: by_pid,
        variants: |_| vec![json!({})],
        is_seen: |prey| Ok(prey.state() == ProcessState::Stopped),
        shows_in: &[Kind::ProcessState],
    },
    Recipe {
        kind: "process-kill",
        prepare: a_process,
        selector: by_pid,
        variants: |_| vec![json!({})],
        is_seen: is_dead,
        shows_in: &[Kind::StrayProcess],
    },
    Recipe {
        kind: "process-terminate",
        prepare: a_process,
        selector: by_pid,
        variants: |_| vec![json!({})],
        is_seen: is_dead,
        shows_in: &[Kind::StrayProcess],
    },
    Recipe {
        kind: "cpu-pressure",
        prepare: nothing,
        selector: |_| json!({"host": true}),
        variants: |_| vec![json!({"cores": 1}), json!({"load": "50%"})],
        is_seen: |_| Ok(served("cpu-pressure").iter().any(|pid| ticks(*pid) >= 3)),
        shows_in: &[Kind::StrayProcess],
    },
    Recipe {
        kind: "memory-pressure",
        prepare: nothing,
        selector: |_| json!({"host": true}),
        variants: |prey| vec![json!({"size": format!("{}MiB", prey.size.memory_mib())})],
        is_seen: |prey| {
            let wanted = prey.size.memory_mib() * 1024;
            Ok(served("memory-pressure")
                .iter()
                .any(|pid| resident_kib(*pid) >= wanted))
        },
        shows_in: &[Kind::StrayProcess],
    },
    Recipe {
        kind: "file-damage",
        prepare: a_file,
        selector: |prey| json!({"file": prey.file}),
        variants: damages,
        is_seen: |prey| Ok(fs::read(prey.path()?).ok().as_deref() != Some(&prey.content)),
        shows_in: &[Kind::File],
    },
    Recipe {
        kind: "network-partition",
        prepare: listeners,
        selector: |_| json!({"host": true}),
        variants: partitions,
        is_seen: |prey| Ok(!prey.can_connect()),
        shows_in: &[Kind::Nftables],
    },
    packets::DELAY,
    packets::LOSS,
    packets::DUPLICATE,
    packets::REORDER,
    packets::CORRUPT,
    packets::RATE,
    packets::BLACKHOLE,
    packets::RESET,
    names::DNS,
    requests::STATUS,
    requests::RATE_LIMIT,
    requests::DELAYED,
    requests::HANG,
    requests::RESET,
    requests::FIRST_TOKEN,
    requests::TOKEN_DELAY,
    requests::STALL,
    requests::CUT,
    requests::MALFORMED,
    requests::ERROR,
    requests::TEXT,
    requests::TOOL_CALL,
    requests::STRUCTURE,
    requests::VECTORS,
    requests::DOCUMENTS,
];

impl Prey {
    fn none(size: Size) -> Self {
        Self {
            size,
            process: None,
            file: None,
            content: Vec::new(),
            modified: None,
            listeners: Vec::new(),
            sockets: Vec::new(),
            connections: Vec::new(),
            proxy: None,
        }
    }

    /// The pid of its process; 0 where it has none.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Spawned::pid)
    }

    /// Whether its process is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state() == ProcessState::Stopped
    }

    fn state(&self) -> ProcessState {
        process_state(self.pid())
    }

    fn path(&self) -> anyhow::Result<&Path> {
        self.file.as_deref().context("no file was prepared")
    }

    /// Whether the file's length, time and some of its bytes are as before: a quick look.
    pub fn file_looks_restored(&self) -> bool {
        let look = || -> anyhow::Result<bool> {
            let path = self.path()?;
            let meta = fs::metadata(path)?;
            if meta.len() != self.content.len() as u64 || Some(meta.modified()?) != self.modified {
                return Ok(false);
            }
            let file = fs::File::open(path)?;
            let places = [0, self.content.len() / 2, self.content.len() - 8];
            Ok(places.iter().all(|at| {
                let mut bytes = [0; 8];
                let read = file.read_exact_at(&mut bytes, *at as u64);
                read.is_ok() && bytes == self.content[*at..*at + 8]
            }))
        };
        look().unwrap_or(false)
    }

    /// Whether the file's content is as before.
    pub fn file_is_restored(&self) -> bool {
        self.path()
            .is_ok_and(|path| fs::read(path).ok().as_deref() == Some(&self.content))
    }

    /// Whether somebody who wants to is let through to a listener, by either family.
    pub fn can_connect(&self) -> bool {
        self.listeners.iter().any(|listener| {
            let address = listener.local_addr();
            let connected = address.and_then(|address| {
                TcpStream::connect_timeout(&address, Duration::from_millis(200))
            });
            if connected.is_ok() {
                // The backlog is short; what is not taken out of it would keep others out.
                drop(listener.accept());
            }
            connected.is_ok()
        })
    }

    /// Also watches what was prepared; a process only where it is to survive.
    pub fn watched(&self, mut scope: Scope, is_to_survive: bool) -> Scope {
        if let (Some(process), true) = (&self.process, is_to_survive) {
            scope = scope.pid(process.pid());
        }
        if let Some(folder) = self.file.as_deref().and_then(Path::parent) {
            // The folder too: a backup or a temporary file beside the target would be a leftover.
            scope = scope.file(folder);
        }
        scope
    }
}

fn nothing(_: &Path, size: Size) -> anyhow::Result<Prey> {
    Ok(Prey::none(size))
}

fn a_process(_: &Path, size: Size) -> anyhow::Result<Prey> {
    Ok(Prey {
        process: Some(Spawned::sleeper()?),
        ..Prey::none(size)
    })
}

fn listeners(_: &Path, size: Size) -> anyhow::Result<Prey> {
    let listeners = ["127.0.0.1:0", "[::1]:0"].map(TcpListener::bind);
    let listeners = listeners
        .into_iter()
        .collect::<Result<_, _>>()
        .context("listen on both families")?;
    Ok(Prey {
        listeners,
        ..Prey::none(size)
    })
}

fn partitions(prey: &Prey) -> Vec<Value> {
    let addresses = prey
        .listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok());
    let ports: Vec<u16> = addresses.map(|address| address.port()).collect();
    vec![
        json!({"ports": ports}),
        json!({"peers": ["127.0.0.0/8", "::1"], "protocol": "tcp"}),
        json!({"ports": ports, "direction": "in"}),
        json!({"peers": ["127.0.0.1", "::1"], "ports": ports, "direction": "out"}),
    ]
}

fn damages(prey: &Prey) -> Vec<Value> {
    let length = prey.size.file_bytes();
    vec![
        json!({"damage": {"zero": {"at": "0B", "length": format!("{length}B")}}}),
        json!({"damage": {"flip-bits": {"count": 8}}}),
        json!({"damage": {"truncate": {"to": "1000B"}}}),
        json!({"damage": {"delete": {}}}),
        json!({"damage": {"zero": {"length": "10kB"}}}),
    ]
}

fn a_file(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let folder = folder.join("prey");
    fs::create_dir(&folder)?;
    let path = folder.join("checkpoint");
    // No two blocks alike, no zeros: a block put back in the wrong place is seen.
    let content: Vec<u8> = (0..size.file_bytes() / 8)
        .flat_map(|word| (0x0101_0101_0101_0101u64 + word as u64 * 0x9E37_79B1).to_le_bytes())
        .collect();
    fs::write(&path, &content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    // Where the file system has none, the snapshot sees none either.
    rustix::fs::setxattr(
        &path,
        "user.origin",
        b"prepared",
        rustix::fs::XattrFlags::empty(),
    )
    .ok();
    let old = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options()
        .write(true)
        .open(&path)?
        .set_modified(old)?;
    let modified = fs::metadata(&path)?.modified().ok();
    Ok(Prey {
        file: Some(path),
        content,
        modified,
        ..Prey::none(size)
    })
}

fn by_pid(prey: &Prey) -> Value {
    json!({"pid": prey.pid()})
}

fn is_dead(prey: &Prey) -> anyhow::Result<bool> {
    Ok(matches!(
        prey.state(),
        ProcessState::Gone | ProcessState::Zombie
    ))
}

/// The children that serve a fault of this kind; of any, where it is empty.
pub fn served(kind: &str) -> Vec<u32> {
    let wanted = format!("serve-fault\0{kind}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&wanted)
    })
    .collect()
}

/// Processor time that a process has used, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|time| time.parse::<u64>().ok()).sum()
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
