use super::*;
use proptest::prelude::*;
use squall_model::event::Body;
use squall_model::hook::TrainingEvent;

fn back(bytes: &[u8]) -> Vec<Packed> {
    Unpacked::open(bytes)
        .and_then(Iterator::collect)
        .expect("a pack just written can be read")
}

fn numbered(bodies: Vec<String>) -> Vec<Packed> {
    let events = bodies.into_iter().zip(1u64..);
    events
        .map(|(body, seq)| Packed {
            seq: seq * 3,
            t_ns: (seq * 977) % 500,
            body,
        })
        .collect()
}

#[test]
fn digits_of_every_kind_come_back_as_they_were() {
    let odd = [
        "{}",
        "[0,00,007,-5,-0,1e9,1.50,0.0001]",
        "[9223372036854775807,18446744073709551615,123456789012345678901234567890]",
        "\"ckpt-000120.pt 3f09ab00\\u0000\\u0001\"",
        "\"\u{663} \u{1d7d9} are digits, but no ASCII\"",
        "",
        "7",
    ];
    let events = numbered(
        odd.iter()
            .cycle()
            .take(40)
            .map(|it| it.to_string())
            .collect(),
    );
    assert_eq!(back(&encode(&events)), events);
    assert_eq!(back(&encode(&[])), []);
}

/// Steps of a trainer as its hook tells them.
fn steps(count: u64) -> Vec<Packed> {
    let phases = ["data-wait", "forward", "backward", "all-reduce"];
    (0..count)
        .map(|at| {
            let event = TrainingEvent {
                seq: at + 1,
                t_mono_ns: 12_286_110_332_159 + at * 1_000_003,
                kind: if at.is_multiple_of(2) {
                    "phase-begin"
                } else {
                    "phase-end"
                }
                .into(),
                step: Some(at / 8),
                epoch: Some(at / 128),
                phase: Some(phases[(at / 2 % 4) as usize].into()),
                ..TrainingEvent::default()
            };
            let body = Body::Training {
                reference: false,
                rank: Some((at % 3) as u32),
                restart: 0,
                pid: Some(2_249),
                source: "hook".into(),
                event,
            };
            Packed {
                seq: at + 1,
                t_ns: at * 1_000_003 + at % 7,
                body: serde_json::to_string(&body).expect("serializes"),
            }
        })
        .collect()
}

#[test]
fn phases_shrink_to_a_tenth_at_least() {
    let events = steps(4_000);
    let text: usize = events.iter().map(|event| event.body.len()).sum();
    let packed = encode(&events).len();
    assert!(packed * 10 < text, "{packed} bytes for {text}");
}

#[test]
fn damage_is_seen() {
    let good = encode(&steps(50));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let read = Unpacked::open(&bad).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        assert!(read.is_err(), "byte {at}");
        let cut = Unpacked::open(&good[..at]).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        assert!(cut.is_err(), "cut at {at}");
    }
}

fn body() -> impl Strategy<Value = String> {
    let event = (
        any::<u64>(),
        "[a-z-]{0,8}|phase-begin",
        prop::option::of(any::<u64>()),
        prop::option::of(any::<f64>().prop_filter("JSON has none", |v| v.is_finite())),
        prop::option::of(prop::collection::vec(any::<u64>(), 0..5)),
        prop::option::of(".{0,20}|[0-9a-f]{64}|ckpt-0[0-9]{5}[.]pt"),
    );
    event.prop_map(|(seq, kind, step, loss, ids, path)| {
        let event = TrainingEvent {
            seq,
            kind,
            step,
            loss,
            ids,
            path,
            ..TrainingEvent::default()
        };
        serde_json::to_string(&event).expect("serializes")
    })
}

proptest! {
    #[test]
    fn any_events_come_back_byte_for_byte(bodies in prop::collection::vec(body(), 0..40), times in prop::collection::vec(any::<u64>(), 40)) {
        let mut events = numbered(bodies);
        for (event, t_ns) in events.iter_mut().zip(times) {
            event.t_ns = t_ns;
        }
        prop_assert_eq!(back(&encode(&events)), events);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut pack = vec![VERSION];
        pack.extend(miniz_oxide::deflate::compress_to_vec_zlib(&bytes, 1));
        if let Ok(unpacked) = Unpacked::open(&pack) {
            let _ = unpacked.take(1_000).filter(Result::is_ok).count();
        }
    }
}
