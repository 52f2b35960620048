//! A plain netlink client: one socket, one request, all its answers.
//!
//! Small on purpose: it knows messages, attributes and dumps, and nothing of what they mean. A dump
//! that the kernel marks as interrupted is an error of its own kind, so the caller starts over.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt,
};

/// `NLM_F_REQUEST`
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`
pub const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub const APPEND: u16 = 0x800;

const DUMP_INTERRUPTED: u16 = 0x10;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const DUMP_TRIES: usize = 20;

/// A netlink message or attribute list under construction.
#[derive(Debug, Clone, Default)]
pub struct Builder(Vec<u8>);

impl Builder {
    /// An empty payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with a fixed header, such as `nfgenmsg`.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds one attribute, padded to four bytes.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text attribute with its closing zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute that holds attributes.
    pub fn nested(self, kind: u16, inner: Builder) -> Self {
        self.attribute(kind | NESTED, &inner.0)
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Puts a message header before the payload.
    pub fn message(&self, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.0.len()).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(HEADER + self.0.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        message.extend_from_slice(&sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&self.0);
        message
    }
}

/// The attributes of a payload, in order; nested marks are taken off the kinds.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        found.push((kind & 0x3fff, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A socket of one netlink family.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens `NETLINK_NETFILTER`.
    ///
    /// # Errors
    /// When the kernel lacks the family or the socket may not be opened.
    pub fn netfilter() -> anyhow::Result<Self> {
        Self::open(NETFILTER)
    }

    fn open(family: Protocol) -> anyhow::Result<Self> {
        let kind = SocketType::RAW;
        let descriptor = rustix::net::socket_with(
            AddressFamily::NETLINK,
            kind,
            SocketFlags::CLOEXEC,
            Some(family),
        )
        .context("open a netlink socket")?;
        // An answer that never comes must not hang the judge.
        let limit = Some(std::time::Duration::from_secs(2));
        sockopt::set_socket_timeout(&descriptor, sockopt::Timeout::Recv, limit)?;
        Ok(Self {
            descriptor,
            sequence: 0,
        })
    }

    /// Sends raw messages, one datagram.
    ///
    /// # Errors
    /// When the kernel refuses the datagram.
    pub fn send(&self, datagram: &[u8]) -> anyhow::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.descriptor, datagram, SendFlags::empty(), &kernel)
            .context("send to netlink")?;
        Ok(())
    }

    /// Reads answers until an acknowledgement; the first refusal is the error.
    ///
    /// # Errors
    /// The kernel's error number, or a timeout.
    pub fn acknowledged(&self) -> anyhow::Result<()> {
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            for message in messages(self.receive(&mut buffer)?) {
                if message.kind == KIND_ERROR {
                    return refusal(message.payload);
                }
            }
        }
    }

    /// All the objects of one dump request, each as its payload. Starts over when interrupted.
    ///
    /// # Errors
    /// The kernel's error number, or a dump that never came through whole.
    pub fn dump(&mut self, kind: u16, request: &Builder) -> anyhow::Result<Vec<Vec<u8>>> {
        for _ in 0..DUMP_TRIES {
            if let Some(objects) = self.dump_once(kind, request)? {
                return Ok(objects);
            }
        }
        bail!("a netlink dump was interrupted {DUMP_TRIES} times");
    }

    fn dump_once(&mut self, kind: u16, request: &Builder) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
        self.sequence += 1;
        self.send(&request.message(kind, DUMP, self.sequence))?;
        let mut buffer = vec![0u8; 1 << 16];
        let (mut objects, mut is_whole) = (Vec::new(), true);
        loop {
            for message in messages(self.receive(&mut buffer)?) {
                if message.sequence != self.sequence {
                    continue;
                }
                is_whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    KIND_DONE => return Ok(is_whole.then_some(objects)),
                    KIND_ERROR => refusal(message.payload)?,
                    _ => objects.push(message.payload.to_vec()),
                }
            }
        }
    }

    fn receive<'buffer>(&self, buffer: &'buffer mut [u8]) -> anyhow::Result<&'buffer [u8]> {
        let (_, length) = rustix::net::recv(&self.descriptor, &mut *buffer, RecvFlags::TRUNC)
            .context("receive from netlink")?;
        buffer.get(..length).context("a netlink answer was cut off")
    }
}

struct Message<'bytes> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'bytes [u8],
}

fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind), Some(flags), Some(sequence)) = (
        u32_at(bytes, 0),
        u16_at(bytes, 4),
        u16_at(bytes, 6),
        u32_at(bytes, 8),
    ) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER..length) else {
            break;
        };
        found.push(Message {
            kind,
            flags,
            sequence,
            payload,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn refusal(payload: &[u8]) -> anyhow::Result<()> {
    let code = u32_at(payload, 0).map_or(0, |code| i32::from_ne_bytes(code.to_ne_bytes()));
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code.wrapping_neg())).context("netlink refused")
}

/// Two bytes in host order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

/// Four bytes in host order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let built = Builder::new()
            .text(1, "ab")
            .nested(2, Builder::new().attribute(3, &[7]))
            .attribute(4, &[]);
        let read = attributes(built.bytes());
        assert_eq!(read[0], (1, b"ab\0".as_slice()));
        assert_eq!(attributes(read[1].1), vec![(3, [7].as_slice())]);
        assert_eq!(read[2], (4, [].as_slice()));
    }

    #[test]
    fn a_cut_off_attribute_ends_the_list_and_does_not_loop() {
        assert!(attributes(&[200, 0, 1, 0, 9]).is_empty());
        assert!(attributes(&[0, 0, 0, 0, 0, 0]).is_empty());
    }
}
