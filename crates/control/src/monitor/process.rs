//! The series of each process of the workload.

use super::files::{lines, number, page, parse, read_into, words};
use super::tree::{Found, Tree};
use super::{Config, PROCESSES_MAX, Values};
use crate::store::{Samples, SeriesId, SeriesSpec};
use rustix::fs::{CWD, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

/// Series of each process.
pub const SERIES: usize = 13;

/// Name, unit, and for counters the units of one count. Processor time counts in ticks of 10 ms on every Linux.
const SPECS: [(&str, &str, Option<f64>); SERIES] = [
    ("process.state", "", None),
    ("process.minor_faults", "1/s", Some(1.0)),
    ("process.major_faults", "1/s", Some(1.0)),
    ("process.cpu", "%", Some(1.0)),
    ("process.threads", "", None),
    ("process.rss", "bytes", None),
    ("process.voluntary_switches", "1/s", Some(1.0)),
    ("process.involuntary_switches", "1/s", Some(1.0)),
    ("process.read", "bytes/s", Some(1.0)),
    ("process.write", "bytes/s", Some(1.0)),
    ("process.disk_read", "bytes/s", Some(1.0)),
    ("process.disk_write", "bytes/s", Some(1.0)),
    ("process.fds", "", None),
];
/// Position of a state letter is its value, from 1.
const STATES: &[u8] = b"RSDTtZXI";

struct Watched {
    pid: u32,
    stat: File,
    status: File,
    io: Option<File>,
    folder: OwnedFd,
    ids: [SeriesId; SERIES],
}

/// Samples every process of the workload.
pub(super) struct ProcessSampler {
    tree: Tree,
    watched: Vec<Watched>,
    /// Members that could not be watched, to be tried again when there is room.
    waiting: Vec<Found>,
    samples: Samples,
    buffer: Vec<u8>,
    turn: u32,
}

impl ProcessSampler {
    pub(super) fn new(config: &Config, samples: Samples) -> ProcessSampler {
        raise_file_limit();
        ProcessSampler {
            tree: Tree::new(config.mark.as_ref(), &config.roots),
            watched: Vec::new(),
            waiting: Vec::new(),
            samples,
            buffer: vec![0; 16 << 10],
            turn: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }

    /// Finds new processes; returns how many are newly beyond the bound.
    pub(super) fn look_around(&mut self, root: Option<u32>) -> u64 {
        let before = self.waiting.len();
        let fresh = self.tree.scan(root);
        let mut beyond = 0u64;
        for found in std::mem::take(&mut self.waiting).into_iter().chain(fresh) {
            if self.watched.len() < PROCESSES_MAX {
                // One that has ended meanwhile is no loss.
                self.watched.extend(Watched::open(&found, &self.samples));
            } else if std::path::Path::new(&format!("/proc/{}", found.pid)).exists() {
                beyond += 1;
                self.waiting.push(found);
            }
        }
        beyond.saturating_sub(before as u64)
    }

    /// Appends the values of this instant. A process that has ended is forgotten.
    pub(super) fn sample(&mut self, values: &mut Values) {
        let (tree, buffer) = (&mut self.tree, &mut self.buffer);
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        self.watched.retain(|process| {
            // What is dear to read is read every other time, of one half of the processes now and of the other then.
            let whole = (turn ^ process.pid) & 1 == 0;
            let lives = process.sample(whole, buffer, values).is_some();
            if !lives {
                tree.forget(process.pid);
            }
            lives
        });
    }
}

impl Watched {
    fn open(found: &Found, samples: &Samples) -> Option<Watched> {
        let pid = found.pid;
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        let (stat, status) = (open("stat").ok()?, open("status").ok()?);
        let mut labels = BTreeMap::from([
            ("pid".to_owned(), pid.to_string()),
            ("name".to_owned(), found.name.clone()),
        ]);
        labels.extend(found.rank.clone().map(|rank| ("rank".to_owned(), rank)));
        let ids = SPECS.map(|(name, unit, per_second)| {
            samples.define(&SeriesSpec {
                name,
                labels: labels.clone(),
                unit,
                per_second,
            })
        });
        Some(Watched {
            pid,
            stat,
            status,
            io: open("io").ok(),
            folder,
            ids,
        })
    }

    fn sample(&self, whole: bool, buffer: &mut [u8], values: &mut Values) -> Option<()> {
        let mut put = |index: usize, value: u64| values.push((self.ids[index], value as f64));
        let text = read_into(&self.stat, buffer)?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&[u8]> = words(&text[close + 1..]).take(22).collect();
        let state = *fields.first()?.first()?;
        let at = |field: usize| fields.get(field - 3).and_then(|word| parse(word));
        let code = STATES.iter().position(|letter| *letter == state);
        put(0, code.map_or(0, |index| index as u64 + 1));
        if state == b'Z' {
            // It has ended and waits to be reaped: nothing else of it is left to measure.
            return Some(());
        }
        put(1, at(10)?);
        put(2, at(12)?);
        put(3, at(14)? + at(15)?);
        put(4, at(20)?);
        put(5, at(24)? * page());
        if whole && let Some(text) = read_into(&self.status, buffer) {
            for line in lines(text) {
                if let Some(rest) = line.strip_prefix(b"voluntary_ctxt_switches:") {
                    put(6, number(rest, 0)?);
                } else if let Some(rest) = line.strip_prefix(b"nonvoluntary_ctxt_switches:") {
                    put(7, number(rest, 0)?);
                }
            }
        }
        if let Some(text) = self.io.as_ref().and_then(|io| read_into(io, buffer)) {
            // rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes
            for (line, index) in
                lines(text).zip([Some(8), Some(9), None, None, Some(10), Some(11), None])
            {
                if let (Some(index), Some(value)) = (index, number(line, 1)) {
                    put(index, value);
                }
            }
        }
        // Since Linux 6.2 the size of this folder is the number of open files; before, it is 0 and nothing is said.
        if whole
            && let Ok(meta) = rustix::fs::statat(&self.folder, "fd", rustix::fs::AtFlags::empty())
            && meta.st_size > 0
        {
            put(12, meta.st_size as u64);
        }
        Some(())
    }
}

/// Four files are open for each process; the soft limit is often 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = (PROCESSES_MAX as u64) * 4 + 512;
    let reachable = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|now| now < reachable) {
        let raised = Rlimit {
            current: Some(reachable),
            maximum: limit.maximum,
        };
        // Where this is refused, processes beyond the limit are not sampled and counted as such.
        setrlimit(Resource::Nofile, raised).ok();
    }
}
