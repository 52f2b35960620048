//! The proof that a leftover is seen: plant it, have it named, remove it, have nothing named.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::folder::Folder;
use crate::poll;
use crate::sandbox::{Sandbox, skip};
use crate::snapshot::{HostSnapshot, Kind, Scope};

/// How long anything in a proof may take.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A test's name and its sandbox.
#[derive(Debug)]
pub struct Inside<'name> {
    /// The test's full name.
    pub test: &'name str,
    cgroups: Folder,
}

impl Inside<'_> {
    /// The whole host as seen from inside; cgroups are the one kind that no namespace hides, so
    /// another job's would be seen: an empty folder stands for them.
    pub fn scope(&self) -> Scope {
        Scope::host().cgroup_root(self.cgroups.path())
    }

    /// Asserts that exactly `expected` is named while planted and nothing after removal.
    ///
    /// # Errors
    /// When anything else is seen, or planting or removing fails.
    pub fn sees(
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

/// Runs a test in namespaces of its own, pids included.
///
/// # Panics
/// When the test fails.
pub fn inside(test: &str, body: impl FnOnce(&Inside<'_>) -> anyhow::Result<()>) {
    Sandbox::new().with_own_pids().run(test, || {
        body(&Inside {
            test,
            cgroups: Folder::new()?,
        })
    });
}
