//! A fault says what it is, completely, and its example is one that works.

use anyhow::{Context as _, ensure};
use schemars::SchemaGenerator;
use serde_json::Value;
use squall_catalog::Faults;
use squall_model::syntax::{FaultList as _, KindInfo};

use crate::targets::recipe;

/// Every key has a description, and so has every value that a key can take by name.
///
/// # Errors
/// With the key that has none.
pub fn is_documented(info: &KindInfo) -> anyhow::Result<()> {
    let facts = [
        ("summary", info.summary),
        ("layer", info.layer),
        ("requires", info.requires),
        ("after_kill", info.after_kill),
        ("example", info.example),
    ];
    for (name, text) in facts {
        ensure!(!text.trim().is_empty(), "{name} is empty");
    }
    ensure!(!info.targets.is_empty(), "it accepts no target");
    recipe(info.kind)?;
    let mut generator = SchemaGenerator::default();
    let schema = Faults::config_schema(info.kind, &mut generator).context("it has no schema")?;
    let own = (info.kind.to_owned(), schema.to_value());
    for (name, definition) in generator
        .definitions()
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain([own])
    {
        has_description(&name, &definition)?;
        let properties = definition.get("properties").and_then(Value::as_object);
        for (key, property) in properties.into_iter().flatten() {
            has_description(&format!("{name}.{key}"), property)?;
        }
        for choice in definition
            .get("oneOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            has_description(&format!("a choice of {name}"), choice)?;
        }
    }
    Ok(())
}

fn has_description(name: &str, schema: &Value) -> anyhow::Result<()> {
    let is_described = schema
        .get("description")
        .and_then(Value::as_str)
        .is_some_and(|text| !text.is_empty());
    // A type that is used elsewhere is described there.
    let is_reference = schema.get("$ref").is_some();
    ensure!(
        is_described || is_reference,
        "{name} has no description: write a doc comment"
    );
    Ok(())
}

/// The example stands in a file as it is, and the file is without a problem.
///
/// # Errors
/// With the problems.
pub fn example_parses(info: &KindInfo) -> anyhow::Result<()> {
    let step = info.example.trim().trim_start_matches("- ");
    let rank_or_out = info.example.contains("rank")
        || info.example.contains("{out}")
        || info.example.contains("workload");
    let workload = if info.example.contains("proxy: workload") {
        "workload: {process: {run: \"python ask.py\", proxy: {upstream: mock}}}\n"
    } else if rank_or_out {
        "workload: {training: {run: \"python train.py\", epochs: 40}}\n"
    } else {
        ""
    };
    let text = format!(
        "version: 1\ntitle: the example of {}\n{workload}method:\n  - {step}\n",
        info.kind
    );
    let loaded = squall_model::load::read::<Faults>(&text, "example.yaml");
    match loaded {
        Ok(_) => Ok(()),
        Err(problems) => anyhow::bail!("its example has problems: {problems:?}\n{text}"),
    }
}
