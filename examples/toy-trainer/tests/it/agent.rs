//! A small agent of the hook protocol: arms holds, acts on them, and keeps what it is told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What the agent does when the process is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    /// SIGKILL to the held process.
    Kill,
    /// SIGTERM to the held process, then release.
    Terminate,
    /// SIGSTOP to the held process.
    Stop,
    Release,
    /// Closes the connection.
    Close,
    /// Never answers.
    Ignore,
}

/// One hold, armed only in the first start of the job.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) rank: u32,
    pub(crate) phase: &'static str,
    pub(crate) step: u64,
    pub(crate) action: Action,
}

/// A message with the greeting of the process that sent it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) hello: Value,
    pub(crate) message: Value,
}

/// The listening agent.
pub(crate) struct Agent {
    pub(crate) path: PathBuf,
    /// Connections that are not yet read to their end.
    pub(crate) open: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Agent {
    /// Listens, and strikes as told.
    pub(crate) fn new(strikes: &[Strike]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Paths of Unix sockets are short, so the directory for temporary files it is.
        let name = format!(
            "toy-{}-{}.sock",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let (sink, strikes, count) = (told.clone(), strikes.to_vec(), open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (sink, strikes, count) = (sink.clone(), strikes.clone(), count.clone());
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    serve(stream.unwrap(), &strikes, &sink);
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { path, open, told }
    }

    /// An agent with one strike.
    pub(crate) fn striking(rank: u32, phase: &'static str, step: u64, action: Action) -> Self {
        Self::new(&[Strike {
            rank,
            phase,
            step,
            action,
        }])
    }

    /// All that was told so far.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Events of `kind` so far.
    pub(crate) fn events(&self, kind: &str) -> Vec<Told> {
        let is_kind = |told: &Told| told.message["event"]["kind"] == kind;
        self.told().into_iter().filter(is_kind).collect()
    }

    /// Hold messages so far.
    pub(crate) fn holds(&self) -> Vec<Told> {
        self.told()
            .into_iter()
            .filter(|told| told.message.get("hold").is_some())
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    std::fs::remove_file(path).ok();
}

/// Talks to one process until it closes.
fn serve(mut stream: UnixStream, strikes: &[Strike], sink: &Mutex<Vec<Told>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let Some(line) = lines.next() else { return };
    assert!(line.len() < 8 * 1024);
    let hello = serde_json::from_str::<Value>(&line).unwrap()["hello"].clone();
    let arm: Vec<Value> = strikes
        .iter()
        .enumerate()
        .filter(|_| hello["restart"] == 0)
        .map(|(at, s)| json!({"id": format!("h{at}"), "rank": s.rank, "phase": s.phase, "step": s.step}))
        .collect();
    stream
        .write_all(format!("{}\n", json!({"welcome": {"v": 1, "arm": arm}})).as_bytes())
        .ok();
    for line in lines {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let hold = message["hold"]["id"].as_str().map(str::to_owned);
        sink.lock().unwrap().push(Told {
            hello: hello.clone(),
            message,
        });
        let Some(id) = hold else { continue };
        let strike = &strikes[id[1..].parse::<usize>().unwrap()];
        let pid = Pid::from_raw(hello["pid"].as_i64().unwrap() as i32).unwrap();
        match strike.action {
            Action::Kill => kill_process(pid, Signal::KILL).unwrap(),
            Action::Stop => kill_process(pid, Signal::STOP).unwrap(),
            Action::Terminate => kill_process(pid, Signal::TERM).unwrap(),
            Action::Close => stream.shutdown(std::net::Shutdown::Both).unwrap(),
            Action::Release | Action::Ignore => {}
        }
        if matches!(strike.action, Action::Release | Action::Terminate) {
            stream
                .write_all(format!("{}\n", json!({"release": {"id": id}})).as_bytes())
                .unwrap();
        }
    }
}
