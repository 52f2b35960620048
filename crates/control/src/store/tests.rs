use super::*;
use crate::clock::{RunClock, boot_ns};
use crate::testing::{Child, Scratch, as_child, opening, until};
use squall_model::event::{Body, Event, RunState};
use squall_model::exit::Exit;
use squall_model::hook::TrainingEvent;
use squall_model::id::{InjectionId, RuleId};
use squall_model::syntax::Class;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

fn gauge(name: &'static str) -> SeriesSpec {
    SeriesSpec {
        name,
        labels: BTreeMap::from([("pid".into(), "1".into())]),
        unit: "bytes",
        per_second: None,
    }
}

pub(super) fn note(text: impl ToString) -> Body {
    Body::Note {
        text: text.to_string(),
    }
}

/// A training event as a hook tells it; its step is `number`.
pub(super) fn phase(number: u64) -> Body {
    Body::Training {
        reference: false,
        rank: Some((number % 2) as u32),
        restart: 0,
        pid: Some(4_711),
        source: "hook".into(),
        event: TrainingEvent {
            seq: number + 1,
            t_mono_ns: number * 1_000_003,
            kind: if number.is_multiple_of(2) {
                "phase-begin"
            } else {
                "phase-end"
            }
            .into(),
            step: Some(number),
            phase: Some("forward".into()),
            ..TrainingEvent::default()
        },
    }
}

fn begun(id: &str, class: Class) -> Body {
    Body::InjectionBegun {
        injection: InjectionId(id.into()),
        rule: RuleId(0),
        kind: "process-pause".into(),
        class,
        target: "pid 1".into(),
        process: None,
        aim: Default::default(),
        mechanism: "m".into(),
    }
}

