//! Sample blocks: many series over one shared time column, squeezed for what monitors really see.
//!
//! Most series stand still or count upwards. A column is kept as runs of equal values, so a series that does not change costs a few bytes
//! a block however long the block is. When written, a column whose values are whole numbers (or decimals with up to six places) becomes
//! deltas, divided by their greatest common divisor, with zeros run-length coded; any other column keeps the exact bits, each XORed with
//! its predecessor and laid out in byte planes (after Pelkonen et al., Gorilla, VLDB 2015). Times are deltas of deltas. DEFLATE squeezes the
//! whole. Every block stands alone: losing one loses nothing of its neighbours. Values come back with the same 64 bits, NaN included.

use super::wire::{Reader, put, unzigzag, zigzag};
use std::collections::BTreeMap;

/// The version of the block format, the first byte of every block.
pub const VERSION: u8 = 1;
/// The largest block accepted when reading, unsqueezed.
const RAW_MAX: usize = 256 << 20;
const DEFLATE_LEVEL: u8 = 9;
/// Whole numbers up to here survive the way through an f64 and back.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
const EXACT_BITS: u8 = 0xff;

/// A series, numbered within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// Why a block could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer Squall.
    #[error(
        "could not read a sample block, because it has version {0} and this build reads up to {VERSION}"
    )]
    Newer(u8),
    /// It ends too early.
    #[error("could not read a sample block, because it is cut off")]
    Truncated,
    /// It contradicts itself.
    #[error("could not read a sample block, because {0}")]
    Damaged(&'static str),
}

/// A sample that cannot follow the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not add samples at {t_ns} ns, because the last ones are from {last_ns} ns")]
pub struct NotLater {
    /// The time offered.
    pub t_ns: u64,
    /// The latest time already there.
    pub last_ns: u64,
}

/// One series within an open block.
#[derive(Debug, Default)]
struct Column {
    /// Alternating lengths in ticks: absent, present, absent, … beginning with absent.
    presence: Vec<u32>,
    /// One past the last tick covered by `presence`.
    covered: u32,
    lengths: Vec<u32>,
    values: Vec<f64>,
}

/// A block that still grows.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    times: Vec<u64>,
    columns: BTreeMap<SeriesId, Column>,
    runs: usize,
}

/// A block as read back: for each series the ticks at which it was present, with its values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// Strictly increasing.
    pub times: Vec<u64>,
    /// Index into `times`, value.
    pub columns: Vec<(SeriesId, Vec<(u32, f64)>)>,
}

impl Column {
    /// Adds a value at `tick`; returns whether it opened a new run.
    fn push(&mut self, tick: u32, value: f64) -> bool {
        if self.covered > tick {
            return false;
        }
        let gap = tick - self.covered;
        if self.presence.is_empty() || gap > 0 {
            self.presence.push(gap);
            self.presence.push(0);
        }
        if let Some(present) = self.presence.last_mut() {
            *present += 1;
        }
        self.covered = tick + 1;
        match (self.values.last(), self.lengths.last_mut()) {
            (Some(last), Some(length)) if last.to_bits() == value.to_bits() => {
                *length += 1;
                false
            }
            _ => {
                self.values.push(value);
                self.lengths.push(1);
                true
            }
        }
    }
}

impl BlockBuilder {
    /// Adds the samples of one instant. A series given twice keeps its first value.
    pub fn push(&mut self, t_ns: u64, samples: &[(SeriesId, f64)]) -> Result<(), NotLater> {
        if let Some(last_ns) = self.times.last().copied().filter(|last| *last >= t_ns) {
            return Err(NotLater { t_ns, last_ns });
        }
        let tick = self.times.len() as u32;
        self.times.push(t_ns);
        for (id, value) in samples {
            let column = self.columns.entry(*id).or_default();
            self.runs += usize::from(column.push(tick, *value));
        }
        Ok(())
    }

    /// Instants held.
    pub fn ticks(&self) -> usize {
        self.times.len()
    }

