//! Tool calls and structured output with one thing wrong, in whole answers and in events alike.
//!
//! A stream is changed event by event: what is wrong stands at the start of a call, where nothing has to be waited for.

use crate::Api;
use serde_json::{Map, Value};

/// The name of a tool that nobody offers.
pub const UNKNOWN: &str = "squall_unknown_tool";
/// A key that no schema asks for.
const EXTRA: &str = "squall_unexpected";
/// What stands before the JSON.
const PROSE: &str = "Here is the JSON you asked for:\n";

/// What is wrong with a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It names a tool that was not offered.
    UnknownTool,
    /// Its arguments are no JSON.
    BrokenArguments,
}

/// Whether the next piece of arguments is the first of its call. Kept over the events of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Started(bool);

/// Changes the tool calls of a whole answer or of an event. False when it holds none that this changes.
pub fn call(value: &mut Value, api: Api, how: Call, started: &mut Started) -> bool {
    match api {
        Api::OpenAiChat => chat(value, how),
        Api::OpenAiResponses | Api::AnthropicMessages => {
            let begun = within(value, how);
            let begins = matches!(
                value["type"].as_str(),
                Some("response.output_item.added" | "content_block_start")
            );
            if begins {
                started.0 = calls(value);
            }
            pieces(value, how, started) || begun
        }
        _ => false,
    }
}

/// OpenAI's chat: the piece that has a name begins a call.
fn chat(value: &mut Value, how: Call) -> bool {
    let mut changed = false;
    let choices = value["choices"].as_array_mut().into_iter().flatten();
    for choice in choices {
        let holder = if choice["message"].is_object() {
            "message"
        } else {
            "delta"
        };
        let calls = choice[holder]["tool_calls"]
            .as_array_mut()
            .into_iter()
            .flatten();
        for function in calls.filter_map(|call| call.get_mut("function")) {
            if function["name"].as_str().is_none_or(str::is_empty) {
                continue;
            }
            changed |= match how {
                Call::UnknownTool => put(&mut function["name"], UNKNOWN),
                Call::BrokenArguments => broken(&mut function["arguments"]),
            };
        }
    }
    changed
}

fn put(text: &mut Value, other: &str) -> bool {
    *text = other.into();
    true
}

/// One brace too many: whatever follows, it is no JSON.
fn broken(arguments: &mut Value) -> bool {
    let text = arguments.as_str().unwrap_or_default();
    *arguments = format!("{{{text}").into();
    true
}

fn calls(value: &Value) -> bool {
    ["item", "content_block"].iter().any(|key| {
        matches!(
            value[*key]["type"].as_str(),
            Some("function_call" | "tool_use")
        )
    })
}

/// Pieces of arguments.
fn pieces(value: &mut Value, how: Call, started: &mut Started) -> bool {
    if how != Call::BrokenArguments {
        return false;
    }
    let kind = value["type"].as_str().unwrap_or_default().to_owned();
    let is_first = match kind.as_str() {
        "response.function_call_arguments.delta" => std::mem::take(&mut started.0),
        "content_block_delta" if value["delta"]["type"] == "input_json_delta" => {
            std::mem::take(&mut started.0)
        }
        "response.function_call_arguments.done" => return broken(&mut value["arguments"]),
        _ => false,
    };
    is_first
        && match kind.as_str() {
            "content_block_delta" => broken(&mut value["delta"]["partial_json"]),
            _ => broken(&mut value["delta"]),
        }
}

/// Whole calls, wherever they stand: Responses' items and Anthropic's blocks.
fn within(value: &mut Value, how: Call) -> bool {
    match value {
        Value::Array(all) => {
            all.iter_mut()
                .filter_map(|one| within(one, how).then_some(()))
                .count()
                > 0
        }
        Value::Object(fields) => {
            let is_call = matches!(
                fields.get("type").and_then(Value::as_str),
                Some("function_call" | "tool_use")
            );
            match is_call && fields.contains_key("name") {
                true => whole(fields, how),
                false => {
                    fields
                        .values_mut()
                        .filter_map(|one| within(one, how).then_some(()))
                        .count()
                        > 0
                }
            }
        }
        _ => false,
    }
}

