//! Names of services, resolved on threads of their own: a slow name server holds up the connections that need it, and nobody else.

use super::worker::{Inbox, Message};
use crate::proxy::locked;
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(1);

pub(super) type Found = Result<Vec<SocketAddr>, String>;

#[derive(Default)]
struct Name {
    known: Option<(Found, Instant)>,
    waiting: Vec<(Inbox, u64)>,
}

#[derive(Default)]
pub(super) struct Resolver {
    names: Mutex<HashMap<String, Name>>,
}

impl Resolver {
    /// The addresses of `host:port`, or nothing when the one who asks will be told later.
    pub(super) fn resolve(
        self: &Arc<Resolver>,
        upstream: &str,
        asker: (Inbox, u64),
    ) -> Option<Found> {
        if let Ok(address) = upstream.parse() {
            return Some(Ok(vec![address]));
        }
        let mut names = locked(&self.names);
        let name = names.entry(upstream.to_owned()).or_default();
        if let Some((found, at)) = &name.known
            && at.elapsed() < FRESH
        {
            return Some(found.clone());
        }
        name.waiting.push(asker);
        if name.waiting.len() == 1 {
            let (resolver, upstream) = (self.clone(), upstream.to_owned());
            let thread = std::thread::Builder::new().name("resolve".into());
            if let Err(error) = thread.spawn(move || resolver.look_up(&upstream)) {
                name.waiting.clear();
                return Some(Err(error.to_string()));
            }
        }
        None
    }

    fn look_up(&self, upstream: &str) {
        let found = match upstream.to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(format!("{upstream} could not be resolved: {error}")),
        };
        let mut names = locked(&self.names);
        let name = names.entry(upstream.to_owned()).or_default();
        name.known = Some((found.clone(), Instant::now()));
        let waiting = std::mem::take(&mut name.waiting);
        drop(names);
        for (inbox, key) in waiting {
            inbox.push(Message::Resolved(key, found.clone()));
        }
    }
}
