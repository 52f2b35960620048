use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Head {
    Head::parse(text.as_bytes()).unwrap().unwrap()
}

fn read(body: &mut Body, bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut content = Vec::new();
    let taken = body
        .take(bytes, &mut |part| content.extend_from_slice(part))
        .unwrap();
    (content, taken)
}

#[test]
fn a_head_is_taken_apart_and_kept_byte_for_byte() {
    let text = "POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nCONTENT-length:  12 \r\nX-Odd:\u{e9}\r\n\r\n";
    let head = parsed(&format!("{text}body that follows"));
    assert_eq!(
        (head.method(), head.target(), head.path()),
        ("POST", "/v1/x?y=1", "/v1/x")
    );
    assert_eq!(head.get("content-length"), Some("12"));
    assert_eq!(head.raw(), text.as_bytes());
    assert_eq!(head.request_body(), Ok(Body::Length(12)));
    assert!(head.keeps_alive());
    let status = parsed("HTTP/1.0 404\n\n");
    assert_eq!((status.status(), status.keeps_alive()), (404, false));
}

#[test]
fn what_is_no_head_is_refused_and_what_is_not_all_there_is_waited_for() {
    for (text, error) in [
        ("hello\r\n\r\n", HeadError::FirstLine),
        ("GET / FTP/1.1\r\n\r\n", HeadError::FirstLine),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", HeadError::Field),
        ("GET / HTTP/1.1\r\nbad name: x\r\n\r\n", HeadError::Field),
        ("GET / HTTP/1.1\r\n: x\r\n\r\n", HeadError::Field),
    ] {
        assert_eq!(Head::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    assert_eq!(Head::parse(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(70_000));
    assert_eq!(Head::parse(endless.as_bytes()), Err(HeadError::TooLarge));
    // A reader that holds no more than so much would wait for ever.
    assert_eq!(
        Head::parse(&endless.as_bytes()[..crate::stream::HELD_MAX]),
        Err(HeadError::TooLarge)
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(300));
    assert_eq!(Head::parse(many.as_bytes()), Err(HeadError::TooLarge));
}

#[test]
fn the_length_of_a_body_follows_the_standard() {
    let twice = parsed("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(twice.request_body(), Err(HeadError::Length));
    let odd = parsed("POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n");
    assert_eq!(odd.request_body(), Err(HeadError::Length));
    let both =
        parsed("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: gzip, chunked\r\n\r\n");
    assert_eq!(both.request_body(), Ok(Body::chunked()));
    let plain = parsed("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(plain.response_body("GET"), Ok(Body::UntilEnd));
    assert_eq!(plain.response_body("HEAD"), Ok(Body::Length(0)));
    assert_eq!(
        parsed("HTTP/1.1 204 x\r\n\r\n").response_body("GET"),
        Ok(Body::Length(0))
    );
}

#[test]
fn a_chunked_body_ends_where_it_ends() {
    let mut body = Body::chunked();
    let bytes = b"4;x=y\r\nabcd\r\n0\r\ntrailer: 1\r\n\r\nNEXT";
    let (content, taken) = read(&mut body, bytes);
    assert_eq!(
        (content.as_slice(), taken, body.is_done()),
        (&b"abcd"[..], bytes.len() - 4, true)
    );
    for bad in ["zz\r\n", "+4\r\n", "\r\n", "4\r\nabcdX\r\n"] {
        assert!(
            Body::chunked().take(bad.as_bytes(), &mut |_| ()).is_err(),
            "{bad:?}"
        );
    }
    let endless = vec![b'1'; 9000];
    assert!(Body::chunked().take(&endless, &mut |_| ()).is_err());
    let trailers = format!("0\r\n{}", "x: y\r\n".repeat(20_000));
    let read = Body::chunked().take(trailers.as_bytes(), &mut |_| ());
    assert!(read.is_err(), "trailers have an end");
}

#[test]
fn fields_are_left_out_and_added() {
    let head = parsed("HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n");
    assert_eq!(
        head.with(&["a"], &[("C", "4")]),
        b"HTTP/1.1 200 OK\r\nB: 2\r\nC: 4\r\n\r\n"
    );
}

proptest! {
    #[test]
    fn a_chunked_body_reads_the_same_however_it_is_cut(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6),
        cut in 1..40usize,
    ) {
        let mut wire = Vec::new();
        for part in &parts {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\nrest");
        let mut body = Body::chunked();
        let (mut content, mut taken) = (Vec::new(), 0);
        for piece in wire.chunks(cut) {
            let (more, count) = read(&mut body, piece);
            content.extend(more);
            taken += count;
            if body.is_done() { break; }
        }
        prop_assert_eq!(content, parts.concat());
        prop_assert_eq!(taken, wire.len() - 4);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(head)) = Head::parse(&bytes) {
            prop_assert!(bytes.starts_with(head.raw()));
            head.response_body("GET").ok();
        }
        Body::chunked().take(&bytes, &mut |_| ()).ok();
    }
}
