//! A worker: one thread, one epoll, its connections. Never waits for anything but epoll.

use super::connection::{Connection, Next};
use super::ends::Side;
use super::resolve::Resolver;
use super::timer::{Timers, now};
use super::{Listening, Loads};
use crate::proxy::Proxy;
use crate::record::What;
use crate::stream::Nanos;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::set_tcp_nodelay;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

/// Bytes read at once.
const READ_MAX: usize = 64 * 1024;
/// Clients accepted in a row before connections are served again.
const ACCEPT_MAX: usize = 16;
/// A worker with this many more connections than another hands new ones over.
const UNEVEN: usize = 4;
/// How long a worker without free file descriptors accepts nobody, in nanoseconds.
const PAUSE: Nanos = 100_000_000;

const WAKE: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Marks the key of a listener; below it stands its number.
const LISTENER: u64 = 1 << 63;

/// What a worker is told by others.
pub(super) enum Message {
    Listen(Arc<Listening>),
    /// Forget a proxy, close its connections, and say so.
    Forget(Arc<Proxy>, SyncSender<()>),
    /// A proxy's rules have changed.
    Changed(Arc<Proxy>),
    /// Take over a client that another has accepted.
    Adopt(Arc<Listening>, OwnedFd, u64),
    Resolved(u64, Result<Vec<SocketAddr>, String>),
    Stop,
}

/// Where a worker is told.
#[derive(Clone)]
pub(super) struct Inbox {
    messages: Arc<Mutex<Vec<Message>>>,
    wake: Arc<OwnedFd>,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Inbox> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Inbox {
            messages: Arc::default(),
            wake: Arc::new(wake),
        })
    }

    pub(super) fn push(&self, message: Message) {
        crate::proxy::locked(&self.messages).push(message);
        // Full means that it is awake already.
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).ok();
    }

    fn take(&self) -> Vec<Message> {
        let mut count = [0; 8];
        // Empty means that another message woke it.
        rustix::io::read(&*self.wake, &mut count).ok();
        std::mem::take(&mut crate::proxy::locked(&self.messages))
    }
}