#[test]
fn what_is_appended_is_read_back_in_order() {
    let scratch = Scratch::new("store");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    let samples = store.samples();
    let rss = samples.define(&gauge("process.rss"));
    let late = samples.define(&gauge("process.late"));
    for tick in 0..100u64 {
        let mut values = vec![(rss, tick as f64)];
        if tick >= 50 {
            values.push((late, f64::NAN));
        }
        samples.put(Stream::Monitor, tick * 100 + 1, values);
    }
    samples.put(
        Stream::Probe(3),
        7,
        vec![(samples.define(&gauge("probe")), 1.5)],
    );
    let last = store.append(note("hello")).expect("appended");
    store.close().expect("closed");
    let run = StoredRun::open(scratch.path()).expect("opened");
    assert_eq!(run.events.last(), Some(&last));
    assert_eq!(run.ask.seed, 7);
    let lengths: Vec<_> = run
        .series
        .iter()
        .map(|s| (s.name.as_str(), s.values.len(), s.t_ns[0]))
        .collect();
    assert_eq!(
        lengths,
        [
            ("process.rss", 100, 1),
            ("process.late", 50, 5001),
            ("probe", 1, 7)
        ]
    );
    assert!(run.series[1].values.iter().all(|v| v.is_nan()));
    assert!(
        !scratch.path().join("run.db-wal").exists(),
        "a finished run is one file"
    );
    let mode =
        std::os::unix::fs::MetadataExt::mode(&scratch.path().join(FILE).metadata().expect("there"));
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_finished_run_keeps_no_room_for_what_is_gone() {
    let scratch = Scratch::new("vacuum");
    let clock = RunClock::start();
    let store = Store::create(scratch.path(), opening(clock)).expect("created");
    let samples = store.samples();
    let ids: Vec<_> = (0..500)
        .map(|_| samples.define(&gauge("process.rss")))
        .collect();
    let started = std::time::Instant::now();
    // Long enough for tails to be written, which the block then replaces.
    while started.elapsed() < std::time::Duration::from_millis(2_500) {
        let now = clock.now_ns();
        let values = ids
            .iter()
            .map(|id| (*id, (now % (1_000_003 + u64::from(id.0))) as f64))
            .collect();
        samples.put(Stream::Monitor, now, values);
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    store.close().expect("closed");
    let free: i64 = rusqlite::Connection::open(scratch.path().join(FILE))
        .and_then(|c| c.pragma_query_value(None, "freelist_count", |row| row.get(0)))
        .expect("asked");
    assert_eq!(free, 0);
}

#[test]
fn an_illegal_event_is_refused_and_leaves_the_log_as_it_is() {
    let scratch = Scratch::new("illegal");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    let unknown = InjectionId("aaaaaaaa".into());
    let landed = Body::UndoBegun {
        injection: unknown,
        because: "x".into(),
        by: "agent".into(),
    };
    assert!(matches!(store.append(landed), Err(StoreError::Illegal(_))));
    assert_eq!(store.append(note("next")).expect("still works").seq, 2);
    store.close().expect("closed");
    assert!(
        store.append(note("late")).is_err(),
        "a closed store takes nothing"
    );
    assert_eq!(StoredRun::events(scratch.path()).expect("read").len(), 2);
}

#[test]
fn a_reader_sees_a_live_run_without_disturbing_it() {
    let scratch = Scratch::new("live");
    let dir = scratch.path().join("runs/r");
    std::fs::create_dir_all(&dir).expect("folder");
    let store = Store::create(&dir, opening(RunClock::start())).expect("created");
    let id = store.samples().define(&gauge("x"));
    store.samples().put(Stream::Monitor, 5, vec![(id, 2.0)]);
    store.append(note("one")).expect("appended");
    store.sync().expect("committed");
    assert_eq!(StoredRun::events_after(&dir, 1).expect("read").len(), 1);
    let listed = runs(scratch.path()).expect("listed");
    assert!(listed[0].live && !listed[0].is_cut_off() && listed[0].problem.is_none());
    assert_eq!(close_cut_off(&dir, &[]).expect("asked"), Closed::Live);
    until("sample", || {
        StoredRun::open(&dir)
            .ok()
            .filter(|run| run.series.len() == 1)
    });
    store.append(note("two")).expect("the writer goes on");
    store.close().expect("closed");
}

#[test]
fn a_newer_store_is_refused_with_words() {
    let scratch = Scratch::new("newer");
    Store::create(scratch.path(), opening(RunClock::start()))
        .and_then(|store| store.close())
        .expect("created");
    rusqlite::Connection::open(scratch.path().join(FILE))
        .and_then(|c| c.pragma_update(None, "user_version", 99))
        .expect("changed");
    let error = StoredRun::open(scratch.path()).expect_err("refused");
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn closing_a_cut_off_run_tells_what_the_journal_knows() {
    let scratch = Scratch::new("close");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    store
        .append(begun("aaaaaaaa", Class::Lasting))
        .expect("appended");
    store
        .append(begun("bbbbbbbb", Class::OneShot))
        .expect("appended");
    store.sync().expect("committed");
    drop(store);
    let entry = |id: &str, class, end| JournalEntry {
        injection: InjectionId(id.into()),
        rule: Some(RuleId(0)),
        kind: "process-pause".into(),
        class,
        target: "pid 1".into(),
        mechanism: "m".into(),
        landed: None,
        end,
    };
    let undone = JournalEnd::Undone {
        by: "guard".into(),
        observations: Vec::new(),
    };
    let journal = [
        entry("aaaaaaaa", Class::Lasting, undone.clone()),
        entry("bbbbbbbb", Class::OneShot, undone.clone()),
        entry("cccccccc", Class::Lasting, undone),
    ];
    let ended = ended(scratch.path(), &journal);
    assert_eq!(ended, Exit::Interrupted);
    assert_eq!(
        close_cut_off(scratch.path(), &journal).expect("again"),
        Closed::Ended(ended),
        "closing twice changes nothing"
    );
    let events = StoredRun::events(scratch.path()).expect("read");
    assert!(events.iter().any(|e| matches!(&e.body, Body::Undone { injection, by, .. } if injection.0 == "cccccccc" && by == "guard")));
    fold(&events);
}

#[test]
fn a_cut_off_run_with_something_outstanding_ends_as_not_rolled_back() {
    let scratch = Scratch::new("outstanding");
    let store = Store::create(scratch.path(), opening(RunClock::start())).expect("created");
    store
        .append(begun("aaaaaaaa", Class::Lasting))
        .expect("appended");
    drop(store);
    let ended = ended(scratch.path(), &[]);
    assert_eq!(ended, Exit::NotRolledBack);
    assert_eq!(RunSummary::of(scratch.path()).outstanding, 1);
}

/// Closes a run as soon as its writer has let go of it.
pub(super) fn ended(dir: &Path, journal: &[JournalEntry]) -> Exit {
    until("free lock", || match close_cut_off(dir, journal) {
        Ok(Closed::Ended(exit)) => Some(exit),
        _ => None,
    })
}

pub(super) fn fold(events: &[Event]) -> RunState {
    events
        .iter()
        .try_fold(RunState::default(), RunState::apply)
        .expect("every stored log is legal")
}

/// Not a test: the program that is killed. Writes events and samples as fast as it may and says what is committed.
#[test]
#[ignore = "a child program of another test"]
fn child_that_writes() {
    let dir = std::env::var("SQUALL_TEST_DIR").expect("set by the parent");
    let clock = RunClock::start();
    let store = Store::create(Path::new(&dir), opening(clock)).expect("created");
    let samples = store.samples();
    let ids: Vec<_> = (0..200)
        .map(|_| samples.define(&gauge("process.rss")))
        .collect();
    println!("boot {}", clock.boot_ns);
    for round in 0u64.. {
        // Many more training events than other ones, as in a real run, so that the kill may come while they are packed.
        for at in 0..50 {
            store
                .append(phase(round * 50 + at))
                .expect("a training event is appended");
        }
        let event = store.append(note(round)).expect("appended");
        let values = ids
            .iter()
            .map(|id| (*id, (round * u64::from(id.0 % 3)) as f64))
            .collect();
        samples.put(Stream::Monitor, clock.now_ns(), values);
        if round % 20 == 0 {
            store.sync().expect("committed");
            println!("synced {}", event.seq);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

/// What one killed writer left, after it was checked.
fn killed_after(milliseconds: u64) -> u64 {
    let scratch = Scratch::new("kill");
    let child = as_child("store::tests::child_that_writes")
        .env("SQUALL_TEST_DIR", scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut child = Child(child);
    let mut lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let mut word = |key: &str| loop {
        let line = lines.next()?.ok()?;
        if let Some((_, rest)) = line.split_once(key) {
            return rest.trim().parse::<u64>().ok();
        }
    };
    let boot = word("boot").expect("the writer says when it began");
    let kill_at = boot + milliseconds * 1_000_000;
    let mut synced = 1;
    while boot_ns() < kill_at {
        synced = word("synced").expect("the writer goes on");
    }
    child.0.kill().expect("killed");
    child.0.wait().expect("reaped");
    let died_ns = boot_ns() - boot;

    let run = StoredRun::open(scratch.path()).expect("opens though its writer was killed");
    assert!(
        fold(&run.events).seq >= synced,
        "a committed event is missing"
    );
    let newest = run
        .series
        .iter()
        .filter_map(|s| s.t_ns.last())
        .max()
        .copied()
        .unwrap_or(0);
    let lost = died_ns.saturating_sub(newest);
    assert!(
        lost <= LOSS_MAX.as_nanos() as u64,
        "{lost} ns of samples lost"
    );
    assert!(RunSummary::of(scratch.path()).is_cut_off());

    close_cut_off(scratch.path(), &[]).expect("closed");
    assert_eq!(
        tests_packs::count(scratch.path(), "events where kind = 'training'"),
        0,
        "closing packs what was left"
    );
    let closed = StoredRun::open(scratch.path()).expect("opens when closed");
    assert_eq!(closed.series, run.series, "closing keeps every sample");
    assert!(matches!(
        closed.events.last().map(|e| &e.body),
        Some(Body::RunEnded {
            exit: Exit::Interrupted,
            ..
        })
    ));
    if newest > 0 {
        assert!(
            closed
                .events
                .iter()
                .any(|e| matches!(&e.body, Body::Dropped { count, .. } if *count > 0)),
            "the loss is told"
        );
    }
    lost
}

#[test]
fn kill_9_at_any_moment_leaves_a_gapless_log_and_loses_two_seconds_of_samples_at_most() {
    // The last ones come later than the loss that is allowed, so a writer that never flushes is found out.
    let early = (0..12).map(|i| 30 + i * i * 7);
    let moments: Vec<u64> = early.chain([2_600, 3_300, 4_100, 5_000]).collect();
    let threads: Vec<_> = moments
        .chunks(4)
        .enumerate()
        .map(|(row, _)| {
            let chunk: Vec<u64> = moments.iter().skip(row).step_by(4).copied().collect();
            std::thread::spawn(move || chunk.into_iter().map(killed_after).max())
        })
        .collect();
    for thread in threads {
        assert!(thread.join().expect("every moment holds").is_some());
    }
}
