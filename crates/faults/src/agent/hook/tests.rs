use super::{CONNECTIONS_MAX, FromHook, Hooks, Now};
use squall_model::hook::{FromAgent, HoldSpec};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const HELLO: &str = r#"{"hello":{"v":1,"pid":1,"rank":1,"world":2,"restart":0,"phases":["forward"],"role":"rank"}}"#;

struct Server {
    hooks: Hooks,
    said: Vec<FromHook>,
    started: Instant,
}

impl Server {
    fn new(name: &str) -> Server {
        let path: PathBuf = std::env::temp_dir().join(format!("sq-{name}-{}", std::process::id()));
        Server {
            hooks: Hooks::listen(&path).unwrap(),
            said: Vec::new(),
            started: Instant::now(),
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.hooks.path()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
    }

    fn serve_until(&mut self, done: impl Fn(&Server) -> bool) {
        let now = self.started.elapsed().as_nanos() as u64;
        self.serve_until_at(at(now), done);
    }

    fn serve_until_at(&mut self, now: Now, done: impl Fn(&Server) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < deadline, "said so far: {:?}", self.said);
            self.hooks.serve(now, &mut self.said).unwrap();
        }
    }
}

fn at(ns: u64) -> Now {
    Now {
        boot_ns: ns,
        mono_ns: ns,
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hooks.close();
    }
}

fn line(stream: &UnixStream) -> String {
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).unwrap();
    text
}

#[test]
fn a_rank_is_welcomed_armed_held_and_let_go() {
    let mut server = Server::new("held");
    let mut trainer = server.connect();
    writeln!(trainer, "{HELLO}").unwrap();
    server.serve_until(|server| server.said.len() == 1);
    let hold = |phase: &str, rank| HoldSpec {
        id: "h1".into(),
        phase: phase.into(),
        rank,
        step: None,
        epoch: None,
    };
    let holds = [
        hold("forward", Some(1)),
        hold("forward", Some(0)),
        hold("backward", Some(1)),
    ];
    server.hooks.arm(&holds, &mut Vec::new());
    let welcome: FromAgent = serde_json::from_str(&line(&trainer)).unwrap();
    assert_eq!(
        welcome,
        FromAgent::Welcome {
            v: 1,
            arm: vec![holds[0].clone()]
        }
    );
    server.hooks.arm(&[], &mut Vec::new());
    assert_eq!(line(&trainer), "{\"arm\":{\"holds\":[]}}\n");
    assert_eq!(
        server.hooks.announced().get(&1).map(|known| known.pid),
        Some(std::process::id()),
        "by credentials, not by its word"
    );

    writeln!(
        trainer,
        r#"{{"hold":{{"id":"h1","step":3,"phase":"forward"}}}}"#
    )
    .unwrap();
    server.serve_until(|server| matches!(server.said.last(), Some(FromHook::Held { .. })));
    server
        .hooks
        .answer(1, &FromAgent::Landed { id: "h1".into() }, &mut Vec::new());
    assert_eq!(line(&trainer), "{\"landed\":{\"id\":\"h1\"}}\n");
    drop(trainer);
    server.serve_until(|server| matches!(server.said.last(), Some(FromHook::Gone { pid, .. }) if *pid == std::process::id()));
}

