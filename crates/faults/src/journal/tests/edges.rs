//! The edges: what is just short enough, just too long, crafted to look right, or kept in exactly the room that was promised.

use super::super::codec::{self, FRAME_LEN, HEADER_LEN, Header, RECORD_MAX};
use super::super::record::{ENDING_MAX, Entry, Landing, UNDOING_MAX, Writer};
use super::super::{GROWTH, Journal, JournalError, SIZE_MAX, is_held};
use super::{Folder, active, id, intent, observed, record, run, stuck, undoing, undone};
use squall_model::event::{Place, Precision};
use squall_model::seed::hash64;
use std::path::Path;

fn header(squall: &str) -> Header {
    Header {
        run: run(),
        boot_id: "b".into(),
        boot_ns: 0,
        squall: squall.into(),
        origin: None,
    }
}

fn sum(chain: u64, seq: u64, json: &[u8]) -> u64 {
    hash64(&[&chain.to_le_bytes(), &seq.to_le_bytes(), json])
}

/// A record's bytes as the format describes them, whatever their length.
fn frame(chain: u64, seq: u64, json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap();
    [
        &length.to_le_bytes()[..],
        &seq.to_le_bytes(),
        &sum(chain, seq, json).to_le_bytes(),
        json,
    ]
    .concat()
}

fn decode(bytes: &[u8]) -> Result<codec::Decoded, JournalError> {
    codec::decode(bytes, Path::new("j"))
}

