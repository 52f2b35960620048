//! What the guard says to the agent and to the controller: JSON in packets of a socket pair, descriptors beside them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_model::event::Observation;
use squall_model::id::InjectionId;
use squall_model::process::ProcessIdentity;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The longest packet, in bytes.
pub const PACKET_MAX: usize = 160 * 1024;
/// Descriptors a packet can carry.
const FDS_MAX: usize = 3;

/// From the agent. Descriptors beside `Spawn`: standard input, output and error of the child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToGuard {
    /// The agent's main loop is alive. Every 250 ms.
    Beat,
    /// Start a child of the guard's.
    Spawn(SpawnRequest),
    /// The agent is undoing everything: the guard waits for it as long as it beats, up to this bound.
    Ending { within_ms: u64 },
}

/// A child that the guard is to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Chosen by the agent; the answer carries it.
    pub request: u64,
    pub program: Program,
    /// Variables beside the inherited ones.
    pub env: Vec<(String, String)>,
    pub directory: Option<PathBuf>,
    /// Cgroup folders that the child enters first.
    pub cgroups: Vec<PathBuf>,
    /// It starts in network and mount namespaces of its own.
    #[serde(default)]
    pub private: bool,
    /// On the boot-time clock, in nanoseconds: not to be started after this, when the agent has given it up and has recorded that there is none.
    pub until_boot_ns: u64,
}

/// What a child runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The owned workload.
    Workload { argv: Vec<String> },
    /// This binary, as `serve-fault KIND`.
    Served { kind: String },
}

/// To the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromGuard {
    Spawned {
        request: u64,
        process: ProcessIdentity,
    },
    SpawnFailed {
        request: u64,
        because: String,
    },
    /// A child started for the agent has ended and was waited for.
    Exited {
        pid: u32,
        exit: Option<i32>,
        signal: Option<i32>,
    },
    /// Undo everything and exit.
    Finish {
        because: String,
        /// The signal that reached the guard, when that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<String>,
    },
}

/// From the controller to the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToGuardFromController {
    /// Prolongs the lease.
    Renew,
}

/// From the guard to the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardReport {
    /// The journal is made and locked, the agent runs.
    Ready { guard: u32, agent: ProcessIdentity },
    /// The guard could not start; nothing was changed.
    Failed { because: String },
    /// A holder of the run was lost; the guard now undoes.
    Lost { what: String, because: String },
    /// One injection (or another journalled change) after the guard's undo.
    Undone {
        injection: InjectionId,
        observations: Vec<Observation>,
    },
    Stuck {
        injection: InjectionId,
        because: String,
        remedy: String,
    },
    /// The guard exits. `outstanding` is empty when nothing is left in the world.
    Ended { outstanding: Vec<InjectionId> },
}

/// A packet that has arrived.
#[derive(Debug)]
pub enum Received<T> {
    Message(T, Vec<OwnedFd>),
    /// Nothing is waiting.
    Nothing,
    /// The other side is gone.
    End,
}

/// A connected pair of packet sockets, closed at exec, the first end non-blocking.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// Sends one message with descriptors. Never waits.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > PACKET_MAX || fds.len() > FDS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is too long for a packet",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
    Ok(())
}

/// Receives one message. Never waits. A packet that cannot be understood is an error and is consumed.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Received<T>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = vec![0u8; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        flags,
    ) {
        Ok(got) => got,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Received::Nothing),
        Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    if got.bytes == 0 {
        return Ok(Received::End);
    }
    Ok(Received::Message(
        serde_json::from_slice(&bytes[..got.bytes])?,
        fds,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use rustix::io::FdFlags;

    fn lost(letters: usize) -> GuardReport {
        GuardReport::Lost {
            what: "agent".into(),
            because: "x".repeat(letters),
        }
    }

    fn message(socket: &OwnedFd) -> (GuardReport, Vec<OwnedFd>) {
        match receive(socket).unwrap() {
            Received::Message(report, fds) => (report, fds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_descriptors() {
        let (ours, theirs) = pair().unwrap();
        assert!(matches!(
            receive::<GuardReport>(&theirs),
            Ok(Received::Nothing)
        ));
        send(&ours, &lost(3), &[]).unwrap();
        let fds = [ours.as_fd(), theirs.as_fd(), ours.as_fd()];
        send(&ours, &lost(100_000), &fds).unwrap();
        let (first, none) = message(&theirs);
        assert_eq!((first, none.len()), (lost(3), 0));
        let (second, passed) = message(&theirs);
        assert_eq!((second, passed.len()), (lost(100_000), 3));
        for fd in &passed {
            // A child of the receiver must not inherit what was meant for another.
            assert!(
                rustix::io::fcntl_getfd(fd)
                    .unwrap()
                    .contains(FdFlags::CLOEXEC)
            );
        }
        drop((passed, ours));
        assert!(matches!(receive::<GuardReport>(&theirs), Ok(Received::End)));
    }

    #[test]
    fn what_does_not_fit_into_a_packet_is_refused_and_what_just_fits_is_sent() {
        let (ours, theirs) = pair().unwrap();
        let bare = serde_json::to_vec(&lost(0)).unwrap().len();
        let most = PACKET_MAX - bare;
        send(&ours, &lost(most), &[]).unwrap();
        assert_eq!(message(&theirs).0, lost(most));
        let refused = |report: &GuardReport, fds: &[BorrowedFd<'_>]| {
            send(&ours, report, fds).unwrap_err().kind() == io::ErrorKind::InvalidInput
        };
        assert!(refused(&lost(most + 1), &[]));
        assert!(refused(&lost(most + 1000), &[]));
        assert!(refused(&lost(0), &[ours.as_fd(); 4]));
        assert!(refused(&lost(0), &[ours.as_fd(); 5]));
        assert!(matches!(
            receive::<GuardReport>(&theirs),
            Ok(Received::Nothing)
        ));
        // What an agent reports about an injection is at most a few records long.
        assert_eq!(PACKET_MAX, 163_840);
    }

    #[test]
    fn a_packet_that_is_not_understood_is_an_error_and_the_next_one_is_read() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &"other", &[]).unwrap();
        send(&ours, &lost(1), &[]).unwrap();
        let error = receive::<GuardReport>(&theirs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(message(&theirs).0, lost(1));
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read_and_no_child_inherits_the_line() {
        let (ours, theirs) = pair().unwrap();
        for fd in [&ours, &theirs] {
            assert!(
                rustix::io::fcntl_getfd(fd)
                    .unwrap()
                    .contains(FdFlags::CLOEXEC)
            );
            let flags = rustix::fs::fcntl_getfl(fd).unwrap();
            assert!(flags.contains(OFlags::NONBLOCK));
            // Whoever inherits the descriptor may have made it wait.
            rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK).unwrap();
        }
        assert!(matches!(
            receive::<GuardReport>(&theirs),
            Ok(Received::Nothing)
        ));
        let full = (0..10_000).find_map(|_| send(&ours, &lost(10_000), &[]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
