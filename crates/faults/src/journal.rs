//! The undo journal: one file per run, written before the world is touched.
//!
//! Every record is synced before the caller goes on. Room for the records that end an injection is reserved with its first intent,
//! so a full disk can stop an injection but not the recording of its undo. The lock is a BSD lock on the open file description:
//! guard and agent share it by inheriting the descriptor, and it is free when both are dead.

pub mod codec;
pub mod record;
pub mod state;

use codec::{Decoded, HEADER_LEN, Header};
use record::{Entry, Record, Writer};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use squall_model::id::RunId;
use state::State;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's name in the folder of a run.
pub const FILE_NAME: &str = "journal";
/// The file grows in steps of this many bytes, ahead of need.
const GROWTH: u64 = 256 * 1024;
/// No journal grows beyond this; an injection that would need more is refused.
const SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Why a journal could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A system call failed.
    #[error("could not {action} {}, because {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Written by a newer Squall: never undone by guess.
    #[error(
        "could not read {}, because it has journal version {found} and this squall knows up to {known}; run `undo` with the squall that wrote it",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// Its head is not that of a journal.
    #[error("could not read {}, because {because}", path.display())]
    Damaged { path: PathBuf, because: String },
    /// Another process holds the lock: the run is live, or its holder is stopped.
    #[error("could not take {}, because another process holds it", path.display())]
    Busy { path: PathBuf },
    /// The record cannot follow what the journal says.
    #[error(transparent)]
    Illegal(#[from] state::IllegalMove),
    /// The record is longer than a record may be.
    #[error(
        "could not record {what}, because it takes {bytes} bytes and at most {most} are allowed"
    )]
    TooLong {
        what: String,
        bytes: usize,
        most: usize,
    },
    /// The journal has reached its greatest size.
    #[error("could not record more in {}, because it has reached {SIZE_MAX} bytes", path.display())]
    Full { path: PathBuf },
}

impl From<JournalError> for io::Error {
    fn from(error: JournalError) -> io::Error {
        match &error {
            JournalError::Io { source, .. } => io::Error::new(source.kind(), error.to_string()),
            _ => io::Error::other(error),
        }
    }
}

/// What a journal says, read without touching it.
#[derive(Debug, Clone)]
pub struct Log {
    /// Who and where.
    pub header: Header,
    /// All records up to the first that fails its checksum.
    pub records: Vec<Record>,
    /// Their fold.
    pub state: State,
}

