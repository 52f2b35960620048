//! A netfilter queue in the kernel's own words: packets wait there for our verdict.

use super::mmsg::{AT_ONCE, Datagrams, set_option};
use super::netlink::{ACK, Attributes, ERROR, REQUEST, attributes, errno, frame, replies};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

const SUBSYSTEM: u16 = 3 << 8;
const PACKET: u16 = SUBSYSTEM;
const VERDICT: u16 = SUBSYSTEM | 1;
const CONFIG: u16 = SUBSYSTEM | 2;
const VERDICT_BATCH: u16 = SUBSYSTEM | 3;
const BIND: u8 = 1;
const COPY_META: u8 = 1;
const COPY_PACKET: u8 = 2;
/// Packets that the queue cannot take pass instead of being dropped.
const FAIL_OPEN: u32 = 1;
/// Packets larger than the wire's, as the sender's kernel makes them, are not cut up.
const WHOLE: u32 = 4;
/// The room for messages that wait to be read, in bytes; the kernel doubles it.
const ROOM: i32 = 32 << 20;
/// The longest message of verdicts, well below what a socket sends at once.
const VERDICTS_MAX: usize = 96 << 10;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// What is told of each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// That it is there; large packets come whole.
    Nothing,
    /// That it is there; large packets come cut up, as they go over the wire.
    Cut,
    /// Its length; large packets come whole.
    Heads,
    /// All of it, as it goes over the wire: large packets come cut up, with their checksums.
    Wire,
}

/// A packet that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number in the queue: each one more than the last, unless some could not be queued.
    pub id: u32,
    /// What was asked for, from the IP header on.
    pub bytes: &'a [u8],
    /// Its length in bytes; 0 when nothing of it was asked for.
    pub length: u32,
}

/// What came from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'a> {
    Packet(Packet<'a>),
    /// A verdict was too late: the packet was no longer there.
    Missed,
}

/// A queue that is ours.
#[derive(Debug)]
pub struct Queue {
    socket: OwnedFd,
    number: u16,
    room: Datagrams,
    verdicts: Vec<u8>,
}

