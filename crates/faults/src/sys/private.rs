//! New network and mount namespaces, for a workload to be started in.

use std::io;

/// Whether this process may make network and mount namespaces, found out by making some on a thread that ends at once, and they with it.
pub fn may_be_made() -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(enter);
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
    // SAFETY: no memory is shared by these calls but the constant strings and the request on this stack.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS))?;
        checked(libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_SLAVE,
            std::ptr::null(),
        ))?;
        let socket = checked(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        let mut request = std::mem::zeroed::<libc::ifreq>();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let up = checked(libc::ioctl(
            socket,
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        ));
        libc::close(socket);
        up.map(drop)
    }
}
