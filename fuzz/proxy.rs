//! What the proxy is given by both sides: HTTP, streams of events, JSON. An input's first bytes choose rules and how it is cut.

use serde_json::Value;
use squall_llm::Api;
use squall_llm::event::Event;
use squall_llm::sse::{Piece, Splitter, fields, written};
use squall_proxy::Dry;
use squall_proxy::file::{self, RuleConfig};

/// Longer than any delay of the rules here, in nanoseconds.
const LATER: u64 = 60_000_000_000;
/// Parts the client's words from the service's.
const TURN: u8 = 0xfe;

const HTTP_RULES: &[&str] = &[
    r#"[]"#,
    r#"[{"fault":{"http-status":{"code":429,"retry-after":"2"}},"when":{"path":"/v1/*","first":2}}]"#,
    r#"[{"fault":{"http-reset":{}},"when":{"model":"m*","json":{"/a/0":"*"}}}]"#,
    r#"[{"fault":{"http-delay":{"delay":"1s"}}},{"fault":{"http-slow-headers":{"over":"1s"}}}]"#,
    r#"[{"fault":{"http-truncate":{"after":"9B"}}}]"#,
    r#"[{"fault":{"http-content-type":{"value":"a/b"}}},{"fault":{"http-content-length":{"by":3}}}]"#,
    r#"[{"fault":{"http-hang":{}},"when":{"header":{"x":"*"}}}]"#,
    r#"[{"fault":{"llm-model":{"value":"other"}},"when":{"streaming":false}}]"#,
];

const STREAM_RULES: &[&str] = &[
    r#"{"llm-drop":{"at":2}}"#,
    r#"{"llm-duplicate":{"at":1}}"#,
    r#"{"llm-reorder":{"at":1}}"#,
    r#"{"llm-malformed":{"at":1,"how":"json"}}"#,
    r#"{"llm-malformed":{"at":1,"how":"utf8"}}"#,
    r#"{"llm-malformed":{"at":1,"how":"no-data"}}"#,
    r#"{"llm-cut":{"after":1,"how":"end"}}"#,
    r#"{"llm-error":{"after":1}}"#,
    r#"{"llm-without-done":{}}"#,
    r#"{"llm-framing":{"how":"crlf"}}"#,
    r#"{"llm-framing":{"how":"bytewise"}}"#,
    r#"{"llm-framing":{"how":"no-names"}}"#,
    r#"{"llm-framing":{"how":"ids"}}"#,
    r#"{"llm-framing":{"how":"byte-order-mark"}}"#,
    r#"{"llm-usage":{"says":"negative"}}"#,
    r#"{"llm-finish-reason":{"value":"length"}}"#,
    r#"{"llm-model":{"value":"other"}}"#,
    r#"{"llm-keep-alive-only":{"every":"1s"}}"#,
    r#"{"llm-tool-call":{"how":"broken-arguments"}}"#,
    r#"{"llm-structure":{"how":"extra-key"}}"#,
    r#"{"retrieval-vectors":{"how":"permuted"}}"#,
    r#"{"retrieval-documents":{"finds":{"poisoned":"canary"}}}"#,
    r#"{"llm-text":{"says":"refusal"}}"#,
    r#"{"llm-text":{"says":"repeat"}}"#,
    r#"{"llm-text":{"says":{"also":"canary"}}}"#,
    r#"{"llm-stall":{"after":1,"resume":"1s"}}"#,
];

const PATHS: [(&str, Api); 4] = [
    ("/v1/chat/completions", Api::OpenAiChat),
    ("/v1/completions", Api::OpenAiCompletions),
    ("/v1/responses", Api::OpenAiResponses),
    ("/v1/messages", Api::AnthropicMessages),
];

fn chosen<T: Copy>(all: &[T], by: u8) -> T {
    all[usize::from(by) % all.len()]
}

fn rules(text: &str) -> Vec<RuleConfig> {
    serde_json::from_str(text).expect("rules of ours")
}

fn one_rule(fault: &str) -> Vec<RuleConfig> {
    rules(&format!("[{{\"fault\":{fault}}}]"))
}

/// One exchange, said in parts of at most `part` bytes.
fn talked(rules: &[RuleConfig], client: &[u8], service: &[u8], part: usize) -> Dry {
    let mut dry = Dry::new(7, "http://service:1", rules);
    dry.client_says(client, part);
    dry.service_says(service, part);
    dry.service_ends();
    dry.wait(LATER);
    dry
}

