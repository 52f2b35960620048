//! What leaves towards the client, and when. Order is kept.

use super::rule::{Cut, WebRule};
use crate::record::What;
use crate::relay::{Ends, Side};
use crate::stream::{NEVER, Nanos};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug)]
enum Out {
    Bytes(Vec<u8>),
    Finish,
    Cut(Cut),
}

/// What it costs to keep something, beside its bytes.
pub(super) const KEPT: usize = 64;

/// What waits for its time.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    queue: VecDeque<(Nanos, Out)>,
    held: usize,
    /// Nothing leaves before this.
    clock: Nanos,
}

impl Timeline {
    /// How much memory what waits takes, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// What follows leaves later.
    pub(super) fn delay(&mut self, now: Nanos, by: Nanos) {
        self.clock = self.clock.max(now).saturating_add(by);
    }

    /// What follows never leaves.
    pub(super) fn stop(&mut self) {
        self.clock = NEVER;
    }

    pub(super) fn stands_still(&self) -> bool {
        self.clock == NEVER
    }

    /// Lets everything leave at once.
    pub(super) fn release(&mut self, now: Nanos, ends: &mut Ends) {
        self.clock = 0;
        for (due, _) in &mut self.queue {
            *due = now;
        }
        self.poll(now, ends);
    }

    fn push(&mut self, out: Out, now: Nanos, ends: &mut Ends) {
        let due = self.clock.max(now);
        if self.queue.is_empty() && due <= now {
            act(out, ends);
            return;
        }
        if let Out::Bytes(bytes) = &out {
            self.held += bytes.len() + KEPT;
        }
        self.queue.push_back((due, out));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        if self.queue.is_empty() && self.clock <= now {
            ends.send(Side::Client, bytes);
        } else if !bytes.is_empty() {
            self.push(Out::Bytes(bytes.to_vec()), now, ends);
        }
    }

    pub(super) fn finish(&mut self, now: Nanos, ends: &mut Ends) {
        self.push(Out::Finish, now, ends);
    }

    /// The connection ends after what is queued.
    pub(super) fn close(&mut self, now: Nanos, ends: &mut Ends) {
        self.push(Out::Cut(Cut::Close), now, ends);
    }

    pub(super) fn poll(&mut self, now: Nanos, ends: &mut Ends) {
        while self.queue.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, out)) = self.queue.pop_front() else {
                return;
            };
            if let Out::Bytes(bytes) = &out {
                self.held -= bytes.len() + KEPT;
            }
            act(out, ends);
        }
    }

    pub(super) fn next_due(&self) -> Nanos {
        self.queue.front().map_or(NEVER, |(due, _)| *due)
    }
}

fn act(out: Out, ends: &mut Ends) {
    match out {
        Out::Bytes(bytes) => ends.send(Side::Client, &bytes),
        Out::Finish => ends.client.finish(),
        Out::Cut(Cut::End) => {}
        Out::Cut(Cut::Close) => ends.close(),
        Out::Cut(Cut::Reset) => ends.reset(),
    }
}

/// The body of an answer on its way out.
pub(super) struct Writer<'a> {
    pub(super) timeline: &'a mut Timeline,
    pub(super) ends: &'a mut Ends,
    pub(super) now: Nanos,
    pub(super) chunked: bool,
}

impl Writer<'_> {
    /// Whether nothing waits: neither for its time nor for the client.
    pub(super) fn is_idle(&self) -> bool {
        self.timeline.held() == 0 && self.ends.client.waiting() == 0
    }

    /// Content, as one chunk where the body is chunked.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.chunked {
            return self.timeline.bytes(bytes, self.now, self.ends);
        }
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.timeline.bytes(&framed, self.now, self.ends);
    }

    /// The body ends in order.
    pub(super) fn end(&mut self) {
        match self.chunked {
            true => self.timeline.bytes(b"0\r\n\r\n", self.now, self.ends),
            false => self.timeline.finish(self.now, self.ends),
        }
    }

    /// The body ends otherwise.
    pub(super) fn cut(&mut self, how: Cut) {
        match how {
            Cut::End => self.end(),
            how => self.timeline.push(Out::Cut(how), self.now, self.ends),
        }
    }

    pub(super) fn fired(&mut self, rule: &Arc<WebRule>, place: u64, unit: &'static str) {
        fired(self.ends, rule, place, unit);
    }
}

/// Counts a firing, and tells it.
pub(super) fn fired(ends: &Ends, rule: &Arc<WebRule>, place: u64, unit: &'static str) {
    rule.fired.fetch_add(1, Ordering::Relaxed);
    ends.record(What::Fired {
        rule: rule.name.clone(),
        fault: rule.fault.name().to_owned(),
        way: None,
        place,
        unit,
    });
}