pub(super) struct Worker {
    number: usize,
    poller: OwnedFd,
    inbox: Inbox,
    all: Arc<Vec<Inbox>>,
    loads: Loads,
    resolver: Arc<Resolver>,
    timers: Timers,
    listeners: Vec<Arc<Listening>>,
    paused: Vec<Arc<Listening>>,
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    generation: u64,
    scratch: Vec<u8>,
    stopping: bool,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        all: Arc<Vec<Inbox>>,
        loads: Loads,
        resolver: Arc<Resolver>,
    ) -> io::Result<Worker> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timers = Timers::new()?;
        let inbox = all[number].clone();
        epoll::add(
            &poller,
            &*inbox.wake,
            EventData::new_u64(WAKE),
            EventFlags::IN,
        )?;
        epoll::add(
            &poller,
            timers.fd(),
            EventData::new_u64(TIMER),
            EventFlags::IN,
        )?;
        Ok(Worker {
            number,
            poller,
            inbox,
            all,
            loads,
            resolver,
            timers,
            listeners: Vec::new(),
            paused: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            scratch: vec![0; READ_MAX],
            stopping: false,
        })
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while !self.stopping {
            self.timers.arm()?;
            events.clear();
            match epoll::wait(&self.poller, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = now();
            for event in &events {
                let (key, flags) = (event.data.u64(), event.flags);
                match key {
                    WAKE => self.messages(now)?,
                    TIMER => self.timers_due(now)?,
                    key if key & LISTENER != 0 => self.accept(key & !LISTENER, now)?,
                    key => self.event(key, flags, now)?,
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, key: u64, flags: EventFlags, now: Nanos) -> io::Result<()> {
        let side = if key & 1 == 0 {
            Side::Client
        } else {
            Side::Server
        };
        let Some(mut connection) = self.take(key & !1) else {
            return Ok(());
        };
        connection.event(side, flags, now, &mut self.scratch);
        self.put(connection, now)
    }

    fn timers_due(&mut self, now: Nanos) -> io::Result<()> {
        self.timers.went_off();
        while let Some(key) = self.timers.pop(now) {
            if key & LISTENER != 0 {
                for listening in std::mem::take(&mut self.paused) {
                    self.listen(&listening)?;
                }
            } else if let Some(mut connection) = self.take(key) {
                connection.timer(now);
                self.put(connection, now)?;
            }
        }
        Ok(())
    }

    fn messages(&mut self, now: Nanos) -> io::Result<()> {
        for message in self.inbox.take() {
            match message {
                Message::Listen(listening) => {
                    self.listen(&listening)?;
                    self.listeners.push(listening);
                }
                Message::Forget(proxy, done) => {
                    self.forget(&proxy)?;
                    // Whoever asked has stopped waiting, then.
                    done.send(()).ok();
                }
                Message::Changed(proxy) => {
                    for key in self.keys_of(&proxy) {
                        if let Some(mut connection) = self.take(key) {
                            connection.follow(now);
                            self.put(connection, now)?;
                        }
                    }
                }
                Message::Adopt(listening, client, number) => {
                    self.admit(&listening, client, number, now)?
                }
                Message::Resolved(key, found) => {
                    if let Some(mut connection) = self.take(key) {
                        connection.resolved(found, now);
                        self.put(connection, now)?;
                    }
                }
                Message::Stop => self.stopping = true,
            }
        }
        Ok(())
    }

    fn listen(&self, listening: &Listening) -> io::Result<()> {
        let data = EventData::new_u64(LISTENER | listening.number);
        // Exclusive: a new client wakes one worker, not all.
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.poller, &listening.socket, data, flags)?)
    }

    fn forget(&mut self, proxy: &Arc<Proxy>) -> io::Result<()> {
        let is_its = |listening: &Arc<Listening>| Arc::ptr_eq(&listening.proxy, proxy);
        for listening in self.listeners.iter().filter(|one| is_its(one)) {
            if !self
                .paused
                .iter()
                .any(|paused| Arc::ptr_eq(paused, listening))
            {
                epoll::delete(&self.poller, &listening.socket)?;
            }
        }
        self.listeners.retain(|one| !is_its(one));
        self.paused.retain(|one| !is_its(one));
        for key in self.keys_of(proxy) {
            if let Some(connection) = self.take(key) {
                self.release(key);
                drop(connection);
            }
        }
        Ok(())
    }

    fn keys_of(&self, proxy: &Arc<Proxy>) -> Vec<u64> {
        let connections = self.slots.iter().flatten();
        connections
            .filter(|it| Arc::ptr_eq(&it.ends.proxy, proxy))
            .map(|it| it.key)
            .collect()
    }

    fn accept(&mut self, number: u64, now: Nanos) -> io::Result<()> {
        let found = self
            .listeners
            .iter()
            .find(|listening| listening.number == number);
        let Some(listening) = found.cloned() else {
            return Ok(());
        };
        for _ in 0..ACCEPT_MAX {
            let (client, number) = match listening.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return Ok(()),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause(listening, now);
                }
                // The client went away before it was accepted.
                Err(_) => continue,
            };
            match self.idler() {
                Some(other) => {
                    self.all[other].push(Message::Adopt(listening.clone(), client, number))
                }
                None => self.admit(&listening, client, number, now)?,
            }
        }
        Ok(())
    }

    /// Nobody can be accepted now, and the listener would be reported for ever.
    fn pause(&mut self, listening: Arc<Listening>, now: Nanos) -> io::Result<()> {
        listening.proxy.record(
            0,
            What::Unreachable {
                because: "no file descriptor is free for another client".into(),
            },
        );
        epoll::delete(&self.poller, &listening.socket)?;
        self.paused.push(listening);
        self.timers.add(now.saturating_add(PAUSE), LISTENER);
        Ok(())
    }

    /// Another worker that has much less to do.
    fn idler(&self) -> Option<usize> {
        let load = |worker: usize| self.loads[worker].load(Ordering::Relaxed);
        let least = (0..self.loads.len()).min_by_key(|worker| load(*worker))?;
        (load(self.number) >= load(least) + UNEVEN).then_some(least)
    }

    fn admit(
        &mut self,
        listening: &Listening,
        client: OwnedFd,
        number: u64,
        now: Nanos,
    ) -> io::Result<()> {
        if listening.proxy.is_gone() {
            return Ok(());
        }
        // A client that is gone already shows when it is read.
        set_tcp_nodelay(&client, true).ok();
        let session = listening.session(number);
        let mut connection = Box::new(Connection::new(
            client,
            listening.proxy.clone(),
            number,
            session,
        ));
        self.generation = (self.generation + 1) & 0x3fff_ffff;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        connection.key = self.generation << 33 | u64::from(slot) << 1;
        self.loads[self.number].fetch_add(1, Ordering::Relaxed);
        connection.open(now);
        self.put(connection, now)
    }

    fn take(&mut self, key: u64) -> Option<Box<Connection>> {
        let slot = self.slots.get_mut(slot_of(key))?;
        slot.take_if(|connection| connection.key == key)
    }

    fn release(&mut self, key: u64) {
        self.free.push(slot_of(key) as u32);
        self.loads[self.number].fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts a connection back after it was looked at, or ends it.
    fn put(&mut self, mut connection: Box<Connection>, now: Nanos) -> io::Result<()> {
        loop {
            match connection.settle(&self.poller, now)? {
                Next::Drop => {
                    self.release(connection.key);
                    return Ok(());
                }
                Next::Keep => break,
                Next::Resolve => {
                    let answer = (self.inbox.clone(), connection.key);
                    match self
                        .resolver
                        .resolve(&connection.ends.proxy.upstream, answer)
                    {
                        Some(found) => connection.resolved(found, now),
                        None => break,
                    }
                }
            }
        }
        let due = connection.due();
        if due < connection.armed {
            connection.armed = due;
            self.timers.add(due, connection.key);
        }
        let slot = slot_of(connection.key);
        self.slots[slot] = Some(connection);
        Ok(())
    }
}

fn slot_of(key: u64) -> usize {
    (key >> 1 & 0xffff_ffff) as usize
}

/// Accepts a client and numbers it, in the order in which they came: both under one lock.
impl Listening {
    fn accept(&self) -> Result<Option<(OwnedFd, u64)>, Errno> {
        let mut next = crate::proxy::locked(&self.proxy.next);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (client, from) = match rustix::net::acceptfrom_with(&self.socket, flags) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = *next;
        *next += 1;
        drop(next);
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        let from = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
        self.proxy.record(number, What::Opened { from });
        Ok(Some((client, number)))
    }
}
