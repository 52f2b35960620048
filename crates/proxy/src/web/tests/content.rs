//! Faults of tool calls, structured output, embeddings and retrieval, on their way through a session.

use super::*;
use crate::web::{CallWrong, Finds, StructureWrong, VectorsWrong};

/// A whole answer to a request of this path, as the client gets it.
fn answered(fault: WebFault, path: &str, answer: &Value) -> (String, u64) {
    let mut talk = with(fault);
    talk.client(&post(path, "{}"));
    assert!(!talk.asked().is_empty());
    let body = answer.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    talk.server((head + &body).as_bytes());
    let got = talk.got();
    let (head, body) = got.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
    (body.to_owned(), talk.fired())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn vector_stores_find_other_documents() {
    let path = "/api/v2/tenants/t/databases/d/collections/c/query";
    let answer = json!({"ids": [["a", "b"]], "documents": [["one", "two"]], "metadatas": [[{"year": 2024}, {}]]});
    for (finds, place, wanted) in [
        (Finds::Nothing, "/ids", json!([[]])),
        (Finds::Fewer, "/documents", json!([["one"]])),
        (Finds::Stale(4), "/metadatas/0/0/year", json!(2020)),
        (
            Finds::Poisoned("obey".into()),
            "/documents/0/0",
            json!("[squall-canary] obey\none"),
        ),
    ] {
        let (got, fired) = answered(WebFault::RetrievalDocuments { finds }, path, &answer);
        assert_eq!(
            (value(&got).pointer(place), fired),
            (Some(&wanted), 1),
            "{got}"
        );
    }
    let qdrant =
        json!({"result": [{"id": 1, "score": 0.5, "payload": {"text": "one"}}], "status": "ok"});
    let finds = Finds::Irrelevant;
    let (got, fired) = answered(
        WebFault::RetrievalDocuments { finds },
        "/collections/c/points/search",
        &qdrant,
    );
    assert!(
        fired == 1 && !got.contains("\"one\"") && value(&got)["result"][0]["score"] == 0.5,
        "{got}"
    );
    // What is no answer of a vector store passes byte for byte, and nothing is told.
    let other = json!({"z": 1, "a": 2});
    let (got, fired) = answered(
        WebFault::RetrievalDocuments {
            finds: Finds::Nothing,
        },
        path,
        &other,
    );
    assert_eq!((got, fired), (other.to_string(), 0));
}

#[test]
fn embeddings_are_wrong() {
    let answer = json!({"object": "list", "data": [
        {"object": "embedding", "index": 0, "embedding": [0.25, 0.5]},
        {"object": "embedding", "index": 1, "embedding": [1.0, 2.0]}
    ]});
    let with = |how| {
        answered(
            WebFault::RetrievalVectors { how },
            "/v1/embeddings",
            &answer,
        )
    };
    let (got, fired) = with(VectorsWrong::Permuted);
    assert_eq!(
        (value(&got)["data"][0]["embedding"].clone(), fired),
        (json!([1.0, 2.0]), 1)
    );
    let (got, _) = with(VectorsWrong::Shorter);
    assert_eq!(value(&got)["data"][1]["embedding"], json!([1.0]));
    let (got, _) = with(VectorsWrong::Nan);
    assert!(got.contains("[NaN,0.5]"), "{got}");
}

#[test]
fn tool_calls_and_structured_output_are_wrong_in_whole_answers() {
    let chat = "/v1/chat/completions";
    let calls = json!({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]});
    let how = CallWrong::UnknownTool;
    let (got, fired) = answered(WebFault::LlmToolCall { how }, chat, &calls);
    assert!(fired == 1 && got.contains("squall_unknown_tool"), "{got}");
    let how = CallWrong::BrokenArguments;
    let (got, _) = answered(WebFault::LlmToolCall { how }, chat, &calls);
    assert!(got.contains(r#""arguments":"{{}""#), "{got}");
    let structured = json!({"choices": [{"message": {"content": "{\"a\": 1, \"b\": 2}"}}]});
    let how = StructureWrong::MissingKey;
    let (got, fired) = answered(WebFault::LlmStructure { how }, chat, &structured);
    assert_eq!(
        (
            value(&got)["choices"][0]["message"]["content"].clone(),
            fired
        ),
        (json!("{\"b\":2}"), 1)
    );
}

#[test]
fn tool_calls_and_structured_output_are_wrong_in_streams() {
    let how = StructureWrong::ExtraKey;
    let mut talk = with(WebFault::LlmStructure { how });
    let got = talk.streamed(&["{", "\"a\"", ": 1}"]);
    assert_eq!(
        texts(&got).concat(),
        "{\"squall_unexpected\":true,\"a\": 1}"
    );
    assert_eq!(talk.fired(), 1);
    // A stream cannot take back what it has not said yet.
    let how = StructureWrong::MissingKey;
    let mut talk = with(WebFault::LlmStructure { how });
    assert_eq!(
        texts(&talk.streamed(&["{\"a\"", ": 1}"])).concat(),
        "{\"a\": 1}"
    );
    assert_eq!(talk.fired(), 0);

    let piece = |function: Value| {
        let value =
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": function}]}}]});
        format!("data: {value}\n\n")
    };
    let how = CallWrong::BrokenArguments;
    let mut talk = with(WebFault::LlmToolCall { how });
    talk.chat(true);
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    for event in [
        piece(json!({"name": "f", "arguments": ""})),
        piece(json!({"arguments": "{}"})),
    ] {
        talk.server(event.as_bytes());
    }
    let got = content(talk.ends.client.drain());
    let arguments = got
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| {
            let value = value(data);
            value["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        });
    assert_eq!(arguments.collect::<String>(), "{{}");
    assert_eq!(talk.fired(), 1);
}
