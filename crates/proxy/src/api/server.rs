//! The API's sockets: few clients, small messages, a thread for each connection. Off loopback a token is needed.

use super::{Answer, ApiError, routes};
use crate::Proxies;
use crate::http::Head;
use crate::proxy::locked;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest body, in bytes.
const BODY_MAX: u64 = 1024 * 1024;
/// Connections at the same time.
const CLIENTS_MAX: usize = 64;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(25);

/// How the API behaves.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Keep the oddities of Toxiproxy that a client may depend on.
    pub strict: bool,
    /// What `Authorization: Bearer …` must say. Needed off loopback.
    pub token: Option<String>,
}

/// The running API. It ends when this is dropped.
pub struct Api {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    clients: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

struct Served {
    proxies: Arc<Proxies>,
    settings: Settings,
    is_local: bool,
}

impl Api {
    /// Answers on an address.
    ///
    /// # Errors
    /// When the address cannot be used, or is off loopback and there is no token.
    pub fn start(
        address: SocketAddr,
        settings: Settings,
        proxies: Arc<Proxies>,
    ) -> io::Result<Api> {
        let is_local = address.ip().is_loopback();
        if !is_local && settings.token.as_ref().is_none_or(String::is_empty) {
            let message =
                "off loopback the API needs a token, or anybody could break what runs here";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (stopping, clients): (Arc<AtomicBool>, Arc<Mutex<Vec<TcpStream>>>) = Default::default();
        let served = Arc::new(Served {
            proxies,
            settings,
            is_local,
        });
        let (stop, open) = (stopping.clone(), clients.clone());
        let thread = std::thread::Builder::new().name("api".into());
        let thread = thread.spawn(move || accept(&listener, &stop, &open, &served))?;
        Ok(Api {
            address,
            stopping,
            clients,
            thread: Some(thread),
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the one that accepts.
        let reach = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => {
                SocketAddr::from(([127, 0, 0, 1], self.address.port()))
            }
            IpAddr::V6(ip) if ip.is_unspecified() => {
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], self.address.port()))
            }
            _ => self.address,
        };
        TcpStream::connect_timeout(&reach, Duration::from_secs(1)).ok();
        for client in locked(&self.clients).drain(..) {
            client.shutdown(Shutdown::Both).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn accept(
    listener: &TcpListener,
    stopping: &AtomicBool,
    open: &Mutex<Vec<TcpStream>>,
    served: &Arc<Served>,
) {
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok((client, _)) = accepted else {
            // No file descriptor is free, most likely: one will be.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if count.load(Ordering::Relaxed) >= CLIENTS_MAX {
            continue;
        }
        if let Ok(copy) = client.try_clone() {
            let mut open = locked(open);
            // What has ended is forgotten now and then.
            open.retain(|client| client.peer_addr().is_ok());
            open.push(copy);
        }
        let (served, count) = (served.clone(), count.clone());
        count.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name("api-client".into());
        let done = count.clone();
        let spawned = thread.spawn(move || {
            // A client that went away needs no answer.
            converse(&client, &served).ok();
            client.shutdown(Shutdown::Both).ok();
            done.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn converse(mut client: &TcpStream, served: &Served) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    client.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = match read_head(client, &mut buffer, PATIENCE)? {
            Some(head) => head,
            None => return Ok(()),
        };
        client.set_read_timeout(Some(PATIENCE))?;
        let method = head.method().to_owned();
        let outcome = permitted(&head, served).and_then(|()| {
            if head.names("expect", "100-continue") {
                client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok();
            }
            read_body(client, &head, &mut buffer)
        });
        let strict = served.settings.strict;
        let (answer, keeps) = match outcome {
            Ok(body) => {
                let answer = routes::answer(&served.proxies, strict, &method, head.path(), &body);
                (answer, head.keeps_alive())
            }
            // What is left of the message is unknown.
            Err(error) if error.status == 403 => {
                (Answer::text(403, &format!("{}\n", error.message)), false)
            }
            Err(error) => (routes::failed(&error, strict, false), false),
        };
        client.write_all(&written(&answer, keeps))?;
        if !keeps {
            return Ok(());
        }
    }
}

fn written(answer: &Answer, keeps: bool) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        _ => "Internal Server Error",
    };
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
    if answer.status != 204 {
        bytes.push_str(&format!(
            "Content-Type: {}\r\nContent-Length: {}\r\n",
            answer.content_type,
            answer.body.len()
        ));
    }
    if answer.status == 401 {
        bytes.push_str("WWW-Authenticate: Bearer\r\n");
    }
    bytes.push_str(if keeps {
        "\r\n"
    } else {
        "Connection: close\r\n\r\n"
    });
    let mut bytes = bytes.into_bytes();
    if answer.status != 204 {
        bytes.extend_from_slice(&answer.body);
    }
    bytes
}

/// Whether a caller may call: no web page, and whoever knows the token.
fn permitted(head: &Head, served: &Served) -> Result<(), ApiError> {
    let agent = head.get("user-agent").unwrap_or_default();
    if agent.starts_with("Mozilla/") || head.get("origin").is_some() {
        return Err(ApiError::new(403, "User agent not allowed"));
    }
    // A page in a browser can lead any name of its own to loopback, and then this API would answer it.
    if served.is_local && !head.get("host").is_none_or(is_local_name) {
        return Err(ApiError::new(403, "Host not allowed"));
    }
    let Some(token) = &served.settings.token else {
        return Ok(());
    };
    let given = head
        .get("authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    match same(given.trim().as_bytes(), token.as_bytes()) {
        true => Ok(()),
        false => Err(ApiError::new(401, "the bearer token is missing or wrong")),
    }
}

fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Compares without telling by its time how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// One deadline for the whole head: whoever sends a byte now and then has not shown a token yet.
fn read_head(
    mut client: &TcpStream,
    buffer: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<Option<Head>> {
    let until = Instant::now() + patience;
    loop {
        let parsed = Head::parse(buffer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(head) = parsed {
            buffer.drain(..head.raw().len());
            return Ok(Some(head));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left))?;
        let mut piece = [0; 4096];
        match client.read(&mut piece)? {
            0 => return Ok(None),
            count => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

fn read_body(
    mut client: &TcpStream,
    head: &Head,
    buffer: &mut Vec<u8>,
) -> Result<Vec<u8>, ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::bad_body(&error.to_string());
    let mut body = head.request_body().map_err(|error| bad(&error))?;
    let mut content = Vec::new();
    loop {
        let taken = body
            .take(buffer, &mut |part| content.extend_from_slice(part))
            .map_err(|error| bad(&error))?;
        buffer.drain(..taken);
        if content.len() as u64 > BODY_MAX {
            return Err(ApiError::new(413, "the body is longer than 1 MiB"));
        }
        if body.is_done() {
            return Ok(content);
        }
        let mut piece = [0; 4096];
        match client.read(&mut piece).map_err(|error| bad(&error))? {
            0 => return Err(ApiError::bad_body("it ended too early")),
            count => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_comes_byte_by_byte_has_one_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut slow = TcpStream::connect(listener.local_addr().expect("one")).expect("a client");
        let (client, _) = listener.accept().expect("it came");
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let sends = std::thread::spawn(move || {
            let pause = Duration::from_millis(5);
            while ended.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                slow.write_all(b"x").ok();
            }
        });
        let since = Instant::now();
        let read = read_head(&client, &mut Vec::new(), Duration::from_millis(100));
        assert!(read.is_err() && since.elapsed() < Duration::from_secs(5));
        drop(done);
        sends.join().expect("it ends");
    }
}
