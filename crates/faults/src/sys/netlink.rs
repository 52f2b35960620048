//! Netlink, by hand: messages, attributes, acknowledged batches and dumps of the netfilter family.

use super::mmsg::set_option;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with, sockopt,
};
use std::io;
use std::time::Duration;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
/// Flag of a message that makes something: fail when it exists.
pub const CREATE_NEW: u16 = 0x400 | 0x200;
/// Flag of a message that makes something at the end of a list.
pub const CREATE_APPEND: u16 = 0x400 | 0x800;

pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
/// The longest transaction, in bytes.
const ROOM: i32 = 4 << 20;
/// The kernel answers at once or never.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a dump is begun again when the tables change under it.
const DUMPS: u32 = 20;

/// Attributes under construction: each a length, a type and a value padded to four bytes.
#[derive(Debug, Default, Clone)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// Adds raw bytes.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().div_ceil(4) * 4, 0);
        self
    }

    /// Adds a text with the zero the kernel expects behind it.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Attributes {
        self.bytes(kind, format!("{value}\0").as_bytes())
    }

    /// Adds a number in network order.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a number of two bytes in network order.
    #[must_use]
    pub fn short(self, kind: u16, value: u16) -> Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a number in the host's order.
    #[must_use]
    pub fn host(self, kind: u16, value: u32) -> Attributes {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds attributes within an attribute that is not marked as holding some, because something else may stand before them.
    #[must_use]
    pub fn append(self, kind: u16, inner: &Attributes) -> Attributes {
        self.bytes(kind, &inner.0)
    }

    /// Begins with the bytes of a structure.
    pub fn after(structure: &[u8]) -> Attributes {
        let mut bytes = structure.to_vec();
        bytes.resize(bytes.len().div_ceil(4) * 4, 0);
        Attributes(bytes)
    }

    /// Followed by others.
    #[must_use]
    pub fn and(mut self, more: &Attributes) -> Attributes {
        self.0.extend_from_slice(&more.0);
        self
    }

    /// As they go over the wire.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds attributes within an attribute.
    #[must_use]
    pub fn nested(self, kind: u16, inner: Attributes) -> Attributes {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// The attributes in `bytes`, by type. Ends at the first that is cut off.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.div_ceil(4) * 4..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The text of an attribute.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// What a dump gives: family and attributes of each object.
pub type Objects = Vec<(u8, Vec<u8>)>;

/// A request to nf_tables.
#[derive(Debug, Clone)]
pub struct Message {
    pub kind: u16,
    pub flags: u16,
    pub family: u8,
    pub attributes: Attributes,
}

pub(super) fn frame(
    kind: u16,
    flags: u16,
    seq: u32,
    family: u8,
    resource: u16,
    attributes: &[u8],
) -> Vec<u8> {
    let resource = resource.to_be_bytes();
    let head = [family, 0, resource[0], resource[1]];
    message(kind, flags, seq, &head, attributes)
}

/// A message with the structure that its family begins with.
pub(super) fn message(kind: u16, flags: u16, seq: u32, head: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = (HEADER + head.len() + attributes.len()) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&seq.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(attributes);
    bytes
}

/// One message of an answer.
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    flags: u16,
    pub(super) seq: u32,
    pub(super) body: &'a [u8],
}

pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = number(0)? as usize;
        let kinds = number(4)?.to_ne_bytes();
        let reply = Reply {
            kind: u16::from_ne_bytes([kinds[0], kinds[1]]),
            flags: u16::from_ne_bytes([kinds[2], kinds[3]]),
            seq: number(8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.div_ceil(4) * 4..).unwrap_or_default();
        Some(reply)
    })
}

/// The error number in an acknowledgement; 0 is success.
pub(super) fn errno(body: &[u8]) -> i32 {
    body.get(..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| -i32::from_ne_bytes(bytes))
}

/// A socket to netfilter, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netfilter(OwnedFd);

