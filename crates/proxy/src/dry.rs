//! A connection without sockets: what a proxy would send, given what both sides say and when. Fuzz targets and tests
//! speak to it, so what they find is what clients would see.
//!
//! Invariant: it is never given more than it has room for, as on a socket.

use crate::file::{AnyRule, RuleConfig};
use crate::proxy::{Lasting, Proxy};
use crate::record::Recorder;
use crate::relay::{Ends, Fate, Session, Side, session};
use crate::stream::Nanos;
use crate::tls::Secured;
use std::sync::Arc;

/// One connection of one proxy.
pub struct Dry {
    ends: Ends,
    session: Box<dyn Session>,
    now: Nanos,
    to_client: Vec<u8>,
    to_service: Vec<u8>,
}

impl Dry {
    /// A client of a proxy that leads to `upstream` and has these rules has just connected. Nothing is dialled.
    pub fn new(seed: u64, upstream: &str, rules: &[RuleConfig]) -> Dry {
        let proxy = Proxy::new(
            "dry",
            upstream,
            seed,
            &Lasting::default(),
            Recorder::none(),
            Secured::default(),
        );
        let (mut streams, mut webs) = (Vec::new(), Vec::new());
        for rule in rules {
            match rule.rule() {
                AnyRule::Stream(rule) => streams.push(Arc::new(rule)),
                AnyRule::Web(rule) => webs.push(Arc::new(rule)),
            }
        }
        proxy.set_rules(streams, webs);
        let session = session(&proxy, 0);
        let mut dry = Dry {
            ends: Ends::new(Arc::new(proxy), 0),
            session,
            now: 0,
            to_client: Vec::new(),
            to_service: Vec::new(),
        };
        dry.session.open(0, &mut dry.ends);
        dry.collect();
        dry
    }

    /// The client sends this, in parts of at most `part` bytes. Gives how much was taken before there was no more room.
    pub fn client_says(&mut self, bytes: &[u8], part: usize) -> usize {
        self.says(Side::Client, bytes, part)
    }

    /// The service sends this, in parts of at most `part` bytes. Gives how much was taken before there was no more room.
    pub fn service_says(&mut self, bytes: &[u8], part: usize) -> usize {
        self.says(Side::Server, bytes, part)
    }

    fn says(&mut self, side: Side, bytes: &[u8], part: usize) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_over() {
            let room = self.session.room(side, 0, 0).min(part.max(1));
            let end = bytes.len().min(taken + room);
            if end == taken {
                break;
            }
            self.session
                .data(side, &bytes[taken..end], self.now, &mut self.ends);
            self.collect();
            taken = end;
        }
        taken
    }

    /// The client sends no more.
    pub fn client_ends(&mut self) {
        self.ends(Side::Client);
    }

    /// The service sends no more.
    pub fn service_ends(&mut self) {
        self.ends(Side::Server);
    }

    fn ends(&mut self, side: Side) {
        if !self.is_over() {
            self.session.ended(side, self.now, &mut self.ends);
            self.collect();
        }
    }

    /// Time goes on to `until`, in nanoseconds since the client has connected.
    pub fn wait(&mut self, until: u64) {
        while !self.is_over() && self.session.due() <= until {
            self.now = self.now.max(self.session.due());
            self.session.poll(self.now, &mut self.ends);
            self.collect();
        }
        self.now = self.now.max(until);
    }

    /// Everything is taken at once: both readers are quick.
    fn collect(&mut self) {
        self.to_client.extend(self.ends.client.drain());
        self.to_service.extend(self.ends.server.drain());
    }

    /// All that the client was sent so far.
    pub fn to_client(&self) -> &[u8] {
        &self.to_client
    }

    /// All that the service was sent so far.
    pub fn to_service(&self) -> &[u8] {
        &self.to_service
    }

    /// Whether the connection was closed or reset.
    pub fn is_over(&self) -> bool {
        self.ends.fate != Fate::Lives
    }
}
