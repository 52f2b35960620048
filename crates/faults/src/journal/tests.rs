//! What one journal does: reading back, locks, torn records, versions, room.

mod edges;
mod laws;
mod phases;

use super::record::{About, Entry, Record, Writer};
use super::state::Phase;
use super::{Journal, JournalError, codec, read_all};
use crate::undo::Undo;
use squall_model::event::{Observation, Place, Presence};
use squall_model::id::{InjectionId, RunId};
use squall_model::syntax::Class;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) fn run() -> RunId {
    RunId("01890000-0000-7000-8000-000000000001".into())
}

pub(super) fn id(number: u8) -> InjectionId {
    InjectionId(format!("aaaaaaa{}", char::from(b'a' + number)))
}

pub(super) fn about(class: Class) -> Box<About> {
    Box::new(About {
        rule: None,
        kind: "process-pause".into(),
        class,
        target: "process 1".into(),
        process: None,
        aim: Place::default(),
        mechanism: "SIGSTOP by pidfd".into(),
    })
}

pub(super) fn intent(number: u8, change: u8) -> Entry {
    Entry::Intent {
        injection: id(number),
        about: about(Class::Lasting),
        action: "act".into(),
        undo: Undo::Nothing {
            act: format!("{number}/{change}"),
        },
    }
}

pub(super) fn active(number: u8) -> Entry {
    Entry::Active {
        injection: id(number),
        landing: None,
        observations: vec![],
    }
}

pub(super) fn undoing(number: u8) -> Entry {
    Entry::Undoing {
        injection: id(number),
        because: "end".into(),
    }
}

pub(super) fn undone(number: u8) -> Entry {
    Entry::Undone {
        injection: id(number),
        observations: vec![],
    }
}

pub(super) fn stuck(number: u8, text: &str) -> Entry {
    let observation = Observation {
        presence: Presence::Present,
        source: text.into(),
        evidence: text.into(),
    };
    Entry::Stuck {
        injection: id(number),
        because: text.into(),
        remedy: text.into(),
        observations: vec![observation; 4],
    }
}

pub(super) fn record(seq: u64, entry: Entry) -> Record {
    Record {
        seq,
        boot_ns: 0,
        by: Writer::Agent,
        entry,
    }
}

pub(super) fn observed(source: String, evidence: String) -> Vec<Observation> {
    vec![Observation {
        presence: Presence::Absent,
        source,
        evidence,
    }]
}

/// A fresh folder below the temporary directory, removed at the end.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("squall-journal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn what_was_appended_is_read_back_and_the_lock_is_held_until_the_end() {
    let folder = Folder::new("roundtrip");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    for entry in [
        intent(0, 0),
        intent(0, 1),
        active(0),
        intent(1, 0),
        undoing(0),
        undone(0),
    ] {
        journal.append(entry).unwrap();
    }
    assert!(super::is_held(&folder.0).unwrap());
    assert!(matches!(
        Journal::take_over(&folder.0, Writer::Recovery),
        Err(JournalError::Busy { .. })
    ));
    let log = read_all(&folder.0.join("journal")).unwrap();
    assert_eq!(log.records.len(), 6);
    assert_eq!(log.header.run, run());
    let open: Vec<_> = log.state.outstanding().map(|one| one.id.clone()).collect();
    assert_eq!(open, [id(1)]);
    drop(journal);
    assert!(!super::is_held(&folder.0).unwrap());
    let again = Journal::take_over(&folder.0, Writer::Recovery).unwrap();
    assert_eq!(again.state(), &log.state);
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.0.join("journal")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_inherited_descriptor_shares_the_lock_and_another_does_not() {
    let folder = Folder::new("adopt");
    let mut guard = Journal::create(&folder.0, &run(), Writer::Guard).unwrap();
    guard.append(intent(0, 0)).unwrap();
    let shared = std::fs::File::from(guard.descriptor().try_clone_to_owned().unwrap());
    let mut agent = Journal::adopt(shared, &folder.0, Writer::Agent).unwrap();
    agent.append(active(0)).unwrap();
    let other = std::fs::File::options()
        .read(true)
        .write(true)
        .open(folder.0.join("journal"))
        .unwrap();
    assert!(matches!(
        Journal::adopt(other, &folder.0, Writer::Agent),
        Err(JournalError::Busy { .. })
    ));
    drop(agent);
    // The agent is dead; the guard reads what it wrote and goes on.
    let mut guard = guard.reload().unwrap();
    assert_eq!(guard.state().get(&id(0)).unwrap().phase, Phase::Active);
    guard.append(undoing(0)).unwrap();
}

#[test]
fn a_torn_last_record_ends_the_log_and_is_overwritten() {
    let folder = Folder::new("torn");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    journal.append(intent(0, 0)).unwrap();
    let kept = journal.end;
    journal.append(intent(1, 0)).unwrap();
    let torn = journal.end - 3;
    drop(journal);
    let file = std::fs::File::options()
        .write(true)
        .open(folder.0.join("journal"))
        .unwrap();
    file.write_all_at(b"?", torn).unwrap();
    let mut journal = Journal::take_over(&folder.0, Writer::Recovery).unwrap();
    assert_eq!(journal.end, kept);
    assert!(journal.state().get(&id(1)).is_none());
    journal.append(undoing(0)).unwrap();
    journal.append(undone(0)).unwrap();
    let log = read_all(&folder.0.join("journal")).unwrap();
    assert_eq!(log.records.len(), 3);
    assert_eq!(log.state.outstanding().count(), 0);
}

