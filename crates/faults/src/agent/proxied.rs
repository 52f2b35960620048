//! The workload's own proxy: a served child behind a durable undo, started before the workload and ended after it.

use super::hook::place;
use super::procs;
use super::shared::{FromJob, Shared};
use crate::fault::FaultError;
use crate::host::Host;
use crate::journal::record::About;
use crate::protocol::ProxySpec;
use crate::undo::perform::{Outcome, undo_injection};
use squall_model::event::{Body, Observation, Place, Presence};
use squall_model::id::{InjectionId, RuleId};
use squall_model::process::ProcessIdentity;
use squall_model::proxying::{Followed, LINE_MAX, SERVED, Start, ToProxy};
use squall_model::syntax::Class;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long it may take to listen.
const READY: Duration = Duration::from_secs(5);
/// What is told of exchanges that were lost.
pub(super) const EXCHANGES: &str = squall_model::exchange::LOST;

/// The proxy of this run, while it runs.
#[derive(Debug)]
pub(super) struct Proxied {
    pub(super) process: ProcessIdentity,
    listen: String,
    socket: PathBuf,
    follower: Option<JoinHandle<()>>,
}

fn os(action: &str, object: &Path, source: io::Error) -> FaultError {
    FaultError::Os {
        action: action.to_owned(),
        object: object.display().to_string(),
        source,
    }
}

/// The injection that stands for it in the journal: of a rule that no file can have.
pub(super) fn injection(shared: &Shared) -> InjectionId {
    InjectionId::derive(&shared.run, RuleId(u32::MAX - 1), 0)
}

/// Starts it, unless it runs; gives the variables that lead the workload to it.
pub(super) fn start(
    spec: &ProxySpec,
    shared: &Arc<Shared>,
) -> Result<Vec<(String, String)>, FaultError> {
    let mut running = shared.proxy.lock().unwrap_or_else(PoisonError::into_inner);
    if running.is_none() {
        *running = Some(begin(spec, shared)?);
    }
    let listen = running.as_ref().map_or("", |one| one.listen.as_str());
    let base = format!("http://{listen}");
    let mut env = vec![
        ("OPENAI_BASE_URL".to_owned(), format!("{base}/v1")),
        ("ANTHROPIC_BASE_URL".to_owned(), base.clone()),
    ];
    for (name, rest) in &spec.env {
        env.push((name.clone(), format!("{base}{rest}")));
    }
    Ok(env)
}

fn begin(spec: &ProxySpec, shared: &Arc<Shared>) -> Result<Proxied, FaultError> {
    let run = &shared.run.0;
    let socket = place::make(run)
        .map_err(|error| os("make", Path::new(run), error))?
        .with_extension(place::PROXY);
    let about = About {
        rule: None,
        kind: SERVED.to_owned(),
        class: Class::Served,
        target: format!("a proxy in front of {}", spec.upstream),
        process: None,
        aim: Place::default(),
        mechanism: "a child of the guard that listens on 127.0.0.1".to_owned(),
    };
    let mut host = Host::new(
        shared.journal.clone(),
        injection(shared),
        about,
        shared.seed,
        shared.cancelled.clone(),
        shared.spawner.clone(),
    );
    let config = Start {
        upstream: spec.upstream.clone(),
        socket: socket.display().to_string(),
        seed: shared.seed,
    };
    let config = serde_json::to_value(config).unwrap_or_default();
    let process = host.serve_told(SERVED, config, READY, &mut || {})?;
    let order = ToProxy::Tell {
        rule: String::new(),
    };
    let told = crate::proxy::ask(&socket, &order)
        .map_err(|error| os("ask", &socket, error))?
        .ok_or_else(|| os("ask", &socket, io::ErrorKind::NotConnected.into()))?;
    let seen = Observation {
        presence: Presence::Present,
        source: "proxy".to_owned(),
        evidence: format!("process {} listens on {}", process.pid, told.listen),
    };
    host.land(None, vec![seen])?;
    let stream = followed(&socket).map_err(|error| os("follow", &socket, error))?;
    let follower = {
        let shared = shared.clone();
        std::thread::Builder::new()
            .spawn(move || follow(stream, &shared))
            .map_err(|error| os("follow", &socket, error))?
    };
    shared.event(Body::Note {
        text: format!(
            "a proxy in front of {} listens on {} for the workload",
            spec.upstream, told.listen
        ),
    });
    shared
        .scope
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .proxy = Some(socket.clone());
    Ok(Proxied {
        process,
        listen: told.listen,
        socket,
        follower: Some(follower),
    })
}

