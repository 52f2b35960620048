//! Events in packs, and files of the format before packs.

use super::db::Database;
use super::events::{PACK, for_each, telling_events};
use super::tests::{ended, fold, note, phase};
use super::*;
use crate::clock::RunClock;
use crate::testing::{Scratch, opening};
use squall_model::event::Event;
use squall_model::exit::Exit;
use std::path::Path;

pub(super) fn count(dir: &Path, what: &str) -> i64 {
    rusqlite::Connection::open(dir.join(FILE))
        .and_then(|c| {
            c.query_row(&format!("select count(*) from {what}"), [], |row| {
                row.get(0)
            })
        })
        .expect("asked")
}

/// Three packs and a half, with other events between, as they were appended.
fn fill(store: &Store) -> Vec<Event> {
    let mut all = Vec::new();
    for number in 0..(PACK as u64 * 7 / 2) {
        all.push(store.append(phase(number)).expect("appended"));
        if number % 1_000 == 7 {
            all.push(store.append(note(number)).expect("appended"));
        }
    }
    all
}

#[test]
fn training_events_are_packed_while_the_run_lives_and_nothing_is_lost() {
    let scratch = Scratch::new("packs");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    let all = fill(&store);
    store.sync().expect("committed");
    assert_eq!(count(scratch.path(), "packs"), 3);
    assert_eq!(
        count(scratch.path(), "events where kind = 'training'"),
        PACK as i64 / 2
    );
    let live = StoredRun::events(scratch.path()).expect("read");
    assert_eq!(live[1..], all);
    let (middle, rest) = (PACK + 100, all.len() - PACK - 99);
    let after = StoredRun::events_after(scratch.path(), middle as u64).expect("read");
    assert_eq!(after, live[middle..]);
    assert_eq!(after.len(), rest);
    store.close().expect("closed");
    assert_eq!(count(scratch.path(), "events where kind = 'training'"), 0);
    assert_eq!(StoredRun::events(scratch.path()).expect("read"), live);
    assert_eq!(RunSummary::of(scratch.path()).problem, None);
}

#[test]
fn whoever_reads_while_events_are_packed_sees_each_once() {
    let scratch = Scratch::new("packs-live");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fill(&store).len());
        let mut reads = 0;
        while !writer.is_finished() || reads == 0 {
            fold(&StoredRun::events(scratch.path()).expect("read"));
            reads += 1;
        }
    });
    store.close().expect("closed");
}

#[test]
fn a_reader_sees_one_moment_though_events_are_packed_after_its_first_look() {
    let scratch = Scratch::new("packs-moment");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    store.append(phase(0)).expect("appended");
    store.sync().expect("committed");
    let reader = Database::open_to_read(scratch.path()).expect("opened");
    assert_eq!(telling_events(&reader).expect("read").len(), 1);
    fill(&store);
    store.sync().expect("committed");
    let mut seen = 0;
    for_each(&reader, 0, |_| {
        seen += 1;
        Ok(())
    })
    .expect("read");
    assert_eq!(seen, 2);
    store.close().expect("closed while someone reads");
}

#[test]
fn a_run_whose_controller_lets_go_is_packed_and_closed() {
    let scratch = Scratch::new("packs-cut");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    let all = fill(&store);
    store.sync().expect("committed");
    drop(store);
    assert_eq!(ended(scratch.path(), &[]), Exit::Interrupted);
    assert_eq!(count(scratch.path(), "events where kind = 'training'"), 0);
    let events = StoredRun::events(scratch.path()).expect("read");
    assert_eq!(events[1..=all.len()], all);
    fold(&events);
}

fn fixture(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run-v1");
    std::fs::copy(from.join(format!("{name}.db")), scratch.path().join(FILE)).expect("copied");
    scratch
}

#[test]
fn a_run_of_format_1_is_read_and_concluded() {
    let scratch = fixture("finished");
    let events = StoredRun::events(scratch.path()).expect("read");
    assert_eq!((events.len(), fold(&events).ended), (744, Some(Exit::Held)));
    let run = StoredRun::open(scratch.path()).expect("opened");
    assert!(!run.series.is_empty() && run.ask.seed == 7);
    let report = squall_analysis::conclude(&run);
    assert_eq!(report.verdict.exit, Exit::Held);
    assert_eq!(report.recoveries.len(), 1);
    assert_eq!(RunSummary::of(scratch.path()).landed, 1);
}

#[test]
fn a_cut_off_run_of_format_1_is_closed_in_its_own_format() {
    let scratch = fixture("cut-off");
    assert!(RunSummary::of(scratch.path()).is_cut_off());
    assert_eq!(
        close_cut_off(scratch.path(), &[]).expect("closed"),
        Closed::Ended(Exit::Interrupted)
    );
    let events = StoredRun::events(scratch.path()).expect("read");
    assert_eq!(events.len(), 178 + 2);
    assert!(fold(&events).ended.is_some());
    let version: i64 = rusqlite::Connection::open(scratch.path().join(FILE))
        .and_then(|c| c.pragma_query_value(None, "user_version", |row| row.get(0)))
        .expect("asked");
    assert_eq!(version, 1, "an older Squall reads it still");
}
