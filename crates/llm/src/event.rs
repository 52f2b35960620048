//! What an event of a stream is, and the same event with one thing changed.

use crate::Api;
use crate::edit;
use crate::sse::{self, Fields};
use serde_json::Value;

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Some of the answer: text, a refusal, arguments of a tool call.
    Token,
    /// It says why the answer is over.
    Finish,
    /// It says nothing but what was used.
    Usage,
    /// The last one: `[DONE]`, `message_stop`, `response.completed`.
    Done,
    /// Comments, pings.
    KeepAlive,
    /// Anything else: the start, a part's border.
    Other,
}

/// An event that was looked into.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its fields.
    pub fields: Fields,
    /// What it is.
    pub kind: Kind,
    value: Option<Value>,
}

impl Event {
    /// Looks into an event.
    pub fn read(api: Api, bytes: &[u8]) -> Event {
        let fields = sse::fields(bytes);
        let value = fields
            .data
            .as_deref()
            .and_then(|data| serde_json::from_str(data).ok());
        let kind = kind(api, &fields, value.as_ref());
        Event {
            fields,
            kind,
            value,
        }
    }

    /// The event with another value.
    fn with(&self, value: &Value) -> Vec<u8> {
        sse::written(self.fields.name.as_deref(), &value.to_string())
    }

    /// The text that it brings, if it brings some.
    pub fn text(&self, api: Api) -> Option<&str> {
        self.value
            .as_ref()?
            .pointer(text_at(api)?)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// The same with one thing changed, if it tells that thing.
    pub fn changed(&self, change: impl FnOnce(&mut Value) -> bool) -> Option<Vec<u8>> {
        let mut value = self.value.clone()?;
        change(&mut value).then(|| self.with(&value))
    }

    /// The same with another text. None when it brings no text.
    pub fn with_text(&self, api: Api, text: &str) -> Option<Vec<u8>> {
        self.text(api)?;
        self.changed(|value| edit::put(value, &[text_at(api).unwrap_or_default()], text))
    }
}

fn text_at(api: Api) -> Option<&'static str> {
    Some(match api {
        Api::OpenAiChat => "/choices/0/delta/content",
        Api::OpenAiCompletions => "/choices/0/text",
        Api::OpenAiResponses => "/delta",
        Api::AnthropicMessages => "/delta/text",
        _ => return None,
    })
}

fn kind(api: Api, fields: &Fields, value: Option<&Value>) -> Kind {
    let Some(data) = fields.data.as_deref() else {
        return Kind::KeepAlive;
    };
    if data.starts_with("[DONE]") {
        return Kind::Done;
    }
    let Some(value) = value else {
        return Kind::Other;
    };
    let named = value["type"].as_str().unwrap_or_default();
    match api {
        Api::OpenAiChat | Api::OpenAiCompletions => openai(value),
        Api::OpenAiResponses => match named {
            "response.completed" | "response.failed" | "response.incomplete" | "error" => {
                Kind::Done
            }
            name if name.ends_with(".delta") => Kind::Token,
            _ => Kind::Other,
        },
        Api::AnthropicMessages => match named {
            "content_block_delta" => Kind::Token,
            "message_delta" => Kind::Finish,
            "message_stop" | "error" => Kind::Done,
            "ping" => Kind::KeepAlive,
            _ => Kind::Other,
        },
        _ => Kind::Token,
    }
}

