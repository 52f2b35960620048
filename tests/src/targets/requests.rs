//! Faults of requests: a proxy of ours as it is served, in front of its built-in service, and clients that speak HTTP by hand.

use super::{Prey, Recipe, Size};
use crate::compliance::children::program;
use crate::spawned::Spawned;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than any undisturbed answer takes, shorter than any delay below.
const PATIENCE: Duration = Duration::from_millis(250);
/// The built-in service.
const MOCK: &str = "mock:first-token=1ms,token=1ms,tokens=8";
const CHAT: &str = "/v1/chat/completions";
const DELAY: &str = "400ms";
/// Between two questions of the client in the background.
const PAUSE: Duration = Duration::from_millis(10);

/// A proxy and its clients.
#[derive(Debug)]
pub(crate) struct Proxied {
    socket: PathBuf,
    listen: String,
    /// What clients ask for.
    path: &'static str,
    // The client first: it asks until it is told to stop.
    stop: Arc<AtomicBool>,
    asking: Option<JoinHandle<()>>,
    _child: Spawned,
    _gate: ChildStdin,
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(asking) = self.asking.take() {
            // It only asks; nothing of it is judged.
            asking.join().ok();
        }
    }
}

impl Proxied {
    fn start(folder: &Path, upstream: &str, path: &'static str) -> anyhow::Result<Self> {
        let socket = folder.join("proxy");
        let mut command = Command::new(program()?);
        command
            .args(["serve-fault", "proxy"])
            .stdout(Stdio::piped());
        let (mut child, mut gate) = Spawned::fed(&mut command)?;
        let config = json!({"upstream": upstream, "socket": socket, "seed": 1});
        writeln!(gate, "g{config}")?;
        let mut ready = String::new();
        BufReader::new(child.output()?).read_line(&mut ready)?;
        ensure!(ready == "ready\n", "the proxy did not start: {ready}");
        let mut asked = UnixStream::connect(&socket)?;
        asked.write_all(b"{\"tell\":{\"rule\":\"\"}}\n")?;
        let mut told = String::new();
        BufReader::new(asked).read_line(&mut told)?;
        let told: Value = serde_json::from_str(&told)?;
        let listen = told["listen"].as_str().context("no address")?.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let asking = {
            let (listen, stop) = (listen.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    ask(&listen, path);
                    // A refusal comes at once: without a pause, this client would take a whole processor from what is tested.
                    std::thread::sleep(PAUSE);
                }
            })
        };
        Ok(Self {
            socket,
            listen,
            path,
            stop,
            asking: Some(asking),
            _child: child,
            _gate: gate,
        })
    }
}

/// What a client gets.
struct Answer {
    text: String,
    took: Duration,
    error: Option<ErrorKind>,
}

impl Answer {
    fn has_status(&self, code: u16) -> bool {
        self.text.starts_with(&format!("HTTP/1.1 {code} "))
    }

    fn is_reset(&self) -> bool {
        self.error == Some(ErrorKind::ConnectionReset)
    }

    fn is_late(&self) -> bool {
        self.error == Some(ErrorKind::WouldBlock) || self.took >= PATIENCE
    }

    fn tokens(&self) -> usize {
        self.text.matches("\"content\":").count()
    }
}

/// Asks for a stream, and reads until its end or until nothing comes any more.
fn ask(listen: &str, path: &str) -> Answer {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    let mut talk = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(listen)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = "{\"model\":\"m\",\"stream\":true,\"messages\":[]}";
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut part = [0; 4096];
        loop {
            let count = stream.read(&mut part)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(&part[..count]);
        }
    };
    let error = talk().err().map(|error| error.kind());
    Answer {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        took: begun.elapsed(),
        error,
    }
}

/// A service that says the same to everyone: what the built-in one has no words for.
fn saying(body: &Value) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let body = body.to_string();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 1024];
            // A client that is gone is none of this service's business.
            if client.read(&mut head).is_ok_and(|count| count > 0) {
                client.write_all(answer.as_bytes()).ok();
            }
        }
    });
    Ok(format!("http://{address}"))
}

fn proxied(folder: &Path, size: Size, path: &'static str, says: &Value) -> anyhow::Result<Prey> {
    Ok(Prey {
        proxy: Some(Proxied::start(folder, &saying(says)?, path)?),
        ..Prey::none(size)
    })
}

