//! Sample blocks: many series over one shared time column, squeezed for what monitors really see.
//!
//! Most series stand still or count upwards. A column is kept as runs of equal values, so a series that does not change costs a few bytes
//! a block however long the block is. When written, a column whose values are whole numbers (or decimals with up to six places) becomes
//! deltas, divided by their greatest common divisor, with zeros run-length coded; any other column keeps the exact bits, each XORed with
//! its predecessor and laid out in byte planes (after Pelkonen et al., Gorilla, VLDB 2015). Times are deltas of deltas. DEFLATE squeezes the
//! whole. Every block stands alone: losing one loses nothing of its neighbours. Values come back with the same 64 bits, NaN included.

use super::wire::{put, zigzag};
use std::collections::BTreeMap;

/// The version of the block format, the first byte of every block.
pub const VERSION: u8 = 1;
/// The largest block accepted when reading, unsqueezed.
pub(super) const RAW_MAX: usize = 256 << 20;
const DEFLATE_LEVEL: u8 = 9;
/// Whole numbers up to here survive the way through an f64 and back.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
pub(super) const POWERS: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];
pub(super) const EXACT_BITS: u8 = 0xff;

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

pub(super) fn from_integer(integer: i64, places: usize) -> f64 {
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

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
