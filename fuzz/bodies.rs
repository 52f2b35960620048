//! What is done with each input: the real readers of what comes from outside, and what must hold whatever they are given.
//!
//! Used twice: by libFuzzer's targets here, and by a test of the workspace that replays the committed corpus.

#[path = "proxy.rs"]
pub(crate) mod proxy;

use squall_catalog::Faults;
use squall_faults::agent::hook::{FromHook, Hooks, Now};
use squall_faults::frames::Frames;
use squall_faults::journal::codec;
use squall_faults::journal::state::State;
use squall_faults::protocol::{FromAgent, ToAgent};
use squall_model::{diagnostic, load, plan, policy};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Name, and what is done with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    ("experiment", experiment),
    ("journal", journal),
    ("frames", frames),
    ("hook", hook),
    ("policy", policy_file),
    ("http", proxy::http),
    ("stream", proxy::stream),
    ("json", proxy::json),
    ("proxy-file", proxy::proxy_file),
];

/// Longer inputs do not fit a socket's buffer, so they would wait for a reader.
const STREAM_MAX: usize = 64 << 10;

/// An experiment is planned, or refused with problems that can be shown.
pub(crate) fn experiment(bytes: &[u8]) {
    match load::read_bytes::<Faults>(bytes, "experiment.yaml") {
        Ok(loaded) => {
            let plan = plan::build(&loaded.experiment, 7);
            let text = serde_json::to_string(&plan).expect("a plan can be written");
            let again: plan::Plan = serde_json::from_str(&text).expect("and read");
            assert_eq!(again, plan);
        }
        Err(problems) => shown(&problems, bytes),
    }
}

/// A policy is read, or refused with problems that can be shown.
pub(crate) fn policy_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match policy::read::<Faults>(text, "policy.yaml") {
        Ok(file) => drop(policy::merge(vec![file])),
        Err(problems) => shown(&problems, bytes),
    }
}

fn shown(problems: &[diagnostic::Diagnostic], bytes: &[u8]) {
    assert!(!problems.is_empty(), "a refusal says why");
    let text = String::from_utf8_lossy(bytes);
    let page = diagnostic::render(problems, &text, "file.yaml");
    let hostile = |c: char| c.is_control() && c != '\n';
    assert!(
        !page.contains(hostile),
        "what a file says cannot steer the terminal: {page:?}"
    );
}

/// A journal is read as far as it is whole; what is appended to that is read back.
pub(crate) fn journal(bytes: &[u8]) {
    let path = Path::new("journal");
    let Ok(decoded) = codec::decode(bytes, path) else {
        return;
    };
    let state = State::fold(&decoded.records);
    assert!(state.outstanding().count() <= state.injections().count());
    // A file that ends within its padded header is continued after it.
    let mut whole = bytes.to_vec();
    whole.resize(decoded.end as usize, 0);
    let again = codec::decode(&whole, path).expect("what was read is a journal");
    assert_eq!(
        again.records, decoded.records,
        "the rest of the file says nothing"
    );
    let Some(last) = decoded.records.last() else {
        return;
    };
    let mut next = last.clone();
    next.seq += 1;
    if let Ok((frame, _)) = codec::encode(&next, decoded.chain) {
        let longer = [&whole[..], &frame[..]].concat();
        let longer = codec::decode(&longer, path).expect("a longer journal");
        assert_eq!(longer.records.len(), decoded.records.len() + 1);
    }
}

/// Words of the agent protocol come out whole or are refused, and mean the same when said again.
pub(crate) fn frames(bytes: &[u8]) {
    said::<FromAgent>(bytes);
    said::<ToAgent>(bytes);
}

fn said<T>(bytes: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let (mut from, to) = UnixStream::pair().expect("a pair of sockets");
    from.write_all(&bytes[..bytes.len().min(STREAM_MAX)])
        .expect("it fits the socket's buffer");
    drop(from);
    let mut line = Frames::new(to.into()).expect("a line");
    while !line.ended() {
        if line.fill().is_err() {
            return;
        }
        while let Ok(Some(word)) = line.next::<T>() {
            let text = serde_json::to_string(&word).expect("it can be said again");
            let again: T = serde_json::from_str(&text).expect("and be understood");
            let twice = serde_json::to_string(&again).expect("and be said a third time");
            assert_eq!(text, twice);
        }
    }
}

thread_local! {
    static SERVER: RefCell<(Hooks, u64)> = RefCell::new((
        Hooks::listen(&socket()).expect("a hook socket"),
        1,
    ));
}

fn socket() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = std::env::temp_dir().join(format!("sqf-{}-{thread}", std::process::id()));
    // What a process of the same number has left.
    std::fs::remove_file(&path).ok();
    path
}

/// A trainer may say anything: it is understood, refused, or cut off, and the agent's socket goes on.
pub(crate) fn hook(bytes: &[u8]) {
    SERVER.with_borrow_mut(|(hooks, now_ns)| {
        let mut trainer = UnixStream::connect(hooks.path()).expect("the socket listens");
        trainer
            .write_all(&bytes[..bytes.len().min(STREAM_MAX)])
            .expect("it fits the socket's buffer");
        trainer.shutdown(Shutdown::Write).expect("shut");
        trainer.set_nonblocking(true).expect("set");
        let (mut said, mut answer) = (Vec::<FromHook>::new(), [0u8; 4096]);
        // Each turn reads some of it; the last one sees the end and hangs up.
        for _ in 0..STREAM_MAX / 64 {
            *now_ns += 1_000_000_000;
            let now = Now {
                boot_ns: *now_ns,
                mono_ns: *now_ns,
            };
            hooks.serve(now, &mut said).expect("served");
            match trainer.read(&mut answer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Hung up with words of ours unread.
                Err(_) => return,
            }
        }
        panic!(
            "a trainer that hung up is still there after {} words",
            said.len()
        );
    });
}