/// The same however it was cut, and what it was.
fn alike(rules: &[RuleConfig], client: &[u8], service: &[u8], part: u8) -> Dry {
    let whole = talked(rules, client, service, usize::MAX);
    let parts = talked(rules, client, service, usize::from(part) + 1);
    assert_eq!(
        String::from_utf8_lossy(whole.to_client()),
        String::from_utf8_lossy(parts.to_client()),
        "cut into parts of {}",
        usize::from(part) + 1
    );
    assert_eq!(whole.is_over(), parts.is_over());
    whole
}

/// Any bytes from both sides: the client gets the same however they were cut, and without a rule what the service said.
pub(crate) fn http(bytes: &[u8]) {
    let [rule, part, said @ ..] = bytes else {
        return;
    };
    let turn = said.iter().position(|byte| *byte == TURN);
    let (client, service) = said.split_at(turn.unwrap_or(said.len()));
    let service = service.get(1..).unwrap_or_default();
    let text = chosen(HTTP_RULES, *rule);
    let dry = alike(&rules(text), client, service, *part);
    if text == "[]" {
        let got = dry.to_client();
        let refusal = b"HTTP/1.1 400 Bad Request\r\n";
        let refused = (0..=got.len()).find(|at| got[*at..].starts_with(refusal));
        let theirs = |got: &[u8]| service.starts_with(got);
        assert!(
            theirs(got) || refused.is_some_and(|at| theirs(&got[..at])),
            "{:?} is not what the service said",
            String::from_utf8_lossy(got)
        );
    }
}

/// Any body as a stream of events, under each rule; and the laws of cutting and reading events.
pub(crate) fn stream(bytes: &[u8]) {
    let [path, rule, part, body @ ..] = bytes else {
        return;
    };
    let (path, api) = chosen(&PATHS, *path);
    let framing = match rule & 0x80 {
        0 => "",
        _ => "transfer-encoding: chunked\r\n",
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n");
    let service = [head.as_bytes(), body].concat();
    let asked = format!("POST {path} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}");
    let rule = one_rule(chosen(STREAM_RULES, rule & 0x7f));
    alike(&rule, asked.as_bytes(), &service, *part);
    laws(api, body, usize::from(*part) + 1);
}

fn laws(api: Api, body: &[u8], part: usize) {
    let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
    for part in body.chunks(part) {
        splitter.push(part, &mut pieces);
    }
    let mut again = Vec::new();
    for piece in &pieces {
        let (Piece::Event(bytes) | Piece::Unread(bytes)) = piece;
        again.extend_from_slice(bytes);
    }
    again.extend(splitter.rest());
    assert_eq!(again, body, "what is cut is what came in");
    for piece in pieces {
        let Piece::Event(bytes) = piece else { continue };
        let read = fields(&bytes);
        if let Some(data) = &read.data {
            let name = read.name.as_deref();
            assert_eq!(
                fields(&written(name, data)),
                read,
                "what is written is read"
            );
        }
        let event = Event::read(api, &bytes);
        if let Some(other) = event.with_text(api, "other") {
            assert_eq!(Event::read(api, &other).text(api), Some("other"));
        }
    }
}

/// Any JSON, as what is asked and as what is answered.
pub(crate) fn json(bytes: &[u8]) {
    let [path, rule, part, body @ ..] = bytes else {
        return;
    };
    let (path, _) = chosen(&PATHS, *path);
    let length = body.len();
    let asked = format!("POST {path} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    let asked = [asked.as_bytes(), body].concat();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let answer = [head.as_bytes(), body].concat();
    let rule = one_rule(chosen(STREAM_RULES, *rule));
    let got = alike(&rule, &asked, &answer, *part);
    told_length(got.to_client(), body);
    let chooses = rules(chosen(HTTP_RULES, 2));
    alike(&chooses, &asked, &answer, *part);
    // The built-in service answers whatever it is asked.
    let mut mock = Dry::new(7, "mock:tokens=3", &rule);
    mock.client_says(&asked, usize::from(*part) + 1);
    mock.wait(LATER);
    assert!(mock.to_client().starts_with(b"HTTP/1.1 "));
}

/// A whole answer that was changed tells its true length, and is JSON if it was.
fn told_length(got: &[u8], body: &[u8]) {
    let border = got.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, content) = got.split_at(border.expect("a head") + 4);
    let head = String::from_utf8_lossy(head);
    let told = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    assert_eq!(told, Some(content.len().to_string().as_str()));
    if serde_json::from_slice::<Value>(body).is_ok() {
        assert!(serde_json::from_slice::<Value>(content).is_ok());
    }
}

/// A proxy file is read, or refused with problems that can be shown.
pub(crate) fn proxy_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match file::read(text) {
        Ok(file) => {
            for proxy in &file.proxies {
                drop(Dry::new(7, &proxy.upstream, &proxy.rules));
            }
        }
        Err(problems) => super::shown(&problems, bytes),
    }
}
