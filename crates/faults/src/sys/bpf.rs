//! eBPF by the bare system call: an array of counters, programs from instructions of our own, and links to the TCX hook of an interface.
//!
//! A link lives as long as somebody holds its descriptor; so does its program. Programs are found by the name that they were loaded with.

use super::traffic_control::Side;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::io;

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const PROGRAM_LOAD: i32 = 5;
const PROGRAM_BY_ID: i32 = 13;
const INFO: i32 = 15;
const QUERY: i32 = 16;
const LINK_CREATE: i32 = 28;
const LINK_BY_ID: i32 = 30;
const LINK_DETACH: i32 = 34;
#[cfg(test)]
const TEST_RUN: i32 = 10;

const ARRAY: u32 = 2;
/// A program that classifies packets of traffic control (`BPF_PROG_TYPE_SCHED_CLS`).
const CLASSIFIER: u32 = 3;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// Before every other program at the hook: those may end the walk.
const FIRST: u32 = 1 << 3;
/// The longest name, without the zero behind it.
pub const NAME_MAX: usize = 15;
/// The most programs at one hook that the kernel allows.
const PROGRAMS_MAX: usize = 64;
/// What the verifier may say.
const LOG: usize = 64 << 10;

/// The counters of a program.
pub const WORDS: usize = 8;

/// Parameters of the system call: numbers at the offsets that the kernel gives them.
struct Parameters([u64; 18]);

impl Parameters {
    fn new() -> Parameters {
        Parameters([0; 18])
    }

    fn word(mut self, at: usize, value: u32) -> Parameters {
        let shift = if at.is_multiple_of(8) == cfg!(target_endian = "little") {
            0
        } else {
            32
        };
        self.0[at / 8] |= u64::from(value) << shift;
        self
    }

    fn long(mut self, at: usize, value: u64) -> Parameters {
        self.0[at / 8] = value;
        self
    }

    fn pointer<T: ?Sized>(self, at: usize, to: *const T) -> Parameters {
        self.long(at, to.cast::<u8>() as u64)
    }

    /// A name of at most [`NAME_MAX`] bytes.
    fn name(mut self, at: usize, name: &str) -> Parameters {
        let mut bytes = [0; 16];
        let length = name.len().min(NAME_MAX);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        for (place, part) in bytes.chunks_exact(4).enumerate() {
            let part = part.try_into().map_or(0, u32::from_ne_bytes);
            self = self.word(at + place * 4, part);
        }
        self
    }

    fn read(&self, at: usize) -> u32 {
        let halves = self.0[at / 8].to_ne_bytes();
        let at = at % 8;
        halves[at..at + 4].try_into().map_or(0, u32::from_ne_bytes)
    }

    /// # Safety
    /// Every pointer among the parameters leads to memory that outlives the call and has the size that is said beside it.
    unsafe fn call(&mut self, command: i32) -> io::Result<i32> {
        let (at, size) = (self.0.as_mut_ptr(), std::mem::size_of_val(&self.0));
        // SAFETY: the parameters are ours for the whole call and as long as is said; what they point to, the caller vouches for.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command, at, size) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(i32::try_from(done).unwrap_or(i32::MAX))
    }

