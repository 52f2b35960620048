//! The JSON schema of a file, generated from its types: what editors complete with and what the structure pass walks.

use crate::experiment::Experiment;
use crate::syntax::FaultList;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The name of the experiment file's schema.
pub const EXPERIMENT_ID: &str = "squall.experiment/1";

/// The schema of the experiment file: JSON Schema, draft 2020-12.
pub fn schema<F: FaultList>() -> Value {
    (*cached::<Experiment<F>>(EXPERIMENT_ID)).clone()
}

/// The schema of any file type, generated once per process.
pub(crate) fn cached<T: JsonSchema + 'static>(id: &str) -> Arc<Value> {
    static MADE: OnceLock<Mutex<HashMap<TypeId, Arc<Value>>>> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(
        made.entry(TypeId::of::<T>())
            .or_insert_with(|| Arc::new(generate::<T>(id))),
    )
}

fn generate<T: JsonSchema>(id: &str) -> Value {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    let mut schema = Value::from(schema);
    tidy(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("$id".into(), id.into());
    }
    schema
}

/// Absent is written by leaving a key out, so no schema offers `null`; integer formats become bounds that every validator knows.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(map) => {
            without_null(map);
            bounded(map);
            map.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

fn is_null_schema(schema: &Value) -> bool {
    schema.get("type").is_some_and(|of| of == "null")
}

fn without_null(map: &mut Map<String, Value>) {
    if map.get("default").is_some_and(Value::is_null) {
        map.remove("default");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|of| of != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else {
        return;
    };
    let before = choices.len();
    choices.retain(|choice| !is_null_schema(choice));
    if choices.len() == 1
        && before == 2
        && let (Some(Value::Array(mut choices)), true) = (map.remove("anyOf"), before == 2)
        && let Some(Value::Object(only)) = choices.pop()
    {
        for (key, value) in only {
            map.entry(key).or_insert(value);
        }
    }
}

fn bounded(map: &mut Map<String, Value>) {
    let range = match map.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u64::from(u8::MAX)),
        Some("uint16") => (0, u64::from(u16::MAX)),
        Some("uint32") => (0, u64::from(u32::MAX)),
        Some("uint64" | "uint") => (0, u64::MAX),
        Some("int32") => (i64::from(i32::MIN), i32::MAX as u64),
        Some("int64") => (i64::MIN, i64::MAX as u64),
        _ => return,
    };
    map.remove("format");
    map.entry("minimum").or_insert(range.0.into());
    map.entry("maximum").or_insert(range.1.into());
}