/// A journal's head whose JSON takes exactly this many bytes, with a checksum that fits.
fn head_of(length: usize) -> Vec<u8> {
    let bare = serde_json::to_vec(&header("")).unwrap().len();
    let json = serde_json::to_vec(&header(&"x".repeat(length - bare))).unwrap();
    assert_eq!(json.len(), length);
    let mut bytes = b"SQUALLJ\n".to_vec();
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    bytes.extend_from_slice(&sum(0, 1, &json).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(bytes.len().max(HEADER_LEN), 0);
    bytes
}

#[test]
fn a_header_fills_its_block_at_most_and_must_check() {
    let most = HEADER_LEN - 24;
    assert_eq!(decode(&head_of(most)).unwrap().end, HEADER_LEN as u64);
    for length in [most + 1, most + 24, most + 100] {
        assert!(matches!(
            decode(&head_of(length)),
            Err(JournalError::Damaged { .. })
        ));
    }
    let good = codec::encode_header(&header("0"));
    assert_eq!(decode(&good).unwrap().header, header("0"));
    assert_eq!(
        decode(&good).unwrap().chain,
        codec::first_chain(&header("0"))
    );
    // One letter of the version is another, and still JSON.
    let mut other = good.clone();
    let at = good.windows(3).position(|bytes| bytes == b"\"0\"").unwrap();
    other[at + 1] = b'1';
    assert!(
        decode(&other)
            .unwrap_err()
            .to_string()
            .contains("does not check")
    );
    let mut zero = good.clone();
    zero[8] = 0;
    assert!(
        decode(&zero)
            .unwrap_err()
            .to_string()
            .contains("version is 0")
    );
    for cut in [0, 7, 8, 11, 30] {
        assert!(matches!(
            decode(&good[..cut]),
            Err(JournalError::Damaged { .. })
        ));
    }
}

#[test]
fn a_record_is_as_long_as_allowed_and_no_longer() {
    let of = |letters: usize| {
        let mut entry = intent(0, 0);
        if let Entry::Intent { action, .. } = &mut entry {
            *action = "x".repeat(letters);
        }
        record(1, entry)
    };
    let bare = serde_json::to_vec(&of(0)).unwrap().len();
    let first = codec::first_chain(&header("0"));
    let (longest, _) = codec::encode(&of(RECORD_MAX - bare), first).unwrap();
    assert_eq!(longest.len(), FRAME_LEN + RECORD_MAX);
    let error = codec::encode(&of(RECORD_MAX - bare + 1), first).unwrap_err();
    assert!(
        matches!(&error, JournalError::TooLong { what, bytes, .. } if what == "intent" && *bytes == RECORD_MAX + 1),
        "{error}"
    );
    let head = codec::encode_header(&header("0"));
    assert_eq!(
        decode(&[head.clone(), longest].concat())
            .unwrap()
            .records
            .len(),
        1
    );
    // A frame that is too long ends the log, even where its checksum is right.
    let json = serde_json::to_vec(&of(RECORD_MAX - bare + 1)).unwrap();
    let decoded = decode(&[head.clone(), frame(first, 1, &json)].concat()).unwrap();
    assert_eq!((decoded.records.len(), decoded.end), (0, HEADER_LEN as u64));
}

#[test]
fn a_record_with_another_number_than_its_place_or_its_frame_ends_the_log() {
    let head = codec::encode_header(&header("0"));
    let first = codec::first_chain(&header("0"));
    let json = |seq| serde_json::to_vec(&record(seq, intent(0, 0))).unwrap();
    for (framed, inside, records) in [(1, 1, 1), (2, 2, 0), (0, 0, 0), (1, 2, 0)] {
        let bytes = [head.clone(), frame(first, framed, &json(inside))].concat();
        assert_eq!(
            decode(&bytes).unwrap().records.len(),
            records,
            "{framed} {inside}"
        );
    }
}

#[test]
fn writers_and_entries_have_the_names_that_events_and_errors_use() {
    let names = [Writer::Agent, Writer::Guard, Writer::Recovery].map(Writer::name);
    assert_eq!(names, ["agent", "guard", "recovery"]);
    let entries = [
        intent(0, 0),
        active(0),
        undoing(0),
        undone(0),
        stuck(0, "x"),
    ];
    assert_eq!(
        entries.map(|entry| entry.name()),
        ["intent", "active", "undoing", "undone", "stuck"]
    );
}

#[test]
fn every_ending_with_too_many_words_fits_into_its_room_and_a_short_one_is_left_as_it_is() {
    let long = "x".repeat(50_000);
    let landing = Landing {
        place: Place {
            phase: Some(long.clone()),
            ..Place::default()
        },
        precision: Precision::Held,
        held_ns: Some(1),
    };
    let entries = [
        Entry::Active {
            injection: id(0),
            landing: Some(Box::new(landing)),
            observations: observed("s".into(), "e".into()),
        },
        Entry::Active {
            injection: id(0),
            landing: None,
            observations: observed(long.clone(), long.clone()),
        },
        Entry::Undone {
            injection: id(0),
            observations: vec![observed("s".into(), "e".into()).remove(0); 3000],
        },
        Entry::Undoing {
            injection: id(0),
            because: long.clone(),
        },
        stuck(0, &long),
    ];
    for entry in entries {
        let most = match entry {
            Entry::Undoing { .. } => UNDOING_MAX,
            _ => ENDING_MAX,
        };
        let name = entry.name();
        let bytes = serde_json::to_vec(&record(u64::MAX, entry.fitted())).unwrap();
        assert!(bytes.len() <= most, "{name}: {} bytes", bytes.len());
        // No more is thrown away than halving takes.
        assert!(bytes.len() > most / 8, "{name}: {} bytes", bytes.len());
    }
    for entry in [active(0), undoing(0), undone(0), stuck(0, &"x".repeat(500))] {
        assert_eq!(entry.clone().fitted(), entry);
    }
}

#[test]
fn words_are_cut_only_where_they_are_longer_than_the_cut() {
    // The second halving of 8 KiB makes it fit: what has that many letters stays whole.
    let long = || "e".repeat(50_000);
    let mut observations = observed("s".repeat(2048), long());
    observations.extend(observed("s".into(), long()));
    let entry = Entry::Undone {
        injection: id(0),
        observations,
    };
    let Entry::Undone { observations, .. } = entry.fitted() else {
        panic!("another entry came back");
    };
    assert!(observations[0].source == "s".repeat(2048));
    for one in &observations {
        assert!(one.evidence == format!("{}…", "e".repeat(2047)));
    }
    // As much as fits with 256 bytes for the rest of the record is not cut at all.
    let of = |letters: usize| Entry::Undoing {
        injection: id(0),
        because: "x".repeat(letters),
    };
    let bare = serde_json::to_vec(&of(0)).unwrap().len();
    let fits = UNDOING_MAX - 256 - bare;
    assert_eq!(of(fits).fitted(), of(fits));
    assert_ne!(of(fits + 1).fitted(), of(fits + 1));
}

#[test]
fn a_journal_grows_to_its_greatest_size_and_no_further() {
    let folder = Folder::new("full");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    let length = |journal: &Journal| journal.file.metadata().unwrap().len();
    assert_eq!((journal.allocated, length(&journal)), (GROWTH, GROWTH));
    journal.grow_to(GROWTH).unwrap();
    assert_eq!(journal.allocated, GROWTH);
    journal.grow_to(GROWTH + 1).unwrap();
    assert_eq!(
        (journal.allocated, length(&journal)),
        (2 * GROWTH, 2 * GROWTH)
    );
    // All but the last step is taken as given, so that the disk need not hold it.
    journal.allocated = SIZE_MAX - GROWTH;
    journal.grow_to(SIZE_MAX).unwrap();
    assert_eq!((journal.allocated, length(&journal)), (SIZE_MAX, SIZE_MAX));
    for wanted in [SIZE_MAX + 1, SIZE_MAX + GROWTH] {
        let error = journal.grow_to(wanted).unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
    }
    assert_eq!(length(&journal), SIZE_MAX);
}

#[test]
fn room_is_kept_while_something_is_outstanding_and_given_back_after() {
    let folder = Folder::new("close");
    let mut journal = Journal::create(&folder.0, &run(), Writer::Agent).unwrap();
    assert_eq!(journal.run_dir(), folder.0);
    assert_eq!(
        (journal.writer(), &journal.header().run),
        (Writer::Agent, &run())
    );
    let first = journal.append(intent(0, 0)).unwrap();
    assert_eq!((first.seq, first.by), (1, Writer::Agent));
    assert!(first.boot_ns > 0);
    let length = || std::fs::metadata(folder.0.join("journal")).unwrap().len();
    journal.close().unwrap();
    assert_eq!(length(), GROWTH);
    let mut journal = Journal::take_over(&folder.0, Writer::Recovery).unwrap();
    journal.append(undoing(0)).unwrap();
    journal.append(undone(0)).unwrap();
    let end = journal.end;
    journal.close().unwrap();
    assert_eq!(length(), end);
}

#[test]
fn a_missing_journal_is_not_held_and_one_that_cannot_be_opened_is_an_error() {
    let folder = Folder::new("held");
    assert!(!is_held(&folder.0).unwrap());
    let file = folder.0.join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(is_held(&file).is_err());
}

#[test]
fn errors_keep_their_kind_and_their_words_as_io_errors() {
    let folder = Folder::new("errors");
    let error = Journal::take_over(&folder.0, Writer::Recovery).unwrap_err();
    let error = std::io::Error::from(error);
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("could not open"), "{error}");
    let full = std::io::Error::from(JournalError::Full {
        path: "there".into(),
    });
    assert!(full.to_string().contains("has reached"), "{full}");
}

#[test]
fn a_file_that_is_longer_than_any_journal_is_refused_before_it_is_read() {
    let path = std::env::temp_dir().join(format!("squall-long-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    // It takes no room on the disk, and would take all there is in memory.
    file.set_len(SIZE_MAX + 1).unwrap();
    let error = super::super::read_all(&path).unwrap_err();
    assert!(
        error.to_string().contains("a journal has at most"),
        "{error}"
    );
    std::fs::remove_file(path).unwrap();
}
