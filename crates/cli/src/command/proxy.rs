//! `squall proxy`: runs until it is told to end. Its rules live as long as this process, and leave nothing behind.

use super::{file, state_dir};
use crate::Outcome;
use crate::arguments;
use crate::live::proxy::View;
use crate::output::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use squall_model::exit::Exit;
use squall_proxy::file::{ProxyConfig, ProxyFile, TlsConfig};
use squall_proxy::{Api, Proxies, ProxyError, Record, Recorder, Settings, What};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the live area is drawn and the log is written out.
const TURN: Duration = Duration::from_millis(250);
/// Threads that carry traffic, unless more are asked for.
const WORKERS_MAX: usize = 4;

pub(crate) fn run(arguments: &arguments::Proxy) -> Outcome {
    let file = wanted(arguments)?;
    let seed = arguments.seed.or(file.seed).unwrap_or(0);
    let stop = stopping()?;
    let mut log = arguments
        .log
        .as_deref()
        .map(|path| Log::open(path, seed))
        .transpose()?;
    let (recorder, records) = Recorder::new();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments
        .workers
        .map_or(processors.min(WORKERS_MAX), usize::from);
    let proxies = Proxies::start(seed, workers, recorder)
        .map_err(|error| unmet("could not start", &error))?;
    let proxies = Arc::new(proxies);
    file.apply(&proxies).map_err(|error| refused(&error))?;
    let mut view = View::new(seed);
    let api = if arguments.no_api {
        None
    } else {
        Some(answering(arguments, &proxies)?)
    };
    view.started(&proxies, api.as_ref().map(Api::address));
    follow(&proxies, &records, &mut view, log.as_mut(), &stop);
    // The API first: nobody changes anything any more. Then what the last connections did.
    drop(api);
    let seen = proxies.all();
    let (failed, lost) = (proxies.has_failed(), proxies.recorder().lost());
    drop(proxies);
    for record in records.try_iter() {
        note(log.as_mut(), &record, &mut view);
    }
    let lost = lost + log.as_ref().map_or(0, |log| log.unwritten);
    view.ended(&seen, lost);
    if let Some(log) = log {
        log.end(&seen, lost)
            .map_err(|error| unmet("could not write the log", &error))?;
    }
    match failed {
        true => Err(Failure::new(
            Exit::Bug,
            "a thread that carries traffic ended by itself",
            Some("report this, with what stands above"),
        )),
        false => Ok(Exit::Held),
    }
}

/// What the file says, or the options.
fn wanted(arguments: &arguments::Proxy) -> Result<ProxyFile, Failure> {
    if let Some(path) = &arguments.file {
        let text = file::text(
            path,
            "give the path of a proxy file; docs/proxy.md shows one",
        )?;
        let name = path.display().to_string();
        return squall_proxy::file::read(&text)
            .map_err(|found| Failure::diagnostics(&found, &text, &name));
    }
    let mut file = ProxyFile::empty();
    let mock = arguments.mock.then(|| "mock".to_owned());
    let upstream = arguments.upstream.clone().or(mock);
    if upstream.is_none() && arguments.listen.is_some() {
        let help = "add --upstream or --mock";
        return Err(Failure::new(
            Exit::Usage,
            "nothing is said of the service behind --listen",
            Some(help),
        ));
    }
    if let Some(upstream) = upstream {
        if !squall_proxy::file::is_service(&upstream) {
            let help = "write it like 127.0.0.1:6379, http://127.0.0.1:8000, https://example.org, tls://127.0.0.1:6380, or mock:first-token=20ms,token=5ms,tokens=16";
            return Err(Failure::new(
                Exit::Usage,
                format!("`{upstream}` is no service"),
                Some(help),
            ));
        }
        let listen = arguments.listen.as_deref().unwrap_or("127.0.0.1:0");
        let tls = arguments.tls_ca.clone();
        file.proxies.push(ProxyConfig {
            ca: arguments.ca.clone(),
            server_name: arguments.server_name.clone(),
            tls: tls.map(|ca| TlsConfig {
                ca,
                names: Vec::new(),
            }),
            ..ProxyConfig::plain("proxy", listen, &upstream)
        });
    }
    if file.proxies.is_empty() && arguments.no_api {
        let help = "name a file, or give --upstream, or leave --no-api out";
        return Err(Failure::new(
            Exit::Usage,
            "there is nothing to carry, and no API that could say what",
            Some(help),
        ));
    }
    Ok(file)
}

fn unmet(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Unmet, format!("{what}, because {error}"), None)
}

fn refused(error: &ProxyError) -> Failure {
    let help = match error {
        ProxyError::Listen { .. } => {
            Some("choose another address, or leave `listen` out for a free port")
        }
        _ => None,
    };
    Failure::new(Exit::Unmet, error, help)
}

fn answering(arguments: &arguments::Proxy, proxies: &Arc<Proxies>) -> Result<Api, Failure> {
    let token = match arguments.api.ip().is_loopback() {
        true => None,
        false => Some(token()?),
    };
    let settings = Settings {
        strict: arguments.strict_compat,
        token,
    };
    Api::start(arguments.api, settings, proxies.clone()).map_err(|error| {
        let help = "give another address with --api, or none with --no-api";
        Failure::new(
            Exit::Unmet,
            format!(
                "could not answer the API on {}, because {error}",
                arguments.api
            ),
            Some(help),
        )
    })
}