impl Queue {
    /// Takes the queue of this number in the network namespace of this thread.
    ///
    /// # Errors
    /// When it is somebody else's, or this process may not.
    pub fn bind(number: u16, copy: Copy, length: u32) -> io::Result<Queue> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        let size = match copy {
            Copy::Nothing | Copy::Cut => 512,
            Copy::Heads => 768,
            Copy::Wire => 66 << 10,
        };
        let mut queue = Queue {
            socket,
            number,
            room: Datagrams::new(AT_ONCE, size),
            verdicts: Vec::with_capacity(VERDICTS_MAX),
        };
        // Without the right to more it is the system's limit.
        set_option(&queue.socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM)
            .or_else(|_| set_option(&queue.socket, libc::SOL_SOCKET, libc::SO_RCVBUF, ROOM))?;
        set_option(
            &queue.socket,
            libc::SOL_NETLINK,
            libc::NETLINK_NO_ENOBUFS,
            1,
        )?;
        let (range, mode) = match copy {
            Copy::Nothing | Copy::Cut => (0u32, COPY_META),
            // Of the bytes none is looked at; their number comes along.
            Copy::Heads => (4, COPY_PACKET),
            Copy::Wire => (0xffff, COPY_PACKET),
        };
        let mut params = range.to_be_bytes().to_vec();
        params.push(mode);
        let whole = matches!(copy, Copy::Nothing | Copy::Heads);
        let flags = FAIL_OPEN | if whole { WHOLE } else { 0 };
        let wanted = Attributes::new()
            .bytes(1, &[BIND, 0, 0, 0])
            .bytes(2, &params)
            .number(3, length)
            .number(4, FAIL_OPEN | WHOLE)
            .number(5, flags);
        // The rule may be there already: what comes before the kernel has said yes goes on.
        let message = frame(CONFIG, REQUEST | ACK, 1, 0, number, wanted.as_bytes());
        for early in ask(&queue.socket, &message)? {
            queue.accept(early, None)?;
        }
        queue.settle()?;
        Ok(queue)
    }

    /// Whether this kernel has queues at all.
    pub fn is_known() -> bool {
        let asked = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        );
        let Ok(socket) = asked else {
            return false;
        };
        // The length of a queue that nobody has taken: a kernel with queues misses the queue, one without misses the subsystem.
        let message = frame(
            CONFIG,
            REQUEST | ACK,
            1,
            0,
            u16::MAX,
            Attributes::new().number(3, 1).as_bytes(),
        );
        let answer = ask(&socket, &message);
        matches!(answer, Err(error) if error.raw_os_error() == Some(libc::ENODEV))
    }

    /// Sets how many packets may wait; the answer comes with the packets.
    pub fn set_length(&self, length: u32) -> io::Result<()> {
        let wanted = Attributes::new().number(3, length);
        let message = frame(CONFIG, REQUEST, 1, 0, self.number, wanted.as_bytes());
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Reads what is there and tells each word, in the order of the queue. How many messages there were.
    pub fn receive(&mut self, mut each: impl FnMut(Word<'_>)) -> io::Result<usize> {
        let count = match self.room.receive(&self.socket) {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => 0,
            Err(error) => return Err(error),
        };
        for message in self.room.iter() {
            for reply in replies(message) {
                match reply.kind {
                    ERROR if errno(reply.body) == libc::ENOENT => each(Word::Missed),
                    PACKET => {
                        if let Some(packet) = packet(reply.body) {
                            each(Word::Packet(packet));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(count)
    }

    /// Lets a packet go on, changed to `bytes` where they are given. Takes effect with [`Queue::settle`].
    pub fn accept(&mut self, id: u32, bytes: Option<&[u8]>) -> io::Result<()> {
        self.verdict(VERDICT, ACCEPT, id, bytes.unwrap_or_default())
    }

    /// Lets every packet up to this one go on. Takes effect with [`Queue::settle`].
    pub fn accept_up_to(&mut self, id: u32) -> io::Result<()> {
        self.verdict(VERDICT_BATCH, ACCEPT, id, &[])
    }

    /// Ends a packet. Takes effect with [`Queue::settle`].
    pub fn drop(&mut self, id: u32) -> io::Result<()> {
        self.verdict(VERDICT, DROP, id, &[])
    }

    fn verdict(&mut self, kind: u16, verdict: u32, id: u32, payload: &[u8]) -> io::Result<()> {
        if self.verdicts.len() + payload.len() > VERDICTS_MAX {
            self.settle()?;
        }
        write_verdict(
            &mut self.verdicts,
            kind,
            self.number,
            [verdict, id],
            payload,
        );
        Ok(())
    }

    /// Sends the verdicts given so far.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let sent = rustix::net::send(&self.socket, &self.verdicts, SendFlags::empty());
        self.verdicts.clear();
        sent?;
        Ok(())
    }
}

/// Appends a verdict as it goes over the wire: there is one for each packet, so nothing is put together elsewhere first.
fn write_verdict(to: &mut Vec<u8>, kind: u16, queue: u16, words: [u32; 2], payload: &[u8]) {
    const HEAD: usize = 16 + 4 + 4 + 8;
    let more = if payload.is_empty() {
        0
    } else {
        4 + payload.len()
    };
    to.extend_from_slice(&((HEAD + more) as u32).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&REQUEST.to_ne_bytes());
    // Sequence, sender, family and version are zero.
    to.extend_from_slice(&[0; 10]);
    to.extend_from_slice(&queue.to_be_bytes());
    to.extend_from_slice(&12u16.to_ne_bytes());
    to.extend_from_slice(&2u16.to_ne_bytes());
    to.extend_from_slice(&words[0].to_be_bytes());
    to.extend_from_slice(&words[1].to_be_bytes());
    if more > 0 {
        to.extend_from_slice(&(more as u16).to_ne_bytes());
        to.extend_from_slice(&10u16.to_ne_bytes());
        to.extend_from_slice(payload);
        to.resize(to.len().div_ceil(4) * 4, 0);
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends a request and waits for its acknowledgement. The packets that came before it.
fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<Vec<u32>> {
    rustix::net::send(socket, message, SendFlags::empty())?;
    let mut bytes = vec![0u8; 66 << 10];
    let mut early = Vec::new();
    loop {
        let (length, _) = rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty())?;
        for reply in replies(&bytes[..length]) {
            match reply.kind {
                ERROR => {
                    return match errno(reply.body) {
                        0 => Ok(early),
                        error => Err(io::Error::from_raw_os_error(error)),
                    };
                }
                PACKET => early.extend(packet(reply.body).map(|packet| packet.id)),
                _ => {}
            }
        }
    }
}

fn packet(body: &[u8]) -> Option<Packet<'_>> {
    let mut found = Packet {
        id: 0,
        bytes: &[],
        length: 0,
    };
    let mut is_whole = true;
    let mut has_id = false;
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            1 => {
                found.id = u32::from_be_bytes(value.get(..4)?.try_into().ok()?);
                has_id = true;
            }
            10 => found.bytes = value,
            13 => {
                found.length = u32::from_be_bytes(value.try_into().ok()?);
                is_whole = false;
            }
            _ => {}
        }
    }
    if is_whole {
        found.length = found.bytes.len() as u32;
    }
    has_id.then_some(found)
}

/// The queues of the network namespace of this thread that somebody reads.
pub fn taken() -> io::Result<Vec<u16>> {
    let text = match std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let numbers = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    Ok(numbers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_written_as_the_general_writer_would() {
        for payload in [&b""[..], b"odd", b"four"] {
            let mut wanted = Attributes::new().bytes(2, &[0, 0, 0, 1, 0, 0, 0, 9]);
            if !payload.is_empty() {
                wanted = wanted.bytes(10, payload);
            }
            // The last attribute's padding is not counted in the length.
            let mut framed = frame(VERDICT, REQUEST, 0, 0, 0x5a01, wanted.as_bytes());
            let mut written = Vec::new();
            write_verdict(&mut written, VERDICT, 0x5a01, [ACCEPT, 9], payload);
            assert_eq!(written[4..], framed.split_off(4)[..], "{payload:?}");
            let length = u32::from_ne_bytes(written[..4].try_into().unwrap());
            assert_eq!(
                length as usize,
                32 + if payload.is_empty() {
                    0
                } else {
                    4 + payload.len()
                }
            );
        }
    }

    #[test]
    fn a_packet_is_read_whole_or_cut_with_its_length() {
        let mut header = 7u32.to_be_bytes().to_vec();
        header.extend_from_slice(&[8, 0, 1]);
        let whole = Attributes::new().bytes(1, &header).bytes(10, &[1, 2, 3]);
        let mut body = vec![0; 4];
        body.extend_from_slice(whole.as_bytes());
        let read = packet(&body).unwrap();
        assert_eq!((read.id, read.bytes, read.length), (7, &[1, 2, 3][..], 3));
        body.extend_from_slice(Attributes::new().number(13, 1500).as_bytes());
        assert_eq!(packet(&body).unwrap().length, 1500);
        assert_eq!(packet(&[0; 4]), None);
        assert_eq!(packet(&[]), None);
    }
}
