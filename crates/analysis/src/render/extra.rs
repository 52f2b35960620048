//! Parts of the report that the page has no picture for, shown as they are: sentences, lists and tables of whatever they carry. What a later
//! version adds to the model is on the page before anybody drew it.

use serde_json::Value;

/// Keys of the report that are shown this way, with their titles, in the page's order.
const SHOWN: &[(&str, &str)] = &[
    ("diagnosis", "Cause"),
    ("stacks", "Where each rank stood"),
    ("advice", "Advice"),
    ("models", "What models say"),
];

/// One section.
pub(super) struct Extra {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

/// A piece of a section.
pub(super) enum Block {
    Sentence {
        label: String,
        text: String,
    },
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
}

/// The sections that this report has.
pub(super) fn extras(report: &Value) -> Vec<Extra> {
    let section = |(key, title): &(&'static str, &'static str)| {
        let mut blocks = Vec::new();
        add(&mut blocks, "", report.get(key)?);
        (!blocks.is_empty()).then_some(Extra {
            id: key,
            title,
            blocks,
        })
    };
    SHOWN.iter().filter_map(section).collect()
}

fn add(blocks: &mut Vec<Block>, label: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(items) if items.iter().any(Value::is_object) => table(blocks, items),
        Value::Array(items) => {
            for item in items {
                add(blocks, label, item);
            }
        }
        Value::Object(map) => {
            // The sentence speaks for itself, and comes first.
            map.get("sentence")
                .into_iter()
                .for_each(|value| add(blocks, "", value));
            for (key, value) in map.iter().filter(|(key, _)| *key != "sentence") {
                add(blocks, &words(key), value);
            }
        }
        scalar => blocks.push(Block::Sentence {
            label: label.to_owned(),
            text: cell(scalar),
        }),
    }
}

fn table(blocks: &mut Vec<Block>, items: &[Value]) {
    let mut keys: Vec<&String> = Vec::new();
    for key in items
        .iter()
        .filter_map(Value::as_object)
        .flat_map(|it| it.keys())
    {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    blocks.push(Block::Table {
        head: keys.iter().map(|key| words(key)).collect(),
        rows: items
            .iter()
            .map(|item| {
                let of = |key: &&String| item.get(key.as_str()).map_or(String::new(), cell);
                keys.iter().map(of).collect()
            })
            .collect(),
    });
}

/// A key as people read it.
fn words(key: &str) -> String {
    crate::words::sentence(&key.replace(['_', '-'], " "))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), crate::num::significant),
        // Words of an enumeration carry hyphens where people write spaces.
        Value::String(text) if !text.contains(' ') => text.replace('-', " "),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let parts = map.iter().filter(|(_, value)| !value.is_null());
            let parts: Vec<String> = parts
                .map(|(key, value)| format!("{}: {}", key.replace('_', " "), cell(value)))
                .collect();
            parts.join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_has_no_picture_is_shown_as_sentences_and_tables() {
        let report = json!({"title": "x", "diagnosis": {
            "sentence": "The optimiser began anew.", "remedy": null, "suspects": [{"mistake": "optimizer-state"}, {"mistake": "samples", "standing": "ruled-out"}],
        }});
        let extras = extras(&report);
        assert_eq!(extras.len(), 1);
        let [Block::Sentence { text, label }, Block::Table { head, rows }] = &extras[0].blocks[..]
        else {
            panic!("a sentence and a table");
        };
        assert_eq!(
            (text.as_str(), label.as_str()),
            ("The optimiser began anew.", "")
        );
        assert_eq!(head, &["Mistake", "Standing"]);
        assert_eq!(rows[1], ["samples", "ruled out"]);
        assert_eq!(rows[0][1], "");
    }
}
