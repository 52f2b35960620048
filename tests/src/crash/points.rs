//! The other end of the product's crash points: every process of a run that reaches a journal boundary says so here and waits.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The boundaries, in the order in which an injection meets them.
pub use squall_faults::crash::BOUNDARIES;

/// Where the processes of a run report.
#[derive(Debug)]
pub struct Points {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Points {
    fn drop(&mut self) {
        // It may be gone with the folder it was in.
        std::fs::remove_file(&self.path).ok();
    }
}

/// A process that waits at a boundary. It goes on when this is dropped.
#[derive(Debug)]
pub struct Point {
    /// `agent`, `guard` or `recovery`.
    pub role: String,
    /// One of [`BOUNDARIES`].
    pub boundary: String,
    /// The fault's key, or `workload`.
    pub kind: String,
    /// The injection's id.
    pub injection: String,
    /// The process.
    pub pid: u32,
    _held: UnixStream,
}

impl Points {
    /// Listens.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(path: &Path) -> anyhow::Result<Self> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next process at a boundary, if one comes within `wait`.
    ///
    /// # Errors
    /// When what it says is not understood.
    pub fn next(&self, wait: Duration) -> anyhow::Result<Option<Point>> {
        let mut waited = [PollFd::new(&self.listener, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs())?,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match poll(&mut waited, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let Ok((stream, _)) = self.listener.accept() else {
            return Ok(None);
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut line = String::new();
        let read = BufReader::new(&stream).read_line(&mut line);
        if !matches!(read, Ok(1..)) {
            // Killed between connecting and telling.
            return Ok(None);
        }
        Point::parse(&line, stream).map(Some)
    }
}

impl Point {
    fn parse(line: &str, held: UnixStream) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [role, boundary, kind, injection, pid] = words[..] else {
            anyhow::bail!("a crash point said {line:?}");
        };
        ensure!(
            BOUNDARIES.contains(&boundary),
            "there is no boundary {boundary}"
        );
        Ok(Self {
            role: role.to_owned(),
            boundary: boundary.to_owned(),
            kind: kind.to_owned(),
            injection: injection.to_owned(),
            pid: pid.parse()?,
            _held: held,
        })
    }
}
