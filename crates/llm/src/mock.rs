//! What a service that knows no model answers: the right shape, and words that mean nothing.

use crate::{Api, sse};
use serde_json::{Value, json};

const WORDS: [&str; 16] = [
    "the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "then", "it",
    "rests", "in", "the", "sun",
];

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The model that was asked for.
    pub model: String,
    /// The id of the answer.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Words of the answer.
    pub tokens: u64,
    /// Words of the question, roughly.
    pub asked: u64,
    /// Whether a stream of chat tells its usage.
    pub tells_usage: bool,
}

impl Reply {
    /// The answer to a request; at most `tokens` words, fewer if it asks for fewer.
    pub fn to(request: &Value, id: &str, created: u64, tokens: u64) -> Reply {
        let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let limit = limits.iter().find_map(|name| request[*name].as_u64());
        Reply {
            model: request["model"].as_str().unwrap_or("mock").to_owned(),
            id: id.to_owned(),
            created,
            tokens: limit.map_or(tokens, |limit| limit.min(tokens)).max(1),
            asked: (request.to_string().len() / 4) as u64,
            tells_usage: request["stream_options"]["include_usage"]
                .as_bool()
                .unwrap_or(false),
        }
    }

    fn word(&self, at: u64) -> String {
        let word = WORDS[(at % WORDS.len() as u64) as usize];
        if at == 0 {
            word.to_owned()
        } else {
            format!(" {word}")
        }
    }

    fn text(&self) -> String {
        (0..self.tokens).map(|at| self.word(at)).collect()
    }

    fn chat_usage(&self) -> Value {
        json!({"prompt_tokens": self.asked, "completion_tokens": self.tokens, "total_tokens": self.asked + self.tokens})
    }

    /// The whole answer; none for what is not known.
    pub fn whole(&self, api: Api) -> Option<Value> {
        let (id, model, created, text) = (&self.id, &self.model, self.created, self.text());
        Some(match api {
            Api::OpenAiChat => json!({
                "id": id, "object": "chat.completion", "created": created, "model": model, "usage": self.chat_usage(),
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            }),
            Api::OpenAiCompletions => json!({
                "id": id, "object": "text_completion", "created": created, "model": model, "usage": self.chat_usage(),
                "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
            }),
            Api::OpenAiResponses => self.response("completed", &[self.item("completed", &text)]),
            Api::AnthropicMessages => json!({
                "id": id, "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
                "stop_sequence": null, "content": [{"type": "text", "text": text}],
                "usage": {"input_tokens": self.asked, "output_tokens": self.tokens},
            }),
            Api::OpenAiModels => json!({
                "object": "list", "data": [{"id": "mock", "object": "model", "created": 0, "owned_by": "squall"}],
            }),
            Api::OpenAiEmbeddings | Api::Other => return None,
        })
    }

    fn item(&self, status: &str, text: &str) -> Value {
        let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
        json!({"id": format!("{}_msg", self.id), "type": "message", "role": "assistant", "status": status, "content": content})
    }

