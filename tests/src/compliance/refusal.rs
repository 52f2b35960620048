//! A fault that cannot be injected changes nothing.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use squall_faults::fault::{Injectable as _, Target};
use squall_model::syntax::Class;

use super::Way;
use super::trial::{Injection, Trial, facts};
use crate::spawned::Spawned;
use crate::targets::Prey;

/// A user without any right here.
const NOBODY: u32 = 65534;

/// A target of another kind than its own is refused, with a remedy, and nothing is changed or recorded.
///
/// # Errors
/// With what is not so.
pub fn wrong_target_is_refused(way: &Way) -> anyhow::Result<()> {
    let trial = Trial::set(way)?;
    let fault = trial.fault()?;
    let wrong = match trial.target()? {
        Target::Host => Target::File {
            path: "/nowhere".into(),
        },
        Target::File { .. }
        | Target::Process { .. }
        | Target::Namespace { .. }
        | Target::Container { .. } => Target::Host,
    };
    let unmet = fault.fault().unmet(&wrong, &facts());
    ensure!(
        unmet
            .iter()
            .all(|one| !one.what.is_empty() && !one.remedy.is_empty()),
        "a word is missing: {unmet:?}"
    );
    let injection = Injection::begin(&trial.state, &fault, wrong.clone())?;
    let refused = injection.inject();
    ensure!(refused.is_err(), "it acted on {wrong:?}");
    ensure!(
        !injection.is_recorded(),
        "it recorded an intent on {wrong:?}"
    );
    trial.is_as_before()
}

/// A target that is gone when the fault comes is refused, and nothing is changed.
///
/// # Errors
/// With what is not so.
pub fn missing_target_is_refused(way: &Way) -> anyhow::Result<()> {
    let mut trial = Trial::set(way)?;
    let target = trial.target()?;
    let fault = trial.fault()?;
    match &target {
        Target::Process { .. } => {
            trial.prey.process.as_mut().context("a process")?.end()?;
        }
        Target::File { path } => {
            std::fs::remove_file(path)?;
        }
        Target::Host | Target::Namespace { .. } | Target::Container { .. } => return Ok(()),
    }
    let injection = Injection::begin(&trial.state, &fault, target)?;
    ensure!(
        injection.inject().is_err(),
        "it acted on a target that is gone"
    );
    injection.undo();
    Ok(())
}

/// Without any right, on what belongs to somebody else, it says what is missing or fails, and nothing is changed. Only a fault that requires
/// nothing may act, and then it is undone.
///
/// # Errors
/// With what is not so.
pub fn missing_right_is_refused(way: &Way) -> anyhow::Result<()> {
    let trial = Trial::set_with(way, give_away)?;
    let fault = trial.fault()?;
    let injection = trial.injection()?;
    let target = trial.target()?;
    let (unmet, acted) = std::thread::scope(|scope| {
        let without = scope.spawn(|| {
            let none = CapabilitySet::empty();
            let sets = CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            set_capabilities(None, sets)?;
            let facts = facts();
            let as_user = squall_faults::kind::HostFacts {
                root: false,
                ..facts
            };
            let unmet = fault.fault().unmet(&target, &as_user);
            ensure!(
                unmet
                    .iter()
                    .all(|one| !one.what.is_empty() && !one.remedy.is_empty()),
                "a word is missing: {unmet:?}"
            );
            Ok((unmet, injection.inject().is_ok()))
        });
        without
            .join()
            .map_err(|_| anyhow::anyhow!("the fault panicked"))?
    })?;
    let needs_nothing = way.info.class == Class::Served && unmet.is_empty();
    ensure!(needs_nothing || !acted, "it acted without any right");
    ensure!(
        needs_nothing || !unmet.is_empty(),
        "it did not say beforehand that a right is missing"
    );
    injection.undo();
    trial.is_as_before()
}

/// Hands what was prepared to another user.
fn give_away(prey: &mut Prey) -> anyhow::Result<()> {
    if prey.process.is_some() {
        prey.process = Some(Spawned::start(
            Command::new("sleep").arg("3600").uid(NOBODY),
        )?);
    }
    if let Some(path) = &prey.file {
        let folder = path.parent().context("a folder")?;
        for path in [path.as_path(), folder] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
        }
    }
    Ok(())
}
