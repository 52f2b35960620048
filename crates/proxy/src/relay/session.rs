//! What a connection does with bytes: the border between sockets and verdicts.

use super::ends::{Ends, Side};
use crate::record::What;
use crate::stream::{HELD_MAX, Nanos, Pipe, Rule, Sink, Way};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is left of the room of a direction in which so much is kept.
pub(crate) fn left(kept: usize, reserved: usize) -> usize {
    let reserved = if kept == 0 { 0 } else { reserved };
    HELD_MAX.saturating_sub(kept).saturating_sub(reserved)
}

/// One connection's state. Opens no socket, and decides by the time it is given; only dates that are written out come
/// from the wall clock.
pub(crate) trait Session: Send {
    /// A client has connected.
    fn open(&mut self, now: Nanos, ends: &mut Ends);
    /// Bytes have arrived from one side, at most [`Session::room`] of them.
    fn data(&mut self, side: Side, bytes: &[u8], now: Nanos, ends: &mut Ends);
    /// One side sends no more.
    fn ended(&mut self, side: Side, now: Nanos, ends: &mut Ends);
    /// The service could not be reached; or it answered, and its TLS was refused.
    fn failed(&mut self, because: &str, answered: bool, now: Nanos, ends: &mut Ends);
    /// The proxy's rules have changed.
    fn changed(&mut self, now: Nanos, ends: &mut Ends);
    /// The time given by [`Session::due`] has come.
    fn poll(&mut self, now: Nanos, ends: &mut Ends);
    /// When it wants to be polled.
    fn due(&self) -> Nanos;
    /// How many bytes it takes from a side now, given what the other side has not taken yet, and how much memory is needed
    /// for something else as soon as anything is kept.
    fn room(&self, side: Side, waiting: usize, reserved: usize) -> usize;
}

/// Bytes as they are: a pipe for each direction.
pub(crate) struct Plain {
    up: Pipe,
    down: Pipe,
    told: Vec<(Arc<Rule>, Way)>,
}

impl Plain {
    pub(crate) fn new(seed: u64, number: u64) -> Plain {
        Plain {
            up: Pipe::new(seed, number, Way::Upstream),
            down: Pipe::new(seed, number, Way::Downstream),
            told: Vec::new(),
        }
    }

    fn with(&mut self, side: Side, ends: &mut Ends, act: impl FnOnce(&mut Pipe, &mut dyn Sink)) {
        let (pipe, way) = match side {
            Side::Client => (&mut self.up, Way::Upstream),
            Side::Server => (&mut self.down, Way::Downstream),
        };
        let mut toward = Toward {
            ends,
            to: side.other(),
            way,
            told: &mut self.told,
        };
        act(pipe, &mut toward);
    }
}

impl Session for Plain {
    fn open(&mut self, now: Nanos, ends: &mut Ends) {
        ends.wants_server = true;
        self.changed(now, ends);
    }

    fn data(&mut self, side: Side, bytes: &[u8], now: Nanos, ends: &mut Ends) {
        self.with(side, ends, |pipe, sink| pipe.push(bytes, now, sink));
    }

    fn ended(&mut self, side: Side, now: Nanos, ends: &mut Ends) {
        self.with(side, ends, |pipe, sink| pipe.end(now, sink));
    }

    fn failed(&mut self, because: &str, _: bool, _: Nanos, ends: &mut Ends) {
        ends.record(What::Unreachable {
            because: because.to_owned(),
        });
        // What the client would have seen without us: no service, no orderly end.
        ends.reset();
    }

    fn changed(&mut self, now: Nanos, ends: &mut Ends) {
        let rules = ends.proxy.rules();
        for side in [Side::Client, Side::Server] {
            self.with(side, ends, |pipe, sink| pipe.set_rules(&rules, now, sink));
        }
    }

    fn poll(&mut self, now: Nanos, ends: &mut Ends) {
        for side in [Side::Client, Side::Server] {
            self.with(side, ends, |pipe, sink| pipe.poll(now, sink));
        }
    }

    fn due(&self) -> Nanos {
        self.up.next_due().min(self.down.next_due())
    }

    fn room(&self, side: Side, waiting: usize, reserved: usize) -> usize {
        let pipe = match side {
            Side::Client => &self.up,
            Side::Server => &self.down,
        };
        left(HELD_MAX - pipe.room() + waiting, reserved)
    }
}

/// One direction's way out.
struct Toward<'a> {
    ends: &'a mut Ends,
    to: Side,
    way: Way,
    told: &'a mut Vec<(Arc<Rule>, Way)>,
}

impl Sink for Toward<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.ends.send(self.to, bytes);
    }

    fn end(&mut self) {
        self.ends.end(self.to).finish();
    }

    fn close(&mut self) {
        self.ends.close();
    }

    fn reset(&mut self) {
        self.ends.reset();
    }

    /// Each firing is counted; the first of a rule on a direction of a connection is told.
    fn fired(&mut self, rule: &Arc<Rule>, place: u64) {
        rule.fired.fetch_add(1, Ordering::Relaxed);
        let known = |(known, way): &(Arc<Rule>, Way)| Arc::ptr_eq(known, rule) && *way == self.way;
        if !self.told.iter().any(known) {
            self.told.push((rule.clone(), self.way));
            self.ends.record(What::Fired {
                rule: rule.name.clone(),
                fault: rule.fault.kind().to_owned(),
                way: Some(self.way.word()),
                place,
                unit: "bytes",
            });
        }
    }
}
