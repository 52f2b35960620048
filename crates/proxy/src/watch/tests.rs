use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn asked(body: &str, more: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: a\r\n{more}content-length: {length}\r\n\r\n{body}").into_bytes()
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn token(text: &str) -> Vec<u8> {
    let value =
        serde_json::json!({"choices": [{"delta": {"content": text}, "finish_reason": null}]});
    chunk(&format!("data: {value}\n\n"))
}

fn stream() -> Vec<(Vec<u8>, u64)> {
    let finish = serde_json::json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let usage = serde_json::json!({"choices": [], "usage": {"total_tokens": 9}});
    vec![
        (HEAD.to_vec(), SECOND),
        (token("a"), 2 * SECOND),
        (token("b"), 5 * SECOND),
        (token("c"), 6 * SECOND),
        (chunk(&format!("data: {finish}\n\n")), 7 * SECOND),
        (chunk(&format!("data: {usage}\n\n")), 7 * SECOND),
        (chunk("data: [DONE]\n\n"), 7 * SECOND),
        (b"0\r\n\r\n".to_vec(), 8 * SECOND),
    ]
}

fn whole() -> Exchange {
    let mut eye = Eye::new(7, 3);
    eye.asked(
        &asked(
            r#"{"model":"m","stream":true}"#,
            "x-stainless-retry-count: 1\r\n",
        ),
        0,
    );
    let mut over = Vec::new();
    for (bytes, now) in stream() {
        over.extend(eye.sent(&bytes, now));
    }
    assert_eq!(over.len(), 1);
    over.remove(0)
}

#[test]
fn a_stream_is_measured_from_its_question() {
    let seen = whole();
    assert_eq!((seen.connection, seen.request), (3, 1));
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!((seen.model.as_deref(), seen.streaming), (Some("m"), true));
    assert_eq!(seen.retry_count, Some(1));
    assert_eq!(seen.first_byte_ns, Some(SECOND));
    assert_eq!(seen.first_token_ns, Some(2 * SECOND));
    assert_eq!(seen.last_token_ns, Some(6 * SECOND));
    assert_eq!(seen.longest_gap_ns, Some(3 * SECOND));
    assert_eq!((seen.tokens, seen.usage), (3, Some(9)));
    assert_eq!(
        (seen.finished, seen.ended),
        (Some(true), Some(Ended::Whole))
    );
    assert_eq!(seen.ended_ns, 8 * SECOND);
    assert!(seen.succeeded());
}

#[test]
fn a_stream_that_ends_in_order_without_a_reason_is_cut_off() {
    let mut eye = Eye::new(7, 0);
    eye.asked(&asked(r#"{"stream":true}"#, ""), 0);
    let mut over = Vec::new();
    for bytes in [HEAD.to_vec(), token("a"), b"0\r\n\r\n".to_vec()] {
        over.extend(eye.sent(&bytes, SECOND));
    }
    assert_eq!(over[0].finished, Some(false));
    assert_eq!(over[0].ended, Some(Ended::Whole));
    assert!(over[0].is_cut_off() && !over[0].succeeded());
}

#[test]
fn what_ends_early_says_how() {
    for how in [Ended::Cut, Ended::Reset, Ended::Left] {
        let mut eye = Eye::new(7, 0);
        eye.asked(&asked("{}", ""), SECOND);
        assert!(eye.sent(HEAD, 2 * SECOND).is_empty());
        let over = eye.closed(how, 4 * SECOND);
        assert_eq!((over[0].ended, over[0].ended_ns), (Some(how), 3 * SECOND));
        assert!(!over[0].succeeded());
    }
    let mut eye = Eye::new(7, 0);
    eye.asked(&asked("{}", ""), 0);
    let over = eye.closed(Ended::Reset, SECOND);
    assert_eq!(over[0].status, None, "it was reset in place of an answer");
}

#[test]
fn an_error_tells_its_wait_and_the_next_question_follows_on_the_connection() {
    let mut eye = Eye::new(7, 0);
    let error = b"HTTP/1.1 429 Too Many\r\nretry-after: 1.5\r\nx-should-retry: false\r\ncontent-length: 2\r\n\r\n{}";
    eye.asked(&asked("{\"a\":1}", ""), 0);
    let first = eye.sent(error, SECOND);
    eye.asked(&asked("{\"a\":1}", ""), 2 * SECOND);
    eye.asked(&asked("{\"a\":2}", "idempotency-key: k\r\n"), 2 * SECOND);
    let rest = eye.sent(&[&error[..], &error[..]].concat(), 3 * SECOND);
    assert_eq!(first[0].retry_after_ms, Some(1500));
    assert_eq!(first[0].should_retry, Some(false));
    assert_eq!(first[0].question, rest[0].question);
    assert_ne!(rest[0].question, rest[1].question);
    assert_eq!(rest[1].request, 3);
    let key = rest[1].idempotency.clone().unwrap();
    assert!(
        !key.contains('k') && key.len() == 16,
        "only its hash is kept: {key}"
    );
}

#[test]
fn an_answer_that_comes_before_the_whole_question_belongs_to_it() {
    let question = asked("{\"model\":\"m\"}", "");
    let (head, body) = question.split_at(question.len() - 9);
    let error = b"HTTP/1.1 429 Too Many\r\ncontent-length: 2\r\n\r\n{}";
    let mut eye = Eye::new(7, 0);
    eye.asked(head, 0);
    assert!(eye.sent(error, SECOND).is_empty());
    eye.asked(body, 2 * SECOND);
    let early = eye.late();
    eye.asked(&question, 3 * SECOND);
    let usual = eye.sent(error, 4 * SECOND);
    assert_eq!((early[0].status, early[0].ended_ns), (Some(429), SECOND));
    assert_eq!(early[0].question, usual[0].question);
    assert_eq!(early[0].model.as_deref(), Some("m"));
    eye.asked(head, 5 * SECOND);
    eye.sent(error, 6 * SECOND);
    let half = eye.closed(Ended::Left, 7 * SECOND);
    assert_eq!((half.len(), half[0].status), (1, Some(429)));
    assert_ne!(half[0].question, usual[0].question);
}

#[test]
fn an_error_in_the_stream_is_no_success() {
    let mut eye = Eye::new(7, 0);
    eye.asked(&asked("{}", ""), 0);
    eye.sent(HEAD, 0);
    eye.sent(&chunk("data: {\"error\": {\"message\": \"x\"}}\n\n"), 0);
    let over = eye.sent(b"0\r\n\r\n", 0);
    assert!(over[0].error_event && !over[0].succeeded());
}

#[test]
fn nothing_of_what_was_said_is_kept() {
    let mut eye = Eye::new(7, 0);
    let body = r#"{"model":"m","messages":[{"content":"canary-1"}]}"#;
    eye.asked(
        &asked(
            body,
            "authorization: Bearer canary-2\r\nx-api-key: canary-3\r\n",
        ),
        0,
    );
    let error = "HTTP/1.1 400 No\r\nset-cookie: canary-4\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n{\"error\": \"canary-55\"}";
    let mut over = eye.sent(error.as_bytes(), 1);
    over.extend(eye.closed(Ended::Cut, 1));
    let text = serde_json::to_string(&over).unwrap();
    assert!(over.len() == 1 && !text.contains("canary"), "{text}");
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_same_is_seen(cuts in proptest::collection::vec(1usize..40, 1..40)) {
        let mut eye = Eye::new(7, 3);
        let question = asked(r#"{"model":"m","stream":true}"#, "x-stainless-retry-count: 1\r\n");
        let mut sizes = cuts.iter().copied().cycle();
        let mut over = Vec::new();
        let pieces = |bytes: &[u8], sizes: &mut dyn Iterator<Item = usize>| {
            let (mut at, mut pieces) = (0, Vec::new());
            while at < bytes.len() {
                let end = (at + sizes.next().unwrap_or(1)).min(bytes.len());
                pieces.push(bytes[at..end].to_vec());
                at = end;
            }
            pieces
        };
        for piece in pieces(&question, &mut sizes) {
            eye.asked(&piece, 0);
        }
        for (bytes, now) in stream() {
            for piece in pieces(&bytes, &mut sizes) {
                over.extend(eye.sent(&piece, now));
            }
        }
        prop_assert_eq!(over.len(), 1);
        prop_assert_eq!(&over[0], &whole());
    }

    #[test]
    fn hostile_bytes_end_no_thread_and_fill_no_memory(up in proptest::collection::vec(any::<u8>(), 0..2000), down in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut eye = Eye::new(7, 0);
        eye.asked(&up, 0);
        eye.asked(&asked("{}", ""), 0);
        let mut over = eye.sent(&down, 1);
        over.extend(eye.closed(Ended::Cut, 2));
        prop_assert!(over.len() <= WAITING_MAX);
    }
}
