//! Two network namespaces of our own with a pair of interfaces between them: `va` (10.99.0.1, fd99::1) and `vb` (10.99.0.2, fd99::2).

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use squall_faults::sys::namespace;

use crate::poll::until;

const LIMIT: Duration = Duration::from_secs(10);

/// Two namespaces and what keeps them.
#[derive(Debug)]
pub struct Pair {
    keepers: [Child; 2],
}

impl Pair {
    /// Makes them. Needs root.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> anyhow::Result<Pair> {
        let keeper = || {
            Command::new("unshare")
                .args(["-n", "cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
        };
        let pair = Pair {
            keepers: [keeper()?, keeper()?],
        };
        let ours = fs::read_link("/proc/self/ns/net")?;
        until(LIMIT, || {
            let link = |path: PathBuf| fs::read_link(path).is_ok_and(|link| link != ours);
            Ok(link(pair.path(0)) && link(pair.path(1)))
        })?;
        let other = pair.keepers[1].id();
        pair.ip(
            0,
            &format!("link add va type veth peer name vb netns {other}"),
        )?;
        for (which, link, last) in [(0, "va", 1), (1, "vb", 2)] {
            pair.ip(which, &format!("addr add 10.99.0.{last}/24 dev {link}"))?;
            pair.ip(which, &format!("addr add fd99::{last}/64 dev {link} nodad"))?;
            pair.ip(which, &format!("link set {link} up"))?;
            pair.ip(which, "link set lo up")?;
        }
        Ok(pair)
    }

    /// Runs `ip` with these words inside one of them.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, which: usize, words: &str) -> anyhow::Result<()> {
        let net = format!("--net={}", self.path(which).display());
        let words = words.split(' ');
        let all: Vec<_> = [net.as_str(), "ip"].into_iter().chain(words).collect();
        crate::sandbox::command("nsenter", &all)
    }

    /// Leads to one of them.
    pub fn path(&self, which: usize) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keepers[which].id()))
    }

    /// Runs `act` inside one of them.
    ///
    /// # Errors
    /// As `act`.
    pub fn inside<T: Send>(
        &self,
        which: usize,
        act: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> anyhow::Result<T> {
        Ok(namespace::inside(Some(&self.path(which)), act)?)
    }

    /// A sender in the first and a receiver in the second.
    ///
    /// # Errors
    /// When they cannot be bound.
    pub fn sockets(&self, is_v6: bool) -> anyhow::Result<(UdpSocket, UdpSocket)> {
        let to = if is_v6 { "[fd99::2]:0" } else { "10.99.0.2:0" };
        let from = if is_v6 { "[fd99::1]:0" } else { "10.99.0.1:0" };
        let to = self.inside(1, || UdpSocket::bind(to))?;
        // A receiver that has to wait for its core loses nothing. SOL_SOCKET and SO_RCVBUFFORCE.
        squall_faults::sys::mmsg::set_option(&to, 1, 33, 32 << 20)?;
        let from = self.inside(0, || UdpSocket::bind(from))?;
        from.connect(to.local_addr()?)?;
        Ok((from, to))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            keeper.kill().ok();
            keeper.wait().ok();
        }
    }
}
