//! The kernel's socket tables: ending a TCP connection from outside.

use super::netlink::{ACK, ERROR, REQUEST, errno, replies};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with,
};
use std::io;
use std::net::{IpAddr, SocketAddr};

const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
/// Every state.
const STATES: u32 = 0xfff;

/// Ends a connection: its socket fails with ECONNABORTED, the other end is sent a reset. False: there was none, or this kernel cannot.
///
/// # Errors
/// Without CAP_NET_ADMIN in the network namespace of this thread.
pub fn destroy(local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
    let octets = |address: IpAddr| {
        let mut bytes = [0u8; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.copy_from_slice(&address.octets()),
        }
        bytes
    };
    // struct inet_diag_req_v2.
    let family = if local.is_ipv4() { 2u8 } else { 10 };
    let mut body = vec![family, TCP, 0, 0];
    body.extend_from_slice(&STATES.to_ne_bytes());
    body.extend_from_slice(&local.port().to_be_bytes());
    body.extend_from_slice(&remote.port().to_be_bytes());
    body.extend_from_slice(&octets(local.ip()));
    body.extend_from_slice(&octets(remote.ip()));
    body.extend_from_slice(&0u32.to_ne_bytes());
    body.extend_from_slice(&[0xff; 8]);
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&SOCK_DESTROY.to_ne_bytes());
    message.extend_from_slice(&(REQUEST | ACK).to_ne_bytes());
    message.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&body);
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut bytes = [0u8; 1024];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut bytes[..], RecvFlags::empty())?;
        if let Some(reply) = replies(&bytes[..length]).find(|reply| reply.kind == ERROR) {
            return match errno(reply.body) {
                0 => Ok(true),
                libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL => Ok(false),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
    }
}
