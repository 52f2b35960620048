use super::super::alter::transport_sum;
use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const HERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
];

/// A packet between loopback addresses with ports 4096 and 53, its checksum right.
fn packet(is_v6: bool, protocol: u8, to_server: bool, body: &[u8]) -> Vec<u8> {
    let head = if protocol == TCP { 20 } else { 8 };
    let length = (head + body.len()) as u16;
    let mut bytes = if is_v6 {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[protocol, 64]);
        bytes.extend_from_slice(&[Ipv6Addr::LOCALHOST.octets(); 2].concat());
        bytes
    } else {
        let mut bytes = vec![0x45, 0];
        bytes.extend_from_slice(&(20 + length).to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        bytes.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 2]);
        bytes
    };
    let ports: [u8; 4] = if to_server {
        [16, 0, 0, 53]
    } else {
        [0, 53, 16, 0]
    };
    bytes.extend_from_slice(&ports);
    if protocol == TCP {
        bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    } else {
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    bytes.extend_from_slice(body);
    let whole = shape(&bytes).unwrap();
    assert!(fit_checksum(&mut bytes, &whole));
    bytes
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A server's answer: one alias and two addresses of IPv4.
fn answered() -> Vec<u8> {
    let mut message = question("Www.Example.org").unwrap();
    (message[2], message[3], message[7]) = (0x81, 0x80, 3);
    message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 1, 0, 0, 4, 1, b'x', 0xc0, 16]);
    for last in [1, 2] {
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 10, 0, 0, last]);
    }
    message
}

fn names(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

#[test]
fn a_query_of_a_name_and_of_those_below_it_is_meant_and_no_other() {
    let query = packet(false, UDP, true, &question("www.Example.ORG").unwrap());
    for (name, is) in [
        ("example.org", true),
        ("www.example.org", true),
        ("", true),
        ("ample.org", false),
        ("a.www.example.org", false),
        ("example.com", false),
    ] {
        for act in [Act::Drop, Act::Slow { delay_ns: 1 }, Act::Fail { code: 3 }] {
            assert_eq!(is_meant(&query, &names(name), &act), is, "{name} {act:?}");
        }
    }
    let by_tcp = packet(true, TCP, true, &framed(&question("example.org").unwrap()));
    assert!(is_meant(&by_tcp, &names("example.org"), &Act::Drop));
    // In a stream it is the answer that is changed.
    assert!(!is_meant(
        &by_tcp,
        &names("example.org"),
        &Act::Fail { code: 3 }
    ));
    let answer = packet(true, TCP, false, &framed(&answered()));
    assert!(is_meant(
        &answer,
        &names("example.org"),
        &Act::Fail { code: 3 }
    ));
    assert!(!is_meant(&answer, &names("example.org"), &Act::Drop));
    let noise = packet(false, UDP, true, b"squall squall squall squall");
    assert!(!is_meant(&noise, &names(""), &Act::Drop));
}

#[test]
fn a_query_by_udp_is_answered_in_its_servers_name_with_a_right_checksum() {
    for is_v6 in [false, true] {
        let mut asked = question("example.org").unwrap();
        asked[11] = 1;
        asked.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let query = packet(is_v6, UDP, true, &asked);
        let from = shape(&query).unwrap();
        let Some(Instead::Reply(made)) = instead(&query, &Act::Fail { code: 3 }) else {
            panic!("no reply")
        };
        let to = shape(&made).unwrap();
        assert_eq!((to.from, to.to, to.end), (from.to, from.from, made.len()));
        assert_eq!(made[to.transport..to.transport + 4], [0, 53, 16, 0]);
        assert_eq!(transport_sum(&made[to.transport..], &to), 0);
        let message = &made[to.payload..];
        assert_eq!(
            message[..12],
            [0x53, 0x71, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(message[12..29], asked[12..29]);
        assert_eq!(message[29..32], [0, 0, 41]);
        let act = Act::Answer {
            addresses: HERE.to_vec(),
        };
        let Some(Instead::Reply(made)) = instead(&query, &act) else {
            panic!("no reply")
        };
        let message = &made[shape(&made).unwrap().payload..];
        assert_eq!(
            (message[3] & 15, message[7]),
            (0, 1),
            "one address, of IPv4"
        );
        assert_eq!(
            message[29..45],
            [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 7]
        );
    }
}

#[test]
fn an_answer_in_a_stream_keeps_its_length_and_says_something_else() {
    for is_v6 in [false, true] {
        for body in [framed(&answered()), answered()] {
            let before = packet(is_v6, TCP, false, &body);
            let Some(Instead::Changed(failed)) = instead(&before, &Act::Fail { code: 2 }) else {
                panic!("not changed")
            };
            let whole = shape(&failed).unwrap();
            assert_eq!(failed.len(), before.len());
            assert_eq!(transport_sum(&failed[whole.transport..], &whole), 0);
            let message = &failed[failed.len() - answered().len()..];
            assert_eq!(message[3..12], [0x82, 0, 1, 0, 0, 0, 0, 0, 1]);
            let (kind, data, length) = record(message, 33).unwrap();
            assert_eq!((kind, data + length), (NULL, message.len()));
            let act = Act::Answer {
                addresses: HERE.to_vec(),
            };
            let Some(Instead::Changed(made)) = instead(&before, &act) else {
                panic!("not changed")
            };
            let message = &made[made.len() - answered().len()..];
            for at in [49, 65] {
                let (kind, data, length) = record(message, at).unwrap();
                assert_eq!(
                    (kind, &message[data..data + length]),
                    (A, &[192, 0, 2, 7][..])
                );
                assert_eq!(message[data - 6..data - 2], [0; 4]);
            }
        }
    }
}

#[test]
fn whatever_comes_is_read_within_its_bounds() {
    let acts = [
        Act::Fail { code: 3 },
        Act::Answer {
            addresses: HERE.to_vec(),
        },
    ];
    for whole in [
        packet(false, TCP, false, &framed(&answered())),
        packet(true, UDP, true, &question("example.org").unwrap()),
    ] {
        for act in &acts {
            for cut in 0..whole.len() {
                is_meant(&whole[..cut], &names(""), act);
                instead(&whole[..cut], act);
            }
            for at in 20..whole.len() {
                for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                    let mut broken = whole.clone();
                    broken[at] = value;
                    if let Some(Instead::Changed(made)) = instead(&broken, act) {
                        assert_eq!(made.len(), broken.len());
                    }
                }
            }
        }
    }
    assert_eq!(question(&"x".repeat(64)), None);
    assert_eq!(question(&"abcdefg.".repeat(40)), None);
}
