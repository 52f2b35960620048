//! Each probe against the real thing: sockets, files, processes.

mod command;

use super::*;
use crate::clock::{RunClock, boot_ns};
use crate::testing::{Child, Scratch, until};
use squall_model::event::{Body, Event};
use squall_model::hook::TrainingEvent;
use squall_model::id::RunId;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn context(scratch: &Scratch) -> Context {
    let run = RunId("0198f200-0000-7000-8000-00000000000a".into());
    Context {
        board: Arc::new(Board::new(run, RunClock::start(), scratch.path().into())),
        out: scratch.path().join("out"),
        log: scratch.path().join("workload.log"),
        cancel: Arc::default(),
    }
}

fn probe(text: &str) -> Probe {
    serde_json::from_str(text).expect("a probe")
}

fn take(text: &str, context: &Context) -> Probed {
    measure(&probe(text), context)
}

/// A server that gives the same answer to everyone, after a pause.
fn serve(answer: &'static str, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("known").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_one(stream, answer, pause));
        }
    });
    address
}

fn answer_one(mut stream: TcpStream, answer: &str, pause: Duration) {
    let reader = BufReader::new(stream.try_clone().expect("cloned"));
    let head: Vec<String> = reader
        .lines()
        .map_while(|line| line.ok().filter(|l| !l.is_empty()))
        .collect();
    assert!(head[0].starts_with("GET "));
    std::thread::park_timeout(pause);
    stream.write_all(answer.as_bytes()).ok();
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nready";
const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\nconnection: close\r\n\r\nready";

#[test]
fn http_judges_status_body_and_time() {
    let scratch = Scratch::new("http");
    let context = context(&scratch);
    let ask = |address: &str, rest: &str| {
        take(
            &format!(r#"{{"http":{{"url":"http://{address}/health"{rest}}}}}"#),
            &context,
        )
    };
    let fast = serve(OK, Duration::ZERO);
    let good = ask(&fast, r#","contains":"ready""#);
    assert!(good.held && good.value.is_some_and(|s| s < 5.0), "{good:?}");
    assert!(!ask(&fast, r#","contains":"steady""#).held);
    assert!(!ask(&fast, r#","status":204"#).held);
    let busy = serve(BUSY, Duration::ZERO);
    assert!(ask(&busy, r#","status":503"#).held);
    assert!(ask(&busy, "").measured.contains("status 503"));
    assert!(
        !ask(&serve(CUT, Duration::ZERO), "").held,
        "a body that breaks off is no answer"
    );
}

#[test]
fn http_gives_up_at_its_deadline() {
    let scratch = Scratch::new("http-slow");
    let slow = serve(OK, Duration::from_secs(30));
    let started = Instant::now();
    let probed = take(
        &format!(r#"{{"http":{{"url":"http://{slow}/","within":"200ms"}}}}"#),
        &context(&scratch),
    );
    assert!(
        !probed.held && probed.measured.contains("no answer within"),
        "{probed:?}"
    );
    // Far below the 30 s of the server: the probe's own deadline ended it.
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn secrets_in_an_address_are_never_told() {
    for (url, told) in [
        ("https://user:secret@h:1/p?token=abc#f", "https://h:1/p"),
        ("http://h/p#x", "http://h/p"),
        ("user:secret@h", "h"),
        ("http://user:sec/ret@h/p", "http://h/p"),
    ] {
        assert_eq!(http::redacted(url), told);
    }
    let scratch = Scratch::new("secret");
    let context = context(&scratch);
    let server = serve(BUSY, Duration::ZERO);
    for url in [
        format!("http://user:hunter2@{server}/x?token=hunter2"),
        "http://user:hunter2@127.0.0.1:1/x?token=hunter2".into(),
        "nonsense://user:hunter2@nowhere/?token=hunter2".into(),
        "http://user:hunter2@[broken/?token=hunter2".into(),
    ] {
        let probed = take(&format!(r#"{{"http":{{"url":"{url}"}}}}"#), &context);
        assert!(
            !probed.held && !probed.measured.contains("hunter2"),
            "{probed:?}"
        );
    }
}

#[test]
fn tcp_is_accepted_or_not() {
    let scratch = Scratch::new("tcp");
    let context = context(&scratch);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("known").port();
    assert!(
        take(
            &format!(r#"{{"tcp":{{"address":"127.0.0.1:{port}"}}}}"#),
            &context
        )
        .held
    );
    assert!(
        take(
            &format!(r#"{{"tcp":{{"address":"localhost:{port}"}}}}"#),
            &context
        )
        .held
    );
    drop(listener);
    let gone = take(
        &format!(r#"{{"tcp":{{"address":"127.0.0.1:{port}"}}}}"#),
        &context,
    );
    assert!(!gone.held && gone.measured.contains("refused"), "{gone:?}");
}

#[test]
fn a_file_is_judged_by_age_size_and_content() {
    let scratch = Scratch::new("file");
    let context = context(&scratch);
    let out = scratch.path().join("out");
    std::fs::create_dir(&out).expect("folder");
    for (name, age) in [("step-1.pt", 100), ("step-2.pt", 1), ("step-3.pt.tmp", 0)] {
        let file = std::fs::File::create(out.join(name)).expect("created");
        (&file).write_all(b"abc").expect("written");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age))
            .expect("aged");
    }
    let ask = |rest: &str| take(&format!(r#"{{"file":{{"path":{rest}}}}}"#), &context);
    let newest = ask(r#""{out}/*.pt","age":"30s""#);
    assert!(
        newest.held && newest.measured.starts_with("step-2.pt"),
        "{newest:?}"
    );
    assert!(!ask(r#""out/step-1.pt","age":"30s""#).held);
    assert!(ask(r#""out/step-1.pt","at-least":"3B","at-most":"3B""#).held);
    assert!(!ask(r#""out/step-1.pt","at-least":"4B""#).held);
    assert!(!ask(r#""out/step-1.pt","at-most":"2B""#).held);
    let abc = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    assert!(ask(&format!(r#""out/step-1.pt","sha256":"{abc}""#)).held);
    assert!(!ask(r#""out/step-1.pt","sha256":"00""#).held);
    assert!(!ask(r#""out/step-9.pt""#).held);
    assert!(!ask(r#""out""#).held, "a folder is no file");
}

#[test]
fn a_log_line_is_found_once_written_and_ages() {
    let scratch = Scratch::new("log");
    let context = context(&scratch);
    let fresh = probe(r#"{"log-line":{"pattern":"^epoch \\d+ done$","within":"10s"}}"#);
    let mut fresh = Prober::new(fresh, context.clone());
    assert!(!fresh.measure().held, "no output yet");
    let stamp = |ago_s: u64| {
        let t = boot_ns() - ago_s * 1_000_000_000;
        format!("{}.{:06}", t / 1_000_000_000, t % 1_000_000_000 / 1000)
    };
    let mut log = std::fs::File::create(&context.log).expect("created");
    write!(log, "{} epoch 1 done\n{} epoch 2 do", stamp(60), stamp(1)).expect("written");
    let old = fresh.measure();
    assert!(!old.held && old.measured.contains("1 matching"), "{old:?}");
    writeln!(log, "ne").expect("written");
    assert!(fresh.measure().held, "the line was completed");
    assert!(take(r#"{"log-line":{"pattern":"epoch 1"}}"#, &context).held);
    assert!(
        take(
            r#"{"log-line":{"pattern":"panic","absent":true}}"#,
            &context
        )
        .held
    );
    assert!(
        !take(
            r#"{"log-line":{"pattern":"epoch","absent":true}}"#,
            &context
        )
        .held
    );
}

#[test]
fn a_process_is_alive_until_it_is_not() {
    let scratch = Scratch::new("alive");
    let context = context(&scratch);
    let child = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("started");
    let mut child = Child(child);
    let pid = child.0.id();
    std::fs::write(scratch.path().join("pid"), format!("{pid}\n")).expect("written");
    let by_pid = format!(r#"{{"process-alive":{{"target":{{"pid":{pid}}}}}}}"#);
    let by_file = format!(
        r#"{{"process-alive":{{"target":{{"pid-file":"{}/pid"}}}}}}"#,
        scratch.path().display()
    );
    assert!(take(&by_pid, &context).held);
    assert!(take(&by_file, &context).held);
    child.0.kill().expect("killed");
    child.0.wait().expect("reaped");
    assert!(!take(&by_pid, &context).held);
    assert!(!take(&by_file, &context).held);
}

#[test]
fn free_disk_space_is_what_the_file_system_says() {
    let scratch = Scratch::new("disk");
    let context = context(&scratch);
    let probed = take(r#"{"disk-free":{"path":".","below":"1B"}}"#, &context);
    let df = std::process::Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(scratch.path())
        .output()
        .expect("df");
    let text = String::from_utf8_lossy(&df.stdout);
    let independent: f64 = text
        .lines()
        .last()
        .and_then(|l| l.trim().parse().ok())
        .expect("a number");
    let found = probed.value.expect("a value");
    assert!(
        probed.held && (found - independent).abs() < 0.02 * independent,
        "{found} {independent}"
    );
    assert!(
        !take(
            r#"{"disk-free":{"path":".","below":"1000000TiB"}}"#,
            &context
        )
        .held
    );
    assert!(
        !take(
            r#"{"disk-free":{"path":"/no/such","below":"1B"}}"#,
            &context
        )
        .held
    );
}

#[test]
fn training_holds_while_events_keep_coming() {
    let scratch = Scratch::new("training");
    let context = context(&scratch);
    let ask = |within: &str| {
        take(
            &format!(r#"{{"training-event":{{"every":"epoch","within":"{within}"}}}}"#),
            &context,
        )
    };
    assert_eq!(ask("30s").measured, "no workload runs");
    let note = |body| {
        let t_ns = context.board.clock.now_ns();
        context.board.note(&Event { seq: 1, t_ns, body });
    };
    note(Body::WorkloadStarted {
        reference: false,
        command: "x".into(),
        process: None,
        out: "o".into(),
    });
    assert!(!ask("30s").held, "nothing has come yet");
    let training = |kind: &str| Body::Training {
        reference: false,
        rank: Some(0),
        restart: 0,
        pid: Some(1),
        source: "hook".into(),
        event: TrainingEvent {
            kind: kind.into(),
            epoch: Some(4),
            ..TrainingEvent::default()
        },
    };
    note(training("step-end"));
    assert!(!ask("30s").held, "a step is no epoch");
    note(training("epoch-end"));
    let good = ask("30s");
    assert!(
        good.held && good.measured.contains("last epoch (4)"),
        "{good:?}"
    );
    until("end of the window", || (!ask("1ns").held).then_some(()));
}

#[test]
fn watched_probes_report_on_their_own_threads_and_stop() {
    let scratch = Scratch::new("watch");
    let context = context(&scratch);
    let samples = crate::store::Samples::discarding();
    let check = |text: &str| {
        (
            text.to_owned(),
            serde_json::from_str(text).expect("a check"),
        )
    };
    let checks = [
        check(r#"{"probe":{"command":{"run":"sleep 600","within":"600s"}}}"#),
        check(r#"{"probe":{"disk-free":{"path":".","below":"1B"}},"interval":"10ms"}"#),
    ];
    let watch = Watch::start(&checks, context, &samples, 0).expect("started");
    let mut seen = 0;
    until("five readings beside a slow probe", || {
        let readings = watch.take();
        assert!(
            readings
                .iter()
                .all(|reading| reading.index == 1 && reading.probed.held)
        );
        seen += readings.len();
        (seen >= 5).then_some(())
    });
    let started = Instant::now();
    watch.stop();
    // The command had 600 s: it was ended, not waited for.
    assert!(started.elapsed() < Duration::from_secs(5));
}
