//! Carries bytes between clients and services: a few threads, each with an epoll of its own.

pub(crate) use ends::{Ends, Fate, Side};
pub(crate) use session::{Session, left};

mod connection;
mod ends;
mod outbox;
mod resolve;
mod secure;
mod session;
mod timer;
mod worker;

use crate::proxy::Proxy;
use crate::web::{Mocked, Web};
use rustix::fd::OwnedFd;
use session::Plain;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use worker::{Inbox, Message, Worker};

/// How long a worker may take to let go of a proxy.
const FORGET_MAX: Duration = Duration::from_secs(5);

type Loads = Arc<Vec<AtomicUsize>>;

/// A proxy's listening socket.
struct Listening {
    number: u64,
    socket: OwnedFd,
    proxy: Arc<Proxy>,
}

impl Listening {
    fn session(&self, number: u64) -> Box<dyn Session> {
        session(&self.proxy, number)
    }
}

/// What the `number`-th connection of a proxy does with bytes.
pub(crate) fn session(proxy: &Proxy, number: u64) -> Box<dyn Session> {
    if let Some(pace) = proxy.pace {
        return Box::new(Mocked::new(proxy.seed, number, pace));
    }
    match proxy.speaks_http {
        true => Box::new(Web::new(proxy.seed, number)),
        false => Box::new(Plain::new(proxy.seed, number)),
    }
}

/// The running workers. They end when this is dropped.
pub(crate) struct Relay {
    inboxes: Arc<Vec<Inbox>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    listeners: AtomicU64,
}

impl Relay {
    /// Starts workers.
    ///
    /// # Errors
    /// When the system gives no more threads or file descriptors.
    pub(crate) fn start(workers: usize) -> io::Result<Relay> {
        let count = workers.max(1);
        let inboxes = (0..count)
            .map(|_| Inbox::new())
            .collect::<io::Result<Vec<_>>>()?;
        let loads: Loads = Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect());
        let resolver = Arc::default();
        let mut relay = Relay {
            inboxes: Arc::new(inboxes),
            threads: Vec::new(),
            listeners: AtomicU64::new(0),
        };
        for number in 0..count {
            let worker = Worker::new(
                number,
                relay.inboxes.clone(),
                loads.clone(),
                Arc::clone(&resolver),
            )?;
            let thread = std::thread::Builder::new().name(format!("relay-{number}"));
            relay.threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(relay)
    }

    /// Accepts clients of a proxy from now on.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub(crate) fn listen(&self, listener: TcpListener, proxy: &Arc<Proxy>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listening = Arc::new(Listening {
            number: self.listeners.fetch_add(1, Ordering::Relaxed),
            socket: listener.into(),
            proxy: proxy.clone(),
        });
        for inbox in self.inboxes.iter() {
            inbox.push(Message::Listen(listening.clone()));
        }
        Ok(())
    }

    /// Stops a proxy: nobody is accepted, its connections are closed, its port is free when this returns.
    pub(crate) fn forget(&self, proxy: &Arc<Proxy>) {
        proxy.retire();
        let (done, all_done) = sync_channel(self.inboxes.len());
        for inbox in self.inboxes.iter() {
            inbox.push(Message::Forget(proxy.clone(), done.clone()));
        }
        // A worker answers within its turn; one that has ended has let go of everything.
        for _ in self.inboxes.iter() {
            if all_done.recv_timeout(FORGET_MAX).is_err() {
                break;
            }
        }
    }

    /// Lets open connections follow a proxy's rules at once.
    pub(crate) fn changed(&self, proxy: &Arc<Proxy>) {
        for inbox in self.inboxes.iter() {
            inbox.push(Message::Changed(proxy.clone()));
        }
    }

    /// Whether a worker has ended by itself, which none should.
    pub(crate) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for inbox in self.inboxes.iter() {
            inbox.push(Message::Stop);
        }
        for thread in self.threads.drain(..) {
            // One that panicked has said so on stderr.
            drop(thread.join());
        }
    }
}