/// All of a file that has at most `most` bytes. A longer one, however little of it is on the disk, is refused before it is read.
fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        let text = format!("it has {length} bytes, and a journal has at most {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a journal without locking or changing it.
pub fn read_all(path: &Path) -> Result<Log, JournalError> {
    let bytes = read_bounded(path, SIZE_MAX).map_err(io_error("read", path))?;
    let Decoded {
        header, records, ..
    } = codec::decode(&bytes, path)?;
    let state = State::fold(&records);
    Ok(Log {
        header,
        records,
        state,
    })
}

fn io_error<'a, E: Into<io::Error>>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(E) -> JournalError + 'a {
    move |source| JournalError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// A journal open for writing, its lock held.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    writer: Writer,
    header: Header,
    state: State,
    /// Where the next record goes.
    end: u64,
    /// How far the file is allocated.
    allocated: u64,
    /// Checksum of the last record: the next one's covers it.
    chain: u64,
}

impl Journal {
    /// Makes and locks the journal of a new run in `run_dir`. It appears under its name only when its header is durable.
    pub fn create(run_dir: &Path, run: &RunId, writer: Writer) -> Result<Journal, JournalError> {
        let path = run_dir.join(FILE_NAME);
        let draft = run_dir.join(".journal.new");
        let header = Header {
            run: run.clone(),
            boot_id: crate::sys::process::boot_id()
                .map_err(io_error("read the boot id for", &path))?,
            boot_ns: crate::sys::clock::boot_ns(),
            squall: env!("CARGO_PKG_VERSION").to_owned(),
            origin: Some(crate::origin::Origin::here()),
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .map_err(io_error("create", &draft))?;
        lock(&file, &draft)?;
        let bytes = codec::encode_header(&header);
        allocate(&file, 0, GROWTH).map_err(io_error("reserve room in", &draft))?;
        file.write_all_at(&bytes, 0)
            .map_err(io_error("write", &draft))?;
        file.sync_all().map_err(io_error("sync", &draft))?;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &draft,
            rustix::fs::CWD,
            &path,
            rustix::fs::RenameFlags::NOREPLACE,
        )
        .map_err(io_error("create", &path))?;
        // The run's own name too: after a power cut it must be found where recovery looks.
        for folder in [Some(run_dir), run_dir.parent()].into_iter().flatten() {
            let open = File::open(folder).map_err(io_error("open", folder))?;
            open.sync_all().map_err(io_error("sync", folder))?;
        }
        Journal::load(file, path, writer)
    }

    /// Goes on with a descriptor inherited from the process that holds the lock.
    pub fn adopt(file: File, run_dir: &Path, writer: Writer) -> Result<Journal, JournalError> {
        let path = run_dir.join(FILE_NAME);
        // On the shared file description this succeeds at once; on any other it shows that the lock is not ours.
        lock(&file, &path)?;
        Journal::load(file, path, writer)
    }

    /// Opens a journal whose holders are dead. [`JournalError::Busy`] when one is not.
    pub fn take_over(run_dir: &Path, writer: Writer) -> Result<Journal, JournalError> {
        let path = run_dir.join(FILE_NAME);
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(io_error("open", &path))?;
        lock(&file, &path)?;
        Journal::load(file, path, writer)
    }

    fn load(file: File, path: PathBuf, writer: Writer) -> Result<Journal, JournalError> {
        let length = file.metadata().map_err(io_error("read", &path))?.size();
        let mut bytes = vec![0; usize::try_from(length.min(SIZE_MAX)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)
            .map_err(io_error("read", &path))?;
        let decoded = codec::decode(&bytes, &path)?;
        Ok(Journal {
            file,
            path,
            writer,
            header: decoded.header,
            state: State::fold(&decoded.records),
            end: decoded.end,
            allocated: length,
            chain: decoded.chain,
        })
    }

    /// Reads the file again: for the guard, once the agent that wrote it is proved dead.
    pub fn reload(self) -> Result<Journal, JournalError> {
        Journal::load(self.file, self.path, self.writer)
    }

    /// What the records say.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Run and boot.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Who writes through this handle.
    pub fn writer(&self) -> Writer {
        self.writer
    }

    /// The folder of the run.
    pub fn run_dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The descriptor that carries the lock, to be inherited by the other holder and closed to everybody else.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Appends one record and returns when it is durable. On an error nothing is recorded, and the caller must not act.
    pub fn append(&mut self, entry: Entry) -> Result<Record, JournalError> {
        let record = Record {
            seq: self.state.seq() + 1,
            boot_ns: crate::sys::clock::boot_ns(),
            by: self.writer,
            entry: entry.fitted(),
        };
        let phase = self.state.check(&record)?;
        let (frame, chain) = codec::encode(&record, self.chain)?;
        let end = self.end + frame.len() as u64;
        let wanted = if matches!(record.entry, Entry::Intent { .. }) {
            end + self.state.reserved() + state::RESERVED_MOST
        } else {
            end
        };
        self.grow_to(wanted)?;
        self.file
            .write_all_at(&frame, self.end)
            .map_err(io_error("write", &self.path))?;
        rustix::fs::fdatasync(&self.file).map_err(io_error("sync", &self.path))?;
        self.state.take(&record, phase);
        self.end = end;
        self.chain = chain;
        Ok(record)
    }

    fn grow_to(&mut self, wanted: u64) -> Result<(), JournalError> {
        if wanted <= self.allocated {
            return Ok(());
        }
        if wanted > SIZE_MAX {
            return Err(JournalError::Full {
                path: self.path.clone(),
            });
        }
        let allocated = wanted.next_multiple_of(GROWTH);
        allocate(&self.file, self.allocated, allocated - self.allocated)
            .map_err(io_error("reserve room in", &self.path))?;
        self.allocated = allocated;
        Ok(())
    }

    /// Gives back the room that was kept ahead, when nothing is outstanding any more. The journal stays readable.
    pub fn close(self) -> Result<(), JournalError> {
        if self.state.outstanding().next().is_none() {
            self.file
                .set_len(self.end)
                .map_err(io_error("shorten", &self.path))?;
        }
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Busy {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error("lock", path)(error)),
    }
}

/// Whether some process holds the lock of the journal in `run_dir`. A missing journal is not held.
pub fn is_held(run_dir: &Path) -> io::Result<bool> {
    let file = match File::open(run_dir.join(FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // A shared lock asks without ever keeping a second asker out.
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Reserves blocks, so that later writes there cannot fail for want of room. Where the file system cannot, zeros are written.
fn allocate(file: &File, from: u64, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, length) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.write_all_at(&zeros, from)?;
        }
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

const _: () = assert!(GROWTH > HEADER_LEN as u64);

#[cfg(test)]
mod tests;
