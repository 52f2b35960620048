//! `squall serve-fault packet-queue`: reads a netfilter queue and gives each packet its verdict when it is due.
//!
//! When it is told to stop, what waits goes on at once, in order, and nothing new is taken. When it is killed, what waits is lost with the
//! queue, and the rule lets everything pass.

use super::alter;
use super::counts::Counts;
use super::decide::{Decider, Fate, Treatment};
use super::dns::Instead;
use crate::serve::Child;
use crate::sys::clock::monotonic_ns;
use crate::sys::queue::{Copy, Packet, Queue, Word};
use crate::sys::raw::Sender;
use crate::sys::{namespace, spawn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The most packets that may wait.
const PACKETS_MAX: u32 = 1 << 20;
/// The most bytes that may wait, in the kernel's memory, with what it keeps beside each packet.
const BYTES_MAX: u64 = 1 << 30;
/// What the kernel keeps beside each packet, in bytes.
const BESIDE: u64 = 1024;
/// A packet whose length is not told counts as the longest.
const LONGEST: u32 = 64 << 10;

/// How old written counts may be while packets come without a pause, in nanoseconds.
const WRITE_NS: u64 = 1_000_000;
/// While packets come without a pause, so many turns pass between two looks at anything else.
const TURNS: u32 = 8;

/// What the server is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// The network namespace (`None`: its own), by path and inode number.
    pub namespace: Option<PathBuf>,
    pub namespace_inode: u64,
    pub queue: u16,
    pub seed: u64,
    /// The file that counts are written to.
    pub counts: PathBuf,
    pub treatment: Treatment,
}

/// The child's body.
pub(crate) fn serve(config: serde_json::Value, child: &Child) -> Result<(), String> {
    let order: Order = serde_json::from_value(config).map_err(|error| error.to_string())?;
    let signals = spawn::signals(&spawn::ENDING).map_err(|error| error.to_string())?;
    let counts = File::options()
        .write(true)
        .open(&order.counts)
        .map_err(|error| format!("could not open {}: {error}", order.counts.display()))?;
    let place = namespace::find_open(order.namespace.as_deref(), Some(order.namespace_inode));
    let place = place
        .and_then(|place| place.ok_or_else(|| io::Error::other("the network namespace is gone")))
        .map_err(|error| format!("could not find the network namespace: {error}"))?;
    place
        .inside(|| Server::start(&order, counts)?.run(child, &signals))
        .map_err(|error| format!("could not serve queue {}: {error}", order.queue))
}

/// Packets that wait.
#[derive(Debug)]
enum Waiting {
    /// They leave as they came: when each is due, when it came, its number, its bytes.
    InOrder(VecDeque<(u64, u64, u32, u64)>),
    /// The next that is due leaves.
    ByTime(BinaryHeap<Reverse<(u64, u32, u64, u64)>>),
}

/// A packet that waits for others to pass it.
#[derive(Debug)]
struct Behind {
    id: u32,
    came_ns: u64,
    until_ns: u64,
    packets: u32,
    passed: u32,
    bytes: u64,
}

/// What waits, against what may.
#[derive(Debug, Default)]
struct Room {
    packets: u32,
    bytes: u64,
}

impl Room {
    /// Takes one in and says its bytes. `None`: it does not fit.
    fn take(&mut self, length: u32) -> Option<u64> {
        let length = if length == 0 { LONGEST } else { length };
        let bytes = u64::from(length) + BESIDE;
        if self.packets >= PACKETS_MAX || self.bytes + bytes > BYTES_MAX {
            return None;
        }
        self.packets += 1;
        self.bytes += bytes;
        Some(bytes)
    }