#[test]
fn a_stale_record_behind_a_torn_one_is_not_taken_for_its_successor() {
    let header = codec::Header {
        run: run(),
        boot_id: "b".into(),
        boot_ns: 0,
        squall: "0".into(),
        origin: None,
    };
    let mut bytes = codec::encode_header(&header);
    let record = |seq, entry| Record {
        seq,
        boot_ns: 0,
        by: Writer::Agent,
        entry,
    };
    let first = codec::first_chain(&header);
    let (one, chain) = codec::encode(&record(1, intent(0, 0)), first).unwrap();
    let (two, _) = codec::encode(&record(2, intent(1, 0)), chain).unwrap();
    // Record 1 was torn and rewritten with other words of the same length.
    let (other, _) = codec::encode(&record(1, intent(0, 1)), first).unwrap();
    assert_eq!(one.len(), other.len());
    bytes.extend_from_slice(&other);
    bytes.extend_from_slice(&two);
    let decoded = codec::decode(&bytes, Path::new("j")).unwrap();
    assert_eq!(decoded.records.len(), 1);
}

#[test]
fn a_newer_version_is_refused_with_words_and_other_files_are_named_damaged() {
    let folder = Folder::new("newer");
    drop(Journal::create(&folder.0, &run(), Writer::Agent).unwrap());
    let path = folder.0.join("journal");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&2u32.to_le_bytes(), 8).unwrap();
    let error = Journal::take_over(&folder.0, Writer::Recovery).unwrap_err();
    assert!(matches!(
        error,
        JournalError::Newer {
            found: 2,
            known: 1,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .contains("run `undo` with the squall that wrote it"),
        "{error}"
    );
    file.write_all_at(b"other", 0).unwrap();
    assert!(matches!(read_all(&path), Err(JournalError::Damaged { .. })));
}

/// Written by version 0.1.0 of Squall. It must be readable by every later one.
#[test]
fn the_journal_of_version_1_is_understood() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1");
    let log = read_all(&path).unwrap();
    assert_eq!(log.records.len(), 5);
    let open: Vec<_> = log.state.outstanding().collect();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].id, id(1));
    assert_eq!(open[0].phase, Phase::Intent);
    assert_eq!(log.state.get(&id(0)).unwrap().phase, Phase::Undone);
}

/// Run by hand, once per version: `cargo test -p squall-faults write_the_fixture -- --ignored`.
#[test]
#[ignore = "writes the committed fixture"]
fn write_the_fixture() {
    let folder = Folder::new("fixture");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    for entry in [intent(0, 0), active(0), undoing(0), undone(0), intent(1, 0)] {
        journal.append(entry).unwrap();
    }
    let mut bytes = std::fs::read(folder.0.join("journal")).unwrap();
    bytes.truncate(usize::try_from(journal.end).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1");
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn moves_that_the_state_forbids_are_not_recorded() {
    let folder = Folder::new("illegal");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    assert!(matches!(
        journal.append(active(0)),
        Err(JournalError::Illegal(_))
    ));
    journal.append(intent(0, 0)).unwrap();
    journal.append(undoing(0)).unwrap();
    // No change can slip in once the undo has begun.
    let error = journal.append(intent(0, 1)).unwrap_err();
    assert!(
        error.to_string().contains("it is Undoing already"),
        "{error}"
    );
    journal.append(undone(0)).unwrap();
    assert!(journal.append(undoing(0)).is_err());
    assert_eq!(
        read_all(&folder.0.join("journal")).unwrap().records.len(),
        3
    );
}

#[test]
fn endings_are_cut_to_the_room_reserved_for_them_and_intents_never() {
    let long = "ü".repeat(40_000);
    let Entry::Stuck {
        remedy,
        observations,
        ..
    } = stuck(0, &long).fitted()
    else {
        panic!("another entry came back");
    };
    assert!(remedy.ends_with('…') && observations.len() == 4);
    let record = |entry: Entry| Record {
        seq: u64::MAX,
        boot_ns: u64::MAX,
        by: Writer::Recovery,
        entry,
    };
    let bytes = serde_json::to_vec(&record(stuck(0, &long).fitted())).unwrap();
    assert!(
        bytes.len() <= super::record::ENDING_MAX,
        "{} bytes",
        bytes.len()
    );
    // The remedy survives where only the evidence is long.
    let mut entry = stuck(0, &"x".repeat(3000));
    if let Entry::Stuck { remedy, .. } = &mut entry {
        *remedy = "kill -CONT 1".into();
    }
    assert!(matches!(entry.fitted(), Entry::Stuck { remedy, .. } if remedy == "kill -CONT 1"));
    let folder = Folder::new("long");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    let mut entry = intent(0, 0);
    if let Entry::Intent { action, .. } = &mut entry {
        *action = "x".repeat(codec::RECORD_MAX);
    }
    assert!(matches!(
        journal.append(entry),
        Err(JournalError::TooLong { .. })
    ));
    assert_eq!(journal.state().seq(), 0);
}

#[test]
fn the_file_is_always_ahead_of_what_its_injections_may_still_need() {
    let folder = Folder::new("room");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    for number in 0..20 {
        journal.append(intent(number, 0)).unwrap();
        assert!(journal.end + journal.state().reserved() <= journal.allocated);
    }
    let allocated = journal.allocated;
    for number in 0..20 {
        journal.append(active(number)).unwrap();
        journal.append(undoing(number)).unwrap();
        journal.append(stuck(number, &"x".repeat(9000))).unwrap();
        journal.append(undoing(number)).unwrap();
        journal.append(undone(number)).unwrap();
    }
    assert_eq!(
        journal.allocated, allocated,
        "an ending had to grow the file"
    );
    let end = journal.end;
    journal.close().unwrap();
    assert_eq!(
        std::fs::metadata(folder.0.join("journal")).unwrap().len(),
        end
    );
}
