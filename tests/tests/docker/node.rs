//! A node of the toy cluster, alone in its image: it tells its peers its name all the time, and tells who asks whom it has heard lately.
//! Compiled by the test, without anything of ours.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// How long a word is remembered.
const LATELY: Duration = Duration::from_millis(400);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, peers) = arguments.split_first().expect("a name");
    let socket = UdpSocket::bind("0.0.0.0:7000").expect("bind");
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("time-out");
    let (mut heard, mut told) = (BTreeMap::<String, Instant>::new(), Instant::now());
    let mut word = [0u8; 64];
    loop {
        if told.elapsed() >= Duration::from_millis(20) {
            told = Instant::now();
            for peer in peers {
                // One that does not run, or is cut off, is told again later.
                drop(socket.send_to(name.as_bytes(), (peer.as_str(), 7000)));
            }
        }
        let Ok((length, from)) = socket.recv_from(&mut word) else {
            continue;
        };
        let said = String::from_utf8_lossy(&word[..length]).into_owned();
        if said == "?" {
            heard.retain(|_, at| at.elapsed() < LATELY);
            let names: Vec<&str> = heard.keys().map(String::as_str).collect();
            drop(socket.send_to(names.join(" ").as_bytes(), from));
        } else {
            heard.insert(said, Instant::now());
        }
    }
}