fn a_caller(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let call = json!({"function": {"name": "f", "arguments": "{}"}});
    let says = json!({"choices": [{"message": {"tool_calls": [call]}}]});
    proxied(folder, size, CHAT, &says)
}

fn a_structure(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let says = json!({"choices": [{"message": {"content": "{\"a\": 1}"}}]});
    proxied(folder, size, CHAT, &says)
}

fn an_embedder(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let says = json!({"data": [{"index": 0, "embedding": [1.5, 2.5]}]});
    proxied(folder, size, "/v1/embeddings", &says)
}

fn a_store(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    let says = json!({"result": [{"id": 1, "score": 0.5, "payload": {"text": "its own words"}}]});
    proxied(folder, size, "/collections/c/points/search", &says)
}

fn a_proxy(folder: &Path, size: Size) -> anyhow::Result<Prey> {
    Ok(Prey {
        proxy: Some(Proxied::start(folder, MOCK, CHAT)?),
        ..Prey::none(size)
    })
}

impl Prey {
    /// The socket of its proxy.
    pub fn proxy_socket(&self) -> Option<&Path> {
        self.proxy.as_ref().map(|proxy| proxy.socket.as_path())
    }

    fn asked(&self) -> anyhow::Result<Answer> {
        let proxy = self.proxy.as_ref().context("no proxy was prepared")?;
        Ok(ask(&proxy.listen, proxy.path))
    }
}

fn selector(prey: &Prey) -> Value {
    json!({"proxy": prey.proxy_socket()})
}

/// A recipe whose fault shows in an answer.
macro_rules! shows {
    ($name:ident, $kind:literal, $config:tt, $seen:expr) => {
        shows!($name, $kind, $config, $seen, a_proxy);
    };
    ($name:ident, $kind:literal, $config:tt, $seen:expr, $prepare:expr) => {
        pub(super) const $name: Recipe = Recipe {
            kind: $kind,
            prepare: $prepare,
            selector,
            variants: |_| vec![json!($config)],
            is_seen: |prey| {
                let seen: fn(&Answer) -> bool = $seen;
                Ok(seen(&prey.asked()?))
            },
            shows_in: &[],
        };
    };
}

shows!(STATUS, "http-status", {"code": 503}, |it| it.has_status(503));
shows!(RATE_LIMIT, "http-rate-limit", {"per-minute": 1, "burst": 1}, |it| it.has_status(429));
shows!(DELAYED, "http-delay", {"delay": DELAY}, |it| it.text.is_empty() && it.is_late());
shows!(HANG, "http-hang", {}, |it| it.text.is_empty()
    && it.is_late());
shows!(RESET, "http-reset", {}, |it| it.text.is_empty()
    && it.is_reset());
shows!(FIRST_TOKEN, "llm-first-token", {"delay": DELAY}, |it| it.has_status(200) && it.is_late());
shows!(TOKEN_DELAY, "llm-token-delay", {"delay": DELAY}, |it| it.tokens() >= 1 && it.is_late());
shows!(STALL, "llm-stall", {"tokens": 2}, |it| it.tokens() >= 1 && it.is_late());
shows!(CUT, "llm-cut", {"tokens": 2, "how": "reset"}, |it| it.has_status(200) && it.is_reset());
shows!(MALFORMED, "llm-malformed", {"token": 2, "how": "utf8"}, |it| it.text.contains('\u{fffd}'));
shows!(ERROR, "llm-error", {"tokens": 2}, |it| it.text.contains("\"error\""));
shows!(TEXT, "llm-text", {"says": {"also": "canary-word"}}, |it| it.text.contains("canary-word"));
shows!(
    TOOL_CALL,
    "llm-tool-call",
    {"how": "unknown-tool"},
    |it| it.text.contains("squall_unknown_tool"),
    a_caller
);
shows!(
    STRUCTURE,
    "llm-structure",
    {"how": "missing-key"},
    |it| it.text.ends_with("\"content\":\"{}\"}}]}"),
    a_structure
);
shows!(
    VECTORS,
    "retrieval-vectors",
    {"how": "permuted"},
    |it| it.text.contains("[2.5,1.5]"),
    an_embedder
);
shows!(
    DOCUMENTS,
    "retrieval-documents",
    {"finds": {"poisoned": "canary-word"}},
    |it| it.text.contains("canary-word"),
    a_store
);
