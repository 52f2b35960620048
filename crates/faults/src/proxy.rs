//! Faults of what goes through a proxy of ours: rules that are set on it, over its Unix socket. The proxy is another process; its rules end with it.

use crate::fault::{Door, FaultError, Target, Unmet};
use crate::undo::Undo;
use squall_model::event::{Observation, Presence};
use squall_model::id::InjectionId;
use squall_model::proxying::{FromProxy, LINE_MAX, ToProxy};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a proxy may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Asks the proxy behind a socket. None: nobody listens there, so there is no proxy any more.
pub fn ask(socket: &Path, order: &ToProxy) -> io::Result<Option<FromProxy>> {
    let stream = match UnixStream::connect(socket) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        connected => connected?,
    };
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut bytes = serde_json::to_vec(order)?;
    bytes.push(b'\n');
    let mut line = String::new();
    let told = (&stream)
        .write_all(&bytes)
        .and_then(|()| BufReader::new((&stream).take(LINE_MAX as u64)).read_line(&mut line));
    match told {
        // It ended while it was asked.
        Ok(0) => return Ok(None),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            return Ok(None);
        }
        told => told?,
    };
    let answer: FromProxy = serde_json::from_str(&line)?;
    match answer.refused {
        Some(because) => Err(io::Error::other(because)),
        None => Ok(Some(answer)),
    }
}

/// The rule of an injection carries its id.
pub fn rule_name(injection: &InjectionId) -> String {
    format!("squall-{injection}")
}

/// What is missing where no proxy is aimed at.
pub fn unmet(target: &Target) -> Vec<Unmet> {
    let Ok(socket) = socket_of(target) else {
        return vec![Unmet {
            what: "a proxy as its target".to_owned(),
            remedy: "name one by `proxy`".to_owned(),
        }];
    };
    let order = ToProxy::Tell {
        rule: String::new(),
    };
    match ask(socket, &order) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => vec![Unmet {
            what: format!("the right to speak to the proxy at {}", socket.display()),
            remedy: "run squall as the user who started the proxy".to_owned(),
        }],
        // Whether it answers is seen when it is injected.
        _ => Vec::new(),
    }
}

/// The socket of the proxy that a target names.
///
/// # Errors
/// When it is no proxy.
pub fn socket_of(target: &Target) -> Result<&PathBuf, FaultError> {
    match target {
        Target::Proxy { socket } => Ok(socket),
        other => Err(FaultError::Target {
            target: format!("{other:?}"),
            because: "it is not a proxy".to_owned(),
        }),
    }
}

/// Sets a rule, through the door.
///
/// # Errors
/// When the proxy is gone or does not take the rule.
pub fn set(
    target: &Target,
    mut rule: serde_json::Value,
    door: &mut dyn Door,
) -> Result<(), FaultError> {
    let socket = socket_of(target)?.clone();
    let name = rule_name(door.injection());
    rule["name"] = name.clone().into();
    let undo = Undo::RemoveRule {
        socket: socket.clone(),
        rule: name,
    };
    let order = ToProxy::Set { rule };
    door.change(
        undo,
        "set a rule on the proxy",
        &mut || match ask(&socket, &order)? {
            Some(_) => Ok(()),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "no proxy listens there any more",
            )),
        },
    )
}

fn seen(presence: Presence, source: &str, evidence: String) -> Observation {
    Observation {
        presence,
        source: source.to_owned(),
        evidence,
    }
}

/// Whether the rule is set, as the proxy says. What it has done by then is told too.
pub fn presence(socket: &Path, rule: &str) -> Observation {
    let order = ToProxy::Tell {
        rule: rule.to_owned(),
    };
    match ask(socket, &order) {
        Err(error) => seen(Presence::Unknown, "proxy", format!("rule {rule}: {error}")),
        Ok(None) => seen(
            Presence::Absent,
            "proxy",
            format!(
                "nobody listens at {}: the proxy is gone, and the rule with it",
                socket.display()
            ),
        ),
        Ok(Some(told)) => {
            let (presence, state) = match told.is_set {
                true => (Presence::Present, "is set"),
                false => (Presence::Absent, "is not set"),
            };
            let evidence = format!(
                "rule {rule} {state}; it acted {} in the {} that came while it was set",
                times(told.fired),
                requests(told.asked)
            );
            seen(presence, "proxy", evidence)
        }
    }
}

/// Whether the rules that these changes set have acted: with where they acted first, or how many requests came in vain.
pub fn fired(changes: &[Undo]) -> Observation {
    let mut last = None;
    for undo in changes {
        let Undo::RemoveRule { socket, rule } = undo else {
            continue;
        };
        let order = ToProxy::Tell { rule: rule.clone() };
        last = Some(match ask(socket, &order) {
            Err(error) => seen(Presence::Unknown, "proxy", format!("rule {rule}: {error}")),
            Ok(None) => seen(Presence::Unknown, "proxy", "the proxy is gone".to_owned()),
            Ok(Some(told)) => match told.first {
                Some(first) => seen(
                    Presence::Present,
                    "proxy",
                    format!("rule {rule} acted {first}"),
                ),
                None => seen(
                    Presence::Absent,
                    "proxy",
                    format!(
                        "rule {rule} was set and has never acted; {} came meanwhile",
                        requests(told.asked)
                    ),
                ),
            },
        });
    }
    last.unwrap_or_else(|| seen(Presence::Unknown, "proxy", "no rule was set".to_owned()))
}

/// Takes a rule off its proxy. One that is not there, or whose proxy is gone, needs no more.
pub(crate) fn remove(socket: &Path, rule: &str) -> io::Result<()> {
    let order = ToProxy::Remove {
        rule: rule.to_owned(),
    };
    ask(socket, &order).map(drop)
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn requests(count: u64) -> String {
    match count {
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    }
}
