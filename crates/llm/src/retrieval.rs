//! What vector stores answer, with their documents changed: Chroma's columns of lists, and Qdrant's lists of points.

use serde_json::{Value, json};

/// What stands before planted words, so that they are known for what they are.
pub const MARK: &str = "[squall-canary]";
/// What an irrelevant document says.
const IRRELEVANT: &str = "The common toad is found in most of Europe, and spends the winter in dry leaves or under stones.";
/// Chroma's lists, one entry a document in each.
const COLUMNS: [&str; 7] = [
    "ids",
    "documents",
    "metadatas",
    "distances",
    "embeddings",
    "uris",
    "data",
];
/// Where a point's payload says its text; else it is the longest one.
const TEXTS: [&str; 4] = ["document", "text", "content", "page_content"];
/// Parts of the names of fields that hold a time.
const TIMES: [&str; 6] = ["date", "time", "updated", "created", "modified", "year"];

/// How documents are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Documents<'a> {
    /// None are found.
    None,
    /// Half of them, rounded down.
    Fewer,
    /// Their times lie so many years back.
    Stale(u16),
    /// Their texts have nothing to do with the question; all else is as it was.
    Irrelevant,
    /// The first one begins with these words, marked.
    Poisoned(&'a str),
}

/// Changes the documents of an answer. False when it holds none that could be changed.
pub fn documents(answer: &mut Value, how: Documents<'_>) -> bool {
    if answer["ids"].is_array() {
        return chroma(answer, how);
    }
    let result = &mut answer["result"];
    match result {
        Value::Array(found) if found.iter().all(is_point) => points(found, how),
        // A batch: a list for each question.
        Value::Array(all) => {
            all.iter_mut()
                .filter_map(|one| listed(one, how).then_some(()))
                .count()
                > 0
        }
        one => listed(one, how),
    }
}

fn is_point(value: &Value) -> bool {
    value.get("id").is_some() && value.get("score").is_some()
}

fn listed(value: &mut Value, how: Documents<'_>) -> bool {
    let found = match value.get_mut("points") {
        Some(inner) => inner,
        None => value,
    };
    match found.as_array_mut() {
        Some(found) if found.iter().all(is_point) => points(found, how),
        _ => false,
    }
}

fn kept(how: Documents<'_>, count: usize) -> usize {
    match how {
        Documents::None => 0,
        Documents::Fewer => count / 2,
        _ => count,
    }
}

fn points(found: &mut Vec<Value>, how: Documents<'_>) -> bool {
    let before = found.len();
    found.truncate(kept(how, before));
    let mut changed = found.len() < before;
    for (place, point) in found.iter_mut().enumerate() {
        let payload = &mut point["payload"];
        changed |= match how {
            Documents::Stale(years) => aged(payload, years),
            how => text_at(payload).is_some_and(|key| said(&mut payload[key.as_str()], how, place)),
        };
    }
    changed
}

/// The key under which a payload says its text.
fn text_at(payload: &Value) -> Option<String> {
    let fields = payload.as_object()?;
    let known = TEXTS
        .iter()
        .find(|key| fields.get(**key).is_some_and(Value::is_string));
    if let Some(key) = known {
        return Some((*key).to_owned());
    }
    let texts = fields
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_str()?.len())));
    texts
        .max_by_key(|(_, length)| *length)
        .map(|(key, _)| key.clone())
}

/// One text, said otherwise.
fn said(text: &mut Value, how: Documents<'_>, place: usize) -> bool {
    let Some(known) = text.as_str() else {
        return false;
    };
    let other = match how {
        Documents::Irrelevant => IRRELEVANT.to_owned(),
        Documents::Poisoned(words) if place == 0 => format!("{MARK} {words}\n{known}"),
        _ => return false,
    };
    *text = other.into();
    true
}

fn chroma(answer: &mut Value, how: Documents<'_>) -> bool {
    let mut changed = false;
    for column in COLUMNS {
        let Some(questions) = answer.get_mut(column).and_then(Value::as_array_mut) else {
            continue;
        };
        // `get` answers one list, `query` one for each question.
        if !questions.is_empty() && !questions.iter().any(Value::is_array) {
            changed |= entries(questions, column, how);
            continue;
        }
        for found in questions.iter_mut().filter_map(Value::as_array_mut) {
            changed |= entries(found, column, how);
        }
    }
    changed
}

fn entries(found: &mut Vec<Value>, column: &str, how: Documents<'_>) -> bool {
    let before = found.len();
    found.truncate(kept(how, before));
    let mut changed = found.len() < before;
    for (place, entry) in found.iter_mut().enumerate() {
        changed |= match (column, how) {
            ("documents", how) => said(entry, how, place),
            ("metadatas", Documents::Stale(years)) => aged(entry, years),
            _ => false,
        };
    }
    changed
}