    fn response(&self, status: &str, output: &[Value]) -> Value {
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "model": self.model,
            "output": output, "error": null, "incomplete_details": null, "parallel_tool_calls": true,
            "tool_choice": "auto", "tools": [],
            "usage": {"input_tokens": self.asked, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": self.tokens,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": self.asked + self.tokens},
        })
    }

    /// The events of a stream, and which of them are tokens; none for what is not streamed.
    pub fn stream(&self, api: Api) -> Option<Vec<(bool, Vec<u8>)>> {
        match api {
            Api::OpenAiChat | Api::OpenAiCompletions => Some(self.openai(api)),
            Api::OpenAiResponses => Some(self.responses()),
            Api::AnthropicMessages => Some(self.anthropic()),
            _ => None,
        }
    }

    fn openai(&self, api: Api) -> Vec<(bool, Vec<u8>)> {
        let is_chat = api == Api::OpenAiChat;
        let object = if is_chat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        };
        let chunk = |choices: Value, usage: Value| {
            let mut value = json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices});
            if self.tells_usage {
                value["usage"] = usage;
            }
            sse::written(None, &value.to_string())
        };
        let choice = |key: &str, value: Value, finish: Value| json!([{"index": 0, key: value, "finish_reason": finish}]);
        let mut events = Vec::new();
        if is_chat {
            let start = choice(
                "delta",
                json!({"role": "assistant", "content": ""}),
                Value::Null,
            );
            events.push((false, chunk(start, Value::Null)));
        }
        for at in 0..self.tokens {
            let word = self.word(at);
            let token = match is_chat {
                true => choice("delta", json!({"content": word}), Value::Null),
                false => choice("text", json!(word), Value::Null),
            };
            events.push((true, chunk(token, Value::Null)));
        }
        let end = match is_chat {
            true => choice("delta", json!({}), json!("stop")),
            false => choice("text", json!(""), json!("stop")),
        };
        events.push((false, chunk(end, Value::Null)));
        if self.tells_usage {
            events.push((false, chunk(json!([]), self.chat_usage())));
        }
        events.push((false, b"data: [DONE]\n\n".to_vec()));
        events
    }

    fn responses(&self) -> Vec<(bool, Vec<u8>)> {
        let item = format!("{}_msg", self.id);
        let place = json!({"item_id": item, "output_index": 0, "content_index": 0});
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
        let at = |extra: Value| {
            let mut value = place.clone();
            for (key, inner) in extra.as_object().into_iter().flatten() {
                value[key] = inner.clone();
            }
            value
        };
        let text = self.text();
        let mut all = vec![
            (
                "response.created",
                json!({"response": self.response("in_progress", &[])}),
            ),
            (
                "response.in_progress",
                json!({"response": self.response("in_progress", &[])}),
            ),
            (
                "response.output_item.added",
                json!({"output_index": 0, "item": {"id": item, "type": "message",
                "role": "assistant", "status": "in_progress", "content": []}}),
            ),
            ("response.content_part.added", at(json!({"part": part("")}))),
        ];
        for number in 0..self.tokens {
            all.push((
                "response.output_text.delta",
                at(json!({"delta": self.word(number), "logprobs": []})),
            ));
        }
        all.push((
            "response.output_text.done",
            at(json!({"text": text, "logprobs": []})),
        ));
        all.push((
            "response.content_part.done",
            at(json!({"part": part(&text)})),
        ));
        all.push((
            "response.output_item.done",
            json!({"output_index": 0, "item": self.item("completed", &text)}),
        ));
        all.push((
            "response.completed",
            json!({"response": self.response("completed", &[self.item("completed", &text)])}),
        ));
        let numbered = all
            .into_iter()
            .enumerate()
            .map(|(number, (name, mut value))| {
                value["type"] = name.into();
                value["sequence_number"] = number.into();
                (
                    name.ends_with(".delta"),
                    sse::written(Some(name), &value.to_string()),
                )
            });
        numbered.collect()
    }

    fn anthropic(&self) -> Vec<(bool, Vec<u8>)> {
        let mut start = self.whole(Api::AnthropicMessages).unwrap_or_default();
        start["content"] = json!([]);
        start["stop_reason"] = Value::Null;
        start["usage"]["output_tokens"] = 1.into();
        let mut all = vec![
            ("message_start", json!({"message": start})),
            (
                "content_block_start",
                json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            ("ping", json!({})),
        ];
        for at in 0..self.tokens {
            all.push((
                "content_block_delta",
                json!({"index": 0, "delta": {"type": "text_delta", "text": self.word(at)}}),
            ));
        }
        all.push(("content_block_stop", json!({"index": 0})));
        let end = json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": self.tokens}});
        all.push(("message_delta", end));
        all.push(("message_stop", json!({})));
        let named = all.into_iter().map(|(name, mut value)| {
            value["type"] = name.into();
            (
                name == "content_block_delta",
                sse::written(Some(name), &value.to_string()),
            )
        });
        named.collect()
    }
}

