//! A bare relay on one epoll, the floor that `squall-bench proxy` compares with: no faults, no log, no names.
//! `squall-floor UPSTREAM` prints where it listens. TCP_NODELAY on both sides; a half-close ends both.

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

/// Two sockets, and for each what it has not taken yet.
struct Pair {
    sockets: [OwnedFd; 2],
    waiting: [Vec<u8>; 2],
}

fn main() -> anyhow::Result<()> {
    let upstream = std::env::args().nth(1).unwrap_or_default();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    listener.set_nonblocking(true)?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poller,
        &listener,
        EventData::new_u64(u64::MAX),
        EventFlags::IN,
    )?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poller, spare_capacity(&mut events), None)?;
        for event in &events {
            let key = event.data.u64();
            if key == u64::MAX {
                if let Ok((client, _)) = listener.accept() {
                    let slot = free.pop().unwrap_or_else(|| {
                        pairs.push(None);
                        pairs.len() - 1
                    });
                    pairs[slot] = Some(joined(client, &upstream, &poller, slot)?);
                }
                continue;
            }
            let (slot, side) = ((key / 2) as usize, (key % 2) as usize);
            let Some(pair) = &mut pairs[slot] else {
                continue;
            };
            if !carried(pair, side, slot, event.flags, &mut buffer, &poller)? {
                pairs[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn joined(
    client: TcpStream,
    upstream: &str,
    poller: &OwnedFd,
    slot: usize,
) -> anyhow::Result<Pair> {
    let server = TcpStream::connect(upstream)?;
    for (side, socket) in [&client, &server].into_iter().enumerate() {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        epoll::add(
            poller,
            socket,
            EventData::new_u64((slot * 2 + side) as u64),
            EventFlags::IN,
        )?;
    }
    Ok(Pair {
        sockets: [client.into(), server.into()],
        waiting: [Vec::new(), Vec::new()],
    })
}

/// Whether the pair goes on.
fn carried(
    pair: &mut Pair,
    side: usize,
    slot: usize,
    flags: EventFlags,
    buffer: &mut [u8],
    poller: &OwnedFd,
) -> anyhow::Result<bool> {
    let watch = |pair: &Pair, side: usize| -> anyhow::Result<()> {
        let mut wanted = EventFlags::empty();
        if pair.waiting[1 - side].is_empty() {
            wanted |= EventFlags::IN;
        }
        if !pair.waiting[side].is_empty() {
            wanted |= EventFlags::OUT;
        }
        let data = EventData::new_u64((slot * 2 + side) as u64);
        Ok(epoll::modify(poller, &pair.sockets[side], data, wanted)?)
    };
    if flags.contains(EventFlags::OUT) {
        let sent = send(pair.sockets[side].as_fd(), &pair.waiting[side]);
        let Some(sent) = sent else { return Ok(false) };
        pair.waiting[side].drain(..sent);
        watch(pair, 0)?;
        watch(pair, 1)?;
    }
    if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
        return Ok(true);
    }
    let count = match rustix::io::read(&pair.sockets[side], &mut *buffer) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
        Err(_) => return Ok(false),
    };
    let other = 1 - side;
    let Some(sent) = send(pair.sockets[other].as_fd(), &buffer[..count]) else {
        return Ok(false);
    };
    if sent < count {
        pair.waiting[other].extend_from_slice(&buffer[sent..count]);
        watch(pair, 0)?;
        watch(pair, 1)?;
    }
    Ok(true)
}

fn send(socket: rustix::fd::BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => Some(sent),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