fn whole(fields: &mut Map<String, Value>, how: Call) -> bool {
    let arguments = if fields.contains_key("input") {
        "input"
    } else {
        "arguments"
    };
    match (how, fields.get_mut(arguments)) {
        (Call::UnknownTool, _) => fields
            .get_mut("name")
            .is_some_and(|name| put(name, UNKNOWN)),
        // It has not been said yet.
        (Call::BrokenArguments, Some(Value::String(text))) if text.is_empty() => false,
        (Call::BrokenArguments, Some(Value::Object(inner))) if inner.is_empty() => false,
        (Call::BrokenArguments, Some(said @ Value::String(_))) => broken(said),
        // Anthropic's are JSON already: a text in place of an object is what is left to be wrong.
        (Call::BrokenArguments, Some(said)) => {
            *said = format!("{{{said}").into();
            true
        }
        (Call::BrokenArguments, None) => false,
    }
}

/// What is wrong with structured output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// A key that the schema does not have.
    ExtraKey,
    /// Words before the JSON.
    Prose,
    /// Its first key is missing. In whole answers alone.
    MissingKey,
    /// Its first value is of another type. In whole answers alone.
    WrongType,
}

/// A text that is a JSON object, so that it violates its schema. None when it is not, or cannot be changed.
pub fn violated(text: &str, how: Structure) -> Option<String> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    let fields = value.as_object_mut()?;
    match how {
        Structure::ExtraKey | Structure::Prose => return begun(text, how),
        Structure::MissingKey => {
            let first = fields.keys().next()?.clone();
            fields.remove(&first)?;
        }
        Structure::WrongType => {
            let first = fields.values_mut().next()?;
            *first = match first {
                Value::String(_) => serde_json::json!({EXTRA: true}),
                _ => "squall".into(),
            };
        }
    }
    Some(value.to_string())
}