impl Netfilter {
    /// Opens it.
    pub fn open() -> io::Result<Netfilter> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        // Without the right to more it is the system's limit.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM).unwrap_or_default();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Netfilter(socket))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, bytes, SendFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 128 * 1024];
        loop {
            match rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does all of it or nothing, and returns when the kernel has said which. Only the last message asks for an answer:
    /// a failing one is always reported, and hundreds of answers would overrun the socket.
    pub fn transact(&self, messages: &[Message]) -> io::Result<()> {
        self.batch(messages, true)
    }

    /// Asks whether the kernel would do it. A batch without an end is checked and then forgotten.
    pub fn rehearse(&self, messages: &[Message]) -> io::Result<()> {
        self.batch(messages, false)
    }

    fn batch(&self, messages: &[Message], for_real: bool) -> io::Result<()> {
        let mut bytes = frame(BATCH_BEGIN, REQUEST, 0, 0, NFTABLES, &[]);
        let last = messages.len() as u32;
        for (seq, message) in (1..).zip(messages) {
            let kind = (NFTABLES << 8) | message.kind;
            let ack = if seq == last { ACK } else { 0 };
            let flags = REQUEST | ack | message.flags;
            bytes.extend(frame(
                kind,
                flags,
                seq,
                message.family,
                0,
                &message.attributes.0,
            ));
        }
        if for_real {
            bytes.extend(frame(BATCH_END, REQUEST, last + 1, 0, NFTABLES, &[]));
        }
        self.send(&bytes)?;
        self.acknowledged(last)
    }

    /// Waits for the answer to message `last`, or for any failure.
    fn acknowledged(&self, last: u32) -> io::Result<()> {
        loop {
            for reply in replies(&self.receive()?).filter(|reply| reply.kind == ERROR) {
                match errno(reply.body) {
                    0 if reply.seq == last => return Ok(()),
                    0 => {}
                    error => return Err(io::Error::from_raw_os_error(error)),
                }
            }
        }
    }

    /// Asks one question with one answer.
    pub fn ask(&self, message: &Message) -> io::Result<()> {
        let kind = (NFTABLES << 8) | message.kind;
        self.send(&frame(
            kind,
            REQUEST | ACK,
            1,
            message.family,
            0,
            &message.attributes.0,
        ))?;
        self.acknowledged(1)
    }

    /// All objects of a kind.
    pub fn dump(&self, message: &Message) -> io::Result<Objects> {
        for attempt in 1..=DUMPS {
            if let Some(found) = self.dump_once(message, attempt)? {
                return Ok(found);
            }
        }
        Err(io::Error::other(
            "the tables changed each time they were read",
        ))
    }

    fn dump_once(&self, message: &Message, seq: u32) -> io::Result<Option<Objects>> {
        let kind = (NFTABLES << 8) | message.kind;
        self.send(&frame(
            kind,
            REQUEST | DUMP,
            seq,
            message.family,
            0,
            &message.attributes.0,
        ))?;
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            for reply in replies(&self.receive()?).filter(|reply| reply.seq == seq) {
                whole &= reply.flags & DUMP_INTERRUPTED == 0;
                match reply.kind {
                    DONE => return Ok(whole.then_some(found)),
                    ERROR => return Err(io::Error::from_raw_os_error(errno(reply.body))),
                    _ => {
                        let (head, rest) = reply.body.split_at(reply.body.len().min(4));
                        found.push((head.first().copied().unwrap_or(0), rest.to_vec()));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back_and_a_cut_one_ends_the_list() {
        let built = Attributes::new()
            .text(1, "abcd")
            .nested(2, Attributes::new().number(3, 7));
        assert_eq!(built.0.len(), 12 + 12);
        let read: Vec<_> = attributes(&built.0).collect();
        assert_eq!(text(read[0].1), "abcd");
        assert_eq!(
            attributes(read[1].1).next(),
            Some((3, &7u32.to_be_bytes()[..]))
        );
        assert_eq!(attributes(&built.0[..20]).count(), 1);
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
    }
}
