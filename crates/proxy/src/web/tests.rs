use super::*;
use crate::proxy::{Lasting, Proxy};
use crate::record::Recorder;
use crate::relay::{Ends, Fate, Session, Side};
use crate::stream::{HELD_MAX, NEVER, Nanos};
use serde_json::{Value, json};
use squall_model::units::{Bytes, Span};
use std::sync::Arc;
use std::time::Duration;

const MS: Nanos = 1_000_000;

/// A client, a session and a service, all in this test.
struct Talk {
    web: Web,
    ends: Ends,
    now: Nanos,
}

fn talk(rules: Vec<WebRule>) -> Talk {
    let proxy = Proxy::new(
        "it",
        "http://service",
        7,
        &Lasting::default(),
        Recorder::none(),
    );
    proxy.set_rules(Vec::new(), rules.into_iter().map(Arc::new).collect());
    let mut ends = Ends::new(Arc::new(proxy), 0);
    let mut web = Web::new(7, 0);
    web.open(0, &mut ends);
    Talk { web, ends, now: 0 }
}

fn with(fault: WebFault) -> Talk {
    talk(vec![WebRule::new("it", fault)])
}

fn ms(count: u64) -> Span {
    Span(Duration::from_millis(count))
}

impl Talk {
    fn client(&mut self, bytes: &[u8]) {
        self.web.data(Side::Client, bytes, self.now, &mut self.ends);
    }

    fn server(&mut self, bytes: &[u8]) {
        self.web.data(Side::Server, bytes, self.now, &mut self.ends);
    }

    fn asked(&mut self) -> String {
        String::from_utf8_lossy(&self.ends.server.drain()).into_owned()
    }

    fn got(&mut self) -> String {
        String::from_utf8_lossy(&self.ends.client.drain()).into_owned()
    }

    fn at(&mut self, now: Nanos) {
        self.now = now;
        self.web.poll(now, &mut self.ends);
    }

    fn fired(&self) -> u64 {
        self.ends
            .proxy
            .web_rules()
            .iter()
            .map(|rule| rule.fired.load(std::sync::atomic::Ordering::Relaxed))
            .sum()
    }

    /// Asks for a chat and gives what the service gets.
    fn chat(&mut self, streams: bool) -> String {
        let body = json!({"model": "gpt-x", "stream": streams, "messages": []}).to_string();
        self.client(&post("/v1/chat/completions", &body));
        self.asked()
    }