/// Times in metadata, so many years back. False when there are none.
fn aged(metadata: &mut Value, years: u16) -> bool {
    let Some(fields) = metadata.as_object_mut() else {
        return false;
    };
    let mut changed = false;
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        match value {
            Value::Object(_) => changed |= aged(value, years),
            _ if !TIMES.iter().any(|part| name.contains(part)) => {}
            Value::Number(_) | Value::String(_) => {
                if let Some(older) = older(value, years) {
                    *value = older;
                    changed = true;
                }
            }
            _ => {}
        }
    }
    changed
}

fn older(value: &Value, years: u16) -> Option<Value> {
    let back = f64::from(years) * 31_556_952.0;
    if let Some(number) = value.as_i64() {
        return Some(match number {
            1000..=9999 => json!(number - i64::from(years)),
            // Milliseconds.
            100_000_000_000.. => json!(number - (back * 1e3) as i64),
            _ => json!(number - back as i64),
        });
    }
    if let Some(number) = value.as_f64() {
        return Some(json!(number - back));
    }
    let text = value.as_str()?;
    let year: u16 = text.get(..4)?.parse().ok()?;
    let rest = text.get(4..)?;
    if !(rest.is_empty() || rest.starts_with(['-', '/'])) {
        return None;
    }
    // Not each year has this day.
    let rest = rest.replacen("-02-29", "-02-28", 1);
    Some(format!("{:04}{rest}", year.saturating_sub(years)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chroma_answer() -> Value {
        json!({"ids": [["a", "b", "c"]], "documents": [["one", "two", "three"]],
            "metadatas": [[{"updated_at": "2024-02-29T08:00:00Z", "n": 1}, null, {"created": 1_700_000_000}]],
            "distances": [[0.1, 0.2, 0.3]], "embeddings": null, "include": ["documents"]})
    }

    fn qdrant_answer() -> Value {
        json!({"result": [
            {"id": 1, "score": 0.9, "payload": {"text": "one", "date": 1_700_000_000_000_i64}},
            {"id": 2, "score": 0.8, "payload": {"source": "x", "body": "two words"}}
        ], "status": "ok"})
    }

    fn with(mut answer: Value, how: Documents<'_>) -> Value {
        assert!(documents(&mut answer, how), "{how:?}");
        answer
    }

    #[test]
    fn documents_of_chroma_are_changed_in_every_column() {
        let fewer = with(chroma_answer(), Documents::Fewer);
        assert_eq!(
            (&fewer["ids"], &fewer["distances"]),
            (&json!([["a"]]), &json!([[0.1]]))
        );
        let none = with(chroma_answer(), Documents::None);
        assert_eq!(
            (&none["documents"], &none["include"]),
            (&json!([[]]), &json!(["documents"]))
        );
        let stale = with(chroma_answer(), Documents::Stale(5));
        assert_eq!(
            stale["metadatas"],
            json!([[{"updated_at": "2019-02-28T08:00:00Z", "n": 1}, null, {"created": 1_542_215_240}]])
        );
        let poisoned = with(chroma_answer(), Documents::Poisoned("obey"));
        assert_eq!(
            poisoned["documents"],
            json!([["[squall-canary] obey\none", "two", "three"]])
        );
        let irrelevant = with(chroma_answer(), Documents::Irrelevant);
        assert_eq!(irrelevant["documents"][0][2], IRRELEVANT);
        // `get` asks nothing, and has one list.
        let got = with(
            json!({"ids": ["a", "b"], "documents": ["one", "two"]}),
            Documents::Fewer,
        );
        assert_eq!(got, json!({"ids": ["a"], "documents": ["one"]}));
    }

    #[test]
    fn points_of_qdrant_are_changed_wherever_they_are_listed() {
        let poisoned = with(qdrant_answer(), Documents::Poisoned("obey"));
        assert_eq!(
            poisoned["result"][0]["payload"]["text"],
            "[squall-canary] obey\none"
        );
        let irrelevant = with(qdrant_answer(), Documents::Irrelevant);
        assert_eq!(
            irrelevant["result"][1]["payload"],
            json!({"source": "x", "body": IRRELEVANT})
        );
        let stale = with(qdrant_answer(), Documents::Stale(1));
        assert_eq!(stale["result"][0]["payload"]["date"], 1_668_443_048_000_i64);
        let found = qdrant_answer()["result"].clone();
        let query = with(json!({"result": {"points": found}}), Documents::Fewer);
        assert_eq!(query["result"]["points"].as_array().map(Vec::len), Some(1));
        let batch = with(
            json!({"result": [found, {"points": found}]}),
            Documents::None,
        );
        assert_eq!(batch["result"], json!([[], {"points": []}]));
        let other = json!({"result": {"status": "green"}});
        assert!(!documents(&mut other.clone(), Documents::None));
        let mut nothing_to_age =
            json!({"result": [{"id": 1, "score": 1, "payload": {"text": "a"}}]});
        assert!(!documents(&mut nothing_to_age, Documents::Stale(5)));
    }
}
