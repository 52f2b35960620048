//! Rules in the words of Toxiproxy's API, where they are called toxics.

use super::ApiError;
use crate::stream::{Fault, Rule, Way};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A toxic as it is sent to us.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default = "downstream")]
    stream: String,
    #[serde(default = "always")]
    toxicity: f64,
    #[serde(default)]
    attributes: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Change {
    toxicity: Option<f64>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

fn downstream() -> String {
    "downstream".into()
}

fn always() -> f64 {
    1.0
}

/// A toxic as we send it; the order of its keys is that of Toxiproxy.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    attributes: Attributes,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    stream: &'static str,
    toxicity: f64,
}

#[derive(Debug)]
struct Attributes(Vec<(&'static str, u64)>);

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

pub(super) fn shown(rule: &Rule) -> Shown {
    Shown {
        attributes: Attributes(attributes(&rule.fault)),
        name: rule.name.clone(),
        kind: rule.fault.kind(),
        stream: rule.way.word(),
        toxicity: rule.probability,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds, but for the slicer's delay, which is in microseconds; kilobytes a second.
fn attributes(fault: &Fault) -> Vec<(&'static str, u64)> {
    match *fault {
        Fault::Noop | Fault::HalfOpen | Fault::Partition => Vec::new(),
        Fault::Latency { latency, jitter } => {
            vec![("latency", millis(latency)), ("jitter", millis(jitter))]
        }
        Fault::Bandwidth { rate } => vec![("rate", rate / 1000)],
        Fault::SlowClose { delay } => vec![("delay", millis(delay))],
        Fault::Timeout { timeout } | Fault::ResetPeer { timeout } => {
            vec![("timeout", millis(timeout))]
        }
        Fault::Slicer {
            average,
            variation,
            delay,
        } => vec![
            ("average_size", average),
            ("size_variation", variation),
            (
                "delay",
                u64::try_from(delay.as_micros()).unwrap_or(u64::MAX),
            ),
        ],
        Fault::LimitData { bytes } => vec![("bytes", bytes)],
        Fault::Corrupt { every } => vec![("every", every)],
    }
}

/// A number that a body gives; none when it does not.
fn number(given: &Map<String, Value>, name: &str) -> Result<Option<u64>, ApiError> {
    let asked = given
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value);
    match asked {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            ApiError::bad_body(&format!(
                "`{name}` is {value}, and must be a whole number from 0"
            ))
        }),
    }
}

/// The fault of a kind, with nothing set.
fn plain(kind: &str) -> Result<Fault, ApiError> {
    let zero = Duration::ZERO;
    Ok(match kind {
        "noop" => Fault::Noop,
        "latency" => Fault::Latency {
            latency: zero,
            jitter: zero,
        },
        "bandwidth" => Fault::Bandwidth { rate: 0 },
        "slow_close" => Fault::SlowClose { delay: zero },
        "timeout" => Fault::Timeout { timeout: zero },
        "reset_peer" => Fault::ResetPeer { timeout: zero },
        "slicer" => Fault::Slicer {
            average: 0,
            variation: 0,
            delay: zero,
        },
        "limit_data" => Fault::LimitData { bytes: 0 },
        "corrupt" => Fault::Corrupt { every: 0 },
        "half_open" => Fault::HalfOpen,
        "partition" => Fault::Partition,
        _ => return Err(ApiError::new(400, "invalid toxic type")),
    })
}

/// The fault with these attributes; what is not given stays as it is, to the last nanosecond and byte.
fn with(mut fault: Fault, given: &Map<String, Value>) -> Result<Fault, ApiError> {
    let set = |name: &str, old: &mut u64, unit: u64| -> Result<(), ApiError> {
        *old = number(given, name)?.map_or(*old, |value| value.saturating_mul(unit));
        Ok(())
    };
    let time =
        |name: &str, old: &mut Duration, unit: fn(u64) -> Duration| -> Result<(), ApiError> {
            *old = number(given, name)?.map_or(*old, unit);
            Ok(())
        };
    let ms = Duration::from_millis;
    match &mut fault {
        Fault::Noop | Fault::HalfOpen | Fault::Partition => {}
        Fault::Latency { latency, jitter } => {
            time("latency", latency, ms)?;
            time("jitter", jitter, ms)?;
        }
        Fault::Bandwidth { rate } => set("rate", rate, 1000)?,
        Fault::SlowClose { delay } => time("delay", delay, ms)?,
        Fault::Timeout { timeout } | Fault::ResetPeer { timeout } => time("timeout", timeout, ms)?,
        Fault::Slicer {
            average,
            variation,
            delay,
        } => {
            set("average_size", average, 1)?;
            set("size_variation", variation, 1)?;
            time("delay", delay, Duration::from_micros)?;
        }
        Fault::LimitData { bytes } => set("bytes", bytes, 1)?,
        Fault::Corrupt { every } => set("every", every, 1)?,
    }
    Ok(fault)
}

fn probability(toxicity: f64) -> Result<f64, ApiError> {
    match (0.0..=1.0).contains(&toxicity) {
        true => Ok(toxicity),
        false => Err(ApiError::bad_body(&format!(
            "`toxicity` is {toxicity}, and must lie between 0 and 1"
        ))),
    }
}

/// The rule that a body asks for. `both` is a stream of ours.
pub(super) fn asked(
    body: &[u8],
    is_taken: impl Fn(&str) -> bool,
    strict: bool,
) -> Result<Rule, ApiError> {
    let asked: Asked = super::parsed(body)?;
    let way = match asked.stream.to_ascii_lowercase().as_str() {
        "upstream" => Way::Upstream,
        "downstream" => Way::Downstream,
        "both" if !strict => Way::Both,
        _ => {
            return Err(ApiError::new(
                400,
                "stream was invalid, can be either upstream or downstream",
            ));
        }
    };
    // Wrong attributes are told last, so that a client sees the same problem first as with Toxiproxy.
    let plain = plain(&asked.kind)?;
    let name = match asked.name.is_empty() {
        true => format!("{}_{}", asked.kind, way.word()),
        false => asked.name,
    };
    if is_taken(&name) {
        return Err(ApiError::new(409, "toxic already exists"));
    }
    let fault = with(plain, &asked.attributes)?;
    let probability = probability(asked.toxicity)?;
    Ok(Rule {
        probability,
        ..Rule::new(&name, way, fault)
    })
}

/// The rule with the attributes and the toxicity of a body, and nothing else changed.
pub(super) fn changed(rule: &Rule, body: &[u8]) -> Result<Rule, ApiError> {
    let change: Change = super::parsed(body)?;
    Ok(Rule {
        name: rule.name.clone(),
        way: rule.way,
        probability: change.toxicity.map_or(Ok(rule.probability), probability)?,
        per: rule.per,
        fault: with(rule.fault, &change.attributes)?,
        fired: AtomicU64::new(rule.fired.load(Ordering::Relaxed)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Per;

    #[test]
    fn what_a_change_does_not_name_stays_though_it_cannot_be_shown() {
        let half = Duration::from_micros(500);
        for fault in [
            Fault::Bandwidth { rate: 500 },
            Fault::Timeout { timeout: half },
            Fault::Latency {
                latency: half,
                jitter: half,
            },
        ] {
            let mut rule = Rule::new("it", Way::Both, fault);
            rule.per = Per::Chunk;
            let changed = changed(&rule, b"{\"toxicity\": 0.5}").expect("it is a change");
            assert_eq!(
                (changed.fault, changed.per, changed.probability),
                (fault, Per::Chunk, 0.5)
            );
        }
        let rule = Rule::new("it", Way::Both, Fault::Bandwidth { rate: 500 });
        let changed = changed(&rule, b"{\"attributes\": {\"rate\": 2}}").expect("it is a change");
        assert_eq!(changed.fault, Fault::Bandwidth { rate: 2000 });
    }
}
