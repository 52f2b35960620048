use super::*;
use proptest::prelude::*;

/// Ticks as (time, samples), the independent model of what a block holds.
type Ticks = Vec<(u64, Vec<(SeriesId, f64)>)>;

/// Ticks and exact bits of each series.
type Bits = Vec<(SeriesId, Vec<(u32, u64)>)>;

fn build(ticks: &Ticks) -> BlockBuilder {
    let mut builder = BlockBuilder::default();
    for (t, samples) in ticks {
        builder.push(*t, samples).expect("times increase");
    }
    builder
}

/// Sorts what was pushed by series, keeping exact bits.
fn expected(ticks: &Ticks) -> Bits {
    let mut columns: BTreeMap<SeriesId, Vec<(u32, u64)>> = BTreeMap::new();
    for (tick, (_, samples)) in ticks.iter().enumerate() {
        for (id, value) in samples {
            let column = columns.entry(*id).or_default();
            if column.last().is_none_or(|(last, _)| *last < tick as u32) {
                column.push((tick as u32, value.to_bits()));
            }
        }
    }
    columns.into_iter().collect()
}

fn read_back(bytes: &[u8]) -> (Vec<u64>, Bits) {
    let block = Block::decode(bytes).expect("a block just written can be read");
    let columns = block.columns.into_iter().map(|(id, samples)| {
        let bits = samples
            .into_iter()
            .map(|(tick, value)| (tick, value.to_bits()));
        (id, bits.collect())
    });
    (block.times, columns.collect())
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0u32..4).prop_map(f64::from),
        3 => any::<i64>().prop_map(|v| v as f64),
        2 => (-100_000i32..100_000).prop_map(|v| f64::from(v) / 100.0),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 9_007_199_254_740_993.0]),
    ]
}

fn ticks() -> impl Strategy<Value = Ticks> {
    let samples = prop::collection::vec((0u32..6, value()), 0..6).prop_map(|all| {
        all.into_iter()
            .map(|(id, v)| (SeriesId(id * 7), v))
            .collect()
    });
    let step = prop_oneof![Just(100_000_000u64), 1u64..200_000_000, 1u64..1 << 60];
    prop::collection::vec((step, samples), 0..80).prop_map(|steps| {
        let mut now = 0u64;
        steps
            .into_iter()
            .map_while(|(step, samples): (u64, Vec<(SeriesId, f64)>)| {
                now = now.checked_add(step)?;
                Some((now, samples))
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_bit_comes_back_with_gaps_and_nan(ticks in ticks()) {
        let (times, columns) = read_back(&build(&ticks).encode());
        prop_assert_eq!(times, ticks.iter().map(|(t, _)| *t).collect::<Vec<_>>());
        prop_assert_eq!(columns, expected(&ticks));
    }

    #[test]
    fn columns_of_one_kind_come_back(kind in 0usize..3, seeds in prop::collection::vec(any::<u64>(), 1..400)) {
        let ticks: Ticks = seeds.iter().enumerate().map(|(i, seed)| {
            let value = match kind {
                0 => (seed % 5 * 4096) as f64,
                1 => (*seed as i32) as f64 / 1000.0,
                _ => f64::from_bits(*seed),
            };
            (i as u64 * 1000 + 1, vec![(SeriesId(1), value)])
        }).collect();
        let (_, columns) = read_back(&build(&ticks).encode());
        prop_assert_eq!(columns, expected(&ticks));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic(ticks in ticks(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = build(&ticks).encode();
        let index = at.index(bytes.len());
        bytes[index] ^= flip;
        let _outcome = Block::decode(&bytes);
        let raw_cut = &bytes[..index];
        let _outcome = Block::decode(raw_cut);
    }
}

#[test]
fn any_bytes_inside_the_squeezed_part_are_an_error_and_never_a_panic() {
    let mut seed = 1u64;
    for round in 0..20_000 {
        let raw: Vec<u8> = (0..round % 60)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Small numbers reach deeper into the decoder.
                ((seed >> 33) as u8) % [4, 16, 255][round % 3]
            })
            .collect();
        let mut bytes = vec![VERSION];
        put(&mut bytes, raw.len() as u64);
        bytes.extend(miniz_oxide::deflate::compress_to_vec(&raw, 1));
        let _outcome = Block::decode(&bytes);
    }
}

#[test]
fn a_series_that_does_not_change_costs_next_to_nothing() {
    let mut builder = BlockBuilder::default();
    for tick in 0..3000u64 {
        let samples: Vec<_> = (0..960)
            .map(|id| (SeriesId(id), f64::from(id) * 4096.0))
            .collect();
        builder.push(tick * 100_000_000, &samples).expect("later");
    }
    let bytes = builder.encode().len();
    // 2.88 million samples.
    assert!(bytes < 6_000, "{bytes} bytes");
}

#[test]
fn times_that_do_not_increase_are_refused() {
    let mut builder = BlockBuilder::default();
    builder.push(5, &[]).expect("first");
    assert_eq!(
        builder.push(5, &[]),
        Err(NotLater {
            t_ns: 5,
            last_ns: 5
        })
    );
}

#[test]
fn a_newer_version_is_refused_with_words() {
    let mut bytes = BlockBuilder::default().encode();
    bytes[0] = VERSION + 1;
    assert_eq!(Block::decode(&bytes), Err(CodecError::Newer(VERSION + 1)));
}

#[test]
fn a_block_of_version_1_is_still_read() {
    let bytes: Vec<u8> = FIXTURE_V1.to_vec();
    let block = Block::decode(&bytes).expect("old blocks stay readable");
    assert_eq!(block.times, [1_000, 2_000, 3_500]);
    assert_eq!(block.columns.len(), 3);
    assert_eq!(block.columns[0].1, [(0, 4096.0), (1, 8192.0), (2, 8192.0)]);
    assert_eq!(block.columns[1].1, [(1, 1.25)]);
    assert!(block.columns[2].1[0].1.is_nan());
}

/// Written by the first build of this format. Must stay readable for good.
const FIXTURE_V1: &[u8] = &[
    1, 40, 99, 190, 192, 207, 240, 130, 157, 153, 129, 153, 141, 129, 17, 8, 152, 24, 25, 26, 20,
    26, 28, 152, 24, 24, 152, 24, 126, 49, 254, 103, 100, 168, 255, 193, 0, 6, 0,
];
