//! What can be done to a byte stream, and a rule: one such fault, set on a proxy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A direction through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the service.
    Upstream,
    /// From the service to the client.
    Downstream,
    /// Each of the two, on its own.
    Both,
}

impl Way {
    /// Whether a rule for `self` acts on the direction `one`.
    pub fn covers(self, one: Way) -> bool {
        self == Way::Both || self == one
    }

    /// As it is written in files and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Way::Upstream => "upstream",
            Way::Downstream => "downstream",
            Way::Both => "both",
        }
    }
}

/// How often the probability of a rule is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Once for each connection.
    Connection,
    /// For each chunk, by its place in the stream. Only `latency` and `corrupt` act on chunks by themselves.
    Chunk,
}

/// A fault of a byte stream. Times are from nanoseconds up to a year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Does nothing.
    Noop,
    /// Each chunk arrives later by `latency`, give or take up to `jitter` (uniform). Order is kept.
    Latency {
        /// The delay of each chunk.
        latency: Duration,
        /// The most by which it is longer or shorter.
        jitter: Duration,
    },
    /// At most this many bytes a second; 0 is no limit.
    Bandwidth {
        /// Bytes a second.
        rate: u64,
    },
    /// The end of the stream arrives later.
    SlowClose {
        /// By how much.
        delay: Duration,
    },
    /// Nothing arrives, and the connection is closed after `timeout`; never when it is 0, until the rule is removed.
    Timeout {
        /// From the start of the connection, or the setting of the rule on an open one.
        timeout: Duration,
    },
    /// Nothing arrives, and both ends are reset (a TCP RST) after `timeout`.
    ResetPeer {
        /// From the start of the connection, or the setting of the rule on an open one.
        timeout: Duration,
    },
    /// Bytes arrive in small pieces, whose borders depend on the seed and their place in the stream alone.
    Slicer {
        /// Mean size of a piece in bytes, at least 1.
        average: u64,
        /// The most by which a piece is larger or smaller, in bytes; below `average`.
        variation: u64,
        /// Time between two pieces.
        delay: Duration,
    },
    /// The connection is closed after this many bytes.
    LimitData {
        /// Bytes that still arrive.
        bytes: u64,
    },
    /// One bit is flipped in each block of `every` bytes.
    Corrupt {
        /// Size of a block in bytes, at least 1.
        every: u64,
    },
    /// Bytes and the end of the stream vanish, and nobody is told.
    HalfOpen,
    /// Nothing arrives while the rule is set; all of it arrives when it is removed.
    Partition,
}

impl Fault {
    /// Its name in Toxiproxy's API, and for the faults that API lacks, ours.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Noop => "noop",
            Fault::Latency { .. } => "latency",
            Fault::Bandwidth { .. } => "bandwidth",
            Fault::SlowClose { .. } => "slow_close",
            Fault::Timeout { .. } => "timeout",
            Fault::ResetPeer { .. } => "reset_peer",
            Fault::Slicer { .. } => "slicer",
            Fault::LimitData { .. } => "limit_data",
            Fault::Corrupt { .. } => "corrupt",
            Fault::HalfOpen => "half_open",
            Fault::Partition => "partition",
        }
    }
}

/// One fault, set on a proxy. Armed from then on; landed when it has fired.
#[derive(Debug)]
pub struct Rule {
    /// Unique in its proxy.
    pub name: String,
    /// The direction that it acts on.
    pub way: Way,
    /// Share of connections (or chunks) that it acts on, 0 to 1.
    pub probability: f64,
    /// What is drawn for.
    pub per: Per,
    /// What it does.
    pub fault: Fault,
    /// How often it has acted; kept when the rule is changed.
    pub fired: AtomicU64,
}

impl Rule {
    /// A rule that acts on every connection.
    pub fn new(name: &str, way: Way, fault: Fault) -> Rule {
        Rule {
            name: name.to_owned(),
            way,
            probability: 1.0,
            per: Per::Connection,
            fault,
            fired: AtomicU64::new(0),
        }
    }

    /// Whether it has acted at all.
    pub fn has_landed(&self) -> bool {
        self.fired.load(Ordering::Relaxed) > 0
    }
}
