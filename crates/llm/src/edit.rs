//! One thing changed in what a model's service says, in whole answers and in events alike.

use serde_json::{Value, json};

/// What a usage says instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Nothing.
    Absent,
    /// Zeros.
    Zero,
    /// Numbers below zero.
    Negative,
    /// A thousand times as much.
    Huge,
}

/// Puts a text in the first of the places that holds one. False when none does.
pub fn put(value: &mut Value, places: &[&str], text: &str) -> bool {
    let found = places
        .iter()
        .find(|place| value.pointer(place).is_some_and(Value::is_string));
    let Some(told) = found.and_then(|place| value.pointer_mut(place)) else {
        return false;
    };
    *told = text.into();
    true
}

/// Another model. False when none is named.
pub fn model(value: &mut Value, model: &str) -> bool {
    put(
        value,
        &["/model", "/message/model", "/response/model"],
        model,
    )
}

/// Another reason for the end. False when none is told.
pub fn finish(value: &mut Value, reason: &str) -> bool {
    put(
        value,
        &[
            "/choices/0/finish_reason",
            "/delta/stop_reason",
            "/stop_reason",
            "/response/status",
        ],
        reason,
    )
}

/// Another text of a whole answer. False when it holds none.
pub fn text(value: &mut Value, text: &str) -> bool {
    let places = [
        "/choices/0/message/content",
        "/choices/0/text",
        "/content/0/text",
        "/output/0/content/0/text",
    ];
    put(value, &places, text)
}

/// The text of a whole answer.
pub fn text_of(value: &Value) -> Option<&str> {
    let places = [
        "/choices/0/message/content",
        "/choices/0/text",
        "/content/0/text",
        "/output/0/content/0/text",
    ];
    places
        .into_iter()
        .find_map(|place| value.pointer(place)?.as_str())
}

/// Another usage, beside the answer's own or in what it wraps. False when none is told.
pub fn usage(value: &mut Value, usage: Usage) -> bool {
    let mut changed = false;
    for place in ["/usage", "/response/usage", "/message/usage"] {
        let Some(told) = value.pointer_mut(place).filter(|told| told.is_object()) else {
            continue;
        };
        changed = true;
        match usage {
            Usage::Absent => *told = Value::Null,
            other => numbers(told, &|number| match other {
                Usage::Zero | Usage::Absent => 0,
                Usage::Negative => -number.abs().max(1),
                Usage::Huge => number.saturating_mul(1000).max(1_000_000),
            }),
        }
    }
    changed
}

fn numbers(value: &mut Value, change: &dyn Fn(i64) -> i64) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|inner| numbers(inner, change)),
        other => {
            if let Some(number) = other.as_i64() {
                *other = json!(change(number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_changed_where_they_say_it() {
        let mut chat = json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"total_tokens": 2}});
        assert!(
            text(&mut chat, "b") && finish(&mut chat, "length") && usage(&mut chat, Usage::Absent)
        );
        let changed = json!({"choices": [{"message": {"content": "b"}, "finish_reason": "length"}], "usage": null});
        assert_eq!(chat, changed);
        assert!(!model(&mut chat, "x"));
        let mut messages = json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "model": "m"});
        assert!(
            text(&mut messages, "b")
                && finish(&mut messages, "max_tokens")
                && model(&mut messages, "n")
        );
        assert_eq!(text_of(&messages), Some("b"));
    }
}