/// The most inputs of a request for embeddings, as with OpenAI.
const INPUTS_MAX: usize = 2048;

/// An embedding for each input: numbers from the text alone, of unit length, `size` of them. None without an input, or
/// with more than 2,048.
pub fn embeddings(request: &Value, size: usize) -> Option<Value> {
    let texts: Vec<String> = match &request["input"] {
        Value::String(text) => vec![text.clone()],
        // Tokens in place of words: one text.
        Value::Array(all) if !all.is_empty() && all.iter().all(Value::is_number) => {
            vec![request["input"].to_string()]
        }
        Value::Array(all) if all.len() > INPUTS_MAX => return None,
        Value::Array(all) => all
            .iter()
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect(),
        _ => return None,
    };
    let is_base64 = request["encoding_format"] == "base64";
    let data = texts.iter().enumerate().map(|(index, text)| {
        let numbers = vector(text, size);
        let embedding = match is_base64 {
            true => json!(base64(
                &numbers
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect::<Vec<u8>>()
            )),
            false => json!(numbers),
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let asked = request["input"].to_string().len() / 4;
    Some(
        json!({"object": "list", "data": data, "model": request["model"], "usage": {"prompt_tokens": asked, "total_tokens": asked}}),
    )
}

/// Xorshift from the bytes of the text.
fn vector(text: &str, size: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let numbers: Vec<f32> = (0..size).map(|_| next()).collect();
    let length = numbers
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    numbers.iter().map(|number| number / length).collect()
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three
            .iter()
            .fold(0u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() {
                '='
            } else {
                letter as char
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Kind};

    #[test]
    fn streams_say_what_whole_answers_say_and_end_as_they_should() {
        let request =
            json!({"model": "m", "max_tokens": 3, "stream_options": {"include_usage": true}});
        let reply = Reply::to(&request, "id", 1, 16);
        for api in [
            Api::OpenAiChat,
            Api::OpenAiCompletions,
            Api::OpenAiResponses,
            Api::AnthropicMessages,
        ] {
            let events = reply.stream(api).unwrap();
            let read: Vec<Event> = events
                .iter()
                .map(|(_, bytes)| Event::read(api, bytes))
                .collect();
            let said: String = read
                .iter()
                .filter(|event| event.kind == Kind::Token)
                .filter_map(|event| event.text(api))
                .collect();
            assert_eq!(said, "the quick brown", "{api:?}");
            assert_eq!(
                crate::edit::text_of(&reply.whole(api).unwrap()),
                Some("the quick brown"),
                "{api:?}"
            );
            assert_eq!(read.last().unwrap().kind, Kind::Done, "{api:?}");
            for ((is_token, _), event) in events.iter().zip(&read) {
                assert_eq!(*is_token, event.kind == Kind::Token);
            }
        }
    }

    #[test]
    fn embeddings_follow_the_text_and_come_in_both_forms() {
        assert_eq!(
            [base64(b"M"), base64(b"Ma"), base64(b"Man")],
            ["TQ==", "TWE=", "TWFu"]
        );
        let plain = embeddings(&json!({"input": ["a", "b", "a"]}), 8).unwrap();
        let vectors = |at: usize| plain["data"][at]["embedding"].clone();
        assert_eq!(vectors(0), vectors(2));
        assert_ne!(vectors(0), vectors(1));
        let length: f64 = vectors(0)
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_f64().unwrap().powi(2))
            .sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        let many = |one: Value| embeddings(&json!({"input": vec![one; 2049]}), 8);
        assert!(many(json!("")).is_none());
        let tokens = many(json!(7)).unwrap();
        assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
        let coded = embeddings(&json!({"input": "a", "encoding_format": "base64"}), 8).unwrap();
        assert_eq!(coded["data"][0]["embedding"].as_str().unwrap().len(), 44);
    }
}
