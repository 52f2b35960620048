//! Quantities that carry their unit in the file and in the type: `30s`, `256MiB`, `5%`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a quantity could not be read; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}, because {because}; write it like `{example}`")]
pub struct UnitError {
    /// What was written.
    pub text: String,
    /// What was expected: `duration`, `size`, `percentage`.
    pub what: &'static str,
    /// What is wrong with it.
    pub because: String,
    /// A correct one.
    pub example: &'static str,
}

/// A span of time, in whole nanoseconds, at most 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub std::time::Duration);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// A share in percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const LONGEST_NS: u128 = 365 * 86_400_000_000_000;

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Splits `12.5 ms` into its number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn scaled(
    text: &str,
    what: &'static str,
    example: &'static str,
    units: &[(&str, u64)],
    most: u128,
) -> Result<u64, UnitError> {
    let fail = |because: String| UnitError {
        text: text.to_owned(),
        what,
        because,
        example,
    };
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err(fail("it does not start with a number".into()));
    }
    if unit.is_empty() {
        return Err(fail("it has no unit".into()));
    }
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
        let known: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(fail(format!(
            "`{unit}` is not one of its units ({})",
            known.join(", ")
        )));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = u128::from(*scale);
    let whole: u128 = whole
        .parse()
        .map_err(|_| fail("its number cannot be read".into()))?;
    let mut value = whole
        .checked_mul(scale)
        .ok_or_else(|| fail("it is too large".into()))?;
    if !fraction.is_empty() {
        let digits = fraction.len().min(18);
        let part: u128 = fraction[..digits]
            .parse()
            .map_err(|_| fail("its number cannot be read".into()))?;
        value += part * scale / 10u128.pow(digits as u32);
    }
    if value > most {
        return Err(fail("it is too large".into()));
    }
    u64::try_from(value).map_err(|_| fail("it is too large".into()))
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, "duration", "30s", DURATION_UNITS, LONGEST_NS)
            .map(|ns| Span(std::time::Duration::from_nanos(ns)))
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, "size", "256MiB", SIZE_UNITS, u128::from(u64::MAX)).map(Bytes)
    }
}

impl FromStr for Percent {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let fail = |because: &str| UnitError {
            text: text.to_owned(),
            what: "percentage",
            because: because.to_owned(),
            example: "5%",
        };
        let (number, unit) = split(text);
        if unit != "%" {
            return Err(fail("it does not end in `%`"));
        }
        let value: f64 = number
            .parse()
            .map_err(|_| fail("its number cannot be read"))?;
        if !(0.0..=100.0).contains(&value) {
            return Err(fail("it is not between 0% and 100%"));
        }
        Ok(Percent(value))
    }
}

impl Span {
    /// Whole nanoseconds.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
    /// Seconds, with fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.as_nanos();
        let exact = [
            ("d", 86_400_000_000_000u64),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
        ]
        .into_iter()
        .find(|(_, scale)| ns >= *scale && ns.is_multiple_of(*scale));
        match exact {
            Some((unit, scale)) => write!(f, "{}{unit}", ns / scale),
            None if ns == 0 => f.write_str("0s"),
            None => write!(f, "{ns}ns"),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [
            ("TiB", 1u64 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ]
        .into_iter()
        .find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        match exact {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

macro_rules! text_form {
    ($type:ty, $name:literal, $format:literal, $pattern:literal, $example:literal, $doc:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "format": $format,
                    "pattern": $pattern,
                    "examples": [$example],
                    "description": $doc
                })
            }
        }
    };
}

text_form!(
    Span,
    "Duration",
    "squall-duration",
    r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|µs|ms|s|m|min|h|d)\s*$",
    "30s",
    "A duration with its unit: ns, us, ms, s, m, h or d."
);
text_form!(
    Bytes,
    "Size",
    "squall-size",
    r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$",
    "256MiB",
    "A size with its unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB."
);
text_form!(
    Percent,
    "Percentage",
    "squall-percentage",
    r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$",
    "5%",
    "A share between 0% and 100%."
);
