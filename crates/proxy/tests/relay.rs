//! The relay on real sockets, on loopback.
#![expect(clippy::unwrap_used, reason = "a test")]

use rustix::net::sockopt;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use squall_proxy::stream::{Fault, HELD_MAX, Rule, Way};
use squall_proxy::{Proxies, Recorder, Security, Wanted, What};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Guards against hanging; nothing is timed by it.
const LIMIT: Duration = Duration::from_secs(20);

/// A service that does `serve` with each client, one thread each.
fn service(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(client));
        }
    });
    address
}

fn echo() -> SocketAddr {
    service(|mut client| {
        let mut other = client.try_clone().unwrap();
        // The client may go away in the middle.
        std::io::copy(&mut client, &mut other).ok();
        other.shutdown(Shutdown::Write).ok();
    })
}

struct Desk {
    proxies: Proxies,
    address: String,
}

fn desk_of(upstream: &str, workers: usize) -> Desk {
    let proxies = Proxies::start(7, workers, Recorder::none()).unwrap();
    let seen = proxies.create(wanted(upstream)).unwrap();
    Desk {
        proxies,
        address: seen.wanted.listen,
    }
}

fn desk(upstream: SocketAddr) -> Desk {
    desk_of(&upstream.to_string(), 2)
}

fn wanted(upstream: &str) -> Wanted {
    Wanted {
        security: Security::default(),
        name: "it".into(),
        listen: "127.0.0.1:0".into(),
        upstream: upstream.into(),
        enabled: true,
    }
}

impl Desk {
    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    fn rule(&self, name: &str, way: Way, fault: Fault) {
        self.proxies
            .add_rule("it", Rule::new(name, way, fault))
            .unwrap();
    }

    fn has_landed(&self, name: &str) -> bool {
        let seen = self.proxies.get("it").unwrap();
        seen.rules
            .iter()
            .any(|rule| rule.name == name && rule.has_landed())
    }
}

fn asked(client: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    client.write_all(text).unwrap();
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).unwrap();
    answer
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "not so within {LIMIT:?}: {what}");
        std::thread::yield_now();
    }
}

