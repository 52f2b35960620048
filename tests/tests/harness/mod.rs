//! Plants one leftover, asks for its name, removes it, asks for nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use squall_tests::poll;
use squall_tests::sandbox::{Sandbox, skip};
use squall_tests::snapshot::netlink::{ACK, APPEND, Builder, CREATE, Socket};
use squall_tests::snapshot::{HostSnapshot, Kind, Scope};

pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// A folder that goes with its guard.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> anyhow::Result<Self> {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("snapshot-sees-{}-{count}", unique());
        // On the disk of the build, whose file system has attributes, where another user did not build.
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let path = if std::fs::create_dir(&built).is_ok() {
            built
        } else {
            std::env::temp_dir().join(&name)
        };
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A name that no other run has: pids repeat where every test has a pid namespace.
fn unique() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}

/// A test's name and its sandbox.
pub(crate) struct Inside<'name> {
    pub(crate) test: &'name str,
    cgroups: Folder,
}

impl Inside<'_> {
    /// The whole host as seen from inside; cgroups are the one kind that no namespace hides, so
    /// another job's would be seen: an empty folder stands for them.
    pub(crate) fn scope(&self) -> Scope {
        Scope::host().cgroup_root(self.cgroups.path())
    }

    /// Asserts that exactly `expected` is named while planted and nothing after removal.
    pub(crate) fn sees(
        &self,
        scope: &Scope,
        expected: &[(Kind, &str)],
        plant: impl FnOnce() -> anyhow::Result<()>,
        remove: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let before = HostSnapshot::take(scope)?;
        if let Some((kind, _)) = expected
            .iter()
            .find(|(kind, _)| before.blind().contains_key(kind))
        {
            return skip(
                self.test,
                &format!("{kind} cannot be read here: {}", before.blind()[kind]),
            );
        }
        plant().context("plant")?;
        let left = before.diff(&HostSnapshot::take(scope)?);
        let named: Vec<_> = left
            .iter()
            .map(|difference| (difference.kind, difference.name.as_str()))
            .collect();
        let shown: Vec<_> = left.iter().map(ToString::to_string).collect();
        ensure!(named == expected, "wanted {expected:?}, saw {shown:#?}");
        remove().context("remove")?;
        let mut left = Vec::new();
        poll::until(LIMIT, || {
            left = before.diff(&HostSnapshot::take(scope)?);
            Ok(left.is_empty())
        })
        .with_context(|| format!("still seen after removal: {left:?}"))
    }
}

/// Runs a test in namespaces of its own.
pub(crate) fn inside(test: &str, body: impl FnOnce(&Inside<'_>) -> anyhow::Result<()>) {
    Sandbox::new().with_own_pids().run(test, || {
        body(&Inside {
            test,
            cgroups: Folder::new()?,
        })
    });
}

/// Changes nftables by raw messages, since no `nft` need be there.
pub(crate) struct Nft(Socket);

impl Nft {
    pub(crate) fn open() -> anyhow::Result<Self> {
        Ok(Self(Socket::netfilter()?))
    }

    /// One change in a transaction of its own. `kind` is an `NFT_MSG_*`, the family IPv4.
    fn change(&self, kind: u16, flags: u16, attributes: &Builder) -> anyhow::Result<()> {
        let batch = Builder::new().raw(&[0, 0, 0, 10]);
        let change = Builder::new().raw(&[2, 0, 0, 0]).raw(attributes.bytes());
        let mut datagram = batch.message(16, 0, 1);
        datagram.extend(change.message(10 << 8 | kind, flags | ACK, 2));
        datagram.extend(batch.message(17, 0, 3));
        self.0.send(&datagram)?;
        self.0.acknowledged()
    }

    pub(crate) fn add_table(&self, table: &str) -> anyhow::Result<()> {
        let flags = Builder::new()
            .text(1, table)
            .attribute(2, &0u32.to_be_bytes());
        self.change(0, CREATE, &flags)
    }

    pub(crate) fn delete_table(&self, table: &str) -> anyhow::Result<()> {
        self.change(2, 0, &Builder::new().text(1, table))
    }

    /// A filter chain on outgoing packets that accepts what no rule decides.
    pub(crate) fn add_output_chain(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        let hook = Builder::new()
            .attribute(1, &3u32.to_be_bytes())
            .attribute(2, &0u32.to_be_bytes());
        let chain = Builder::new()
            .text(1, table)
            .text(3, chain)
            .nested(4, hook)
            .text(7, "filter");
        self.change(3, CREATE, &chain)
    }

    /// A rule of one counter.
    pub(crate) fn add_counter(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        let counter = Builder::new().text(1, "counter").nested(2, Builder::new());
        let rule = Builder::new()
            .text(1, table)
            .text(2, chain)
            .nested(4, Builder::new().nested(1, counter));
        self.change(6, CREATE | APPEND, &rule)
    }

    /// Deletes every rule of a chain.
    pub(crate) fn flush(&self, table: &str, chain: &str) -> anyhow::Result<()> {
        self.change(8, 0, &Builder::new().text(1, table).text(2, chain))
    }
}
