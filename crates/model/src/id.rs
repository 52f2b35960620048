//! Identities of runs and injections, in the one spelling used in names, files and on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A run: a UUID v7 in its hyphenated text form, so that runs sort by time.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RunId(pub String);

/// One application of a fault to one target: 8 characters of lower-case base32 (RFC 4648, no padding).
///
/// Derived from the run's seed, the rule and the count of its injections, so a replay gives the same ids.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct InjectionId(pub String);

/// A rule: one fault step of the method, numbered in file order from 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RuleId(pub u32);

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl InjectionId {
    /// The id of the `count`-th injection (from 0) of `rule` in `run`. Distinct runs get distinct ids even with equal seeds.
    pub fn derive(run: &RunId, rule: RuleId, count: u32) -> InjectionId {
        let mut bits = crate::seed::hash64(&[
            b"injection",
            run.0.as_bytes(),
            &rule.0.to_le_bytes(),
            &count.to_le_bytes(),
        ]);
        let mut text = String::with_capacity(8);
        for _ in 0..8 {
            text.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
        InjectionId(text)
    }

    /// Whether `text` has the shape of an injection id.
    pub fn is_valid(text: &str) -> bool {
        text.len() == 8 && text.bytes().all(|byte| ALPHABET.contains(&byte))
    }
}

impl RunId {
    /// The first eight characters: what people see where the whole id would not fit.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InjectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
