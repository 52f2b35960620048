//! New network and mount namespaces, for a workload to be started in.

use std::io;

/// Whether this process may make network and mount namespaces, found out by making some on a thread that ends at once, and they with it.
pub fn may_be_made() -> io::Result<()> {
    inside_new(|| Ok(()))
}

/// Runs `act` in new namespaces of its own, which end with it.
pub fn inside_new<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter()?;
            act()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// Moves this thread (between fork and exec: this process) into new network and mount namespaces. Loopback is up; mounts made here stay here,
/// those that the host makes or takes away follow. System calls only.
pub(super) fn enter() -> io::Result<()> {
    let checked = |result: libc::c_int| {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(result)
    };
    // SAFETY: takes flags only.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })?;
    let (none, root) = (std::ptr::null(), c"/".as_ptr());
    let flags = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: the one string is constant and ends with a zero; the others may be null where only the propagation changes.
    checked(unsafe { libc::mount(std::ptr::null(), root, std::ptr::null(), flags, none) })?;
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only.
    let socket = checked(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: numbers and bytes, for which zero is a value.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request lives on this stack for the whole call, and is of the type that this call reads.
    let up = checked(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) });
    // SAFETY: the descriptor was made above and is nobody else's.
    unsafe { libc::close(socket) };
    up.map(drop)
}
