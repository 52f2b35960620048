//! The lease of a run: until when its holders are trusted to be alive, on the boot-time clock, and who they are.
//!
//! One file, written in place and never synced: after a crash of the machine every lease is over anyway, because the boot id has changed.
//! Its size is fixed and its blocks are there from the start, so a full disk cannot stop a renewal; a checksum tells a reader that it met a writer half-way.

use crate::origin::Origin;
use crate::sys::{clock, process};
use serde::{Deserialize, Serialize};
use squall_model::id::RunId;
use squall_model::process::ProcessIdentity;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in the folder of a run.
pub const FILE_NAME: &str = "lease";
/// The version this build writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// A lease over by more than this, with the lock still held, means that its holders are stopped.
pub const STOPPED_AFTER: Duration = Duration::from_secs(2);
const SIZE: usize = 4096;
/// Reading again this often outlasts any writer.
const READS: u32 = 100;

/// Until when, and who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub version: u32,
    pub run: RunId,
    pub boot_id: String,
    /// Boot-time clock at which it is over.
    pub deadline_boot_ns: u64,
    /// Holder of the journal's lock.
    pub guard: Option<ProcessIdentity>,
    /// Holder of the journal's lock.
    pub agent: Option<ProcessIdentity>,
    /// Renews the lease; holds no lock.
    pub controller: Option<ProcessIdentity>,
    /// Where it was made. Leases of the first releases do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What a lease means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its holders are to be left alone.
    Live { left: Duration },
    /// It ran out. [`Duration::MAX`] when it is of another boot.
    Over { by: Duration },
}

impl Standing {
    /// Over by so much that holders who still hold the lock must be stopped ones.
    pub fn is_abandoned(self) -> bool {
        matches!(self, Standing::Over { by } if by > STOPPED_AFTER)
    }
}

impl Lease {
    /// A lease that is over after `term` from now.
    pub fn starting_now(run: RunId, term: Duration) -> io::Result<Lease> {
        let mut lease = Lease {
            version: VERSION,
            run,
            boot_id: process::boot_id()?,
            deadline_boot_ns: 0,
            guard: None,
            agent: None,
            controller: None,
            origin: Some(Origin::here()),
        };
        lease.renew(term);
        Ok(lease)
    }

    /// Prolongs it: over after `term` from now.
    pub fn renew(&mut self, term: Duration) {
        let term = u64::try_from(term.as_nanos()).unwrap_or(u64::MAX);
        self.deadline_boot_ns = clock::boot_ns().saturating_add(term);
    }

    /// What it means at `now_boot_ns` of boot `boot_id`. Pure.
    pub fn judge(&self, now_boot_ns: u64, boot_id: &str) -> Standing {
        if self.boot_id != boot_id {
            return Standing::Over { by: Duration::MAX };
        }
        match self.deadline_boot_ns.checked_sub(now_boot_ns) {
            Some(left) if left > 0 => Standing::Live {
                left: Duration::from_nanos(left),
            },
            _ => Standing::Over {
                by: Duration::from_nanos(now_boot_ns - self.deadline_boot_ns),
            },
        }
    }

    /// What it means now. Of another machine's lease that is not known here: its clock and its boot are others.
    pub fn standing(&self) -> io::Result<Standing> {
        let boot_id = process::boot_id()?;
        if let Some(there) = self.other_machine(&boot_id) {
            let text = format!("it is a lease of the machine `{there}`");
            return Err(io::Error::other(text));
        }
        Ok(self.judge(clock::boot_ns(), &boot_id))
    }

    /// The name of the machine that made it, when that is another one.
    pub(crate) fn other_machine(&self, boot_here: &str) -> Option<String> {
        let origin = self.origin.as_ref()?;
        origin
            .is_other_machine(&self.boot_id, &Origin::here(), boot_here)
            .then(|| origin.hostname.clone())
    }
}

