//! Starting processes that inherit exactly what they are given, and receiving signals as readable data.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is started, and all that it inherits. Every other descriptor is closed at its exec.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program file, where it is not the first word.
    pub program: Option<PathBuf>,
    pub argv: Vec<OsString>,
    /// Set beside (over) the inherited variables.
    pub env: Vec<(OsString, OsString)>,
    /// Inherited variables that are taken away.
    pub env_remove: Vec<OsString>,
    pub directory: Option<&'a Path>,
    /// /dev/null where absent.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Kept open under the same numbers.
    pub pass: Vec<BorrowedFd<'a>>,
    /// A session of its own, so that a terminal's signals do not reach it.
    pub session: bool,
    /// Cgroup folders that it enters before its program starts.
    pub cgroups: Vec<PathBuf>,
    /// Network and mount namespaces of its own, which end with the last process in them. The network has a loopback interface and nothing else.
    pub private: bool,
    /// What it carries for life, and with it all that it starts (`undo::mark`).
    pub mark: Option<u64>,
}

/// A child with a descriptor that names it and nobody else.
#[derive(Debug)]
pub struct Started {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

impl Launch<'_> {
    /// A launch of `argv` that inherits the environment and nothing else.
    pub fn new(argv: Vec<OsString>) -> Self {
        Launch {
            program: None,
            argv,
            env: Vec::new(),
            env_remove: Vec::new(),
            directory: None,
            stdin: None,
            stdout: None,
            stderr: None,
            pass: Vec::new(),
            session: false,
            cgroups: Vec::new(),
            private: false,
            mark: None,
        }
    }

    /// Starts it. The caller is its parent and has to wait for it.
    pub fn start(self) -> io::Result<Started> {
        let mut words = self.argv.iter();
        let name = words
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty command line"))?;
        let mut command = match &self.program {
            Some(program) => Command::new(program),
            None => Command::new(name),
        };
        command.arg0(name);
        command.args(words);
        for name in &self.env_remove {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        command.stdin(stdio(self.stdin));
        command.stdout(stdio(self.stdout));
        command.stderr(stdio(self.stderr));
        let entries = self
            .cgroups
            .iter()
            .map(|path| cgroup_entry(path))
            .collect::<io::Result<Vec<_>>>()?;
        let pass: Vec<RawFd> = self.pass.iter().map(AsRawFd::as_raw_fd).collect();
        let (session, private, mark) = (self.session, self.private, self.mark);
        let prepare = move || {
            mark.map_or(Ok(()), carry)?;
            prepare_child(&entries, &pass, session, private)
        };
        // SAFETY: `prepare_child` makes only async-signal-safe system calls and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn()?;
        let pid = child.id();
        Ok(Started {
            pid,
            pidfd: open_pidfd(pid)?,
        })
    }
}

/// The file through which a process enters the cgroup `folder`.
fn cgroup_entry(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .open(folder.join("cgroup.procs"))
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a pid"))?;
    Ok(rustix::process::pidfd_open(
        pid,
        rustix::process::PidfdFlags::empty(),
    )?)
}

/// Bounds the real-time tasks of this process, and of all that it starts, by a limit that is a mark. Where the host has a lower one, that stays.
fn carry(limit: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Rttime);
    if now.maximum.is_none_or(|most| most >= limit) {
        let marked = Rlimit {
            current: Some(limit),
            maximum: now.maximum,
        };
        setrlimit(Resource::Rttime, marked)?;
    }
    Ok(())
}

/// Runs between fork and exec: system calls only.
fn prepare_child(entries: &[File], pass: &[RawFd], session: bool, private: bool) -> io::Result<()> {
    if session {
        rustix::process::setsid()?;
    }
    for entry in entries {
        rustix::io::write(entry, b"0")?;
    }
    if private {
        super::private::enter()?;
    }
    close_others_at_exec();
    for fd in pass {
        // SAFETY: the descriptor is open in this process: it was borrowed when the launch was built.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    unblock_all()
}

/// Marks every descriptor from 3 on as closed at exec (std's own error pipe must live until then).
fn close_others_at_exec() {
    // SAFETY: only sets flags on descriptors.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            4u32, /* CLOEXEC */
        )
    };
    if done == 0 {
        return;
    }
    // Kernels before 5.11: one by one, up to the limit of open files.
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(65_536);
    for fd in 3..i32::try_from(most.min(65_536)).unwrap_or(65_536) {
        // SAFETY: a closed number is answered with EBADF, which is what we want.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn unblock_all() -> io::Result<()> {
    // SAFETY: `set` is initialised by sigemptyset before it is read.
    let done = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(done))
    }
}

/// Blocks `signals` in this thread (call it before any other is started) and returns a descriptor that becomes readable
/// when one of them arrives.
pub fn signals(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset; the descriptor returned is new and ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        let done = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if done != 0 {
            return Err(io::Error::from_raw_os_error(done));
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// The next signal that arrived, if any.
pub fn next_signal(fd: &OwnedFd) -> io::Result<Option<i32>> {
    let mut bytes = [0u8; 128]; // struct signalfd_siginfo
    match rustix::io::read(fd, &mut bytes) {
        Ok(128) => Ok(Some(i32::from_ne_bytes([
            bytes[0], bytes[1], bytes[2], bytes[3],
        ]))),
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes over a descriptor that the parent passed under this number. It is closed at the next exec.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a passed descriptor",
        ));
    }
    // SAFETY: only borrowed to ask whether it is open.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(probe, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the number is open, was passed to this process for this purpose, and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// This process becomes the parent of orphans below it.
pub fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// A name for the signal, for people.
pub fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGHUP => "SIGHUP".into(),
        libc::SIGINT => "SIGINT".into(),
        libc::SIGTERM => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

/// The signals that mean "end, and undo everything".
pub const ENDING: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];
/// A child has changed state.
pub const CHILD: i32 = libc::SIGCHLD;
