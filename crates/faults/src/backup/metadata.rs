//! What a file has beside its content: owner, mode, extended attributes, time of modification, time of birth.

use super::Manifest;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// All extended attributes that this process may read, sorted.
pub fn xattrs(file: &File) -> io::Result<Vec<(String, String)>> {
    let unsupported = |error: rustix::io::Errno| error == rustix::io::Errno::OPNOTSUPP;
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(error) if unsupported(error) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    let mut value = vec![0u8; 64 * 1024];
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => found.push((
                String::from_utf8_lossy(name).into_owned(),
                hex(&value[..length]),
            )),
            // Gone meanwhile, or not ours to read, hence not ours to write.
            Err(
                rustix::io::Errno::NODATA | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS,
            ) => {}
            Err(error) if unsupported(error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// When an inode was made, where the file system tells.
pub(super) fn born(meta: &std::fs::Metadata) -> Option<(u64, u32)> {
    let since = meta
        .created()
        .ok()?
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    Some((since.as_secs(), since.subsec_nanos()))
}

impl Manifest {
    /// Puts owner, mode, extended attributes and, when `mtime` is given, that time onto `file`. Owner first: changing it clears mode bits.
    pub fn put_metadata(&self, file: &File, mtime: Option<(i64, i64)>) -> io::Result<()> {
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != (self.uid, self.gid) {
            let uid = rustix::fs::Uid::from_raw(self.uid);
            let gid = rustix::fs::Gid::from_raw(self.gid);
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        let there = xattrs(file)?;
        for (name, value) in &self.xattrs {
            if !there.contains(&(name.clone(), value.clone())) {
                let bytes =
                    unhex(value).ok_or_else(|| io::Error::other("the manifest is damaged"))?;
                rustix::fs::fsetxattr(
                    file,
                    name.as_str(),
                    &bytes,
                    rustix::fs::XattrFlags::empty(),
                )?;
            }
        }
        if file.metadata()?.mode() & 0o7777 != self.mode {
            rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(self.mode))?;
        }
        if let Some((seconds, nanos)) = mtime {
            let keep = rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            };
            let time = rustix::fs::Timespec {
                tv_sec: seconds,
                tv_nsec: nanos,
            };
            let times = rustix::fs::Timestamps {
                last_access: keep,
                last_modification: time,
            };
            rustix::fs::futimens(file, &times)?;
        }
        Ok(())
    }

    /// What of the metadata differs on `file`, in words; `None` when all is as before.
    pub fn metadata_differs(&self, file: &File, mtime: bool) -> io::Result<Option<String>> {
        let meta = file.metadata()?;
        if meta.mode() & 0o7777 != self.mode {
            return Ok(Some(format!(
                "mode {:o} instead of {:o}",
                meta.mode() & 0o7777,
                self.mode
            )));
        }
        if (meta.uid(), meta.gid()) != (self.uid, self.gid) {
            return Ok(Some(format!(
                "owner {}:{} instead of {}:{}",
                meta.uid(),
                meta.gid(),
                self.uid,
                self.gid
            )));
        }
        if mtime && (meta.mtime(), meta.mtime_nsec()) != self.mtime {
            return Ok(Some("another time of modification".to_owned()));
        }
        let there = xattrs(file)?;
        let lost = self.xattrs.iter().find(|one| !there.contains(one));
        Ok(lost.map(|(name, _)| format!("the extended attribute {name} is lost")))
    }
}