/// The file, open for its one writer.
#[derive(Debug)]
pub struct LeaseFile {
    file: File,
}

impl LeaseFile {
    /// Creates it (before the journal, so that no journal is ever without one), mode 0600.
    pub fn create(run_dir: &Path, lease: &Lease) -> io::Result<LeaseFile> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(run_dir.join(FILE_NAME))?;
        let mut file = LeaseFile { file };
        file.write(lease)?;
        Ok(file)
    }

    /// Writes it in place.
    pub fn write(&mut self, lease: &Lease) -> io::Result<()> {
        self.file.write_all_at(&encode(lease)?, 0)
    }
}

fn sum(json: &[u8]) -> String {
    format!("{:016x}", squall_model::seed::hash64(&[json]))
}

fn encode(lease: &Lease) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(lease)?;
    let mut bytes = json.clone();
    bytes.push(b'\n');
    bytes.extend_from_slice(sum(&json).as_bytes());
    bytes.push(b'\n');
    if bytes.len() > SIZE {
        return Err(io::Error::other("the lease does not fit into its file"));
    }
    bytes.resize(SIZE, b' ');
    Ok(bytes)
}

/// Why a lease could not be read. Then nobody may conclude that its holders are gone.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("could not read {}, because {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not read {}, because it does not check", path.display())]
    Damaged { path: PathBuf },
    #[error("could not read {}, because it has lease version {found} and this squall knows up to {VERSION}", path.display())]
    Newer { path: PathBuf, found: u32 },
}