fn openai(value: &Value) -> Kind {
    let choices = value["choices"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if choices.is_empty() && value["usage"].is_object() {
        return Kind::Usage;
    }
    let says = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let brings = |choice: &Value| {
        let delta = &choice["delta"];
        says(&choice["text"])
            || says(&delta["content"])
            || says(&delta["refusal"])
            || delta["tool_calls"].is_array()
    };
    if choices.iter().any(brings) {
        return Kind::Token;
    }
    match choices
        .iter()
        .any(|choice| choice["finish_reason"].is_string())
    {
        true => Kind::Finish,
        false => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Usage;
    use serde_json::json;

    fn read(api: Api, name: Option<&str>, data: &str) -> Event {
        Event::read(api, &sse::written(name, data))
    }

    #[test]
    fn events_are_told_apart() {
        for (api, data, kind) in [
            (
                Api::OpenAiChat,
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                Kind::Other,
            ),
            (
                Api::OpenAiChat,
                r#"{"choices":[{"delta":{"content":"a"}}]}"#,
                Kind::Token,
            ),
            (
                Api::OpenAiChat,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
                Kind::Token,
            ),
            (
                Api::OpenAiChat,
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                Kind::Finish,
            ),
            (
                Api::OpenAiChat,
                r#"{"choices":[],"usage":{"total_tokens":1}}"#,
                Kind::Usage,
            ),
            (Api::OpenAiChat, "[DONE]", Kind::Done),
            (
                Api::OpenAiCompletions,
                r#"{"choices":[{"text":"a"}]}"#,
                Kind::Token,
            ),
            (
                Api::OpenAiResponses,
                r#"{"type":"response.output_text.delta","delta":"a"}"#,
                Kind::Token,
            ),
            (
                Api::OpenAiResponses,
                r#"{"type":"response.completed"}"#,
                Kind::Done,
            ),
            (
                Api::AnthropicMessages,
                r#"{"type":"content_block_delta","delta":{"text":"a"}}"#,
                Kind::Token,
            ),
            (
                Api::AnthropicMessages,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                Kind::Finish,
            ),
            (
                Api::AnthropicMessages,
                r#"{"type":"message_stop"}"#,
                Kind::Done,
            ),
            (
                Api::AnthropicMessages,
                r#"{"type":"ping"}"#,
                Kind::KeepAlive,
            ),
            (Api::Other, r#"{"x":1}"#, Kind::Token),
        ] {
            assert_eq!(read(api, None, data).kind, kind, "{data}");
        }
        assert_eq!(
            Event::read(Api::OpenAiChat, b": keep\n\n").kind,
            Kind::KeepAlive
        );
    }

    #[test]
    fn one_thing_is_changed_and_the_rest_stays() {
        let token = read(
            Api::AnthropicMessages,
            Some("content_block_delta"),
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
        );
        let changed = Event::read(
            Api::AnthropicMessages,
            &token.with_text(Api::AnthropicMessages, "b").unwrap(),
        );
        assert_eq!(
            (changed.text(Api::AnthropicMessages), &changed.fields.name),
            (Some("b"), &token.fields.name)
        );
        let usage = read(
            Api::OpenAiChat,
            None,
            r#"{"choices":[],"usage":{"total_tokens":3,"details":{"cached":1}}}"#,
        );
        let negative = Event::read(
            Api::OpenAiChat,
            &usage
                .changed(|value| edit::usage(value, Usage::Negative))
                .unwrap(),
        )
        .value
        .unwrap();
        assert_eq!(
            negative["usage"],
            json!({"total_tokens": -3, "details": {"cached": -1}})
        );
        assert!(
            token
                .changed(|value| edit::usage(value, Usage::Zero))
                .is_none()
        );
        let finish = read(
            Api::OpenAiChat,
            None,
            r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        );
        let length = Event::read(
            Api::OpenAiChat,
            &finish
                .changed(|value| edit::finish(value, "length"))
                .unwrap(),
        )
        .value
        .unwrap();
        assert_eq!(length["choices"][0]["finish_reason"], "length");
        let model = Event::read(
            Api::OpenAiChat,
            &finish.changed(|value| edit::model(value, "other")).unwrap(),
        )
        .value
        .unwrap();
        assert_eq!(
            (&model["model"], &model["choices"]),
            (
                &json!("other"),
                &json!([{"delta": {}, "finish_reason": "stop"}])
            )
        );
    }
}