/// The token of this user's state folder; made where there is none.
fn token() -> Result<String, Failure> {
    let path = state_dir()?.join("proxy-token");
    let made = || -> io::Result<String> {
        if let Some(folder) = path.parent() {
            squall_faults::state_dir::create_private(folder)?;
        }
        match File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(mut file) => {
                let mut random = [0u8; 24];
                rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
                let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                Ok(text)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::read_to_string(&path)
            }
            Err(error) => Err(error),
        }
    };
    let token = made().map_err(|error| {
        unmet(
            &format!("could not use the token in {}", path.display()),
            &error,
        )
    })?;
    match token.trim() {
        "" => Err(Failure::new(
            Exit::Unmet,
            format!("the token in {} is empty", path.display()),
            Some("remove the file; another is made"),
        )),
        token => {
            eprintln!(
                " token    {} · clients send `Authorization: Bearer …`",
                path.display()
            );
            Ok(token.to_owned())
        }
    }
}

/// A flag that is set by SIGINT, SIGTERM and SIGHUP.
fn stopping() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| unmet("could not wait for signals", &error))?;
    }
    Ok(stop)
}

fn follow(
    proxies: &Proxies,
    records: &Receiver<Record>,
    view: &mut View,
    mut log: Option<&mut Log>,
    stop: &AtomicBool,
) {
    let mut turn = Instant::now();
    while !stop.load(Ordering::Relaxed) && !proxies.has_failed() {
        match records.recv_timeout(TURN.saturating_sub(turn.elapsed())) {
            Ok(record) => {
                note(log.as_deref_mut(), &record, view);
                if !matches!(record.what, What::Opened { .. } | What::Closed { .. }) {
                    view.record(&record);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if turn.elapsed() >= TURN {
            turn = Instant::now();
            view.turn(&proxies.all());
            // What cannot be written out yet stays in the buffer.
            if let Some(log) = &mut log
                && let Err(error) = log.out.flush()
                && !std::mem::replace(&mut log.is_told, true)
            {
                view.trouble(&error);
            }
        }
    }
}

/// Writes a record, or counts it, and tells the first trouble.
fn note(log: Option<&mut Log>, record: &Record, view: &mut View) {
    if let Some(log) = log
        && let Err(error) = log.record(record)
        && !std::mem::replace(&mut log.is_told, true)
    {
        view.trouble(&error);
    }
}

/// The log: a head, records, and an end.
struct Log<W: Write = File> {
    out: BufWriter<W>,
    /// Records that could not be written.
    unwritten: u64,
    /// Whether its first trouble was told.
    is_told: bool,
}

impl Log {
    fn open(path: &Path, seed: u64) -> Result<Log, Failure> {
        let open = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path);
        let mut log = open.map(Log::new);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let head = serde_json::json!({"version": "squall.proxy-log/1", "seed": seed, "unix_ns": since.as_nanos() as u64});
        if let Ok(log) = &mut log
            && let Err(error) = log.line(&head).and_then(|()| log.out.flush())
        {
            return Err(unmet(
                &format!("could not write {}", path.display()),
                &error,
            ));
        }
        log.map_err(|error| unmet(&format!("could not open {}", path.display()), &error))
    }
}

impl<W: Write> Log<W> {
    fn new(out: W) -> Log<W> {
        Log {
            out: BufWriter::new(out),
            unwritten: 0,
            is_told: false,
        }
    }

    /// A whole line at once: one that finds no room leaves no part of itself.
    fn line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }

    fn record(&mut self, record: &impl serde::Serialize) -> io::Result<()> {
        let written = self.line(record);
        self.unwritten += u64::from(written.is_err());
        written
    }

    fn end(mut self, seen: &[squall_proxy::Seen], lost: u64) -> io::Result<()> {
        let rules: Vec<_> = seen.iter().flat_map(squall_proxy::Seen::told).collect();
        self.line(&serde_json::json!({"ended": {"rules": rules, "lost_records": lost}}))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A disk that may be full.
    #[derive(Clone, Default)]
    struct Disk(Rc<RefCell<(bool, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.borrow_mut();
            if disk.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_could_not_be_written_is_counted_in_the_end() {
        let disk = Disk::default();
        let mut log = Log::new(disk.clone());
        for number in 0..3000 {
            disk.0.borrow_mut().0 = (1000..2000).contains(&number);
            log.record(&serde_json::json!({"number": number})).ok();
        }
        let unwritten = log.unwritten;
        assert!((500..1000).contains(&unwritten), "{unwritten}");
        log.end(&[], unwritten).expect("there is room again");
        let text = String::from_utf8(disk.0.borrow().1.clone()).expect("it is text");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("no line is torn");
        }
        assert_eq!(text.matches("number").count() as u64 + unwritten, 3000);
        assert!(text.contains(&format!("\"lost_records\":{unwritten}")));
    }
}