    /// Runs of equal values held: what bounds the memory.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// First and last instant.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((*self.times.first()?, *self.times.last()?))
    }

    /// Writes the block.
    pub fn encode(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        encode_times(&mut raw, &self.times);
        put(&mut raw, self.columns.len() as u64);
        let mut before = 0u32;
        for id in self.columns.keys() {
            put(&mut raw, u64::from(id.0 - before));
            before = id.0;
        }
        for column in self.columns.values() {
            encode_presence(&mut raw, column, self.times.len() as u32);
        }
        for column in self.columns.values() {
            encode_values(&mut raw, column);
        }
        let mut out = vec![VERSION];
        put(&mut out, raw.len() as u64);
        out.extend(miniz_oxide::deflate::compress_to_vec(&raw, DEFLATE_LEVEL));
        out
    }
}

fn encode_times(out: &mut Vec<u8>, times: &[u64]) {
    put(out, times.len() as u64);
    let (mut last, mut step) = (0u64, 0u64);
    for time in times {
        let now = time.wrapping_sub(last);
        put(out, zigzag(now.wrapping_sub(step) as i64));
        (last, step) = (*time, now);
    }
}

/// 0: present at every tick. Otherwise the number of (absent, present) pairs, then the pairs.
fn encode_presence(out: &mut Vec<u8>, column: &Column, ticks: u32) {
    if column.presence == [0, ticks] {
        return put(out, 0);
    }
    put(out, column.presence.len() as u64 / 2);
    for length in &column.presence {
        put(out, u64::from(*length));
    }
}

/// The value as a whole number of 10^-places, if that gives back the same bits.
fn to_integer(value: f64, places: usize) -> Option<i64> {
    let scaled = (value * POWERS[places]).round();
    if scaled.is_nan() || scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    (from_integer(integer, places).to_bits() == value.to_bits()).then_some(integer)
}

fn from_integer(integer: i64, places: usize) -> f64 {
    integer as f64 / POWERS[places]
}

fn integers(values: &[f64]) -> Option<(usize, Vec<i64>)> {
    (0..POWERS.len()).find_map(|places| {
        let all: Option<Vec<i64>> = values.iter().map(|v| to_integer(*v, places)).collect();
        all.map(|all| (places, all))
    })
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn encode_values(out: &mut Vec<u8>, column: &Column) {
    match integers(&column.values) {
        Some((places, integers)) => encode_integers(out, places, &integers, &column.lengths),
        None => encode_bits(out, column),
    }
}

fn encode_integers(out: &mut Vec<u8>, places: usize, integers: &[i64], lengths: &[u32]) {
    out.push(places as u8);
    let steps = || integers.windows(2).map(|pair| pair[1] - pair[0]);
    let unit = steps().fold(0, |unit, step| gcd(unit, step.unsigned_abs()));
    put(out, unit);
    put(out, zigzag(integers.first().copied().unwrap_or(0)));
    let unit = (unit as i64).max(1);
    for (index, length) in lengths.iter().enumerate() {
        if index > 0 {
            put(out, zigzag((integers[index] - integers[index - 1]) / unit));
        }
        // A constant column needs no run lengths: its one value holds throughout.
        if *length > 1 && integers.len() > 1 {
            put(out, 0);
            put(out, u64::from(*length - 2));
        }
    }
}

fn encode_bits(out: &mut Vec<u8>, column: &Column) {
    out.push(EXACT_BITS);
    put(out, column.values.len() as u64);
    for length in &column.lengths {
        put(out, u64::from(*length - 1));
    }
    let mut before = 0u64;
    let changed: Vec<u64> = column
        .values
        .iter()
        .map(|value| {
            let bits = value.to_bits();
            let changed = bits ^ before;
            before = bits;
            changed
        })
        .collect();
    for plane in (0..8).rev() {
        out.extend(changed.iter().map(|bits| (bits >> (plane * 8)) as u8));
    }
}

impl Block {
    /// Reads a block of this or an older version.
    pub fn decode(bytes: &[u8]) -> Result<Block, CodecError> {
        let mut head = Reader::new(bytes);
        match head.byte()? {
            VERSION => {}
            newer if newer > VERSION => return Err(CodecError::Newer(newer)),
            _ => return Err(CodecError::Damaged("its version is 0")),
        }
        let len = head.count(RAW_MAX)?;
        let squeezed = head.take(head.left())?;
        let raw = miniz_oxide::inflate::decompress_to_vec_with_limit(squeezed, len)
            .map_err(|_| CodecError::Damaged("it does not inflate"))?;
        if raw.len() != len {
            return Err(CodecError::Truncated);
        }
        let mut reader = Reader::new(&raw);
        let times = decode_times(&mut reader)?;
        let ids = decode_ids(&mut reader)?;
        let presence: Vec<Vec<u32>> = ids
            .iter()
            .map(|_| decode_presence(&mut reader, times.len() as u32))
            .collect::<Result<_, _>>()?;
        let mut columns = Vec::with_capacity(ids.len());
        for (id, ticks) in ids.into_iter().zip(presence) {
            let values = decode_values(&mut reader, ticks.len())?;
            columns.push((id, ticks.into_iter().zip(values).collect()));
        }
        Ok(Block { times, columns })
    }
}

fn decode_times(reader: &mut Reader<'_>) -> Result<Vec<u64>, CodecError> {
    let count = reader.count(reader.left())?;
    let (mut last, mut step) = (0u64, 0u64);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        step = step.wrapping_add(unzigzag(reader.varint()?) as u64);
        last = last.wrapping_add(step);
        if times.last().is_some_and(|before| *before >= last) {
            return Err(CodecError::Damaged("its times do not increase"));
        }
        times.push(last);
    }
    Ok(times)
}

