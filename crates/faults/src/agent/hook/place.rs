//! Where the hook's socket lies: a short path, in a folder that only this user can enter.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of sockets: `/run/squall` (root), `$XDG_RUNTIME_DIR/squall`, else one of the user's under the temporary directory.
fn folder() -> PathBuf {
    let us = rustix::process::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_dir());
    if us.is_root() {
        PathBuf::from("/run/squall")
    } else if let Some(runtime) = runtime {
        runtime.join("squall")
    } else {
        std::env::temp_dir().join(format!("squall-{}", us.as_raw()))
    }
}

/// How the names of sockets end: that of hooks, and that of a run's proxy.
const HOOK: &str = "hook";
pub(in crate::agent) const PROXY: &str = "proxy";

fn socket(folder: &Path, run: &str) -> PathBuf {
    folder.join(format!("{run}.{HOOK}"))
}

/// The path for a run's socket. Its folder is made, or checked to be this user's own.
pub(in crate::agent) fn make(run: &str) -> io::Result<PathBuf> {
    let folder = folder();
    crate::state_dir::create_private(&folder)?;
    let (us, meta) = (
        rustix::process::geteuid(),
        std::fs::symlink_metadata(&folder)?,
    );
    if !meta.is_dir() || meta.uid() != us.as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not a folder of this user", folder.display()),
        ));
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    Ok(socket(&folder, run))
}

/// A socket this old was not just bound by somebody who is about to listen.
const BOUND: Duration = Duration::from_secs(60);

/// Runs whose sockets lie in this user's folder though nobody listens at them, with the sockets' paths. Never asks one of a live run, nor waits.
pub(crate) fn abandoned(live: impl Fn(&str) -> bool) -> io::Result<Vec<(String, PathBuf)>> {
    abandoned_in(&folder(), live, BOUND)
}

fn abandoned_in(
    folder: &Path,
    live: impl Fn(&str) -> bool,
    bound: Duration,
) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let found = paths.filter_map(|path| {
        let (run, kind) = path.file_name()?.to_str()?.rsplit_once('.')?;
        if ![HOOK, PROXY].contains(&kind) {
            return None;
        }
        let run = run.to_owned();
        let age = std::fs::symlink_metadata(&path)
            .ok()?
            .modified()
            .ok()?
            .elapsed()
            .ok()?;
        (age > bound && !live(&run) && is_refused(&path)).then_some((run, path))
    });
    Ok(found.collect())
}

/// Whether nobody listens there. One who listens and does not accept lets nobody wait.
fn is_refused(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let asked = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?));
    asked == Err(rustix::io::Errno::CONNREFUSED)
}

/// Removes the socket that a killed agent left. None there is fine, and so is one of another user's that stays.
pub fn remove_left(run: &str) -> io::Result<()> {
    match std::fs::remove_file(socket(&folder(), run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_whose_backlog_is_full_is_not_waited_for_nor_taken_for_abandoned() {
        let folder = std::env::temp_dir().join(format!("squall-place-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        drop(UnixListener::bind(socket(&folder, "dead")).unwrap());
        drop(UnixListener::bind(socket(&folder, "held")).unwrap());
        let stopped = socket(&folder, "stopped");
        let listener = UnixListener::bind(&stopped).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let waiting = UnixStream::connect(&stopped).unwrap();
        let (sender, found) = std::sync::mpsc::channel();
        let place = folder.clone();
        std::thread::spawn(move || {
            let found = abandoned_in(&place, |run| run == "held", Duration::ZERO).unwrap();
            sender.send(found).unwrap();
        });
        let found = found.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(found, [("dead".to_owned(), socket(&folder, "dead"))]);
        drop((waiting, listener));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
