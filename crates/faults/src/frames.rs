//! Length-prefixed JSON over a stream: the controller's and the agent's ends of their protocol.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::protocol::MESSAGE_MAX;

/// One end. Never waits: what cannot be sent is kept, what has not arrived in full is not handed out.
#[derive(Debug)]
pub struct Frames {
    socket: OwnedFd,
    inbox: Vec<u8>,
    /// How much of it has been handed out.
    taken: usize,
    outbox: VecDeque<u8>,
    ended: bool,
}

impl Frames {
    /// Takes over a connected stream socket.
    pub fn new(socket: OwnedFd) -> io::Result<Frames> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Frames {
            socket,
            inbox: Vec::new(),
            taken: 0,
            outbox: VecDeque::new(),
            ended: false,
        })
    }

    /// Queues a message; [`Frames::flush`] sends it.
    pub fn push<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.len() > MESSAGE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a message of {length} bytes is too long"),
            ));
        }
        self.outbox.extend(length.to_le_bytes());
        self.outbox.extend(bytes);
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the other side is gone.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sends what the socket takes. A lost peer is not an error here: it shows as [`Frames::ended`].
    pub fn flush(&mut self) -> io::Result<()> {
        use rustix::net::{SendFlags, send};
        while !self.outbox.is_empty() && !self.ended {
            let (front, _) = self.outbox.as_slices();
            match send(
                &self.socket,
                front,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => self.ended = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what has arrived.
    pub fn fill(&mut self) -> io::Result<()> {
        self.inbox.drain(..std::mem::take(&mut self.taken));
        let mut chunk = [0u8; 64 * 1024];
        loop {
            match rustix::io::read(&self.socket, &mut chunk) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(count) => {
                    self.inbox.extend_from_slice(&chunk[..count]);
                    if self.inbox.len() > MESSAGE_MAX {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next whole message.
    #[expect(
        clippy::should_implement_trait,
        reason = "it says what it does; an iterator could not report errors of the line"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(prefix) = self.inbox[self.taken..].first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MESSAGE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a message of {length} bytes is too long"),
            ));
        }
        let Some(bytes) = self.inbox[self.taken..].get(4..4 + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(bytes)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_arrive_whole_and_in_order_however_they_are_cut() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut left, mut right) = (
            Frames::new(left.into()).unwrap(),
            Frames::new(right.into()).unwrap(),
        );
        let texts: Vec<String> = (0..200).map(|n| "x".repeat(n * 97)).collect();
        for text in &texts {
            left.push(text).unwrap();
        }
        let mut got: Vec<String> = Vec::new();
        while got.len() < texts.len() {
            left.flush().unwrap();
            right.fill().unwrap();
            while let Some(text) = right.next().unwrap() {
                got.push(text);
            }
        }
        assert_eq!(got, texts);
        drop(left);
        right.fill().unwrap();
        assert!(right.ended());
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let (mut left, right) = UnixStream::pair().unwrap();
        let mut right = Frames::new(right.into()).unwrap();
        std::io::Write::write_all(&mut left, &u32::MAX.to_le_bytes()).unwrap();
        right.fill().unwrap();
        assert!(right.next::<String>().is_err());
    }
}
