//! What passes as it is, and how exchanges follow each other.

use super::*;

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
fn a_body_that_ends_with_its_connection_ends_the_client_s_too() {
    let mut talk = talk(Vec::new());
    talk.client(b"GET / HTTP/1.1\r\n\r\n");
    talk.server(b"HTTP/1.1 200 OK\r\n\r\nall");
    talk.web.ended(Side::Server, 1, &mut talk.ends);
    assert!(talk.got().ends_with("all"));
    assert!(talk.ends.client.is_finishing());
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
