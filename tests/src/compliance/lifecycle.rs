//! A fault is seen while it is there and by nobody afterwards, however often and by however many it is undone.

use anyhow::{Context as _, ensure};
use squall_faults::undo::perform::{Outcome, undo_injection};
use squall_faults::undo::revert;
use squall_model::event::Presence;
use squall_model::syntax::Class;

use super::Way;
use super::trial::{Trial, all_say};

fn injected(way: &Way) -> anyhow::Result<(Trial, super::trial::Injection)> {
    let trial = Trial::set(way)?;
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
pub fn is_seen_and_gone(way: &Way) -> anyhow::Result<()> {
    let (trial, injection) = injected(way)?;
    let outcome = injection.undo();
    if way.info.class != Class::OneShot {
        ensure!(!trial.is_seen()?, "the independent reading still shows it");
        let said = outcome.iter().flat_map(|outcome| &outcome.observations);
        let said: Vec<_> = said.cloned().collect();
        ensure!(
            all_say(&said, Presence::Absent),
            "its undo does not say that it is gone: {said:?}"
        );
        let observations = injection.observed();
        let lies = observations
            .iter()
            .any(|one| one.presence == Presence::Present);
        ensure!(!lies, "it says that it is still there: {observations:?}");
    }
    is_clean(outcome)?;
    trial.is_as_before()
}

/// Its undo as data succeeds twice, the undo by the journal then finds nothing left to do, and again nothing.
///
/// # Errors
/// With what is not so.
pub fn is_undone_twice(way: &Way) -> anyhow::Result<()> {
    let (trial, injection) = injected(way)?;
    for turn in ["once", "twice"] {
        for undo in injection.undos().iter().rev() {
            revert(undo).with_context(|| format!("reverting {undo:?} {turn}"))?;
        }
    }
    is_clean(injection.undo())?;
    is_clean(injection.undo())?;
    trial.is_as_before()
}

/// Undone by two threads with one journal and a third that knows the undo as data only, it is as undone once.
///
/// # Errors
/// With what is not so.
pub fn is_undone_by_two_at_once(way: &Way) -> anyhow::Result<()> {
    let (trial, injection) = injected(way)?;
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
    // Once the others have recorded the end, the third may find the backup gone; what counts is the host.
    drop(third?);
    injection.undo();
    trial.is_as_before()
}
