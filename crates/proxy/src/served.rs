//! A proxy that a run starts for its workload: it listens on loopback, hears of rules over a Unix socket, and ends when it is told to.
//!
//! Records reach whoever follows through the bounded queue of [`Recorder`]; what is lost on the way is counted and told.

use crate::file::{self, RuleConfig};
use crate::record::{Record, Recorder, What};
use crate::stream::Rule;
use crate::web::WebRule;
use crate::{Proxies, Security, Wanted};
use squall_model::exchange::{Exchange, Fired};
use squall_model::proxying::{Followed, FromProxy, LINE_MAX, Start, ToProxy};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The name of the one proxy.
const NAME: &str = "workload";
/// Threads that carry traffic.
const WORKERS: usize = 2;
/// How soon it is seen that it is to end.
const TURN: Duration = Duration::from_millis(20);
/// How long an order may take to arrive, and whoever follows to read.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last records may take to come in.
const LAST_RECORDS: Duration = Duration::from_millis(300);
/// The most rules that are remembered when they are gone.
const REMEMBERED_MAX: usize = 10_000;

/// A rule that was set, and what it did.
enum Set {
    Stream(Arc<Rule>),
    Web(Arc<WebRule>),
}

impl Set {
    fn fired(&self) -> u64 {
        match self {
            Set::Stream(rule) => rule.fired.load(Ordering::Relaxed),
            Set::Web(rule) => rule.fired.load(Ordering::Relaxed),
        }
    }
}

struct Known {
    rule: Set,
    is_set: bool,
    /// Requests before it was set; and, once it is removed, until then.
    asked_from: u64,
    asked_to: Option<u64>,
    first: Option<String>,
}

struct Shared {
    proxies: Proxies,
    listen: String,
    known: Mutex<BTreeMap<String, Known>>,
    asked: AtomicU64,
    follower: Mutex<Option<UnixStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `stopped` says so; it may wait for as long as it is told. `ready` is called when clients can connect.
///
/// # Errors
/// Why it could not start, in words.
pub fn serve(
    config: serde_json::Value,
    ready: &mut dyn FnMut() -> io::Result<()>,
    stopped: &mut dyn FnMut(Duration) -> bool,
) -> Result<(), String> {
    let start: Start = serde_json::from_value(config).map_err(|error| error.to_string())?;
    if !file::is_service(&start.upstream) {
        return Err(format!("`{}` is no service", start.upstream));
    }
    let (recorder, records) = Recorder::new();
    let recorder = recorder.watching();
    let proxies =
        Proxies::start(start.seed, WORKERS, recorder).map_err(|error| error.to_string())?;
    let wanted = Wanted {
        security: Security::default(),
        name: NAME.to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        upstream: start.upstream.clone(),
        enabled: true,
    };
    let seen = proxies.create(wanted).map_err(|error| error.to_string())?;
    let path = Path::new(&start.socket);
    let listener = UnixListener::bind(path)
        .map_err(|error| format!("could not listen at {}, because {error}", start.socket))?;
    // Whoever may set rules is whoever started it, wherever the folder lies.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| format!("could not keep {} private, because {error}", start.socket))?;
    let shared = Arc::new(Shared {
        proxies,
        listen: seen.wanted.listen,
        known: Mutex::default(),
        asked: AtomicU64::new(0),
        follower: Mutex::default(),
    });
    let hearing = shared.clone();
    // It ends with the process.
    std::thread::spawn(move || hear(&listener, &hearing));
    ready().map_err(|error| error.to_string())?;
    let mut collector = Collector::default();
    while !stopped(Duration::ZERO) {
        collector.turn(&records, &shared, TURN);
    }
    // Open connections end with it, and what they were is told.
    shared.proxies.remove(NAME).unwrap_or_default();
    let until = Instant::now() + LAST_RECORDS;
    while Instant::now() < until && collector.turn(&records, &shared, TURN) {}
    std::fs::remove_file(path).unwrap_or_default();
    Ok(())
}

/// Answers orders, each connection on a thread of its own: whoever is slow holds up nobody.
fn hear(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        let shared = shared.clone();
        let answering = std::thread::Builder::new().spawn(move || {
            // Whoever went away needs no answer.
            answer(stream, &shared).unwrap_or_default();
        });
        // Without a thread the caller sees its connection end, and says so.
        drop(answering);
    }
}

fn answer(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LINE_MAX as u64)).read_line(&mut line)?;
    let said = match serde_json::from_str::<ToProxy>(&line) {
        Ok(ToProxy::Follow) => {
            *locked(&shared.follower) = Some(stream);
            return Ok(());
        }
        Ok(order) => shared.obey(order),
        Err(error) => Err(format!("it is no order: {error}")),
    };
    let answer = said.unwrap_or_else(|because| FromProxy {
        refused: Some(because),
        ..FromProxy::default()
    });
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    (&stream).write_all(&bytes)
}

impl Shared {
    fn obey(&self, order: ToProxy) -> Result<FromProxy, String> {
        let name = match order {
            ToProxy::Set { rule } => self.set(&rule)?,
            ToProxy::Remove { rule } => {
                self.remove(&rule)?;
                rule
            }
            ToProxy::Tell { rule } => rule,
            ToProxy::Follow => String::new(),
        };
        Ok(self.told(&name))
    }