fn was_reset(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(client.read_to_end(&mut rest), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_client_that_has_sent_everything_still_gets_its_answer() {
    let counting = service(|mut client| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        client
            .write_all(format!("{} bytes", all.len()).as_bytes())
            .unwrap();
    });
    let desk = desk(counting);
    for _ in 0..50 {
        let mut client = desk.client();
        client.write_all(&[1; 1000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "1000 bytes");
    }
}

#[test]
fn both_sockets_send_small_writes_at_once() {
    let desk = desk(echo());
    let mut client = desk.client();
    assert_eq!(asked(&mut client, b"hello"), b"hello");
    let ours = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let through: SocketAddr = desk.address.parse().unwrap();
    let upstream: SocketAddr = desk
        .proxies
        .get("it")
        .unwrap()
        .wanted
        .upstream
        .parse()
        .unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let number = entry.file_name().to_string_lossy().parse().unwrap();
        let Ok(socket) = pidfd_getfd(&ours, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let local = rustix::net::getsockname(&socket)
            .ok()
            .and_then(|it| SocketAddr::try_from(it).ok());
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        let peer = peer.and_then(|it| SocketAddr::try_from(it).ok());
        // Towards the client, and towards the service.
        if peer.is_some() && (local == Some(through) || peer == Some(upstream)) {
            assert!(
                sockopt::tcp_nodelay(&socket).unwrap(),
                "{local:?} to {peer:?}"
            );
            found += 1;
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn a_reset_of_the_service_reaches_the_client_as_one() {
    let resetting = service(|mut client| {
        client.read_exact(&mut [0; 1]).unwrap();
        sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    });
    let desk = desk(resetting);
    let mut client = desk.client();
    client.write_all(b"x").unwrap();
    assert!(was_reset(&mut client));
}

#[test]
fn reset_peer_resets_a_connection_that_is_open_and_idle() {
    let desk = desk(echo());
    let mut client = desk.client();
    assert_eq!(asked(&mut client, b"before"), b"before");
    desk.rule(
        "cut",
        Way::Downstream,
        Fault::ResetPeer {
            timeout: Duration::ZERO,
        },
    );
    let start = Instant::now();
    assert!(was_reset(&mut client));
    // It is told, and not found out by and by: the next timer is ten seconds away.
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(desk.has_landed("cut"));
}

#[test]
fn reset_peer_with_no_probability_never_resets() {
    let desk = desk(echo());
    let mut rule = Rule::new(
        "cut",
        Way::Downstream,
        Fault::ResetPeer {
            timeout: Duration::ZERO,
        },
    );
    rule.probability = 0.0;
    desk.proxies.add_rule("it", rule).unwrap();
    for _ in 0..100 {
        let mut client = desk.client();
        client.write_all(&[5; 4000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, [5; 4000]);
    }
    assert!(!desk.has_landed("cut"));
}

#[test]
fn a_service_that_never_answers_holds_up_nobody_else() {
    // A backlog of one, filled: further connections are never completed.
    let deaf = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&deaf, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&deaf, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&deaf).unwrap().try_into().unwrap();
    let mut filling = Vec::new();
    until("the backlog is full", || {
        let filled = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        filling.extend(filled.as_ref().ok().and_then(|it| it.try_clone().ok()));
        filled.is_err()
    });
    let desk = desk(address);
    let waiting: Vec<TcpStream> = (0..4).map(|_| desk.client()).collect();
    let other = Wanted {
        name: "other".into(),
        ..wanted(&echo().to_string())
    };
    let other = desk.proxies.create(other).unwrap();
    let mut client = TcpStream::connect(&other.wanted.listen).unwrap();
    assert_eq!(asked(&mut client, b"served"), b"served");
    let start = Instant::now();
    desk.proxies.remove("it").unwrap();
    // The service is given ten seconds; removal that waited for it would take as long.
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(waiting);
}

#[test]
fn a_service_that_is_not_there_resets_the_client() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for upstream in [unused.to_string(), "no-such-host.invalid:1".to_owned()] {
        let desk = desk_of(&upstream, 1);
        assert!(was_reset(&mut desk.client()), "{upstream}");
    }
}

/// Sends without pause until nothing more is taken for a while, then the rest; gives how much was taken at first.
fn pressing(mut client: TcpStream, total: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let data: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
        client.write_all(&data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    })
}

#[test]
fn a_reader_that_stops_stops_the_sender_and_loses_nothing() {
    const TOTAL: usize = 64 << 20;
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let (told, tell) = std::sync::mpsc::channel();
    let reader = service(move |mut client| {
        wait.lock().unwrap().recv().unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        told.send(all).unwrap();
    });
    let desk = desk(reader);
    let sender = pressing(desk.client(), TOTAL);
    let received = || {
        desk.proxies
            .get("it")
            .unwrap()
            .counters
            .received_up
            .load(Ordering::Relaxed)
    };
    // Nothing more is read for 200 looks in a row with a pause of the scheduler between them: it stands.
    let (mut last, mut same) = (0, 0);
    until("the sender stands", || {
        std::thread::park_timeout(Duration::from_millis(2));
        same = if received() == last && last > 0 {
            same + 1
        } else {
            0
        };
        last = received();
        same >= 200
    });
    let held = last;
    // Socket buffers are a few megabytes; a relay without bounds would have taken all.
    assert!(held < TOTAL as u64 / 2, "{held}");
    go.send(()).unwrap();
    sender.join().unwrap();
    let all = tell.recv_timeout(LIMIT).unwrap();
    assert!(
        all.len() == TOTAL
            && all
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == (at % 251) as u8)
    );
}

#[test]
fn latency_is_never_shorter_than_asked() {
    let desk = desk(echo());
    desk.rule(
        "slow",
        Way::Downstream,
        Fault::Latency {
            latency: Duration::from_millis(20),
            jitter: Duration::ZERO,
        },
    );
    let mut client = desk.client();
    for _ in 0..10 {
        let start = Instant::now();
        assert_eq!(asked(&mut client, b"ping"), b"ping");
        // A lower bound is proof: nothing else on loopback takes so long and never less.
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}

#[test]
fn removing_a_time_out_closes_what_it_swallowed() {
    let desk = desk(echo());
    desk.rule(
        "deaf",
        Way::Downstream,
        Fault::Timeout {
            timeout: Duration::ZERO,
        },
    );
    let mut client = desk.client();
    client.write_all(b"lost").unwrap();
    until("it has landed", || desk.has_landed("deaf"));
    desk.proxies.remove_rule("it", "deaf").unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_partition_heals_and_nothing_is_lost() {
    let desk = desk(echo());
    let mut client = desk.client();
    assert_eq!(asked(&mut client, b"before"), b"before");
    desk.rule("cut", Way::Both, Fault::Partition);
    client.write_all(b"during").unwrap();
    until("it has landed", || desk.has_landed("cut"));
    desk.proxies.remove_rule("it", "cut").unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"during");
}

#[test]
fn limit_data_ends_in_order_after_so_many_bytes_while_the_client_still_sends() {
    let desk = desk(echo());
    desk.rule("cut", Way::Downstream, Fault::LimitData { bytes: 1000 });
    for _ in 0..20 {
        let mut client = desk.client();
        let mut sender = client.try_clone().unwrap();
        // It is cut off in the middle, as it should be.
        let sending = std::thread::spawn(move || sender.write_all(&[3; 4 << 20]).ok());
        let mut all = Vec::new();
        // Read to an orderly end: a reset would be an error.
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 1000);
        drop(client);
        sending.join().unwrap();
    }
}

#[test]
fn what_is_held_back_is_bounded_and_the_rest_waits_with_its_sender() {
    let desk = desk(echo());
    desk.rule("cut", Way::Upstream, Fault::Partition);
    let mut client = desk.client();
    client.write_all(&[0; 1000]).unwrap();
    until("the first bytes are held", || desk.has_landed("cut"));
    let sender = pressing(client, 1 << 20);
    let received = || {
        desk.proxies
            .get("it")
            .unwrap()
            .counters
            .received_up
            .load(Ordering::Relaxed)
    };
    until("it is full", || received() >= HELD_MAX as u64);
    assert_eq!(received(), HELD_MAX as u64);
    drop(desk);
    // The connection went with the proxy, before all was sent or after.
    sender.join().ok();
}

#[test]
fn a_proxy_that_is_switched_off_cuts_and_refuses_and_comes_back_where_it_was() {
    let desk = desk(echo());
    let mut client = desk.client();
    assert_eq!(asked(&mut client, b"before"), b"before");
    let seen = desk.proxies.get("it").unwrap();
    let off = Wanted {
        enabled: false,
        ..seen.wanted.clone()
    };
    desk.proxies.update(&off).unwrap();
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(
        TcpStream::connect(&desk.address).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    desk.proxies
        .update(&Wanted {
            enabled: true,
            ..off
        })
        .unwrap();
    assert_eq!(asked(&mut desk.client(), b"again"), b"again");
}

#[test]
fn draws_are_the_same_one_at_a_time_and_all_at_once_with_one_worker_and_with_three() {
    const COUNT: usize = 64;
    let echo = echo().to_string();
    let drawn = |workers: usize, at_once: bool| -> Vec<bool> {
        let desk = desk_of(&echo, workers);
        let mut rule = Rule::new("some", Way::Downstream, Fault::LimitData { bytes: 2 });
        rule.probability = 0.4;
        desk.proxies.add_rule("it", rule).unwrap();
        let mut open = Vec::new();
        let mut drawn = Vec::new();
        let mut ask = |mut client: TcpStream| {
            client.write_all(b"abc").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            drawn.push(answer.len() == 2);
        };
        for _ in 0..COUNT {
            match at_once {
                true => open.push(desk.client()),
                false => ask(desk.client()),
            }
        }
        open.into_iter().for_each(ask);
        drawn
    };
    let first = drawn(1, false);
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(first, drawn(1, true));
    assert_eq!(first, drawn(3, true));
}

#[test]
fn what_happened_is_recorded() {
    let (recorder, records) = Recorder::new();
    let proxies = Proxies::start(7, 1, recorder).unwrap();
    let seen = proxies.create(wanted(&echo().to_string())).unwrap();
    proxies
        .add_rule(
            "it",
            Rule::new("cut", Way::Downstream, Fault::LimitData { bytes: 2 }),
        )
        .unwrap();
    let mut client = TcpStream::connect(&seen.wanted.listen).unwrap();
    client.write_all(b"abc").unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    drop(client);
    let mut told = Vec::new();
    while !matches!(told.last(), Some(What::Closed { .. })) {
        told.push(records.recv_timeout(LIMIT).unwrap().what);
    }
    let fired = What::Fired {
        rule: "cut".into(),
        fault: "limit_data".into(),
        way: Some("downstream"),
        place: 3,
        unit: "bytes",
    };
    assert!(matches!(told[0], What::Opened { .. }));
    assert_eq!(
        told[1..],
        [
            fired,
            What::Closed {
                up: 3,
                down: 3,
                how: "cut"
            }
        ]
    );
}

#[test]
fn a_head_without_end_is_refused_when_no_more_of_it_is_read() {
    let desk = desk_of("http://127.0.0.1:9", 1);
    let mut client = desk.client();
    let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
    head.resize(HELD_MAX, b'y');
    client.write_all(&head).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn the_built_in_service_answers_a_client_that_only_stops_sending() {
    let desk = desk_of("mock:first-token=20ms,token=2ms,tokens=8", 1);
    for streams in [false, true] {
        let body = format!("{{\"model\": \"m\", \"stream\": {streams}, \"messages\": []}}");
        let mut client = desk.client();
        let length = body.len();
        write!(
            client,
            "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("[DONE]") == streams && answer.contains("stop"),
            "{answer}"
        );
    }
    let mut client = desk.client();
    client
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 9\r\n\r\n{")
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        client.read(&mut [0; 9]).unwrap(),
        0,
        "it never asked for anything"
    );
}