#[test]
fn what_waited_is_told_in_the_order_in_which_it_happened() {
    let mut server = Server::new("order");
    let mut trainers = [server.connect(), server.connect()];
    for trainer in &mut trainers {
        writeln!(trainer, "{HELLO}").unwrap();
    }
    server.serve_until(|server| server.said.len() == 2);
    server.said.clear();
    let mut event = |of: usize, mono_ms: u64| {
        let mono_ns = mono_ms * 1_000_000;
        let text =
            format!(r#"{{"event":{{"t_mono_ns":{mono_ns},"kind":"step-end","step":{mono_ms}}}}}"#);
        writeln!(trainers[of], "{text}").unwrap();
    };
    let sent = [
        // Two trainers take turns.
        (0, 9_100),
        (1, 9_200),
        (0, 9_300),
        (1, 9_400),
        // One goes back in time.
        (0, 9_250),
        // Stamps of other clocks.
        (1, 11_000),
        (1, 0),
        (1, 5_000),
    ];
    for (of, mono_ms) in sent {
        event(of, mono_ms);
    }
    let (boot_ms, mono_ms) = (500_000, 10_000);
    let now = Now {
        boot_ns: boot_ms * 1_000_000,
        mono_ns: mono_ms * 1_000_000,
    };
    server.serve_until_at(now, |server| server.said.len() == sent.len());
    let told: Vec<(u64, u64)> = server
        .said
        .iter()
        .filter_map(|word| match word {
            FromHook::Event { event, boot_ns, .. } => Some((event.step?, boot_ns / 1_000_000)),
            _ => None,
        })
        .collect();
    let expected = [
        (9_100, 499_100),
        (9_200, 499_200),
        (9_300, 499_300),
        (9_250, 499_300),
        (9_400, 499_400),
        (11_000, boot_ms),
        (0, boot_ms),
        (5_000, boot_ms),
    ];
    assert_eq!(told, expected);
}

#[test]
fn garbage_is_refused_in_words_and_other_trainers_are_served() {
    let newer = r#"{"hello":{"v":9}}"#;
    let cases = [
        "rubbish\n",
        "[1,2]\n",
        "{}\n",
        "{\"event\":{\"kind\":\"x\"}}\n",
        &format!("{newer}\n"),
        &"x".repeat(9000),
    ];
    let mut server = Server::new("garbage");
    for case in cases {
        let mut hostile = server.connect();
        hostile.write_all(case.as_bytes()).unwrap();
        server.serve_until(|server| server.hooks.last > 0);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !server.hooks.clients.is_empty() || Instant::now() > deadline {
            server.hooks.serve(at(0), &mut server.said).unwrap();
        }
        let mut answer = String::new();
        hostile.read_to_string(&mut answer).unwrap_or_default();
        assert!(
            answer.starts_with("{\"refused\":{\"because\""),
            "{case:.30}: {answer}"
        );
        server.hooks.last = 0;
    }
    let mut honest = server.connect();
    writeln!(honest, "{HELLO}\n{{\"future\":{{}}}}").unwrap();
    server.serve_until(|server| matches!(server.said.last(), Some(FromHook::Hello { .. })));
}

#[test]
fn a_flood_is_cut_to_the_rate_and_counted() {
    let mut server = Server::new("flood");
    let mut trainer = server.connect();
    let mut text = format!("{HELLO}\n");
    let event = "{\"event\":{\"seq\":1,\"kind\":\"log\",\"line\":\"x\"}}\n";
    let sent = 60_000;
    text.push_str(&event.repeat(sent));
    let writer = std::thread::spawn(move || trainer.write_all(text.as_bytes()).unwrap());
    // Time stands still: only the burst is let through.
    while !server
        .said
        .iter()
        .any(|word| matches!(word, FromHook::Gone { .. }))
    {
        server.hooks.serve(at(0), &mut server.said).unwrap();
    }
    writer.join().unwrap();
    let kept = server
        .said
        .iter()
        .filter(|word| matches!(word, FromHook::Event { .. }))
        .count();
    let lost: u64 = server
        .said
        .iter()
        .map(|word| {
            if let FromHook::Dropped { count, .. } = word {
                *count
            } else {
                0
            }
        })
        .sum();
    assert_eq!(
        kept as u64 + lost,
        sent as u64,
        "each event is kept or counted"
    );
}

#[test]
fn thousands_of_connections_are_bounded_and_counted() {
    let mut server = Server::new("many");
    let mut open = Vec::new();
    let most = CONNECTIONS_MAX.min(400); // descriptors of a test process are few
    for _ in 0..most {
        open.push(server.connect());
        server.hooks.accept(0).unwrap();
    }
    assert_eq!(server.hooks.clients.len(), most);
    drop(open);
    server.serve_until(|server| server.hooks.clients.is_empty());
}

#[test]
fn holds_and_requests_beyond_the_rate_are_answered_counted_and_not_told() {
    let mut server = Server::new("hold-flood");
    let mut trainer = server.connect();
    writeln!(trainer, "{HELLO}").unwrap();
    server.serve_until_at(at(0), |server| server.said.len() == 1);
    let hold = r#"{"hold":{"id":"r0-x","phase":"forward"}}"#;
    let request = r#"{"request":{"id":"r1","fault":"process-kill"}}"#;
    // The last one of this second is let through.
    server.hooks.passed = super::RATE_ALL - 1;
    writeln!(trainer, "{hold}\n{hold}\n{request}").unwrap();
    server.serve_until_at(at(0), |server| server.hooks.unheard == 2);
    let told = |server: &Server| {
        let held = |word: &&FromHook| matches!(word, FromHook::Held { .. });
        server.said.iter().filter(held).count()
    };
    assert_eq!(
        (told(&server), server.said.len()),
        (1, 2),
        "{:?}",
        server.said
    );
    let mut answers = BufReader::new(&trainer).lines();
    let mut answer = || answers.next().unwrap().unwrap();
    assert_eq!(answer(), r#"{"release":{"id":"r0-x"}}"#);
    let refused = answer();
    assert!(
        refused.starts_with(r#"{"refused":{"id":"r1","because":"too much"#),
        "{refused}"
    );
    let mut counted = Vec::new();
    server.hooks.dropped(&mut counted);
    let what = "holds and requests of all hooks together".to_owned();
    assert_eq!(counted, [FromHook::Dropped { what, count: 2 }]);
    // In the next second they are heard again.
    writeln!(trainer, "{hold}").unwrap();
    server.serve_until_at(at(1_000_000_000), |server| told(server) == 2);
}
