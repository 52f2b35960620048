//! The steps of the method: reading, writing and the schema of faults with the keys they share.

use crate::syntax::FaultList;
use crate::timing::{Selector, StepKeys};
use crate::units::{Percent, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// One step of the method: a fault, a wait, or a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<F> {
    /// Nothing happens for this long.
    Wait(Span),
    /// Steps one after the other.
    Sequence(Vec<Step<F>>),
    /// Steps side by side; ends when all have ended.
    Parallel(Vec<Step<F>>),
    /// A fault.
    Fault(Box<FaultStep<F>>),
}

/// A fault with the keys that all faults share.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultStep<F> {
    /// The fault with its own config.
    pub fault: F,
    /// When and on what.
    pub keys: StepKeys,
}

const GROUPS: [&str; 3] = ["wait", "sequence", "parallel"];

impl<F: FaultList> Serialize for Step<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Step::Wait(span) => map.serialize_entry("wait", span)?,
            Step::Sequence(steps) => map.serialize_entry("sequence", steps)?,
            Step::Parallel(steps) => map.serialize_entry("parallel", steps)?,
            Step::Fault(step) => map.serialize_entry(step.fault.kind(), &step.body())?,
        }
        map.end()
    }
}

impl<F: FaultList> FaultStep<F> {
    /// The step as one map: the fault's own keys and the shared ones.
    pub fn body(&self) -> serde_json::Value {
        let mut body = match self.fault.config() {
            serde_json::Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        if let Ok(serde_json::Value::Object(keys)) = serde_json::to_value(&self.keys) {
            body.extend(keys);
        }
        serde_json::Value::Object(body)
    }

    /// Splits one map into the fault's own keys and the shared ones, and reads both.
    pub fn from_body(kind: &str, body: serde_json::Value) -> Result<Self, (String, String)> {
        let serde_json::Value::Object(body) = body else {
            return Err((
                String::new(),
                format!("`{kind}` takes a map, e.g. `{kind}: {{target: …}}`"),
            ));
        };
        let (shared, own): (serde_json::Map<_, _>, serde_json::Map<_, _>) = body
            .into_iter()
            .partition(|(key, _)| StepKeys::KEYS.contains(&key.as_str()));
        let keys: StepKeys = serde_path_to_error::deserialize(serde_json::Value::Object(shared))
            .map_err(|error| (error.path().to_string(), error.inner().to_string()))?;
        let fault = F::parse(kind, serde_json::Value::Object(own))?;
        Ok(FaultStep { fault, keys })
    }
}

impl<'de, F: FaultList> Deserialize<'de> for Step<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut entries = map.into_iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(D::Error::custom(
                "a step of the method is a map with exactly one key, e.g. `- wait: 10s`",
            ));
        };
        let nested = |error: serde_json::Error| D::Error::custom(error);
        match key.as_str() {
            "wait" => serde_json::from_value(value)
                .map(Step::Wait)
                .map_err(nested),
            "sequence" => serde_json::from_value(value)
                .map(Step::Sequence)
                .map_err(nested),
            "parallel" => serde_json::from_value(value)
                .map(Step::Parallel)
                .map_err(nested),
            kind => FaultStep::from_body(kind, value)
                .map(|step| Step::Fault(Box::new(step)))
                .map_err(|(path, reason)| D::Error::custom(format!("{kind}.{path}: {reason}"))),
        }
    }
}

/// A config's own schema where the list gave a reference to it, since the shared keys are added to a copy.
fn inlined(config: Schema, generator: &SchemaGenerator) -> serde_json::Value {
    let name = config
        .get("$ref")
        .and_then(|target| target.as_str())
        .and_then(|target| target.strip_prefix("#/$defs/"));
    match name.and_then(|name| generator.definitions().get(name)) {
        Some(definition) => definition.clone(),
        None => config.into(),
    }
}

impl<F: FaultList> JsonSchema for Step<F> {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shared = generator.root_schema_for::<StepKeys>();
        generator.subschema_for::<Selector>();
        generator.subschema_for::<crate::timing::Moment>();
        generator.subschema_for::<crate::timing::Every>();
        generator.subschema_for::<crate::timing::After>();
        generator.subschema_for::<Percent>();
        let shared = shared
            .get("properties")
            .and_then(|properties| properties.as_object().cloned())
            .unwrap_or_default();
        let span = generator.subschema_for::<Span>();
        let steps =
            serde_json::json!({"type": "array", "items": generator.subschema_for::<Step<F>>()});
        let single = |key: &str, description: &str, value: serde_json::Value| {
            serde_json::json!({"type": "object", "description": description, "properties": {key: value},
                "required": [key], "additionalProperties": false})
        };
        let mut choices = vec![
            single("wait", "Nothing happens for this long.", span.into()),
            single("sequence", "Steps one after the other.", steps.clone()),
            single(
                "parallel",
                "Steps side by side; ends when all have ended.",
                steps,
            ),
        ];
        debug_assert_eq!(choices.len(), GROUPS.len());
        for info in F::kinds() {
            let Some(config) = F::config_schema(info.kind, generator) else {
                continue;
            };
            let mut body = inlined(config, generator);
            if let Some(body) = body.as_object_mut() {
                body.insert("additionalProperties".into(), false.into());
                let properties = body
                    .entry("properties")
                    .or_insert_with(|| serde_json::json!({}));
                if let Some(properties) = properties.as_object_mut() {
                    properties.extend(shared.clone());
                }
            }
            choices.push(single(info.kind, info.summary, body));
        }
        json_schema!({"description": "One step of the method: a fault, a wait, or a group.", "oneOf": choices})
    }
}
