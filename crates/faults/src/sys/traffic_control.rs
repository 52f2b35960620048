//! Traffic control in the kernel's own words: links, qdiscs and filters of the network namespace of this thread, made, read and removed.

mod filter;
mod state;

pub use filter::{Filter, Match};
pub use state::{Link, Qdisc};

use super::mmsg::set_option;
use super::netlink::{ACK, Attributes, DONE, DUMP, ERROR, REQUEST, errno, message, replies};
use filter::{PRIORITIES, carries};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with, sockopt,
};
use state::{link, qdisc};
use std::io;
use std::time::Duration;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;
const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const GET_QDISC: u16 = 38;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
/// Make it, and fail when it exists.
const NEW: u16 = 0x400 | 0x200;
const UP: u32 = 1;
/// The loopback, among kinds of heads.
pub const LOOPBACK: u16 = 772;
/// What everything hangs below that is not the root: the place of `clsact` and `ingress`.
const CLSACT: u32 = 0xffff_fff1;
const ROOT: u32 = 0xffff_ffff;
/// The longest batch, in bytes.
const ROOM: i32 = 4 << 20;
/// The kernel answers at once or never.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where filters see packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those that arrive, before the kernel looks at them.
    Ingress,
    /// Those that leave, before they are queued.
    Egress,
}

impl Side {
    fn parent(self) -> u32 {
        match self {
            Side::Ingress => 0xffff_fff2,
            Side::Egress => 0xffff_fff3,
        }
    }
}

/// Both sides.
pub const SIDES: [Side; 2] = [Side::Ingress, Side::Egress];

/// A qdisc to be made: its name and its options.
#[derive(Debug, Clone)]
pub struct Shape {
    pub kind: &'static str,
    pub options: Attributes,
}

struct Request {
    kind: u16,
    flags: u16,
    head: Vec<u8>,
    attributes: Attributes,
}

fn tc_head(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let words = [0, index, handle, parent, info];
    words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect()
}

fn link_head(index: u32, flags: u32) -> Vec<u8> {
    let words = [0, index, flags, flags];
    words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect()
}

/// A socket to routing and traffic control, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Route(OwnedFd);

