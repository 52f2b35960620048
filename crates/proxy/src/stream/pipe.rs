//! One direction of a connection: bytes go in when they arrive, and come out when the rules say so.
//!
//! Invariant: order is kept, and what comes out depends on seed, rules and bytes alone, never on how the bytes were cut
//! into chunks when they arrived.

use super::fault::{Rule, Way};
use super::stage::{Chunk, Ending, Stage};
use super::{HELD_MAX, NEVER, Nanos};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where what comes out of a pipe goes.
pub trait Sink {
    /// These bytes leave now.
    fn bytes(&mut self, bytes: &[u8]);
    /// Nothing more comes this way; the other direction goes on.
    fn end(&mut self);
    /// The connection is closed, after what has left.
    fn close(&mut self);
    /// Both ends are reset, and what has not left is lost.
    fn reset(&mut self);
    /// A rule has acted on this direction, up to this place of the stream, in bytes.
    fn fired(&mut self, rule: &Arc<Rule>, place: u64);
}

/// What draws are keyed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) seed: u64,
    pub(super) connection: u64,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Pipe {
    origin: Origin,
    way: Way,
    stages: Vec<Stage>,
    queue: VecDeque<Chunk>,
    held: usize,
    taken: u64,
    /// When the sender's end of stream leaves.
    end: Option<Nanos>,
    /// The sender has ended.
    ended: bool,
    /// The connection is closed after what is queued.
    ending: bool,
    over: bool,
}

impl Pipe {
    /// A pipe for one direction of the `connection`-th connection of a proxy, without rules.
    pub fn new(seed: u64, connection: u64, way: Way) -> Pipe {
        Pipe {
            origin: Origin { seed, connection },
            way,
            stages: Vec::new(),
            queue: VecDeque::new(),
            held: 0,
            taken: 0,
            end: None,
            ended: false,
            ending: false,
            over: false,
        }
    }

    /// Sets the rules, in order. What was held back leaves at once, unless a new rule holds it.
    pub fn set_rules(&mut self, rules: &[Arc<Rule>], now: Nanos, sink: &mut dyn Sink) {
        let mut old: Vec<Stage> = std::mem::take(&mut self.stages);
        for rule in rules.iter().filter(|rule| rule.way.covers(self.way)) {
            let known = old.iter().position(|stage| {
                stage.rule.name == rule.name && stage.rule.fault.kind() == rule.fault.kind()
            });
            let stage = match known.map(|index| old.remove(index)) {
                Some(stage) => stage.renewed(rule.clone()),
                None => Stage::new(rule.clone(), self.origin, self.way, now),
            };
            self.stages.push(stage);
        }
        if old.iter().any(Stage::leaves_a_hole) {
            self.ending = true;
        }
        let holds = self.stages.iter().any(Stage::holds);
        let due = if holds { NEVER } else { now };
        for chunk in &mut self.queue {
            chunk.due = due;
        }
        self.end = self.end.map(|_| due);
        self.poll(now, sink);
    }

    /// How many more bytes it takes before some must leave.
    pub fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.held)
    }

    /// Bytes have arrived.
    pub fn push(&mut self, bytes: &[u8], now: Nanos, sink: &mut dyn Sink) {
        let offset = self.taken;
        self.taken += bytes.len() as u64;
        if self.over || self.ending {
            return;
        }
        if self.stages.is_empty() && self.queue.is_empty() {
            sink.bytes(bytes);
            return;
        }
        let mut chunks = vec![Chunk {
            bytes: bytes.to_vec(),
            offset,
            due: now,
        }];
        for stage in &mut self.stages {
            let mut passed = Vec::with_capacity(chunks.len());
            for chunk in chunks {
                if stage.chunk(chunk, &mut passed) {
                    self.ending = true;
                    break;
                }
            }
            chunks = passed;
            if stage.take_fired() {
                sink.fired(&stage.rule, self.taken);
            }
        }
        for chunk in chunks {
            self.held += chunk.bytes.len();
            self.queue.push_back(chunk);
        }
        self.poll(now, sink);
    }

    /// The sender has ended its direction.
    pub fn end(&mut self, now: Nanos, sink: &mut dyn Sink) {
        if self.ended {
            return;
        }
        self.ended = true;
        let mut due = Some(now);
        for stage in &mut self.stages {
            due = due.and_then(|due| stage.end(due));
            if stage.take_fired() {
                sink.fired(&stage.rule, self.taken);
            }
        }
        self.end = due;
        self.poll(now, sink);
    }

    /// Lets out what is due. Order is kept: nothing leaves before what came in before it.
    pub fn poll(&mut self, now: Nanos, sink: &mut dyn Sink) {
        while !self.over {
            match self.queue.front() {
                Some(chunk) if chunk.due <= now => {
                    if let Some(chunk) = self.queue.pop_front() {
                        self.held -= chunk.bytes.len();
                        sink.bytes(&chunk.bytes);
                    }
                }
                _ => break,
            }
        }
        if !self.over && self.queue.is_empty() && self.end.is_some_and(|due| due <= now) {
            self.end = None;
            sink.end();
        }
        self.finish(now, sink);
    }

    fn finish(&mut self, now: Nanos, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        for stage in &mut self.stages {
            let Some((due, ending)) = stage.ending() else {
                continue;
            };
            if due <= now {
                self.over = true;
                sink.fired(&stage.rule, self.taken);
                match ending {
                    Ending::Close => sink.close(),
                    Ending::Reset => sink.reset(),
                }
                return;
            }
        }
        if self.ending && self.queue.is_empty() {
            self.over = true;
            sink.close();
        }
    }

    /// When [`Pipe::poll`] has something to do; [`NEVER`] when only bytes or rules can change anything.
    pub fn next_due(&self) -> Nanos {
        if self.over {
            return NEVER;
        }
        let stages = self.stages.iter().filter_map(Stage::ending);
        let queued = match self.queue.front() {
            Some(chunk) => chunk.due,
            None => self.end.unwrap_or(NEVER),
        };
        stages.map(|(due, _)| due).fold(queued, Nanos::min)
    }
}
