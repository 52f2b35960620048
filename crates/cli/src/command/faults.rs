//! `squall faults`: the catalogue, for people, machines and the reference page.

use crate::Outcome;
use crate::arguments::{CatalogueFormat, Faults as Arguments};
use crate::live::{columns, fitted};
use crate::output::{Failure, Paint, Stream, json, style};
use squall_catalog::Faults;
use squall_model::exit::Exit;
use squall_model::syntax::{Class, FaultList, KindInfo};

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let wanted = arguments.name.as_deref().unwrap_or("");
    let kinds: Vec<&KindInfo> = Faults::kinds()
        .iter()
        .filter(|info| info.kind.starts_with(wanted))
        .collect();
    if kinds.is_empty() {
        let known: Vec<&str> = Faults::kinds().iter().map(|info| info.kind).collect();
        return Err(Failure::new(
            Exit::Usage,
            format!("`{wanted}` is not a fault and not the beginning of one"),
            Some(&format!("the faults are {}", known.join(", "))),
        ));
    }
    match arguments.format {
        CatalogueFormat::Json => json(&kinds.iter().map(|info| machine(info)).collect::<Vec<_>>())?,
        CatalogueFormat::Markdown => print!("{}", reference(&kinds)),
        CatalogueFormat::Text if arguments.name.is_some() => {
            for info in kinds {
                explain(info);
            }
        }
        CatalogueFormat::Text => {
            println!("{}", list(&kinds, columns(Stream::Out)));
            println!("\n`squall faults NAME` explains one");
        }
    }
    Ok(Exit::Held)
}

