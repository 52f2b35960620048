//! One rule at work on one direction of one connection.

use super::fault::{Fault, Per, Rule, Way};
use super::pipe::Origin;
use super::{NEVER, Nanos};
use squall_model::seed;
use std::sync::Arc;
use std::time::Duration;

/// Pieces of a limited stream are at most this long, so that it flows and does not gulp.
const PIECE: Nanos = 10_000_000;

/// Bytes on their way.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// Place of the first byte in what the sender sent.
    pub(super) offset: u64,
    /// When they leave.
    pub(super) due: Nanos,
}

/// How a rule ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) rule: Arc<Rule>,
    origin: Origin,
    way: Way,
    /// Whether the connection was drawn.
    drawn: bool,
    /// When it began to act on this connection.
    since: Nanos,
    /// Bandwidth: when the line is free again. Slicer: when the next piece may leave.
    free_at: Nanos,
    /// Bytes let through (limit-data).
    passed: u64,
    /// Slicer: the end of the present piece, and its number.
    piece: (u64, u64),
    /// Whether it has acted since this was last asked.
    fired: bool,
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

impl Stage {
    pub(super) fn new(rule: Arc<Rule>, origin: Origin, way: Way, now: Nanos) -> Stage {
        let mut stage = Stage {
            rule,
            origin,
            way,
            drawn: false,
            since: now,
            free_at: 0,
            passed: 0,
            piece: (0, 0),
            fired: false,
        };
        stage.drawn = stage.is_drawn();
        stage
    }

    fn is_drawn(&self) -> bool {
        self.rule.per == Per::Chunk || self.unit(b"connection", 0) < self.rule.probability
    }

    /// The same rule with other values: counts and draws go on.
    pub(super) fn renewed(mut self, rule: Arc<Rule>) -> Stage {
        self.rule = rule;
        self.drawn = self.is_drawn();
        self
    }

    /// A draw that depends on rule, connection, direction and place, and on nothing else.
    fn unit(&self, what: &[u8], place: u64) -> f64 {
        let connection = self.origin.connection.to_le_bytes();
        let name = self.rule.name.as_bytes();
        let way = self.way.word().as_bytes();
        let key: [&[u8]; 5] = [name, &connection, way, what, &place.to_le_bytes()];
        seed::unit(self.origin.seed, &key)
    }

    fn hits(&self, place: u64) -> bool {
        self.rule.per == Per::Connection || self.unit(b"chunk", place) < self.rule.probability
    }

    /// Whether it has acted since this was last asked.
    pub(super) fn take_fired(&mut self) -> bool {
        std::mem::take(&mut self.fired)
    }

    /// When and how it ends the connection by itself.
    pub(super) fn ending(&self) -> Option<(Nanos, Ending)> {
        match self.rule.fault {
            _ if !self.drawn => None,
            Fault::Timeout { timeout } if !timeout.is_zero() => {
                Some((self.since.saturating_add(nanos(timeout)), Ending::Close))
            }
            Fault::ResetPeer { timeout } => {
                Some((self.since.saturating_add(nanos(timeout)), Ending::Reset))
            }
            _ => None,
        }
    }

    /// Whether its removal closes the connection, because what it swallowed cannot be given back.
    pub(super) fn leaves_a_hole(&self) -> bool {
        self.drawn && matches!(self.rule.fault, Fault::Timeout { .. } | Fault::HalfOpen)
    }

    /// Whether nothing leaves while it is set.
    pub(super) fn holds(&self) -> bool {
        self.drawn && matches!(self.rule.fault, Fault::Partition | Fault::ResetPeer { .. })
    }

    /// Passes a chunk on, changed, in pieces, later, or not at all. True: the connection ends after what was passed on.
    pub(super) fn chunk(&mut self, mut chunk: Chunk, out: &mut Vec<Chunk>) -> bool {
        if !self.drawn {
            out.push(chunk);
            return false;
        }
        match self.rule.fault {
            Fault::Noop | Fault::SlowClose { .. } => out.push(chunk),
            Fault::Latency { latency, jitter } => {
                if self.hits(chunk.offset) {
                    let spread =
                        (self.unit(b"jitter", chunk.offset) * 2.0 - 1.0) * nanos(jitter) as f64;
                    let delay = (nanos(latency) as f64 + spread).max(0.0) as Nanos;
                    chunk.due = chunk.due.saturating_add(delay);
                    self.fired = true;
                }
                out.push(chunk);
            }
            Fault::Bandwidth { rate: 0 } => out.push(chunk),
            Fault::Bandwidth { rate } => self.pace(chunk, rate, out),
            Fault::Slicer {
                average,
                variation,
                delay,
            } => {
                self.slice(chunk, average.max(1), variation, nanos(delay), out);
            }
            Fault::LimitData { bytes } => return self.limit(chunk, bytes, out),
            Fault::Corrupt { every } => {
                self.corrupt(&mut chunk, every.max(1));
                out.push(chunk);
            }
            Fault::Timeout { .. } | Fault::HalfOpen => self.fired = true,
            Fault::Partition | Fault::ResetPeer { .. } => {
                self.fired = true;
                chunk.due = NEVER;
                out.push(chunk);
            }
        }
        false
    }