/// The start of such a text: a stream's first token. None when it does not begin a JSON object, or more must be known.
pub fn begun(start: &str, how: Structure) -> Option<String> {
    let rest = start.trim_start().strip_prefix('{')?;
    match how {
        Structure::Prose => Some(format!("{PROSE}{start}")),
        // What follows is a key, or the end of an object without any.
        Structure::ExtraKey if rest.trim_start().starts_with('}') => {
            Some(format!("{{\"{EXTRA}\":true{rest}"))
        }
        Structure::ExtraKey => Some(format!("{{\"{EXTRA}\":true,{rest}")),
        Structure::MissingKey | Structure::WrongType => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(mut value: Value, api: Api, how: Call, started: &mut Started) -> Value {
        assert!(call(&mut value, api, how, started), "{value}");
        value
    }

    #[test]
    fn whole_tool_calls_are_wrong_as_asked() {
        let chat = json!({"choices": [{"message": {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}}]});
        let responses =
            json!({"output": [{"type": "function_call", "name": "f", "arguments": "{\"a\":1}"}]});
        let messages = json!({"content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}]});
        for (api, value, name, arguments) in [
            (
                Api::OpenAiChat,
                chat,
                "/choices/0/message/tool_calls/0/function/name",
                "/choices/0/message/tool_calls/0/function/arguments",
            ),
            (
                Api::OpenAiResponses,
                responses,
                "/output/0/name",
                "/output/0/arguments",
            ),
            (
                Api::AnthropicMessages,
                messages,
                "/content/1/name",
                "/content/1/input",
            ),
        ] {
            let mut started = Started::default();
            let unknown = with(value.clone(), api, Call::UnknownTool, &mut started);
            assert_eq!(unknown.pointer(name), Some(&json!(UNKNOWN)));
            assert_eq!(unknown.pointer(arguments), value.pointer(arguments));
            let broken = with(value, api, Call::BrokenArguments, &mut started);
            assert_eq!(
                broken.pointer(arguments),
                Some(&json!("{{\"a\":1}")),
                "{api:?}"
            );
            assert_eq!(broken.pointer(name), Some(&json!("f")));
        }
        let mut text = json!({"choices": [{"message": {"content": "a"}}]});
        assert!(!call(
            &mut text,
            Api::OpenAiChat,
            Call::UnknownTool,
            &mut Started::default()
        ));
    }

    /// All pieces of a call's arguments after the change, put together.
    fn streamed(api: Api, events: &[Value], at: &str) -> (String, usize) {
        let (mut started, mut all, mut acted) = (Started::default(), String::new(), 0);
        for event in events {
            let mut event = event.clone();
            acted += usize::from(call(&mut event, api, Call::BrokenArguments, &mut started));
            all.push_str(
                event
                    .pointer(at)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            );
        }
        (all, acted)
    }

    #[test]
    fn arguments_of_streamed_calls_are_no_json_once_put_together() {
        let piece = |function: Value| json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}}]});
        let chat = [
            piece(json!({"name": "f", "arguments": ""})),
            piece(json!({"arguments": "{\"a\""})),
            piece(json!({"arguments": ":1}"})),
        ];
        let at = "/choices/0/delta/tool_calls/0/function/arguments";
        assert_eq!(
            streamed(Api::OpenAiChat, &chat, at),
            ("{{\"a\":1}".into(), 1)
        );
        let delta = |text: &str| json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": text}});
        let start = |block: Value| json!({"type": "content_block_start", "content_block": block});
        let messages = [
            start(json!({"type": "text", "text": ""})),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}),
            start(json!({"type": "tool_use", "name": "f", "input": {}})),
            delta(""),
            delta("{\"a\":1}"),
        ];
        assert_eq!(
            streamed(Api::AnthropicMessages, &messages, "/delta/partial_json"),
            ("{{\"a\":1}".into(), 1)
        );
        let responses = [
            json!({"type": "response.output_item.added", "item": {"type": "function_call", "name": "f", "arguments": ""}}),
            json!({"type": "response.function_call_arguments.delta", "delta": "{\"a\""}),
            json!({"type": "response.function_call_arguments.delta", "delta": ":1}"}),
        ];
        assert_eq!(
            streamed(Api::OpenAiResponses, &responses, "/delta"),
            ("{{\"a\":1}".into(), 1)
        );
        let mut done = json!({"type": "response.function_call_arguments.done", "arguments": "{}"});
        assert!(call(
            &mut done,
            Api::OpenAiResponses,
            Call::BrokenArguments,
            &mut Started::default()
        ));
        assert_eq!(done["arguments"], "{{}");
    }

    #[test]
    fn structured_output_violates_its_schema_as_asked() {
        let text = "{\"a\": \"x\", \"b\": 2}";
        let read =
            |how| violated(text, how).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        assert_eq!(read(Structure::MissingKey), Some(json!({"b": 2})));
        assert_eq!(
            read(Structure::WrongType),
            Some(json!({"a": {EXTRA: true}, "b": 2}))
        );
        assert_eq!(
            read(Structure::ExtraKey),
            Some(json!({"a": "x", "b": 2, EXTRA: true}))
        );
        assert_eq!(
            violated("{}", Structure::ExtraKey).as_deref(),
            Some("{\"squall_unexpected\":true}")
        );
        assert!(violated(text, Structure::Prose).is_some_and(|text| text.starts_with("Here is")));
        assert_eq!(violated("hello", Structure::Prose), None);
        assert_eq!(
            begun("{\"", Structure::ExtraKey).as_deref(),
            Some("{\"squall_unexpected\":true,\"")
        );
        assert_eq!(begun("Hi", Structure::ExtraKey), None);
    }
}
