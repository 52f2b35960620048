//! What is held is bounded, whatever is sent.

use super::*;

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
fn what_a_stalled_stream_holds_is_bounded() {
    let mut talk = with(WebFault::LlmStall {
        after: 0,
        resume: None,
    });
    talk.chat(true);
    talk.server(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    let mut sent = 0;
    while talk.web.room(Side::Server, 0, 0) > 0 {
        talk.server(token("xxxxxxxxxx").as_bytes());
        sent += 1;
        assert!(sent < 2000);
    }
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
        let room = talk.web.room(Side::Server, talk.ends.client.waiting(), 0);
        if room == 0 {
            break;
        }
        let (now, later) = rest.split_at(room);
        talk.server(now);
        rest = later;
    }
    let waiting = talk.ends.client.waiting();
    assert!(waiting > 30 * 1024 && waiting < HELD_MAX, "{waiting}");
}
