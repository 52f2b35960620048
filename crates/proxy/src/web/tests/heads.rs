//! Faults of HTTP: answers of our own, and heads, delays and bodies of the service's.

use super::*;

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
    let field = "y".repeat(50_000);
    long.server(format!("HTTP/1.1 204 No\r\nx: {field}\r\n\r\n").as_bytes());
    assert_eq!(long.got().len(), 49);
}
