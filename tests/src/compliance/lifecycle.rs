//! A fault is seen while it is there and by nobody afterwards, however often and by however many it is undone.

use anyhow::{Context as _, ensure};
use squall_faults::undo::perform::{Outcome, undo_injection};
use squall_faults::undo::revert;
use squall_model::event::Presence;
use squall_model::syntax::{Class, KindInfo};

use super::trial::{Trial, all_say};

fn injected(info: &KindInfo) -> anyhow::Result<(Trial, super::trial::Injection)> {
    let trial = Trial::set(info)?;
    ensure!(
        !trial.is_seen()?,
        "the independent reading shows the fault before it is there"
    );
    let injection = trial.injection()?;
    let observations = injection.inject().context("inject")?;
    let landed = observations
        .iter()
        .any(|one| one.presence == Presence::Present);
    ensure!(landed, "it does not say that it landed: {observations:?}");
    trial.becomes_seen()?;
    Ok((trial, injection))
}

fn is_clean(outcome: Option<Outcome>) -> anyhow::Result<()> {
    let outcome = outcome.context("the journal does not know the injection")?;
    ensure!(
        outcome.stuck.is_none() && outcome.unrecorded.is_none(),
        "{outcome:?}"
    );
    Ok(())
}

/// Injected, it is seen by an independent reading and by itself; undone, by neither, and the host is as before.
///
/// # Errors
/// With what is not so.
pub fn is_seen_and_gone(info: &KindInfo) -> anyhow::Result<()> {
    let (trial, injection) = injected(info)?;
    is_clean(injection.undo())?;
    if info.class != Class::OneShot {
        ensure!(!trial.is_seen()?, "the independent reading still shows it");
        let observations = injection.observed();
        ensure!(
            all_say(&observations, Presence::Absent),
            "it does not say that it is gone: {observations:?}"
        );
    }
    trial.is_as_before()
}

/// Undone twice, and its undo as data a third time, it is as undone once.
///
/// # Errors
/// With what is not so.
pub fn is_undone_twice(info: &KindInfo) -> anyhow::Result<()> {
    let (trial, injection) = injected(info)?;
    is_clean(injection.undo())?;
    is_clean(injection.undo())?;
    for undo in injection.undos() {
        revert(&undo).with_context(|| format!("reverting {undo:?} again"))?;
    }
    trial.is_as_before()
}

/// What was recorded and never done is undone too.
///
/// # Errors
/// With what is not so.
pub fn is_undone_by_two_at_once(info: &KindInfo) -> anyhow::Result<()> {
    let (trial, injection) = injected(info)?;
    let (journal, id) = injection.parts();
    let undos = injection.undos();
    let start = std::sync::Barrier::new(3);
    let outcomes = std::thread::scope(|scope| {
        let by_journal = || {
            start.wait();
            undo_injection(&journal, &id, "one of two")
        };
        let handles = [scope.spawn(by_journal), scope.spawn(by_journal)];
        // A third knows the undo as data only, like another process.
        let third = scope.spawn(|| {
            start.wait();
            undos
                .iter()
                .rev()
                .map(revert)
                .collect::<Result<Vec<()>, _>>()
        });
        let third = third
            .join()
            .map_err(|_| anyhow::anyhow!("an undo panicked"));
        let outcomes = handles.map(|handle| {
            handle
                .join()
                .map_err(|_| anyhow::anyhow!("an undo panicked"))
        });
        (outcomes, third)
    });
    let (outcomes, third) = outcomes;
    for outcome in outcomes {
        is_clean(outcome?)?;
    }
    if info.class != Class::OneShot {
        third??;
    }
    injection.undo();
    trial.is_as_before()
}
