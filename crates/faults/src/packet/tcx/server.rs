//! `squall serve-fault packet-hook`: holds programs at the hooks of interfaces, and writes down what they count.
//!
//! Their links close when it ends, however it ends, and with them the programs go. After a kill the file holds what was counted by then.

use super::program::{ALTERED, DOUBLED, DROPPED, FAILED, RECEIVED, Wanted, program};
use super::scope::Scope;
use crate::packet::Treatment;
use crate::packet::counts::Counts;
use crate::serve::Child;
use crate::sys::bpf::{Counters, Link, Program};
use crate::sys::traffic_control::Side;
use crate::sys::{namespace, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How old what is written down may be, in nanoseconds: until a packet was treated, and then.
const FIRST_NS: i64 = 2_000_000;
const LATER_NS: i64 = 20_000_000;

/// One side of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Hook {
    /// The interface's number.
    pub index: u32,
    /// Packets that arrive, not those that leave.
    pub arriving: bool,
    /// The length of the link's head, in bytes.
    pub head: u8,
    pub is_loopback: bool,
}

impl Hook {
    pub(super) fn side(&self) -> Side {
        if self.arriving {
            Side::Ingress
        } else {
            Side::Egress
        }
    }
}

/// What the server is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Order {
    /// The network namespace (`None`: its own), by path and inode number.
    pub namespace: Option<PathBuf>,
    pub namespace_inode: u64,
    /// The name of programs and counters.
    pub name: String,
    pub hooks: Vec<Hook>,
    pub scope: Scope,
    pub seed: u64,
    /// The file that counts are written to.
    pub counts: PathBuf,
    pub treatment: Treatment,
}

/// Programs that are at their hooks, and their counters.
#[derive(Debug)]
pub(super) struct Attached {
    links: Vec<Link>,
    counters: Counters,
}

impl Attached {
    /// Attaches all of them, or none. Inside the namespace.
    pub(super) fn new(order: &Order) -> io::Result<Attached> {
        let counters = Counters::new(&order.name)?;
        let mut links = Vec::new();
        for hook in &order.hooks {
            let wanted = Wanted {
                scope: &order.scope,
                side: hook.side(),
                head: hook.head,
                is_loopback: hook.is_loopback,
                treatment: &order.treatment,
                seed: order.seed,
                map: counters.number(),
            };
            let too_long = || io::Error::other("no program can be made of it");
            let instructions = program(wanted).ok_or_else(too_long)?;
            let program = Program::load(&order.name, hook.side(), &instructions)?;
            links.push(program.attach(hook.index, hook.side())?);
        }
        Ok(Attached { links, counters })
    }

    /// Takes the programs away and says what they have counted.
    fn end(self) -> io::Result<Counts> {
        drop(self.links);
        counted(&self.counters)
    }

    pub(super) fn counts(&self) -> io::Result<Counts> {
        counted(&self.counters)
    }
}

fn counted(counters: &Counters) -> io::Result<Counts> {
    let words = counters.read()?;
    let word = |place: u32| words[place as usize];
    Ok(Counts {
        received: word(RECEIVED),
        passed: word(RECEIVED).saturating_sub(word(DROPPED)),
        dropped: word(DROPPED),
        doubled: word(DOUBLED),
        altered: word(ALTERED),
        failed: word(FAILED),
        without_queue: true,
        ..Counts::default()
    })
}

/// The child's body.
pub(crate) fn serve(config: serde_json::Value, child: &Child) -> Result<(), String> {
    let order: Order = serde_json::from_value(config).map_err(|error| error.to_string())?;
    let signals = spawn::signals(&spawn::ENDING).map_err(|error| error.to_string())?;
    let file = File::options()
        .write(true)
        .open(&order.counts)
        .map_err(|error| format!("could not open {}: {error}", order.counts.display()))?;
    let place = namespace::find_open(order.namespace.as_deref(), Some(order.namespace_inode));
    let place = place
        .and_then(|place| place.ok_or_else(|| io::Error::other("the network namespace is gone")))
        .map_err(|error| format!("could not find the network namespace: {error}"))?;
    place
        .inside(|| {
            let attached = Attached::new(&order)?;
            child.ready()?;
            keep(attached, &file, &signals)
        })
        .map_err(|error| format!("could not hold {} at its hooks: {error}", order.name))
}

/// Writes counts down until it is told to stop, takes the programs away, and writes the last.
fn keep(attached: Attached, file: &File, signals: &OwnedFd) -> io::Result<()> {
    let input = io::stdin();
    let mut written = Counts::default();
    loop {
        let counts = attached.counts()?;
        // What cannot be written now is written with the next.
        if counts != written && counts.write(file).is_ok() {
            written = counts;
        }
        let mut polled = [
            PollFd::new(&input, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: if counts.treated() == 0 {
                FIRST_NS
            } else {
                LATER_NS
            },
        };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Nothing but its end ever comes over the input.
        if polled.iter().any(|one| !one.revents().is_empty()) {
            return attached.end()?.write(file);
        }
    }
}