/// Reads the lease of a run; `None` when it has none.
pub fn read(run_dir: &Path) -> Result<Option<Lease>, LeaseError> {
    let path = run_dir.join(FILE_NAME);
    for _ in 0..READS {
        match read_bounded(&path) {
            Ok(bytes) => match decode(&bytes) {
                Some(Ok(lease)) => return Ok(Some(lease)),
                Some(Err(found)) => return Err(LeaseError::Newer { path, found }),
                // A writer was met half-way: look again.
                None => std::thread::yield_now(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LeaseError::Io { path, source }),
        }
    }
    Err(LeaseError::Damaged { path })
}

/// Never more than a lease has: what is longer does not check.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SIZE);
    File::open(path)?
        .take(SIZE as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > SIZE {
        let text = format!("it is longer than {SIZE} bytes, so it is no lease");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<Result<Lease, u32>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let json = lines.next()?;
    if lines.next()? != sum(json).as_bytes() {
        return None;
    }
    let Versioned { version } = serde_json::from_slice(json).ok()?;
    if version > VERSION {
        return Some(Err(version));
    }
    serde_json::from_slice(json).ok().map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let process = process::identity(std::process::id()).unwrap();
        Lease {
            version: VERSION,
            run: RunId("r".into()),
            boot_id: "b".into(),
            deadline_boot_ns: 10_000_000_000,
            guard: process.clone(),
            agent: process.clone(),
            controller: process,
            origin: Some(Origin::here()),
        }
    }

    #[test]
    fn a_lease_is_live_then_over_then_abandoned_and_never_outlives_its_boot() {
        let lease = lease();
        let at = |seconds: f64| lease.judge((seconds * 1e9) as u64, "b");
        assert_eq!(
            at(9.0),
            Standing::Live {
                left: Duration::from_secs(1)
            }
        );
        assert_eq!(at(10.0), Standing::Over { by: Duration::ZERO });
        assert!(
            !at(12.0).is_abandoned(),
            "over by exactly 2 s is not more than 2 s"
        );
        assert!(at(12.1).is_abandoned());
        assert!(!at(9.0).is_abandoned());
        assert!(lease.judge(0, "another").is_abandoned());
    }

    #[test]
    fn what_is_written_is_read_and_anything_half_written_is_not() {
        let bytes = encode(&lease()).unwrap();
        assert_eq!(decode(&bytes).unwrap().unwrap(), lease());
        let later = encode(&Lease {
            deadline_boot_ns: 99_999_999_999,
            ..lease()
        })
        .unwrap();
        // However far a writer has come: a reader sees the old lease, the new one, or that it must look again.
        for half in 0..bytes.len() {
            let torn = [&later[..half], &bytes[half..]].concat();
            assert!(
                torn == bytes || torn == later || decode(&torn).is_none(),
                "torn at {half}"
            );
        }
        assert!(decode(&bytes[..100]).is_none());
        let newer = encode(&Lease {
            version: 2,
            ..lease()
        })
        .unwrap();
        assert_eq!(decode(&newer), Some(Err(2)));
    }

    /// Written by version 0.1.0 of Squall. It must be readable by every later one.
    #[test]
    fn the_lease_of_version_1_is_understood() {
        let lease = decode(include_bytes!("../tests/fixtures/lease-v1"))
            .unwrap()
            .unwrap();
        assert_eq!((lease.version, lease.deadline_boot_ns), (1, 10_000_000_000));
        assert_eq!((lease.agent.unwrap().pid, lease.origin), (42, None));
    }

    #[test]
    fn the_file_keeps_its_size_through_every_renewal() {
        let folder = std::env::temp_dir().join(format!("squall-lease-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut file = LeaseFile::create(&folder, &lease()).unwrap();
        let mut renewed = lease();
        renewed.agent = None;
        file.write(&renewed).unwrap();
        assert_eq!(read(&folder).unwrap(), Some(renewed));
        assert_eq!(
            std::fs::metadata(folder.join(FILE_NAME)).unwrap().len(),
            SIZE as u64
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
    }

    #[test]
    fn a_lease_runs_for_its_term_from_now_on_this_boot() {
        let before = clock::boot_ns();
        let mut lease = Lease::starting_now(RunId("r".into()), Duration::from_secs(60)).unwrap();
        assert_eq!(lease.version, VERSION);
        let term = 60_000_000_000;
        let within = before + term..=clock::boot_ns() + term;
        assert!(within.contains(&lease.deadline_boot_ns));
        assert!(
            matches!(lease.standing().unwrap(), Standing::Live { left } if left > Duration::from_secs(1))
        );
        lease.renew(Duration::MAX);
        assert_eq!(lease.deadline_boot_ns, u64::MAX);
        lease.deadline_boot_ns = 1;
        assert!(lease.standing().unwrap().is_abandoned());
    }

    #[test]
    fn a_lease_fills_its_file_at_most() {
        let named = |letters: usize| Lease {
            run: RunId("r".repeat(letters)),
            ..lease()
        };
        let bare = serde_json::to_vec(&named(0)).unwrap().len();
        let most = SIZE - bare - 16 - 2;
        let bytes = encode(&named(most)).unwrap();
        assert_eq!(decode(&bytes).unwrap().unwrap(), named(most));
        for letters in [most + 1, most + 1000] {
            assert!(encode(&named(letters)).is_err());
        }
    }

    #[test]
    fn a_lease_that_is_newer_damaged_or_unreadable_is_none_of_them_a_missing_one() {
        let folder = std::env::temp_dir().join(format!("squall-leases-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(FILE_NAME);
        let newer = encode(&Lease {
            version: 7,
            ..lease()
        });
        std::fs::write(&path, newer.unwrap()).unwrap();
        assert!(matches!(
            read(&folder),
            Err(LeaseError::Newer { found: 7, .. })
        ));
        let mut long = encode(&lease()).unwrap();
        long.push(b' ');
        std::fs::write(&path, long).unwrap();
        let refused = read(&folder).unwrap_err().to_string();
        assert!(refused.contains("longer than 4096 bytes"), "{refused}");
        std::fs::write(&path, b"{}\n0\n").unwrap();
        assert!(matches!(read(&folder), Err(LeaseError::Damaged { .. })));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(read(&folder), Err(LeaseError::Io { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