    /// The end of the stream: when it leaves, or that it does not.
    pub(super) fn end(&mut self, due: Nanos) -> Option<Nanos> {
        if !self.drawn {
            return Some(due);
        }
        match self.rule.fault {
            Fault::SlowClose { delay } => {
                self.fired = true;
                Some(due.saturating_add(nanos(delay)))
            }
            Fault::Latency { latency, .. } if self.rule.per == Per::Connection => {
                Some(due.saturating_add(nanos(latency)))
            }
            Fault::Bandwidth { .. } | Fault::Slicer { .. } => Some(due.max(self.free_at)),
            Fault::Timeout { .. } | Fault::HalfOpen => {
                self.fired = true;
                None
            }
            Fault::Partition | Fault::ResetPeer { .. } => Some(NEVER),
            _ => Some(due),
        }
    }

    fn pace(&mut self, chunk: Chunk, rate: u64, out: &mut Vec<Chunk>) {
        let most = usize::try_from(rate / (1_000_000_000 / PIECE))
            .unwrap_or(usize::MAX)
            .max(1);
        let mut offset = chunk.offset;
        for piece in chunk.bytes.chunks(most) {
            let length = piece.len() as u64;
            let took = u128::from(length) * 1_000_000_000 / u128::from(rate);
            let took = Nanos::try_from(took).unwrap_or(NEVER);
            self.free_at = self.free_at.max(chunk.due).saturating_add(took);
            self.fired = true;
            out.push(Chunk {
                bytes: piece.to_vec(),
                offset,
                due: self.free_at,
            });
            offset += length;
        }
    }

    fn slice(
        &mut self,
        chunk: Chunk,
        average: u64,
        variation: u64,
        delay: Nanos,
        out: &mut Vec<Chunk>,
    ) {
        let (mut offset, mut rest) = (chunk.offset, chunk.bytes.as_slice());
        while !rest.is_empty() {
            while self.piece.0 <= offset {
                let spread = variation.min(average - 1) as f64;
                let size =
                    average as f64 + (self.unit(b"slice", self.piece.1) * 2.0 - 1.0) * spread;
                self.piece = (
                    self.piece.0 + (size.round() as u64).max(1),
                    self.piece.1 + 1,
                );
            }
            let most = usize::try_from(self.piece.0 - offset).unwrap_or(usize::MAX);
            let (piece, left) = rest.split_at(most.min(rest.len()));
            let due = chunk.due.max(self.free_at);
            let end = offset + piece.len() as u64;
            if self.piece.0 == end {
                self.fired = true;
                self.free_at = due.saturating_add(delay);
            }
            out.push(Chunk {
                bytes: piece.to_vec(),
                offset,
                due,
            });
            (offset, rest) = (end, left);
        }
    }

    fn limit(&mut self, mut chunk: Chunk, bytes: u64, out: &mut Vec<Chunk>) -> bool {
        let left = bytes.saturating_sub(self.passed);
        let kept = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(chunk.bytes.len());
        self.passed += kept as u64;
        let ends = self.passed >= bytes;
        chunk.bytes.truncate(kept);
        self.fired |= ends;
        if kept > 0 {
            out.push(chunk);
        }
        ends
    }

    fn corrupt(&mut self, chunk: &mut Chunk, every: u64) {
        let end = chunk.offset + chunk.bytes.len() as u64;
        for block in chunk.offset / every..=end.saturating_sub(1) / every {
            if !self.hits(block) {
                continue;
            }
            // One draw gives the byte and its bit.
            let drawn = (self.unit(b"flip", block) * every as f64 * 8.0) as u64;
            let place = block * every + (drawn / 8).min(every - 1);
            if (chunk.offset..end).contains(&place) {
                chunk.bytes[(place - chunk.offset) as usize] ^= 1 << (drawn % 8);
                self.fired = true;
            }
        }
    }
}