    /// The service's stream of these tokens, and the content of what the client gets.
    fn streamed(&mut self, tokens: &[&str]) -> String {
        self.chat(true);
        self.server(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in stream(tokens) {
            self.server(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        self.server(b"0\r\n\r\n");
        let got = self.ends.client.drain();
        assert_eq!(
            String::from_utf8_lossy(&got)
                .to_ascii_lowercase()
                .matches("transfer-encoding")
                .count(),
            1
        );
        content(got)
    }
}

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn token(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"model": "gpt-x", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    )
}

fn stream(tokens: &[&str]) -> Vec<String> {
    let mut events: Vec<String> = tokens.iter().map(|text| token(text)).collect();
    events.push(format!(
        "data: {}\n\n",
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    ));
    events.push(format!(
        "data: {}\n\n",
        json!({"choices": [], "usage": {"prompt_tokens": 1, "total_tokens": 4}})
    ));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// The content of an answer, its chunks undone as far as they go.
fn content(answer: impl AsRef<[u8]>) -> String {
    let answer = answer.as_ref();
    let border = answer
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .unwrap()
        + 4;
    let (head, mut rest) = answer.split_at(border);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut all = Vec::new();
    if !head.contains("transfer-encoding: chunked") {
        all.extend_from_slice(rest);
        rest = &[];
    }
    while let Some(at) = rest.iter().position(|byte| *byte == b'\r') {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            all.extend_from_slice(b"<end>");
            break;
        }
        all.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The texts of the tokens in a content.
fn texts(content: &str) -> Vec<String> {
    let data = content
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    let values = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    values
        .filter_map(|value| {
            value["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
}

#[test]
fn without_a_rule_everything_passes_byte_for_byte() {
    let mut talk = talk(Vec::new());
    let request = post("/v1/x", "{\"a\":1}");
    talk.client(&request[..20]);
    assert_eq!(talk.asked(), "");
    talk.client(&request[20..]);
    assert_eq!(talk.asked().into_bytes(), request);
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Fine\r\nX-ODD:  1\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: 1\r\n\r\n";
    for byte in answer.as_bytes() {
        talk.server(&[*byte]);
    }
    assert_eq!(talk.got(), answer);
}

#[test]
fn one_exchange_follows_the_other_and_pipelined_requests_wait() {
    let mut talk = talk(Vec::new());
    let two = [post("/a", "1"), post("/b", "2")].concat();
    talk.client(&two);
    assert_eq!(talk.asked().into_bytes(), post("/a", "1"));
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(talk.asked().into_bytes(), post("/b", "2"));
    talk.server(b"HTTP/1.1 204 No\r\n\r\n");
    talk.client(b"HEAD /c HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    talk.client(b"GET /d HTTP/1.1\r\nconnection: close\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(talk.ends.fate, Fate::Closes);
    assert!(talk.asked().starts_with("HEAD /c"));
}

#[test]
fn a_status_is_answered_in_the_provider_s_shape_and_the_service_is_not_asked() {
    for (path, shape) in [
        ("/v1/messages", "/error/type"),
        ("/v1/chat/completions", "/error/code"),
    ] {
        let fault = WebFault::HttpStatus {
            code: 429,
            retry_after: Some("2".into()),
            headers: Default::default(),
            body: None,
        };
        let mut talk = with(fault);
        talk.client(&post(path, "{}"));
        let answer = talk.got();
        assert!(
            answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n")
                && answer.contains("\r\nretry-after: 2\r\n"),
            "{answer}"
        );
        let body: Value = serde_json::from_str(&content(&answer)).unwrap();
        assert!(
            body.pointer(shape)
                .unwrap()
                .as_str()
                .unwrap()
                .starts_with("rate_limit"),
            "{body}"
        );
        assert_eq!(
            (talk.asked(), talk.ends.wants_server, talk.fired()),
            (String::new(), false, 1)
        );
        // The connection goes on.
        talk.client(&post(path, "{}"));
        assert!(talk.got().starts_with("HTTP/1.1 429 "));
    }
}

#[test]
fn a_rule_acts_on_the_requests_that_fit_and_on_no_other() {
    let mut rule = WebRule::new("it", WebFault::HttpReset {});
    rule.when = When {
        path: Some("/v1/*".into()),
        method: Some("post".into()),
        model: Some("gpt-*".into()),
        streaming: Some(true),
        header: [("host".to_owned(), "x".to_owned())].into(),
        json: [("/user".to_owned(), "7".to_owned())].into(),
        ..When::default()
    };
    let rule = Arc::new(rule);
    let resets = |path: &str, body: Value| {
        let mut talk = talk(Vec::new());
        talk.ends.proxy.set_rules(Vec::new(), vec![rule.clone()]);
        talk.web.changed(0, &mut talk.ends);
        let request = post(path, &body.to_string());
        // In two parts: nothing is sent on before it is decided.
        talk.client(&request[..request.len() - 1]);
        talk.client(&request[request.len() - 1..]);
        let reset = talk.ends.fate == Fate::Resets;
        assert!(reset || talk.asked().into_bytes() == request);
        reset
    };
    let fits = json!({"model": "gpt-4", "stream": true, "user": 7});
    assert!(resets("/v1/x?y", fits.clone()));
    assert!(!resets("/v2/x", fits.clone()));
    for (key, value) in [
        ("model", json!("claude")),
        ("stream", json!(false)),
        ("user", json!(8)),
    ] {
        let mut other = fits.clone();
        other[key] = value;
        assert!(!resets("/v1/x", other), "{key}");
    }
}

#[test]
fn first_and_every_count_the_requests_that_fit() {
    let statuses = |when: When| -> Vec<bool> {
        let mut rule = WebRule::new(
            "it",
            WebFault::HttpStatus {
                code: 500,
                retry_after: None,
                headers: Default::default(),
                body: None,
            },
        );
        rule.when = when;
        let mut talk = talk(vec![rule]);
        let answered = |talk: &mut Talk| {
            talk.client(b"GET / HTTP/1.1\r\n\r\n");
            let ours = talk.got().starts_with("HTTP/1.1 500");
            if !ours {
                talk.server(b"HTTP/1.1 204 No\r\n\r\n");
                talk.got();
            }
            ours
        };
        (0..6).map(|_| answered(&mut talk)).collect()
    };
    assert_eq!(
        statuses(When {
            first: Some(2),
            ..When::default()
        }),
        [true, true, false, false, false, false]
    );
    assert_eq!(
        statuses(When {
            every: Some(3),
            ..When::default()
        }),
        [false, false, true, false, false, true]
    );
}

#[test]
fn draws_follow_connection_and_request() {
    let drawn = |connection: u64| -> Vec<bool> {
        let mut rule = WebRule::new(
            "it",
            WebFault::HttpStatus {
                code: 500,
                retry_after: None,
                headers: Default::default(),
                body: None,
            },
        );
        rule.probability = 0.5;
        let mut talk = talk(vec![rule]);
        talk.web = Web::new(7, connection);
        talk.web.open(0, &mut talk.ends);
        let mut all = Vec::new();
        for _ in 0..40 {
            talk.client(b"GET / HTTP/1.1\r\n\r\n");
            all.push(talk.got().starts_with("HTTP/1.1 500"));
            talk.server(b"HTTP/1.1 204 No\r\n\r\n");
            talk.got();
        }
        all
    };
    assert_eq!(drawn(3), drawn(3));
    assert_ne!(drawn(3), drawn(4));
    assert!(drawn(3).contains(&true) && drawn(3).contains(&false));
}

#[test]
fn a_body_that_is_too_long_to_match_fits_no_rule_and_passes() {
    let mut rule = WebRule::new("it", WebFault::HttpReset {});
    rule.when.model = Some("*".into());
    let mut talk = talk(vec![rule]);
    let body = format!("{{\"model\": \"m\", \"x\": \"{}\"}}", "y".repeat(2 << 20));
    let request = post("/v1/x", &body);
    for part in request.chunks(60_000) {
        talk.client(part);
    }
    assert_eq!((talk.asked().len(), talk.fired()), (request.len(), 0));
}

#[test]
fn the_rate_limit_refuses_with_the_true_wait_and_tells_what_is_left() {
    let mut talk = with(WebFault::HttpRateLimit {
        per_minute: 60,
        burst: Some(1),
    });
    talk.client(&post("/v1/messages", "{}"));
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert!(
        talk.got()
            .contains("anthropic-ratelimit-requests-remaining: 0\r\n")
    );
    talk.client(&post("/v1/messages", "{}"));
    let refused = talk.got();
    assert!(
        refused.starts_with("HTTP/1.1 429 ") && refused.contains("\r\nretry-after: 1\r\n"),
        "{refused}"
    );
    assert_eq!(talk.fired(), 1);
    talk.now = 1000 * MS;
    talk.client(&post("/v1/messages", "{}"));
    assert!(talk.asked().ends_with("{}"));
}

#[test]
fn a_delay_a_hang_and_slow_headers_take_their_time() {
    let mut delayed = with(WebFault::HttpDelay {
        delay: ms(10),
        jitter: None,
    });
    delayed.client(b"GET / HTTP/1.1\r\n\r\n");
    delayed.server(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
    assert_eq!((delayed.got(), delayed.web.due()), (String::new(), 10 * MS));
    delayed.at(10 * MS);
    assert!(delayed.got().ends_with("a"));

    let mut hung = with(WebFault::HttpHang {});
    hung.client(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(
        (hung.web.due(), hung.asked(), hung.fired()),
        (NEVER, String::new(), 1)
    );
    hung.web.ended(Side::Client, 1, &mut hung.ends);
    assert_eq!(hung.ends.fate, Fate::Closes);

    let mut slow = with(WebFault::HttpSlowHeaders { over: ms(100) });
    slow.client(b"GET / HTTP/1.1\r\n\r\n");
    slow.server(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
    slow.at(50 * MS);
    let half = slow.got().len();
    assert!((15..30).contains(&half), "{half}");
    slow.at(101 * MS);
    assert!(slow.got().ends_with("\r\n\r\na"));
}

#[test]
fn bodies_are_truncated_and_heads_lie_as_asked() {
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789";
    let told = |fault: WebFault| {
        let mut talk = with(fault);
        talk.client(b"GET / HTTP/1.1\r\n\r\n");
        talk.server(answer);
        (talk.got(), talk.ends.fate, talk.fired())
    };
    let (truncated, fate, fired) = told(WebFault::HttpTruncate { after: Bytes(4) });
    assert!(
        truncated.ends_with("Content-Length: 10\r\n\r\n0123"),
        "{truncated}"
    );
    assert_eq!((fate, fired), (Fate::Closes, 1));
    let (longer, ..) = told(WebFault::HttpContentLength { by: 5 });
    assert!(
        longer.ends_with("content-length: 15\r\n\r\n0123456789"),
        "{longer}"
    );
    let (typed, ..) = told(WebFault::HttpContentType {
        value: "image/png".into(),
    });
    assert!(
        typed.contains("content-type: image/png\r\n") && !typed.contains("text/plain"),
        "{typed}"
    );
}

#[test]
fn first_token_and_further_tokens_are_delayed() {
    let mut talk = with(WebFault::LlmFirstToken { delay: ms(30) });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), [""; 0]);
    talk.at(30 * MS);
    assert!(talk.got().ends_with("0\r\n\r\n"));

    let mut talk = with(WebFault::LlmTokenDelay {
        delay: ms(10),
        jitter: None,
    });
    assert_eq!(texts(&talk.streamed(&["a", "b", "c"])), ["a"]);
    assert_eq!(talk.web.due(), 10 * MS);
    talk.at(19 * MS);
    assert_eq!(talk.got().matches("content\":\"b\"").count(), 1);
    talk.at(20 * MS);
    assert!(talk.got().contains("content\":\"c\""));
    assert_eq!(talk.fired(), 2);
}

#[test]
fn a_stall_stands_until_it_resumes_or_the_rule_goes() {
    let mut talk = with(WebFault::LlmStall {
        after: 1,
        resume: Some(ms(50)),
    });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), ["a"]);
    talk.at(50 * MS);
    assert!(talk.got().contains("content\":\"b\""));

    let mut talk = with(WebFault::LlmStall {
        after: 1,
        resume: None,
    });
    assert_eq!(texts(&talk.streamed(&["a", "b"])), ["a"]);
    talk.at(1_000_000 * MS);
    assert_eq!(talk.got(), "");
    talk.ends.proxy.set_rules(Vec::new(), Vec::new());
    talk.web.changed(talk.now, &mut talk.ends);
    assert!(talk.got().contains("content\":\"b\""));
}

#[test]
fn what_a_stalled_stream_holds_is_bounded() {
    let mut talk = with(WebFault::LlmStall {
        after: 0,
        resume: None,
    });
    talk.chat(true);
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let mut sent = 0;
    while talk.web.room(Side::Server, 0) > 0 {
        talk.server(token("xxxxxxxxxx").as_bytes());
        sent += 1;
        assert!(sent < 2000);
    }
}

#[test]
fn a_cut_stream_ends_as_asked_after_so_many_tokens() {
    for (how, fate, ends) in [
        (Cut::End, Fate::Closes, true),
        (Cut::Close, Fate::Closes, false),
        (Cut::Reset, Fate::Resets, false),
    ] {
        let mut talk = with(WebFault::LlmCut { after: 2, how });
        let content = talk.streamed(&["a", "b", "c", "d"]);
        assert_eq!(texts(&content), ["a", "b"]);
        assert_eq!(
            (talk.ends.fate, content.ends_with("<end>"), talk.fired()),
            (fate, ends, 1),
            "{how:?}"
        );
    }
    let mut never = with(WebFault::LlmCut {
        after: 9,
        how: Cut::End,
    });
    assert_eq!(texts(&never.streamed(&["a", "b"])), ["a", "b"]);
    assert_eq!(never.fired(), 0);
}

#[test]
fn tokens_are_dropped_doubled_and_put_in_another_order() {
    let order = |fault: WebFault| {
        let mut talk = with(fault);
        let content = talk.streamed(&["a", "b", "c", "d"]);
        assert!(
            content.ends_with("data: [DONE]\n\n<end>") && talk.fired() == 1,
            "{content}"
        );
        texts(&content).concat()
    };
    assert_eq!(order(WebFault::LlmDrop { at: 2 }), "acd");
    assert_eq!(order(WebFault::LlmDuplicate { at: 2 }), "abbcd");
    assert_eq!(order(WebFault::LlmReorder { at: 2 }), "acbd");
    assert_eq!(order(WebFault::LlmReorder { at: 4 }), "abcd");
    // Nothing follows that it could come after: nothing is another, and nothing is told.
    let mut last = with(WebFault::LlmReorder { at: 1 });
    last.chat(true);
    last.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    last.server(token("a").as_bytes());
    last.web.ended(Side::Server, 1, &mut last.ends);
    assert_eq!(texts(&content(last.ends.client.drain())), ["a"]);
    assert_eq!(last.fired(), 0);
    let both = [WebFault::LlmReorder { at: 2 }, WebFault::LlmDrop { at: 2 }];
    let mut both = talk(both.map(|fault| WebRule::new("it", fault)).into());
    assert_eq!(texts(&both.streamed(&["a", "b", "c"])), ["a", "c"]);
    assert_eq!(both.fired(), 1);
}

#[test]
fn the_last_event_is_missing_and_the_body_still_ends_in_order() {
    let content = with(WebFault::LlmWithoutDone {}).streamed(&["a"]);
    assert!(
        !content.contains("[DONE]") && content.contains("stop") && content.ends_with("<end>"),
        "{content}"
    );
}

#[test]
fn a_damaged_token_is_damaged_and_the_others_are_not() {
    for how in [Damage::Json, Damage::Utf8, Damage::NoData] {
        let mut talk = with(WebFault::LlmMalformed { at: 2, how });
        let content = talk.streamed(&["a", "b", "c"]);
        assert_eq!(
            texts(&content).concat().replace('\u{fffd}', ""),
            if how == Damage::Utf8 { "abc" } else { "ac" },
            "{how:?}"
        );
        assert_ne!(
            content,
            with(WebFault::LlmDrop { at: 99 }).streamed(&["a", "b", "c"])
        );
    }
}

#[test]
fn an_error_is_told_in_the_stream() {
    let mut talk = with(WebFault::LlmError { after: 1 });
    let content = talk.streamed(&["a", "b"]);
    assert_eq!(texts(&content), ["a"]);
    assert!(
        content.contains("\"error\":{") && content.ends_with("<end>"),
        "{content}"
    );
}

#[test]
fn framing_is_changed_and_the_events_are_not() {
    let framed = |how: Framing| with(WebFault::LlmFraming { how }).streamed(&["a", "b"]);
    let plain = with(WebFault::LlmDrop { at: 99 }).streamed(&["a", "b"]);
    assert_eq!(framed(Framing::Crlf).replace("\r\n", "\n"), plain);
    assert!(!framed(Framing::Crlf).replace("\r\n", "").contains('\n'));
    assert_eq!(framed(Framing::ByteOrderMark), format!("\u{feff}{plain}"));
    assert!(framed(Framing::Ids).starts_with("id: 1\ndata: "));
    assert_eq!(framed(Framing::Bytewise), plain);
    let mut bytewise = with(WebFault::LlmFraming {
        how: Framing::Bytewise,
    });
    bytewise.chat(true);
    bytewise.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    bytewise.got();
    bytewise.server("data: \u{e9}\n\n".as_bytes());
    assert_eq!(
        bytewise
            .ends
            .client
            .drain()
            .windows(3)
            .filter(|part| part == b"1\r\n")
            .count(),
        10
    );
}

#[test]
fn usage_reason_model_and_text_are_told_otherwise_in_streams_and_in_whole_answers() {
    let whole = json!({"model": "gpt-x", "choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}],
        "usage": {"total_tokens": 4}});
    let answered = |fault: WebFault| -> Value {
        let mut talk = with(fault);
        talk.chat(false);
        let body = whole.to_string();
        talk.server(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
        );
        talk.server(&body.as_bytes()[..5]);
        assert_eq!(talk.got(), "");
        talk.server(&body.as_bytes()[5..]);
        let answer = talk.got();
        let content = content(&answer);
        assert!(
            answer.contains(&format!("content-length: {}\r\n", content.len())) && talk.fired() == 1,
            "{answer}"
        );
        serde_json::from_str(&content).unwrap()
    };
    let usage = WebFault::LlmUsage {
        says: UsageSays::Negative,
    };
    assert_eq!(answered(usage.clone())["usage"]["total_tokens"], -4);
    assert!(with(usage).streamed(&["a"]).contains("\"total_tokens\":-4"));
    let reason = WebFault::LlmFinishReason {
        value: "length".into(),
    };
    assert_eq!(
        answered(reason.clone())["choices"][0]["finish_reason"],
        "length"
    );
    assert!(
        with(reason)
            .streamed(&["a"])
            .contains("\"finish_reason\":\"length\"")
    );
    let model = WebFault::LlmModel {
        value: "other".into(),
    };
    assert_eq!(answered(model.clone())["model"], "other");
    assert!(with(model).streamed(&["a"]).contains("\"model\":\"other\""));
    let says = |says: Speech| WebFault::LlmText { says };
    assert_eq!(
        answered(says(Speech::Empty))["choices"][0]["message"]["content"],
        ""
    );
    assert_eq!(
        texts(&with(says(Speech::Empty)).streamed(&["a", "b"])),
        [""; 0]
    );
    assert_eq!(
        texts(&with(says(Speech::Repeat)).streamed(&["a", "b", "c"])),
        ["a", "a", "a"]
    );
    assert!(
        texts(&with(says(Speech::Refusal)).streamed(&["a", "b"]))
            .concat()
            .starts_with("I'm sorry")
    );
    assert_eq!(
        texts(&with(says(Speech::Also("canary ".into()))).streamed(&["a", "b"])),
        ["canary a", "b"]
    );
    assert_ne!(
        texts(&with(says(Speech::Garbage)).streamed(&["a", "b"])),
        ["a", "b"]
    );
}

#[test]
fn only_comments_arrive_as_long_as_the_client_stays() {
    let mut talk = with(WebFault::LlmKeepAliveOnly { every: ms(10) });
    assert_eq!(talk.streamed(&["a", "b"]), "");
    for turn in 1..=3 {
        talk.at(turn * 10 * MS);
        assert_eq!(talk.got(), "e\r\n: keep-alive\n\n\r\n", "{turn}");
    }
    // The service has ended long ago.
    talk.web.ended(Side::Server, talk.now, &mut talk.ends);
    talk.at(40 * MS);
    assert!(talk.got().contains("keep-alive"));
    talk.web.ended(Side::Client, talk.now, &mut talk.ends);
    assert_eq!(talk.ends.fate, Fate::Closes);
}

#[test]
fn a_compressed_answer_is_neither_asked_for_nor_touched() {
    let mut talk = with(WebFault::LlmModel {
        value: "other".into(),
    });
    let body = "{\"model\":\"m\"}";
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    talk.client(request.as_bytes());
    assert!(
        !talk
            .asked()
            .to_ascii_lowercase()
            .contains("accept-encoding")
    );
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    talk.server(answer.as_bytes());
    assert_eq!((talk.got().as_str(), talk.fired()), (answer, 0));
}

#[test]
fn what_is_no_http_is_refused_on_one_side_and_passes_on_the_other() {
    let mut bad = talk(Vec::new());
    bad.client(b"hello\r\n\r\n");
    assert!(bad.got().starts_with("HTTP/1.1 400 ") && bad.ends.fate == Fate::Closes);
    let mut late = talk(Vec::new());
    late.client(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(late.asked().starts_with("GET /"), "an empty line before it");
    let mut odd = talk(Vec::new());
    odd.client(b"GET / HTTP/1.1\r\n\r\n");
    odd.server(b"ICY 200 OK\r\n\r\nmusic");
    odd.server(b" and more");
    assert_eq!(odd.got(), "ICY 200 OK\r\n\r\nmusic and more");
    let mut upgraded = talk(Vec::new());
    upgraded.client(b"GET / HTTP/1.1\r\nupgrade: x\r\n\r\n");
    upgraded.server(b"HTTP/1.1 101 Go\r\n\r\n\x01\x02");
    upgraded.client(b"\x03");
    assert!(upgraded.got().ends_with("\u{1}\u{2}") && upgraded.asked().ends_with("\u{3}"));
}

#[test]
fn a_service_without_end_of_head_is_given_up_within_bounds() {
    let mut talk = talk(Vec::new());
    talk.client(b"GET / HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\n");
    for _ in 0..100 {
        talk.server(&[b'x'; 1000]);
    }
    // It passes as it is, and is no longer kept.
    assert!(talk.got().len() > 90_000);
}

#[test]
fn a_body_that_ends_with_its_connection_ends_the_client_s_too() {
    let mut talk = talk(Vec::new());
    talk.client(b"GET / HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\n\r\nall");
    talk.web.ended(Side::Server, 1, &mut talk.ends);
    assert!(talk.got().ends_with("all"));
    assert!(talk.ends.client.is_finishing());
}

fn status(code: u16) -> WebFault {
    WebFault::HttpStatus {
        code,
        retry_after: None,
        headers: Default::default(),
        body: None,
    }
}

fn delay(by: u64) -> WebFault {
    WebFault::HttpDelay {
        delay: ms(by),
        jitter: None,
    }
}

#[test]
fn a_delay_comes_on_top_of_the_service_s_own_time() {
    let mut talk = with(delay(10));
    talk.client(b"GET / HTTP/1.1\r\n\r\n");
    talk.now = 50 * MS;
    assert_eq!(talk.fired(), 0, "it has not acted yet");
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na");
    assert_eq!(
        (talk.got(), talk.web.due(), talk.fired()),
        (String::new(), 60 * MS, 1)
    );
    talk.at(60 * MS);
    assert!(talk.got().ends_with("a"));
}

#[test]
fn only_rules_that_act_are_told() {
    let outcome = |faults: [WebFault; 2]| {
        let rules = faults.map(|fault| WebRule::new(fault.name(), fault));
        let mut talk = talk(rules.into());
        talk.client(b"GET / HTTP/1.1\r\n\r\n");
        let rules = talk.ends.proxy.web_rules();
        let fired = |rule: &Arc<WebRule>| rule.fired.load(std::sync::atomic::Ordering::Relaxed);
        let told: Vec<u64> = rules.iter().map(fired).collect();
        (told, talk.got().chars().take(12).collect::<String>())
    };
    assert_eq!(
        outcome([status(500), WebFault::HttpHang {}]),
        (vec![1, 0], "HTTP/1.1 500".into())
    );
    assert_eq!(
        outcome([WebFault::HttpHang {}, status(500)]),
        (vec![1, 0], String::new())
    );
    assert_eq!(
        outcome([delay(5), WebFault::HttpReset {}]),
        (vec![0, 1], String::new())
    );
}

#[test]
fn our_own_answer_has_no_body_where_none_may_be() {
    for (method, code, ends) in [
        ("HEAD", 500, "content-length: 3\r\n\r\n"),
        ("GET", 204, "application/json\r\n\r\n"),
        ("GET", 304, "application/json\r\n\r\n"),
        ("GET", 500, "content-length: 3\r\n\r\nabc"),
    ] {
        let fault = WebFault::HttpStatus {
            code,
            retry_after: None,
            headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
            body: Some("abc".into()),
        };
        let mut talk = with(fault);
        talk.client(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes());
        let answer = talk.got();
        assert!(answer.ends_with(ends), "{method} {code}: {answer:?}");
        assert_eq!(answer.contains("abc"), ends.ends_with("abc"), "{answer:?}");
        assert_eq!(answer.contains("content-length"), code == 500, "{answer:?}");
    }
}

#[test]
fn a_lie_about_the_length_leaves_the_other_rules_their_say() {
    for by in [-3, 7] {
        let faults = [
            WebFault::HttpContentLength { by },
            WebFault::LlmModel {
                value: "another".into(),
            },
        ];
        let rules = faults.map(|fault| WebRule::new(fault.name(), fault));
        let mut talk = talk(rules.into());
        talk.chat(false);
        talk.server(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"model\":\"x\"}");
        let body = "{\"model\":\"another\"}";
        let length = body.len() as i64 + by;
        let end = format!("content-length: {length}\r\n\r\n{body}");
        let answer = talk.got();
        assert!(answer.ends_with(&end), "{answer:?}");
        assert_eq!(talk.fired(), 2);
    }
}

#[test]
fn a_malformed_whole_answer_keeps_its_head() {
    let mut talk = with(WebFault::LlmModel {
        value: "another".into(),
    });
    talk.chat(false);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    talk.server(head.as_bytes());
    talk.server(b"zz\r\n");
    assert_eq!(talk.got(), format!("{head}zz\r\n"));
}

#[test]
fn framing_without_end_is_not_collected_for_matching() {
    for line in [
        "x: y\r\n",
        "1;zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\na\r\n",
    ] {
        let mut rule = WebRule::new("it", WebFault::HttpReset {});
        rule.when.model = Some("*".into());
        let mut talk = talk(vec![rule]);
        talk.client(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
        if line.starts_with('x') {
            talk.client(b"0\r\n");
        }
        let part = line.repeat(1000);
        let mut sent = 0;
        while talk.asked().is_empty() && talk.ends.fate == Fate::Lives {
            talk.client(part.as_bytes());
            sent += part.len();
            assert!(sent < 3 << 20, "it is still being collected");
        }
    }
}

#[test]
fn comments_do_not_heap_up_and_end_with_their_rule() {
    let mut talk = with(WebFault::LlmKeepAliveOnly { every: ms(1) });
    talk.streamed(&["a"]);
    // The process stood still: what it missed is missed.
    talk.at(1000 * MS);
    assert_eq!(
        talk.ends.client.waiting(),
        "e\r\n: keep-alive\n\n\r\n".len()
    );
    // The client does not read.
    for turn in 1..100 {
        talk.at((1000 + turn * 10) * MS);
    }
    assert_eq!(talk.got().matches("keep-alive").count(), 1);
    assert_eq!(talk.web.due(), 1991 * MS);
    talk.ends.proxy.set_rules(Vec::new(), Vec::new());
    talk.web.changed(talk.now, &mut talk.ends);
    assert_eq!(talk.ends.fate, Fate::Closes);
}

#[test]
fn what_grows_on_its_way_is_bounded_too() {
    let mut talk = with(WebFault::LlmFraming {
        how: Framing::Bytewise,
    });
    talk.chat(true);
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let stream = token("xxxxxxxxxx").repeat(1000);
    let mut rest = stream.as_bytes();
    loop {
        let room = talk.web.room(Side::Server, talk.ends.client.waiting());
        if room == 0 {
            break;
        }
        let (now, later) = rest.split_at(room);
        talk.server(now);
        rest = later;
    }
    let waiting = talk.ends.client.waiting();
    assert!(waiting < HELD_MAX + 6 * 1024, "{waiting}");
}

#[test]
fn a_slow_head_is_slow_alone_and_in_not_too_many_pieces() {
    let slow = || WebRule::new("slow", WebFault::HttpSlowHeaders { over: ms(100) });
    let mut ours = talk(vec![slow(), WebRule::new("it", status(500))]);
    ours.client(b"GET / HTTP/1.1\r\n\r\n");
    let head = ours.web.due();
    assert!(head > 0 && head < 2 * MS, "{head}");
    ours.at(99 * MS);
    assert!(!ours.got().contains("error"));
    ours.at(100 * MS);
    assert!(ours.got().contains("error"));

    let model = WebFault::LlmModel {
        value: "other".into(),
    };
    let mut unchanged = talk(vec![slow(), WebRule::new("it", model)]);
    unchanged.chat(false);
    unchanged.server(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    );
    assert_eq!(unchanged.got(), "H");
    unchanged.at(101 * MS);
    assert!(unchanged.got().ends_with("{}"));

    let mut long = talk(vec![slow()]);
    long.client(b"GET / HTTP/1.1\r\n\r\n");
    let field = "y".repeat(60_000);
    long.server(format!("HTTP/1.1 204 No\r\nx: {field}\r\n\r\n").as_bytes());
    assert_eq!(long.got().len(), 59);
}

#[test]
fn a_client_that_only_stops_sending_gets_all_its_answers() {
    let mut talk = talk(Vec::new());
    talk.client(&[post("/a", "1"), post("/b", "2")].concat());
    talk.web.ended(Side::Client, 1, &mut talk.ends);
    assert!(!talk.ends.server.is_finishing());
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert!(talk.asked().ends_with("2"));
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
    assert!(talk.got().ends_with("no"));
}
