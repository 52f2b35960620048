//! Many datagrams by one system call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The most datagrams that one call takes.
pub const AT_ONCE: usize = 64;

/// Room for datagrams.
#[derive(Debug)]
pub struct Datagrams {
    bytes: Vec<u8>,
    size: usize,
    lengths: Vec<usize>,
    received: usize,
}

impl Datagrams {
    /// Room for `count` (at most [`AT_ONCE`]) datagrams of at most `size` bytes each; what is longer is cut off.
    pub fn new(count: usize, size: usize) -> Datagrams {
        let count = count.min(AT_ONCE);
        Datagrams {
            bytes: vec![0; count * size],
            size,
            lengths: vec![0; count],
            received: 0,
        }
    }

    /// Receives what is there, as many as there is room for; none when nothing waits.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: all zeros is a message header without buffers, and a buffer without room.
        let (mut heads, mut parts) =
            unsafe { std::mem::zeroed::<([libc::mmsghdr; AT_ONCE], [libc::iovec; AT_ONCE])>() };
        let chunks = self.bytes.chunks_exact_mut(self.size);
        for ((part, head), chunk) in parts.iter_mut().zip(&mut heads).zip(chunks) {
            part.iov_base = chunk.as_mut_ptr().cast();
            part.iov_len = chunk.len();
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
        }
        let count = self.lengths.len() as libc::c_uint;
        let fd = socket.as_fd().as_raw_fd();
        let (start, flags) = (heads.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: each header points to one part, each part to a chunk of its own; all outlive the call.
        let got = unsafe { libc::recvmmsg(fd, start, count, flags as _, std::ptr::null_mut()) };
        if got < 0 {
            let error = io::Error::last_os_error();
            let nothing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
            return if nothing.contains(&error.kind()) {
                Ok(0)
            } else {
                Err(error)
            };
        }
        self.received = got as usize;
        for (length, head) in self.lengths.iter_mut().zip(&heads).take(self.received) {
            *length = (head.msg_len as usize).min(self.size);
        }
        Ok(self.received)
    }

    /// What was received last.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .chunks_exact(self.size)
            .zip(&self.lengths)
            .take(self.received)
            .map(|(chunk, length)| &chunk[..*length])
    }
}

/// Sets an option of a socket that is a number.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let size = std::mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value outlives the call and has the size that is said.
    let done = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn several_datagrams_come_by_one_call_and_a_long_one_is_cut() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let mut room = Datagrams::new(2, 4);
        assert_eq!(room.receive(&receiver).unwrap(), 0);
        for text in ["one", "three", "last"] {
            sender.send_to(text.as_bytes(), to).unwrap();
        }
        assert_eq!(room.receive(&receiver).unwrap(), 2);
        assert_eq!(room.iter().collect::<Vec<_>>(), [&b"one"[..], b"thre"]);
        assert_eq!(room.receive(&receiver).unwrap(), 1);
        assert_eq!(room.iter().collect::<Vec<_>>(), [&b"last"[..]]);
        assert!(set_option(&receiver, libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 16).is_ok());
        assert!(set_option(&receiver, libc::SOL_SOCKET, -1, 0).is_err());
    }
}