/// A line for each fault, or more where the terminal is narrow.
fn list(kinds: &[&KindInfo], columns: Option<usize>) -> String {
    let lines = kinds.iter().map(|info| {
        let name = style(Paint::Strong, &format!("{:20}", info.kind), Stream::Out);
        let line = format!("{name} {:9} {}", class(info.class), info.summary);
        fitted(&line, columns, 31)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Lasting => "lasting",
        Class::OneShot => "one-shot",
        Class::Served => "served",
    }
}

/// One key of a fault's own config.
struct Key {
    name: String,
    required: bool,
    what: String,
    form: String,
}

fn keys(info: &KindInfo) -> Vec<Key> {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let Some(schema) = Faults::config_schema(info.kind, &mut generator) else {
        return Vec::new();
    };
    let definitions = generator.definitions().clone();
    let mut keys = Vec::new();
    properties("", schema.as_value(), &definitions, false, &mut keys);
    keys
}

/// The keys of an object, and behind each those of what it holds: `damage.truncate.to`.
fn properties(
    above: &str,
    schema: &serde_json::Value,
    definitions: &serde_json::Map<String, serde_json::Value>,
    is_choice: bool,
    keys: &mut Vec<Key>,
) {
    if let Some(name) = schema.get("$ref").and_then(|name| name.as_str()) {
        let name = name.rsplit('/').next().unwrap_or(name);
        if let Some(schema) = definitions.get(name) {
            properties(above, schema, definitions, is_choice, keys);
        }
        return;
    }
    let choices: Vec<_> = ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten()
        .filter(|choice| choice.get("type").is_none_or(|kind| kind != "null"))
        .collect();
    for choice in &choices {
        properties(above, choice, definitions, choices.len() > 1, keys);
    }
    let required: Vec<&str> = schema
        .get("required")
        .and_then(|required| required.as_array())
        .map(|names| names.iter().filter_map(|name| name.as_str()).collect())
        .unwrap_or_default();
    let Some(map) = schema.get("properties").and_then(|map| map.as_object()) else {
        return;
    };
    let of_choice = text(schema, "description");
    let mut names: Vec<_> = map.iter().collect();
    names.sort_by_key(|(name, _)| (!required.contains(&name.as_str()), name.as_str()));
    for (name, schema) in names {
        let path = format!("{above}{name}");
        keys.push(Key {
            // One choice of several is not required: another may be made.
            required: required.contains(&name.as_str()) && !is_choice,
            what: match text(schema, "description") {
                none if none.is_empty() && is_choice => of_choice.clone(),
                what => what,
            },
            form: form(schema, definitions),
            name: path.clone(),
        });
        properties(&format!("{path}."), schema, definitions, false, keys);
    }
}

fn text(schema: &serde_json::Value, key: &str) -> String {
    let text = schema.get(key).and_then(|text| text.as_str()).unwrap_or("");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a value looks like: its example, its words, or its type.
fn form(
    schema: &serde_json::Value,
    definitions: &serde_json::Map<String, serde_json::Value>,
) -> String {
    if let Some(name) = schema.get("$ref").and_then(|name| name.as_str()) {
        let name = name.rsplit('/').next().unwrap_or(name);
        return definitions
            .get(name)
            .map_or_else(String::new, |schema| form(schema, definitions));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(choices) = schema.get(key).and_then(|choices| choices.as_array()) {
            let forms: Vec<String> = choices
                .iter()
                .map(|choice| form(choice, definitions))
                .filter(|form| !form.is_empty() && form != "null")
                .collect();
            return forms.join(" or ");
        }
    }
    if let Some(words) = schema.get("enum").and_then(|words| words.as_array()) {
        return words
            .iter()
            .filter_map(|word| word.as_str())
            .collect::<Vec<_>>()
            .join(" or ");
    }
    if let Some(word) = schema.get("const").and_then(|word| word.as_str()) {
        return word.to_owned();
    }
    if let Some(example) = schema
        .get("examples")
        .and_then(|examples| examples.get(0))
        .and_then(|example| example.as_str())
    {
        return format!("like {example}");
    }
    match schema.get("type") {
        Some(serde_json::Value::String(kind)) if kind == "object" => {
            let keys: Vec<String> = schema
                .get("properties")
                .and_then(|map| map.as_object())
                .map(|map| map.keys().cloned().collect())
                .unwrap_or_default();
            format!("{{{}}}", keys.join(", "))
        }
        Some(serde_json::Value::String(kind)) if kind == "array" => {
            schema.get("items").map_or_else(
                || "list".to_owned(),
                |items| format!("list of {}", form(items, definitions)),
            )
        }
        Some(serde_json::Value::String(kind)) => kind.clone(),
        Some(serde_json::Value::Array(kinds)) => kinds
            .iter()
            .filter_map(|kind| kind.as_str())
            .filter(|kind| *kind != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => String::new(),
    }
}

fn facts(info: &KindInfo) -> Vec<(&'static str, String)> {
    let requires = if info.requires.is_empty() {
        "nothing"
    } else {
        info.requires
    };
    vec![
        ("class", class(info.class).to_owned()),
        ("seen by", info.layer.to_owned()),
        ("requires", requires.to_owned()),
        ("targets", info.targets.join(", ")),
        (
            "after kill -9 of everything",
            match info.after_kill {
                nothing if nothing.starts_with("nothing") => nothing.to_owned(),
                by => format!("undone by {by}"),
            },
        ),
    ]
}

fn explain(info: &KindInfo) {
    println!("{}", explanation(info, columns(Stream::Out)));
}

fn explanation(info: &KindInfo, columns: Option<usize>) -> String {
    let mut page = format!("{}\n", style(Paint::Strong, info.kind, Stream::Out));
    let mut add = |indent: usize, text: &str| {
        let line = format!("{}{text}", " ".repeat(indent));
        page.push_str(&fitted(&line, columns, indent + 2));
        page.push('\n');
    };
    add(2, info.summary);
    add(0, "");
    for (what, value) in facts(info) {
        add(2, &format!("{what}: {value}"));
    }
    add(0, "");
    add(
        2,
        "keys, beside those that every fault takes (target, for, at, every, after, …):",
    );
    for key in keys(info) {
        let must = if key.required { "required" } else { "optional" };
        let name = style(Paint::Strong, &key.name, Stream::Out);
        add(4, &format!("{name}: {} ({must})", key.form));
        add(6, &key.what);
    }
    add(0, "");
    add(2, "example:");
    // To be copied: never wrapped.
    for line in info.example.trim().lines() {
        page.push_str(&format!("    {line}\n"));
    }
    page
}

fn machine(info: &KindInfo) -> serde_json::Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = Faults::config_schema(info.kind, &mut generator);
    serde_json::json!({
        "kind": info.kind, "summary": info.summary, "class": info.class, "layer": info.layer,
        "requires": info.requires, "after_kill": info.after_kill, "targets": info.targets,
        "example": info.example, "config": schema, "definitions": generator.definitions(),
    })
}

fn reference(kinds: &[&KindInfo]) -> String {
    let mut page = String::from(
        "# Faults\n\nGenerated from the config types by `cargo xtask docs`; do not edit.\n\n\
         Every fault also takes the shared keys `target`, `for`, `at`, `every`, `after`, `probability`, \
         `mean-time-between`, `times`, `on-replay`, `follow-restarts` and `name` (see [the experiment file](../experiment-file.md)).\n",
    );
    for info in kinds {
        page.push_str(&format!("\n## {}\n\n{}\n\n", info.kind, info.summary));
        for (what, value) in facts(info) {
            page.push_str(&format!("- {what}: {value}\n"));
        }
        let keys = keys(info);
        if !keys.is_empty() {
            page.push_str("\n| key | value | | |\n|---|---|---|---|\n");
            for key in keys {
                let must = if key.required { "required" } else { "" };
                page.push_str(&format!(
                    "| `{}` | {} | {must} | {} |\n",
                    key.name,
                    key.form.replace('|', "\\|"),
                    key.what.replace('|', "\\|")
                ));
            }
        }
        page.push_str(&format!("\n```yaml\n{}\n```\n", info.example.trim()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_fits_eighty_columns_and_is_plain_without_a_terminal() {
        let kinds: Vec<&KindInfo> = Faults::kinds().iter().collect();
        assert_eq!(list(&kinds, None).lines().count(), kinds.len());
        for line in list(&kinds, Some(80)).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for info in kinds {
            let page = explanation(info, Some(80));
            let text = page.split("  example:").next().unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}