fn decode_ids(reader: &mut Reader<'_>) -> Result<Vec<SeriesId>, CodecError> {
    let count = reader.count(reader.left())?;
    let mut ids = Vec::with_capacity(count);
    let mut last = 0u64;
    for index in 0..count {
        let step = reader.varint()?;
        last = last.saturating_add(step);
        let id =
            u32::try_from(last).map_err(|_| CodecError::Damaged("a series number is too large"))?;
        if index > 0 && step == 0 {
            return Err(CodecError::Damaged("a series occurs twice"));
        }
        ids.push(SeriesId(id));
    }
    Ok(ids)
}

/// The ticks at which a series was present.
fn decode_presence(reader: &mut Reader<'_>, ticks: u32) -> Result<Vec<u32>, CodecError> {
    let pairs = reader.count(reader.left())?;
    if pairs == 0 {
        return Ok((0..ticks).collect());
    }
    let (mut at, mut present) = (0u32, Vec::new());
    for _ in 0..pairs {
        at += reader.count((ticks - at) as usize)? as u32;
        let length = reader.count((ticks - at) as usize)? as u32;
        present.extend(at..at + length);
        at += length;
    }
    Ok(present)
}

fn decode_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    match reader.byte()? {
        EXACT_BITS => decode_bits(reader, count),
        places if usize::from(places) < POWERS.len() => {
            decode_integers(reader, usize::from(places), count)
        }
        _ => Err(CodecError::Damaged("it holds an unknown kind of column")),
    }
}

fn decode_integers(
    reader: &mut Reader<'_>,
    places: usize,
    count: usize,
) -> Result<Vec<f64>, CodecError> {
    let unit = reader.varint()? as i64;
    let mut now = unzigzag(reader.varint()?);
    if unit == 0 {
        return Ok(vec![from_integer(now, places); count]);
    }
    let mut values = Vec::with_capacity(count);
    values.push(from_integer(now, places));
    while values.len() < count {
        match reader.varint()? {
            0 => {
                let repeat = reader.count(count - values.len())? + 1;
                if repeat > count - values.len() {
                    return Err(CodecError::Damaged("a run is too long"));
                }
                values.resize(values.len() + repeat, from_integer(now, places));
            }
            step => {
                now = now.wrapping_add(unzigzag(step).wrapping_mul(unit));
                values.push(from_integer(now, places));
            }
        }
    }
    Ok(values)
}

fn decode_bits(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, CodecError> {
    let runs = reader.count(count)?;
    let lengths: Vec<usize> = (0..runs)
        .map(|_| reader.count(count))
        .collect::<Result<_, _>>()?;
    let mut bits = vec![0u64; runs];
    for _ in 0..8 {
        for (bits, byte) in bits.iter_mut().zip(reader.take(runs)?) {
            *bits = (*bits << 8) | u64::from(*byte);
        }
    }
    let (mut values, mut before) = (Vec::with_capacity(count), 0u64);
    for (changed, length) in bits.into_iter().zip(lengths) {
        before ^= changed;
        if values.len() + length + 1 > count {
            return Err(CodecError::Damaged("a run is too long"));
        }
        values.resize(values.len() + length + 1, f64::from_bits(before));
    }
    if values.len() != count {
        return Err(CodecError::Damaged("its values do not fill its ticks"));
    }
    Ok(values)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
