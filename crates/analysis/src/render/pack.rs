//! The readings inside the page, for zoom and hover: numbers only, as base64 of little-endian 32-bit words.
//!
//! A signal with few readings is kept as it is. Of a long one each of many slices of time keeps its smallest and its largest value, so a
//! spike of one sample stays visible at every zoom; the script merges slices where several fall on one column of the screen. All signals
//! share one budget: short ones leave more of it to long ones.

use super::rows::{Row, Source};
use crate::report::Timeline;
use std::fmt::Write as _;

/// Pairs of 32-bit words for all signals together: 1.3 MB, 1.75 MB as base64.
const BUDGET: usize = 165_000;
/// No signal is cut below this.
const SLICES_MIN: usize = 64;

/// What the script reads.
pub(super) struct Packed {
    /// For each signal: row, line, `e` (each reading) or `s` (slices), count, first word, first and last moment, gaps.
    pub(super) index: String,
    pub(super) words: String,
}

/// Moments of the timeline as shares of 2³².
struct Clock {
    from_ns: u64,
    span_ns: u64,
}

impl Clock {
    fn word(&self, t_ns: u64) -> u32 {
        let at = u128::from(t_ns.saturating_sub(self.from_ns));
        let word = (at << 32) / u128::from(self.span_ns);
        u32::try_from(word).unwrap_or(u32::MAX)
    }
}

/// Packs all readings of the rows.
pub(super) fn pack(rows: &[&Row<'_>], timeline: &Timeline) -> Packed {
    let clock = Clock {
        from_ns: timeline.from_ns,
        span_ns: timeline.to_ns.saturating_sub(timeline.from_ns).max(1),
    };
    let sources = || {
        rows.iter()
            .flat_map(|row| &row.lines)
            .flat_map(|line| &line.sources)
    };
    let cap = cap(sources().map(|source| source.points.len()).collect());
    let mut bytes: Vec<u8> = Vec::new();
    let mut index = String::from("[");
    for (at, row) in rows.iter().enumerate() {
        for (number, line) in row.lines.iter().enumerate() {
            for source in &line.sources {
                let offset = bytes.len() / 4;
                let (kind, count, first, last) = one(source, cap, &clock, &mut bytes);
                if index.len() > 1 {
                    index.push(',');
                }
                // Writing to a string cannot fail.
                _ = write!(
                    index,
                    "[{at},{number},\"{kind}\",{count},{offset},{first},{last},["
                );
                for (number, gap) in source.gaps.iter().enumerate() {
                    let comma = if number > 0 { "," } else { "" };
                    let (from, to) = (clock.word(gap.from_ns), clock.word(gap.to_ns));
                    _ = write!(index, "{comma}{from},{to}");
                }
                index.push_str("]]");
            }
        }
    }
    index.push(']');
    Packed {
        index,
        words: base64(&bytes),
    }
}

/// The most slices of one signal, so that all together stay within the budget.
fn cap(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    let (mut left, mut open) = (BUDGET, lengths.len());
    for length in lengths {
        if length > left / open.max(1) {
            break;
        }
        left -= length;
        open -= 1;
    }
    (left / open.max(1)).max(SLICES_MIN)
}

fn one(
    source: &Source<'_>,
    cap: usize,
    clock: &Clock,
    bytes: &mut Vec<u8>,
) -> (char, usize, u32, u32) {
    let points = &source.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return ('e', 0, 0, 0);
    };
    let ends = (clock.word(first.0), clock.word(last.0));
    if points.len() <= cap {
        for (t_ns, _) in points {
            bytes.extend(clock.word(*t_ns).to_le_bytes());
        }
        for (_, value) in points {
            bytes.extend((*value as f32).to_le_bytes());
        }
        return ('e', points.len(), ends.0, ends.1);
    }
    // A slice without a reading holds numbers that are none.
    let mut slices = vec![(f32::NAN, f32::NAN); cap];
    let span = u128::from(last.0 - first.0) + 1;
    for (t_ns, value) in points {
        let at = u128::from(t_ns - first.0) * cap as u128 / span;
        let slice = &mut slices[at as usize];
        // The smaller and the larger of a number and none is the number.
        *slice = (slice.0.min(*value as f32), slice.1.max(*value as f32));
    }
    for (low, _) in &slices {
        bytes.extend(low.to_le_bytes());
    }
    for (_, high) in &slices {
        bytes.extend(high.to_le_bytes());
    }
    ('s', cap, ends.0, ends.1)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
                text.push(char::from(letter));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_every_decoder_reads() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn short_signals_leave_their_share_to_long_ones() {
        assert_eq!(cap(vec![10, 10, 1_000_000]), BUDGET - 20);
        assert_eq!(cap(vec![1_000_000; 10]), BUDGET / 10);
        assert_eq!(cap(vec![1_000_000; 100_000]), SLICES_MIN);
        assert!(cap(vec![3; 5]) >= 3);
    }
}