    fn give_back(&mut self, bytes: u64) {
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

struct Server {
    queue: Queue,
    decider: Decider,
    sender: Option<Sender>,
    waiting: Waiting,
    behind: Vec<Behind>,
    room: Room,
    last_id: Option<u32>,
    counts: Counts,
    written: Counts,
    written_ns: u64,
    file: File,
    /// What was read last, kept for its room.
    came: Vec<Came>,
}

/// Number and length of a packet, its fate, and its bytes where that needs them.
type Came = (u32, u32, Fate, Option<Vec<u8>>);

impl Server {
    fn start(order: &Order, file: File) -> io::Result<Server> {
        // Packets are not to wait for a tick, nor for those who only work.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        // Without the right to it, it is as nice as others.
        rustix::process::nice(-20).map(drop).unwrap_or_default();
        let copy = match order.treatment {
            Treatment::Delay { .. } | Treatment::Rate { .. } => Copy::Heads,
            Treatment::Loss { .. } | Treatment::Bursts { .. } | Treatment::Reorder { .. } => {
                Copy::Cut
            }
            Treatment::Duplicate { .. } | Treatment::Corrupt { .. } | Treatment::Queries { .. } => {
                Copy::Wire
            }
        };
        let sender = match order.treatment {
            Treatment::Duplicate { .. } | Treatment::Queries { .. } => Some(Sender::open()?),
            _ => None,
        };
        let decider = Decider::new(order.treatment.clone(), order.seed);
        let waiting = if decider.keeps_order() {
            Waiting::InOrder(VecDeque::new())
        } else {
            Waiting::ByTime(BinaryHeap::new())
        };
        Ok(Server {
            queue: Queue::bind(order.queue, copy, u32::MAX)?,
            decider,
            sender,
            waiting,
            behind: Vec::new(),
            room: Room::default(),
            last_id: None,
            counts: Counts::default(),
            written: Counts::default(),
            written_ns: 0,
            file,
            came: Vec::new(),
        })
    }

    fn run(mut self, child: &Child, signals: &OwnedFd) -> io::Result<()> {
        child.ready()?;
        let input = io::stdin();
        let mut turns = 0;
        loop {
            let more = self.turn()?;
            turns = if more { turns + 1 } else { 0 };
            if turns % TURNS != 0 {
                continue;
            }
            let timeout = if more {
                Some(0)
            } else {
                self.next_due_ns()
                    .map(|due| due.saturating_sub(monotonic_ns()))
            };
            if wait(&self.queue, &input, signals, timeout)? {
                return self.drain();
            }
        }
    }

    /// Reads what is there and lets go what is due. True when more may be there.
    fn turn(&mut self) -> io::Result<bool> {
        let count = self.read(false)?;
        let now = monotonic_ns();
        self.let_go(now, now)?;
        self.queue.settle()?;
        // While packets come without a pause, a write for each turn would cost more than they do.
        let is_due = count == 0 || now.saturating_sub(self.written_ns) >= WRITE_NS;
        // Counts that cannot be written now are written with the next: the packets that wait matter more.
        if is_due && self.counts != self.written && self.counts.write(&self.file).is_ok() {
            self.written = self.counts;
            self.written_ns = now;
        }
        Ok(count > 0)
    }

    /// Reads the queue once. `all_pass`: nothing is treated any more.
    fn read(&mut self, all_pass: bool) -> io::Result<usize> {
        let mut came = std::mem::take(&mut self.came);
        let mut missed = 0;
        let now = &mut 0;
        let decider = &mut self.decider;
        let count = self.queue.receive(|word| match word {
            Word::Missed => missed += 1,
            Word::Packet(packet) => {
                if *now == 0 {
                    *now = monotonic_ns();
                }
                let fate = if all_pass {
                    Fate::Pass
                } else {
                    decider.next_with(*now, packet.length, packet.bytes)
                };
                came.push((packet.id, packet.length, fate, copied(&packet, fate)));
            }
        })?;
        // One that was thrown away was counted as passed when its verdict was given.
        self.counts.flushed += missed;
        self.counts.passed = self.counts.passed.saturating_sub(missed);
        for (id, length, fate, bytes) in came.drain(..) {
            self.take(id, length, fate, bytes, *now)?;
        }
        self.came = came;
        Ok(count)
    }

    fn take(
        &mut self,
        id: u32,
        length: u32,
        fate: Fate,
        bytes: Option<Vec<u8>>,
        now: u64,
    ) -> io::Result<()> {
        let expected = self.last_id.map_or(id, |last| last.wrapping_add(1));
        self.counts.overflowed += u64::from(id.wrapping_sub(expected));
        self.last_id = Some(id);
        self.counts.received += 1;
        match fate {
            Fate::Pass => self.pass(id, None)?,
            Fate::Drop => {
                self.queue.drop(id)?;
                self.counts.dropped += 1;
            }
            Fate::Hold { until_ns } => match (self.room.take(length), &mut self.waiting) {
                (None, _) => self.overflow(id)?,
                (Some(bytes), Waiting::InOrder(waiting)) => {
                    waiting.push_back((until_ns, now, id, bytes));
                }
                (Some(bytes), Waiting::ByTime(waiting)) => {
                    waiting.push(Reverse((until_ns, id, now, bytes)));
                }
            },
            Fate::Behind { packets, until_ns } => {
                let Some(bytes) = self.room.take(length) else {
                    return self.overflow(id);
                };
                self.behind.push(Behind {
                    id,
                    came_ns: now,
                    until_ns,
                    packets,
                    passed: 0,
                    bytes,
                });
                return Ok(());
            }
            Fate::Twice => {
                self.pass(id, None)?;
                // The first is on its way before the second.
                self.queue.settle()?;
                let sender = self.sender.as_ref();
                let sent = bytes
                    .as_deref()
                    .zip(sender)
                    .map(|(bytes, to)| to.send(bytes));
                match sent {
                    Some(Ok(())) => self.counts.doubled += 1,
                    _ => self.counts.failed += 1,
                }
            }
            Fate::Instead => self.replace(id, bytes.as_deref())?,
            Fate::Turn { bits, seed, fits } => {
                let turned = bytes.and_then(|bytes| turned(bytes, bits, seed, fits));
                match &turned {
                    Some(_) => self.counts.altered += 1,
                    None => self.counts.failed += 1,
                }
                self.pass(id, turned.as_deref())?;
            }
        }
        Ok(())
    }

    /// Something else goes on instead of a packet.
    fn replace(&mut self, id: u32, bytes: Option<&[u8]>) -> io::Result<()> {
        let instead = bytes.and_then(|bytes| self.decider.instead(bytes));
        match (instead, &self.sender) {
            (Some(Instead::Changed(bytes)), _) => {
                self.counts.altered += 1;
                self.pass(id, Some(&bytes))
            }
            (Some(Instead::Reply(bytes)), Some(sender)) if sender.send(&bytes).is_ok() => {
                // The query goes no further: what became of it is on its way back.
                self.queue.drop(id)?;
                self.counts.altered += 1;
                self.counts.passed += 1;
                Ok(())
            }
            _ => {
                self.counts.failed += 1;
                self.pass(id, None)
            }
        }
    }

    fn overflow(&mut self, id: u32) -> io::Result<()> {
        self.counts.overflowed += 1;
        self.pass(id, None)
    }

    fn pass(&mut self, id: u32, bytes: Option<&[u8]>) -> io::Result<()> {
        self.queue.accept(id, bytes)?;
        self.counts.passed += 1;
        if self.behind.is_empty() {
            return Ok(());
        }
        for one in &mut self.behind {
            one.passed += 1;
        }
        self.let_overtaken_go(|one| one.passed >= one.packets)
    }

    fn let_overtaken_go(&mut self, is_due: impl Fn(&Behind) -> bool) -> io::Result<()> {
        let now = monotonic_ns();
        let (due, stay) = std::mem::take(&mut self.behind)
            .into_iter()
            .partition(|one| is_due(one));
        self.behind = stay;
        let due: Vec<Behind> = due;
        for one in due {
            self.queue.accept(one.id, None)?;
            self.room.give_back(one.bytes);
            self.counts.passed += 1;
            self.counts.reordered += u64::from(one.passed > 0);
            self.held(now.saturating_sub(one.came_ns));
        }
        Ok(())
    }

    fn held(&mut self, ns: u64) {
        self.counts.held += 1;
        self.counts.held_ns += ns;
        self.counts.held_ns_max = self.counts.held_ns_max.max(ns);
    }

    /// Lets go, at `now`, what is due until `until`.
    fn let_go(&mut self, now: u64, until: u64) -> io::Result<()> {
        let mut last = None;
        loop {
            let (id, came, bytes) = match &mut self.waiting {
                Waiting::InOrder(waiting) => match waiting.front() {
                    Some((due, came, id, bytes)) if *due <= until => {
                        let found = (*id, *came, *bytes);
                        waiting.pop_front();
                        found
                    }
                    _ => break,
                },
                Waiting::ByTime(waiting) => match waiting.peek() {
                    Some(Reverse((due, id, came, bytes))) if *due <= until => {
                        let found = (*id, *came, *bytes);
                        waiting.pop();
                        self.queue.accept(found.0, None)?;
                        found
                    }
                    _ => break,
                },
            };
            self.counts.passed += 1;
            self.room.give_back(bytes);
            self.held(now.saturating_sub(came));
            last = Some(id);
        }
        // In order, nothing else waits before the last that is due.
        if let (Some(id), Waiting::InOrder(_)) = (last, &self.waiting) {
            self.queue.accept_up_to(id)?;
        }
        self.let_overtaken_go(|one| one.until_ns <= until)
    }

    fn next_due_ns(&self) -> Option<u64> {
        let first = match &self.waiting {
            Waiting::InOrder(waiting) => waiting.front().map(|one| one.0),
            Waiting::ByTime(waiting) => waiting.peek().map(|Reverse(one)| one.0),
        };
        let behind = self.behind.iter().map(|one| one.until_ns).min();
        first.into_iter().chain(behind).min()
    }

    /// Lets everything go on and takes nothing new.
    fn drain(mut self) -> io::Result<()> {
        self.queue.set_length(0)?;
        self.let_go(monotonic_ns(), u64::MAX)?;
        self.queue.settle()?;
        while self.read(true)? > 0 {
            self.queue.settle()?;
        }
        self.counts.write(&self.file)
    }
}

/// The bytes that its fate needs beyond this moment.
fn copied(packet: &Packet<'_>, fate: Fate) -> Option<Vec<u8>> {
    matches!(fate, Fate::Twice | Fate::Turn { .. } | Fate::Instead).then(|| packet.bytes.to_vec())
}

fn turned(mut bytes: Vec<u8>, bits: u32, seed: u64, fits: bool) -> Option<Vec<u8>> {
    let shape = alter::shape(&bytes)?;
    let done = alter::turn(&mut bytes, &shape, bits, seed)
        && (!fits || alter::fit_checksum(&mut bytes, &shape));
    done.then_some(bytes)
}

/// Waits for packets or the time (`None`: for ever). True: told to stop.
fn wait(
    queue: &Queue,
    input: &impl AsFd,
    signals: &OwnedFd,
    timeout_ns: Option<u64>,
) -> io::Result<bool> {
    let mut polled = [
        PollFd::new(queue, PollFlags::IN),
        PollFd::new(input, PollFlags::IN),
        PollFd::new(signals, PollFlags::IN),
    ];
    let timeout = timeout_ns.map(|ns| Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (ns % 1_000_000_000) as i64,
    });
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Nothing but its end ever comes over the input.
    Ok(polled[1..].iter().any(|one| !one.revents().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_packets_and_in_bytes() {
        let mut room = Room::default();
        let fits = std::iter::from_fn(|| room.take(60_000)).count() as u64;
        assert_eq!(fits, BYTES_MAX / (60_000 + BESIDE));
        assert_eq!(
            room.take(0),
            None,
            "of unknown length, it may be the longest"
        );
        room.give_back(60_000 + BESIDE);
        assert!(room.take(60_000).is_some());
        let mut room = Room::default();
        assert_eq!(room.take(0), Some(u64::from(LONGEST) + BESIDE));
        room.packets = PACKETS_MAX;
        assert_eq!(room.take(1), None);
    }
}