fn followed(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    let mut order = serde_json::to_vec(&ToProxy::Follow)?;
    order.push(b'\n');
    stream.write_all(&order)?;
    Ok(stream)
}

/// Tells every exchange, until the proxy ends.
fn follow(stream: UnixStream, shared: &Shared) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match (&mut lines).take(LINE_MAX as u64).read_line(&mut line) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        match serde_json::from_str(&line) {
            Ok(Followed::Exchange(exchange)) => shared.event(Body::Exchanged { exchange }),
            Ok(Followed::Lost(count)) => lost(shared, count),
            Err(_) => lost(shared, 1),
        }
    }
}

fn lost(shared: &Shared, count: u64) {
    shared.event(Body::Dropped {
        what: EXCHANGES.to_owned(),
        count,
    });
}

/// Ends it, and waits for the last that it has told.
pub(super) fn end(shared: &Shared, because: &str) {
    let outcome = undo_injection(&shared.journal, &injection(shared), because);
    let proxied = shared
        .proxy
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(mut proxied) = proxied {
        // Its end closes the line, also where it was killed.
        let follower = proxied.follower.take();
        let ended = follower.is_none_or(|follower| follower.join().is_ok());
        if !ended {
            lost(shared, 1);
        }
        // One that was killed leaves it.
        std::fs::remove_file(&proxied.socket).unwrap_or_default();
    }
    if let Some(Outcome {
        stuck: Some(stuck), ..
    }) = outcome
    {
        let text = format!("the proxy did not end: {}; {}", stuck.because, stuck.remedy);
        shared.event(Body::Note { text });
    }
}

/// Whether this process was the proxy, which nobody has ended.
pub(super) fn was(shared: &Shared, pid: u32) -> bool {
    let running = shared.proxy.lock().unwrap_or_else(PoisonError::into_inner);
    running.as_ref().is_some_and(|one| one.process.pid == pid)
}

/// An injection that is armed and waits for its prey.
pub(super) struct Armed {
    /// Whether it has acted.
    pub(super) look: Box<dyn Fn() -> Option<Observation> + Send>,
    pub(super) rank: Option<u32>,
    pub(super) is_aimed: bool,
}

impl std::fmt::Debug for Armed {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Armed").finish_non_exhaustive()
    }
}

/// How often it is looked whether an armed injection has acted.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The last look, before it is undone: it has landed, or it never will.
pub(super) fn last_look(injection: &InjectionId, shared: &Shared) {
    let mut armed = shared.armed.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(one) = armed.remove(injection) else {
        return;
    };
    let seen = (one.look)();
    let body = match seen {
        Some(seen) if seen.presence == Presence::Present => landed(injection, &one, seen, shared),
        seen => Body::NotLanded {
            injection: injection.clone(),
            because: "it was armed and never acted".to_owned(),
            observations: seen.into_iter().collect(),
        },
    };
    shared.tell(FromJob::Event {
        boot_ns: procs::boot_ns(),
        body: Box::new(body),
    });
}

/// That it has landed, where training is now.
pub(super) fn landed(
    injection: &InjectionId,
    armed: &Armed,
    seen: Observation,
    shared: &Shared,
) -> Body {
    use squall_model::event::Precision;
    let precision = match armed.is_aimed {
        true => Precision::Observed,
        false => Precision::NotAimed,
    };
    Body::Landed {
        injection: injection.clone(),
        place: shared.position(armed.rank),
        precision,
        held_ns: None,
        observations: vec![seen],
    }
}