    fn set(&self, rule: &serde_json::Value) -> Result<String, String> {
        let seen = self.proxies.get(NAME).map_err(|error| error.to_string())?;
        let config: RuleConfig = file::read_rule(rule, &seen.wanted.upstream).map_err(|found| {
            let all: Vec<String> = found.into_iter().map(|one| one.message).collect();
            all.join("; ")
        })?;
        let name = config.name.clone().ok_or("the rule has no name")?;
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED_MAX {
            return Err("too many rules were set already".to_owned());
        }
        let asked_from = self.asked.load(Ordering::Relaxed);
        let set = match config.rule() {
            file::AnyRule::Stream(rule) => self.proxies.add_rule(NAME, rule).map(Set::Stream),
            file::AnyRule::Web(rule) => self.proxies.add_web_rule(NAME, rule).map(Set::Web),
        };
        let rule = set.map_err(|error| error.to_string())?;
        let one = Known {
            rule,
            is_set: true,
            asked_from,
            asked_to: None,
            first: None,
        };
        known.insert(name.clone(), one);
        Ok(name)
    }

    /// One that is not set stays so.
    fn remove(&self, name: &str) -> Result<(), String> {
        let mut known = locked(&self.known);
        let Some(one) = known.get_mut(name).filter(|one| one.is_set) else {
            return Ok(());
        };
        let removed = match &one.rule {
            Set::Stream(_) => self.proxies.remove_rule(NAME, name),
            Set::Web(_) => self.proxies.remove_web_rule(NAME, name),
        };
        removed.map_err(|error| error.to_string())?;
        one.is_set = false;
        one.asked_to = Some(self.asked.load(Ordering::Relaxed));
        Ok(())
    }

    /// What the proxy itself says, not what we remember of our orders.
    fn told(&self, name: &str) -> FromProxy {
        let seen = self.proxies.get(NAME);
        let is_set = seen.is_ok_and(|seen| {
            seen.rules.iter().any(|rule| rule.name == name)
                || seen.web_rules.iter().any(|rule| rule.name == name)
        });
        let mut told = FromProxy {
            listen: self.listen.clone(),
            is_set,
            ..FromProxy::default()
        };
        if let Some(one) = locked(&self.known).get(name) {
            told.fired = one.rule.fired();
            told.first.clone_from(&one.first);
            let to = one
                .asked_to
                .unwrap_or_else(|| self.asked.load(Ordering::Relaxed));
            told.asked = to.saturating_sub(one.asked_from);
            if told.first.is_none() && told.fired > 0 && self.proxies.recorder().lost() > 0 {
                told.first =
                    Some("where it acted first is unknown: its record was lost".to_owned());
            }
        }
        told
    }
}

/// Joins records, and hands over what is over.
#[derive(Default)]
struct Collector {
    /// The last question of each connection, and the rules that have acted on it.
    open: BTreeMap<u64, (String, Vec<Fired>)>,
    lost: u64,
}

impl Collector {
    /// Takes what is there; false when nothing was.
    fn turn(&mut self, records: &Receiver<Record>, shared: &Shared, wait: Duration) -> bool {
        let mut next = records.recv_timeout(wait);
        let had = next.is_ok();
        while let Ok(record) = next {
            self.take(record, shared);
            next = records.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        let lost = shared.proxies.recorder().lost();
        if lost > self.lost {
            follow(shared, &Followed::Lost(lost - self.lost));
            self.lost = lost;
        }
        had
    }

    fn take(&mut self, record: Record, shared: &Shared) {
        let connection = record.connection;
        match record.what {
            What::Asked { words } => {
                shared.asked.fetch_add(1, Ordering::Relaxed);
                self.open.entry(connection).or_default().0 = words;
            }
            What::Fired {
                rule,
                fault,
                place,
                unit,
                ..
            } => {
                let open = self.open.entry(connection).or_default();
                if let Some(known) = locked(&shared.known).get_mut(&rule) {
                    let at = match unit {
                        "requests" => String::new(),
                        unit => format!(", {} {place}", unit.trim_end_matches('s')),
                    };
                    let words = format!("first on {}{at}", open.0);
                    known.first.get_or_insert(words);
                }
                let unit = unit.to_owned();
                open.1.push(Fired {
                    rule,
                    fault,
                    place,
                    unit,
                });
            }
            What::Exchange(exchange) => {
                let fired = self.open.get_mut(&connection);
                let fired = fired
                    .map(|open| std::mem::take(&mut open.1))
                    .unwrap_or_default();
                let exchange = Box::new(Exchange { fired, ..*exchange });
                follow(shared, &Followed::Exchange(exchange));
            }
            What::Closed { .. } => drop(self.open.remove(&connection)),
            What::Opened { .. }
            | What::Refused { .. }
            | What::Unreachable { .. }
            | What::Unmatched { .. } => {}
        }
    }
}

/// Tells whoever follows. One who does not read is given up; what is not told then, nobody has asked for.
fn follow(shared: &Shared, line: &Followed) {
    let mut follower = locked(&shared.follower);
    let Some(stream) = follower.as_mut() else {
        return;
    };
    let Ok(mut bytes) = serde_json::to_vec(line) else {
        return;
    };
    bytes.push(b'\n');
    if stream.write_all(&bytes).is_err() {
        *follower = None;
    }
}