impl Route {
    /// Opens it.
    pub fn open() -> io::Result<Route> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Without the right to more it is the system's limit.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM).unwrap_or_default();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Route(socket))
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 128 << 10];
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

    /// Sends all of it by one call, so that no death comes between, and tells the first that failed with its place. The kernel goes on past it.
    fn send(&self, requests: &[Request]) -> Result<(), (usize, io::Error)> {
        let at_once = |error: io::Error| (0, error);
        let last = requests.len() as u32;
        let mut bytes = Vec::new();
        for (seq, request) in (1..).zip(requests) {
            let ack = if seq == last { ACK } else { 0 };
            let flags = REQUEST | ack | request.flags;
            bytes.extend(message(
                request.kind,
                flags,
                seq,
                &request.head,
                request.attributes.as_bytes(),
            ));
        }
        rustix::net::send(&self.0, &bytes, SendFlags::empty())
            .map_err(|error| at_once(error.into()))?;
        let mut failed = None;
        loop {
            let answer = self.receive().map_err(at_once)?;
            for reply in replies(&answer).filter(|reply| reply.kind == ERROR) {
                if let error @ 1.. = errno(reply.body) {
                    let place = reply.seq.saturating_sub(1) as usize;
                    failed.get_or_insert((place, io::Error::from_raw_os_error(error)));
                }
                if reply.seq == last {
                    return failed.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn one(&self, request: Request) -> io::Result<()> {
        self.send(&[request]).map_err(|(_, error)| error)
    }

    fn dump(&self, kind: u16, head: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let request = message(kind, REQUEST | DUMP, 1, head, &[]);
        rustix::net::send(&self.0, &request, SendFlags::empty())?;
        let mut found = Vec::new();
        loop {
            for reply in replies(&self.receive()?).filter(|reply| reply.seq == 1) {
                match reply.kind {
                    DONE => return Ok(found),
                    ERROR => return Err(io::Error::from_raw_os_error(errno(reply.body))),
                    _ => found.push(reply.body.to_vec()),
                }
            }
        }
    }

    /// All interfaces.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        let found = self.dump(GET_LINK, &link_head(0, 0))?;
        Ok(found.iter().filter_map(|body| link(body)).collect())
    }

    /// The interfaces that have an address, by their indexes.
    pub fn addressed(&self) -> io::Result<Vec<u32>> {
        let found = self.dump(GET_ADDRESS, &[0; 8])?;
        Ok(found.iter().filter_map(|body| word(body, 4)).collect())
    }

    /// All qdiscs, with their counters.
    pub fn qdiscs(&self) -> io::Result<Vec<Qdisc>> {
        let found = self.dump(GET_QDISC, &tc_head(0, 0, 0, 0))?;
        Ok(found.iter().filter_map(|body| qdisc(body)).collect())
    }

    /// Makes an intermediate interface and says its index. It is down.
    pub fn make_ifb(&self, name: &str) -> io::Result<u32> {
        let info = Attributes::new().text(1, "ifb");
        self.one(Request {
            kind: NEW_LINK,
            flags: NEW,
            head: link_head(0, 0),
            attributes: Attributes::new().text(3, name).nested(18, info),
        })?;
        let links = self.links()?;
        let found = links.iter().find(|link| link.name == name);
        let gone = || io::Error::other("the interface was gone at once");
        found.map(|link| link.index).ok_or_else(gone)
    }

    /// Brings an interface up.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        self.one(Request {
            kind: NEW_LINK,
            flags: 0,
            head: link_head(index, UP),
            attributes: Attributes::new(),
        })
    }

    /// Deletes an interface of this name and kind. False when there is none.
    pub fn delete_link(&self, name: &str, kind: &str) -> io::Result<bool> {
        let links = self.links()?;
        let Some(link) = links
            .iter()
            .find(|link| link.name == name && link.kind == kind)
        else {
            return Ok(false);
        };
        let deleted = self.one(Request {
            kind: DELETE_LINK,
            flags: 0,
            head: link_head(link.index, 0),
            attributes: Attributes::new(),
        });
        is_done(deleted)
    }

    /// Makes a qdisc at the root (`below`: 0), or below another.
    pub fn make_qdisc(&self, index: u32, handle: u32, below: u32, shape: &Shape) -> io::Result<()> {
        let parent = if below == 0 { ROOT } else { below };
        self.one(Request {
            kind: NEW_QDISC,
            flags: NEW,
            head: tc_head(index, handle, parent, 0),
            attributes: Attributes::new()
                .text(1, shape.kind)
                .append(2, &shape.options),
        })
    }

    /// Makes the place of filters at an interface that has none yet, and the filters: all of it or nothing.
    pub fn make_filters(&self, index: u32, filters: &[(Side, Filter)]) -> io::Result<()> {
        let mut requests = vec![place(NEW_QDISC, NEW, index)];
        requests.extend(
            filters
                .iter()
                .map(|(side, filter)| filter.request(index, *side)),
        );
        self.send(&requests).map_err(|(at, error)| {
            if at > 0 {
                // It was made here and holds nothing but ours.
                self.one(place(DELETE_QDISC, 0, index)).unwrap_or_default();
            }
            error
        })
    }

    /// Whether an interface has filters with this cookie, and whether it has others.
    pub fn whose_filters(&self, index: u32, cookie: &str) -> io::Result<(bool, bool)> {
        let (mut ours, mut others) = (false, false);
        let qdiscs = self.qdiscs()?;
        if !qdiscs
            .iter()
            .any(|one| one.index == index && one.parent == CLSACT)
        {
            return Ok((false, false));
        }
        for side in SIDES {
            for body in self.dump(GET_FILTER, &tc_head(index, 0, side.parent(), 0))? {
                // Each priority is told once by itself, and once for each filter.
                let priority = word(&body, 16).unwrap_or(0) >> 16;
                ours |= carries(&body, cookie);
                others |= !PRIORITIES.contains(&priority);
            }
        }
        Ok((ours, others))
    }

    /// Removes the filters with this cookie, those that spare, and their place unless others use it too. False when there were none.
    pub fn delete_filters(&self, index: u32, cookie: &str) -> io::Result<bool> {
        let (ours, others) = self.whose_filters(index, cookie)?;
        if !ours {
            return Ok(false);
        }
        if !others {
            return is_done(self.one(place(DELETE_QDISC, 0, index)));
        }
        let requests: Vec<Request> = SIDES
            .iter()
            .flat_map(|side| PRIORITIES.map(|priority| (side, priority)))
            .map(|(side, priority)| Request {
                kind: DELETE_FILTER,
                flags: 0,
                head: tc_head(index, 0, side.parent(), priority << 16),
                attributes: Attributes::new(),
            })
            .collect();
        match self.send(&requests) {
            // A priority without a filter, on the side where nothing was meant.
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err((_, error)) if error.raw_os_error() == Some(libc::EINVAL) => Ok(true),
            other => other.map(|()| true).map_err(|(_, error)| error),
        }
    }
}

/// Whether the interface has a place of filters, whoever made it.
pub fn has_place(qdiscs: &[Qdisc], index: u32) -> bool {
    qdiscs
        .iter()
        .any(|one| one.index == index && one.parent == CLSACT)
}

fn place(kind: u16, flags: u16, index: u32) -> Request {
    Request {
        kind,
        flags,
        head: tc_head(index, 0xffff_0000, CLSACT, 0),
        attributes: Attributes::new().text(1, "clsact"),
    }
}

/// False: what was to be deleted is gone already.
fn is_done(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?))
}
