//! Raw sockets: whole packets of our own, with our mark.

use super::mmsg::set_option;
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, Protocol, RawProtocol, RecvFlags, SendFlags, SocketFlags, SocketType,
    socket_with,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// The mark of packets that we made ourselves: no fault of ours acts on them.
pub const OWN_MARK: u32 = 0x5153_7541;

/// The room for packets that wait to be seen, in bytes.
const ROOM: i32 = 8 << 20;

/// Sends whole packets, from the IP header on, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Sender {
    v4: OwnedFd,
    /// A host may have no IPv6.
    v6: Option<OwnedFd>,
}

impl Sender {
    /// Opens it.
    ///
    /// # Errors
    /// Without CAP_NET_RAW and CAP_NET_ADMIN.
    pub fn open() -> io::Result<Sender> {
        Ok(Sender {
            v4: raw(AddressFamily::INET)?,
            v6: raw(AddressFamily::INET6).ok(),
        })
    }

    /// Sends one packet to where its header says.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let (socket, to) = match bytes.first().map(|byte| byte >> 4) {
            Some(4) => (
                Some(&self.v4),
                address::<4>(bytes, 16)
                    .map(Ipv4Addr::from)
                    .map(IpAddr::from),
            ),
            Some(6) => (
                self.v6.as_ref(),
                address::<16>(bytes, 24)
                    .map(Ipv6Addr::from)
                    .map(IpAddr::from),
            ),
            _ => (None, None),
        };
        let (Some(socket), Some(to)) = (socket, to) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no IP packet that can be sent here",
            ));
        };
        rustix::net::sendto(socket, bytes, SendFlags::DONTWAIT, &SocketAddr::new(to, 0))?;
        Ok(())
    }
}

fn address<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn raw(family: AddressFamily) -> io::Result<OwnedFd> {
    // With this protocol the header is ours.
    let protocol = RawProtocol::new(libc::IPPROTO_RAW as u32).map(Protocol::from_raw);
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_option(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_MARK,
        OWN_MARK.cast_signed(),
    )?;
    Ok(socket)
}

/// Sees every IP packet that comes or goes, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Capture(OwnedFd);

impl Capture {
    /// Opens it.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Capture> {
        // Only who asks for all protocols is shown what goes.
        let all = u32::from((libc::ETH_P_ALL as u16).to_be());
        let protocol = RawProtocol::new(all).map(Protocol::from_raw);
        let kind = SocketType::DGRAM;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, kind, flags, protocol)?;
        // Many may answer at once. Without the right to more it is the system's limit.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ROOM).unwrap_or_default();
        Ok(Capture(socket))
    }

    /// The next packet, from its IP header on; at most the first 2 KiB. `None`: none came in time.
    pub fn next(&self, within: Duration) -> io::Result<Option<Vec<u8>>> {
        if within.is_zero() || !super::process::wait_any(&[self.0.as_fd()], within)? {
            return Ok(None);
        }
        let mut bytes = vec![0; 2048];
        let (length, _) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::DONTWAIT)?;
        bytes.truncate(length);
        Ok(Some(bytes))
    }
}
