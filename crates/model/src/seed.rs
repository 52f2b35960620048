//! Seeded decisions, keyed by what they decide about, never by the order in which they are asked.

use sha2::{Digest, Sha256};

/// A 64-bit hash of length-prefixed parts (the first 8 bytes of SHA-256, little-endian). Stable across versions.
pub fn hash64(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// One draw, uniform in [0, 1), for the decision named by `key` under the run's `seed`.
pub fn unit(seed: u64, key: &[&[u8]]) -> f64 {
    let seed = seed.to_le_bytes();
    let mut parts: Vec<&[u8]> = vec![b"unit", &seed];
    parts.extend_from_slice(key);
    // 53 bits: every value is exactly representable.
    (hash64(&parts) >> 11) as f64 / (1u64 << 53) as f64
}

/// An index below `len` (which must be positive), uniform up to 2⁻⁵³·len.
pub fn index(seed: u64, key: &[&[u8]], len: usize) -> usize {
    ((unit(seed, key) * len as f64) as usize).min(len.saturating_sub(1))
}

/// A waiting time in seconds, exponentially distributed with the given mean (seconds, > 0).
pub fn exponential(seed: u64, key: &[&[u8]], mean_seconds: f64) -> f64 {
    -(1.0 - unit(seed, key)).ln() * mean_seconds
}
