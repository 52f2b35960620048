//! Laws of the codec and of the state, for any journal and any place at which it is cut.

use super::super::codec;
use super::super::record::{Entry, Record, Writer};
use super::super::state::{Phase, State};
use super::{active, intent, run, stuck, undoing, undone};
use crate::undo::Undo;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

/// One step of a simulated agent.
#[derive(Debug, Clone, Copy)]
enum Step {
    Change(u8),
    Land(u8),
    Begin(u8),
    End(u8),
    Stick(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (0u8..5, 0u8..9).prop_map(|(id, what)| match what {
        0..=3 => Step::Change(id),
        4 | 5 => Step::Land(id),
        6 => Step::Begin(id),
        7 => Step::End(id),
        _ => Step::Stick(id),
    });
    proptest::collection::vec(one, 1..60)
}

/// What is in the world, named by the words of the undo that removes it.
type World = BTreeSet<String>;

/// Plays the steps as an agent does: record, then act. Gives the journal's bytes and, per record, its end and the world before and after its act.
fn play(steps: &[Step]) -> (Vec<u8>, Vec<(usize, [World; 2])>) {
    let header = codec::Header {
        run: run(),
        boot_id: "b".into(),
        boot_ns: 0,
        squall: "0".into(),
        origin: None,
    };
    let mut bytes = codec::encode_header(&header);
    let (mut chain, mut state, mut world) =
        (codec::first_chain(&header), State::default(), World::new());
    let mut worlds = vec![(bytes.len(), [world.clone(), world.clone()])];
    for (change, step) in steps.iter().enumerate() {
        let entry = match step {
            Step::Change(id) => intent(*id, u8::try_from(change).unwrap()),
            Step::Land(id) => active(*id),
            Step::Begin(id) => undoing(*id),
            Step::End(id) => undone(*id),
            Step::Stick(id) => stuck(*id, "x"),
        };
        let record = Record {
            seq: state.seq() + 1,
            boot_ns: 0,
            by: Writer::Agent,
            entry,
        };
        if state.apply(&record).is_err() {
            continue;
        }
        let mut before = None;
        match &record.entry {
            Entry::Intent {
                undo: Undo::Nothing { act },
                ..
            } => {
                before = Some(world.clone());
                world.insert(act.clone());
            }
            // An agent records the end only after it has taken everything back.
            Entry::Undone { injection, .. } => {
                for undo in &state.get(injection).unwrap().undos {
                    let Undo::Nothing { act } = undo else {
                        unreachable!()
                    };
                    world.remove(act);
                }
            }
            _ => {}
        }
        let (frame, sum) = codec::encode(&record, chain).unwrap();
        chain = sum;
        bytes.extend_from_slice(&frame);
        worlds.push((
            bytes.len(),
            [before.unwrap_or_else(|| world.clone()), world.clone()],
        ));
    }
    (bytes, worlds)
}

proptest! {
    #[test]
    fn recovery_of_any_prefix_of_any_journal_leaves_nothing(steps in steps(), cut in 0.0f64..1.0, garbage in any::<[u8; 7]>()) {
        let (mut bytes, worlds) = play(&steps);
        let cut = codec::HEADER_LEN + ((bytes.len() - codec::HEADER_LEN) as f64 * cut) as usize;
        // The crash may come before or after the act that the last whole record announces.
        let whole = worlds.iter().rposition(|(end, _)| *end <= cut).unwrap();
        for mut world in worlds[whole].1.clone() {
            bytes.truncate(cut);
            bytes.extend_from_slice(&garbage);
            let decoded = codec::decode(&bytes, Path::new("j")).unwrap();
            prop_assert_eq!(decoded.records.len(), whole);
            let state = State::fold(&decoded.records);
            for tracked in state.outstanding() {
                for undo in &tracked.undos {
                    let Undo::Nothing { act } = undo else { unreachable!() };
                    world.remove(act);
                }
            }
            // Taken back already, but not yet recorded as such, is fine: the undo runs again.
            prop_assert!(world.is_empty(), "left behind: {:?}", world);
        }
    }

    #[test]
    fn whatever_stands_in_a_journal_reading_it_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..6000) {
        let (mut journal, _) = play(&[Step::Change(0), Step::Land(0), Step::Begin(0)]);
        let at = at.min(journal.len());
        journal.splice(at..(at + bytes.len()).min(journal.len()), bytes.drain(..));
        if let Ok(decoded) = codec::decode(&journal, Path::new("j")) {
            State::fold(&decoded.records);
        }
    }

    #[test]
    fn an_undone_injection_never_moves_again(steps in steps()) {
        let mut state = State::default();
        for (change, step) in steps.iter().enumerate() {
            let entry = match step {
                Step::Change(id) => intent(*id, u8::try_from(change).unwrap()),
                Step::Land(id) => active(*id),
                Step::Begin(id) => undoing(*id),
                Step::End(id) => undone(*id),
                Step::Stick(id) => stuck(*id, "x"),
            };
            let before = state.get(entry.injection()).map(|one| one.phase);
            let record = Record { seq: state.seq() + 1, boot_ns: 0, by: Writer::Agent, entry };
            let moved = state.apply(&record).is_ok();
            prop_assert!(!(moved && before == Some(Phase::Undone)));
            // Only the record of a finished undo closes a lasting injection.
            if moved && !matches!(step, Step::End(_)) {
                prop_assert!(state.get(record.entry.injection()).unwrap().is_outstanding());
            }
        }
    }
}

#[test]
fn a_change_recorded_where_it_may_not_stand_is_undone_all_the_same() {
    let record = |seq, entry| Record {
        seq,
        boot_ns: 0,
        by: Writer::Agent,
        entry,
    };
    let entries = [intent(0, 0), undoing(0), undone(0), intent(0, 1)];
    let records: Vec<Record> = (1..)
        .zip(entries)
        .map(|(seq, entry)| record(seq, entry))
        .collect();
    let state = State::fold(&records);
    let open: Vec<_> = state.outstanding().collect();
    assert_eq!(
        (open.len(), open[0].undos.len(), open[0].phase),
        (1, 2, Phase::Undoing)
    );
    // And that undo can be recorded.
    let mut state = state;
    state.apply(&record(5, undone(0))).unwrap();
    assert_eq!(state.outstanding().count(), 0);
}
