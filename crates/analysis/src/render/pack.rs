//! The readings inside the page, for zoom and hover: numbers only, as base64 of little-endian 32-bit words.
//!
//! A signal with few readings is kept as it is. Of a long one each of many slices of time keeps its smallest and its largest reading with
//! their own moments, so a spike of one sample stays visible, and where it was, at every zoom; the script does the same again for columns
//! of the screen. All signals share one budget: short ones leave more of it to long ones.

use super::rows::Row;
use crate::report::Timeline;
use std::fmt::Write as _;

/// Readings of all signals together, two words each: 1.3 MB, 1.75 MB as base64.
const BUDGET: usize = 165_000;
/// No signal is cut below this.
const READINGS_MIN: usize = 64;

/// What the script reads.
pub(super) struct Packed {
    /// For each signal: row, line, count, first word, gaps.
    pub(super) index: String,
    /// For each signal: its moments, then its values.
    pub(super) words: String,
    /// The most readings that one slice of time stood for.
    pub(super) thinned: usize,
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
    let (mut index, mut thinned) = (String::from("["), 1);
    for (at, row) in rows.iter().enumerate() {
        for (number, line) in row.lines.iter().enumerate() {
            for source in &line.sources {
                let offset = bytes.len() / 4;
                let points = extremes(&source.points, cap);
                thinned = thinned.max(2 * source.points.len() / points.len().max(1));
                for (t_ns, _) in &points {
                    bytes.extend(clock.word(*t_ns).to_le_bytes());
                }
                for (_, value) in &points {
                    bytes.extend((*value as f32).to_le_bytes());
                }
                if index.len() > 1 {
                    index.push(',');
                }
                // Writing to a string cannot fail.
                _ = write!(index, "[{at},{number},{},{offset},[", points.len());
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
        thinned,
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
    (left / open.max(1)).max(READINGS_MIN)
}

/// At most `cap` of the readings: all, or the smallest and the largest of each slice of time, in their order.
fn extremes(points: &[(u64, f64)], cap: usize) -> Vec<(u64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    if points.len() <= cap {
        return points.to_vec();
    }
    let slices = (cap / 2).max(1) as u128;
    let span = u128::from(last.0 - first.0) + 1;
    let slice_of = |t_ns: u64| u128::from(t_ns - first.0) * slices / span;
    let mut kept = Vec::with_capacity(cap);
    for slice in points.chunk_by(|a, b| slice_of(a.0) == slice_of(b.0)) {
        let (mut low, mut high) = (slice[0], slice[0]);
        for point in slice {
            if point.1 < low.1 {
                low = *point;
            }
            if point.1 > high.1 {
                high = *point;
            }
        }
        kept.push(if low.0 < high.0 { low } else { high });
        if low.0 != high.0 {
            kept.push(if low.0 < high.0 { high } else { low });
        }
    }
    kept
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
    fn every_slice_keeps_its_extremes_where_they_were() {
        let mut points: Vec<(u64, f64)> = (0..10_000).map(|t| (t, 1.0)).collect();
        points[7_777].1 = 9.0;
        points[7_778].1 = -9.0;
        let kept = extremes(&points, 100);
        assert!(kept.len() <= 100 && kept.is_sorted_by_key(|(t, _)| *t));
        assert!(kept.contains(&(7_777, 9.0)) && kept.contains(&(7_778, -9.0)));
        assert_eq!(extremes(&points, 10_000), points);
    }

    #[test]
    fn short_signals_leave_their_share_to_long_ones() {
        assert_eq!(cap(vec![10, 10, 1_000_000]), BUDGET - 20);
        assert_eq!(cap(vec![1_000_000; 10]), BUDGET / 10);
        assert_eq!(cap(vec![1_000_000; 100_000]), READINGS_MIN);
        assert!(cap(vec![3; 5]) >= 3);
    }
}