    /// # Safety
    /// As [`Parameters::call`], and the command returns a new descriptor.
    unsafe fn open(&mut self, command: i32) -> io::Result<OwnedFd> {
        // SAFETY: the caller vouches for the pointers.
        let fd = unsafe { self.call(command) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// An array of [`WORDS`] counters that programs and we share.
#[derive(Debug)]
pub struct Counters(OwnedFd);

impl Counters {
    /// Makes it, all zero.
    pub fn new(name: &str) -> io::Result<Counters> {
        let size = (WORDS * 8) as u32;
        let mut parameters = Parameters::new()
            .word(0, ARRAY)
            .word(4, 4)
            .word(8, size)
            .word(12, 1)
            .name(28, name);
        // SAFETY: there is no pointer among them.
        Ok(Counters(unsafe { parameters.open(MAP_CREATE) }?))
    }

    /// The number by which a program names it.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// What they say now.
    pub fn read(&self) -> io::Result<[u64; WORDS]> {
        let (key, mut values) = (0u32, [0u64; WORDS]);
        let mut parameters = Parameters::new()
            .word(0, self.number().cast_unsigned())
            .pointer(8, &raw const key)
            .pointer(16, &raw mut values);
        // SAFETY: key and value live on this stack and have the sizes that the map was made with.
        unsafe { parameters.call(MAP_LOOKUP) }?;
        Ok(values)
    }
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads instructions (eight bytes each) for one side of a hook.
    ///
    /// # Errors
    /// With the verifier's last words where it refuses.
    pub fn load(name: &str, side: Side, instructions: &[u64]) -> io::Result<Program> {
        let error = match load(name, side, instructions, &mut []) {
            Err(error) if super::nftables::may_change() => error,
            other => return other,
        };
        let mut log = vec![0; LOG];
        if let Ok(program) = load(name, side, instructions, &mut log) {
            return Ok(program);
        }
        let said = String::from_utf8_lossy(&log);
        let words: Vec<&str> = said.trim_end_matches('\0').lines().collect();
        let last = words[words.len().saturating_sub(3)..].join("; ");
        Err(io::Error::new(error.kind(), format!("{error}: {last}")))
    }

    /// Puts it first at the hook of an interface of this thread's network namespace.
    pub fn attach(&self, index: u32, side: Side) -> io::Result<Link> {
        let mut parameters = Parameters::new()
            .word(0, self.0.as_raw_fd().cast_unsigned())
            .word(4, index)
            .word(8, hook(side))
            .word(12, FIRST);
        // SAFETY: there is no pointer among them.
        Ok(Link(unsafe { parameters.open(LINK_CREATE) }?))
    }

    /// Runs it on a packet, from its Ethernet head on; what it returns, and the packet afterwards. It is as if it came by loopback.
    #[cfg(test)]
    pub fn run(&self, packet: &[u8]) -> io::Result<(i32, Vec<u8>)> {
        let mut out = vec![0u8; packet.len() + 256];
        let mut parameters = Parameters::new()
            .word(0, self.0.as_raw_fd().cast_unsigned())
            .word(8, packet.len() as u32)
            .word(12, out.len() as u32)
            .pointer(16, packet.as_ptr())
            .pointer(24, out.as_mut_ptr());
        // SAFETY: both buffers outlive the call and have the lengths that are said.
        unsafe { parameters.call(TEST_RUN) }?;
        out.truncate(parameters.read(12) as usize);
        Ok((parameters.read(4).cast_signed(), out))
    }
}

fn load(name: &str, side: Side, instructions: &[u64], log: &mut [u8]) -> io::Result<Program> {
    let license = c"Apache-2.0";
    let mut parameters = Parameters::new()
        .word(0, CLASSIFIER)
        .word(4, instructions.len() as u32)
        .pointer(8, instructions.as_ptr())
        .pointer(16, license.as_ptr())
        .name(48, name)
        .word(68, hook(side));
    if !log.is_empty() {
        parameters = parameters
            .word(24, 1)
            .word(28, log.len() as u32)
            .pointer(32, log.as_mut_ptr());
    }
    // SAFETY: instructions, licence and log outlive the call and have the lengths that are said.
    Ok(Program(unsafe { parameters.open(PROGRAM_LOAD) }?))
}

/// A program at a hook. It leaves when this is dropped, or its process dies.
#[derive(Debug)]
pub struct Link(#[expect(dead_code, reason = "it is held, nothing else")] OwnedFd);

/// A program that was found at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooked {
    /// The name it was loaded with.
    pub name: String,
    /// The number of the link that holds it there; 0: none does.
    link: u32,
}

impl Hooked {
    /// Takes it away, whoever holds its link. False: it has gone meanwhile.
    pub fn detach(&self) -> io::Result<bool> {
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        let mut parameters = Parameters::new().word(0, self.link);
        // SAFETY: there is no pointer among them.
        let link = match unsafe { parameters.open(LINK_BY_ID) } {
            Err(error) if gone(&error) => return Ok(false),
            link => link?,
        };
        let mut parameters = Parameters::new().word(0, link.as_raw_fd().cast_unsigned());
        // SAFETY: there is no pointer among them.
        match unsafe { parameters.call(LINK_DETACH) } {
            Ok(_) => Ok(true),
            // It was detached between the two calls.
            Err(error) if gone(&error) || error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn hook(side: Side) -> u32 {
    match side {
        Side::Ingress => TCX_INGRESS,
        Side::Egress => TCX_EGRESS,
    }
}

/// The programs at the hook of an interface of this thread's network namespace.
///
/// # Errors
/// Also where the kernel has no such hook (EINVAL), or the interface is gone (ENODEV).
pub fn hooked(index: u32, side: Side) -> io::Result<Vec<Hooked>> {
    let (mut programs, mut links) = ([0u32; PROGRAMS_MAX], [0u32; PROGRAMS_MAX]);
    let mut parameters = Parameters::new()
        .word(0, index)
        .word(4, hook(side))
        .pointer(16, programs.as_mut_ptr())
        .word(24, PROGRAMS_MAX as u32)
        .pointer(40, links.as_mut_ptr());
    // SAFETY: both lists live on this stack and have the length that is said.
    match unsafe { parameters.call(QUERY) } {
        // A hook without any program.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        other => other?,
    };
    let count = (parameters.read(24) as usize).min(PROGRAMS_MAX);
    let mut found = Vec::new();
    for (program, link) in programs.into_iter().zip(links).take(count) {
        if let Some(name) = name_of(program)? {
            found.push(Hooked { name, link });
        }
    }
    Ok(found)
}

/// The name of a program; `None`: it is gone.
fn name_of(program: u32) -> io::Result<Option<String>> {
    let mut parameters = Parameters::new().word(0, program);
    // SAFETY: there is no pointer among them.
    let fd = match unsafe { parameters.open(PROGRAM_BY_ID) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        fd => fd?,
    };
    // struct bpf_prog_info up to its name.
    let mut info = [0u64; 10];
    let size = std::mem::size_of_val(&info) as u32;
    let mut parameters = Parameters::new()
        .word(0, fd.as_raw_fd().cast_unsigned())
        .word(4, size)
        .pointer(8, info.as_mut_ptr());
    // SAFETY: the information lives on this stack and has the length that is said.
    unsafe { parameters.call(INFO) }?;
    let name = [info[8].to_ne_bytes(), info[9].to_ne_bytes()].concat();
    Ok(Some(super::netlink::text(&name)))
}
