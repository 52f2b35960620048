//! `network-reset`: established TCP connections are reset, as by a firewall that has lost its state.

use crate::fault::{Door, Fault, FaultError, FaultKind, Target, Unmet};
use crate::kind::HostFacts;
use crate::network::{Network, Peer};
use crate::packet::ssh::{self, Session};
use crate::packet::traffic::{Direction, Traffic, found, place};
use crate::packet::{problem, said, tcp, unmet_raw, unmet_rights};
use crate::sys::diag;
use crate::sys::namespace::Namespace;
use crate::sys::raw::Sender;
use crate::undo::Undo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::event::{Observation, Presence};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

/// The most connections at once: their names must fit into one record of the journal.
const CONNECTIONS_MAX: u32 = 500;
/// How long a connection may take to be gone.
const GONE: Duration = Duration::from_secs(1);
/// Begins what is recorded of an injection.
const RECORD: &str = "reset in network namespace ";

/// Resets established TCP connections between the target and its peers, chosen by the run's seed where there are more. SSH sessions are spared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NetworkReset {
    /// The other side: IPv4 and IPv6 addresses, networks, or hosts' names, at most 64. Every peer unless said; then `ports` must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// TCP ports, at most 64, at either end of a connection. Every port unless said; then `peers` must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// The most connections that one injection resets, 1 to 500. 1 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

impl FaultKind for NetworkReset {
    const INFO: KindInfo = KindInfo {
        kind: "network-reset",
        summary: "Established TCP connections are reset at both ends.",
        class: Class::OneShot,
        layer: "TCP: each end is sent a reset that looks like the other's and reports ECONNRESET; where its socket does not answer, the kernel ends it and this end reports ECONNABORTED",
        requires: "CAP_NET_ADMIN and CAP_NET_RAW in the network namespace",
        after_kill: "nothing is left to remove",
        targets: said::TARGETS,
        example: "network-reset: {target: {namespace: rank-1}, at: {time: 10s}, ports: [29500], connections: 2}",
    };
}

impl Fault for NetworkReset {
    fn unmet(&self, target: &Target, facts: &HostFacts) -> Vec<Unmet> {
        let mut unmet = unmet_rights(target, facts);
        unmet.extend(unmet_raw(facts));
        unmet
    }

    fn mechanism(&self, _: &HostFacts) -> String {
        "a reset for each end by a raw socket, else by the kernel's socket tables (SOCK_DESTROY)"
            .to_owned()
    }

    fn inject(&self, target: &Target, host: &mut dyn Door) -> Result<(), FaultError> {
        if let Some(problem) = self.problems().into_iter().next() {
            return Err(FaultError::Limit {
                action: "reset connections".to_owned(),
                because: problem.message,
            });
        }
        let place = found(target)?;
        let networks = self.traffic().networks()?;
        let listed = place.inside(|| self.matching(&networks));
        let mut matching = listed.map_err(|source| FaultError::Os {
            action: "list the connections".to_owned(),
            object: format!("{target:?}"),
            source,
        })?;
        if matching.is_empty() {
            return Err(FaultError::Target {
                target: format!("{target:?}"),
                because: "no established connection matches".to_owned(),
            });
        }
        let mut chosen = Vec::new();
        while chosen.len() < self.most() && !matching.is_empty() {
            let draw = host.draw(&format!("connection {}", chosen.len()));
            let at = ((draw * matching.len() as f64) as usize).min(matching.len() - 1);
            chosen.push(matching.swap_remove(at));
        }
        let guess = (host.draw("number") * f64::from(u32::MAX)) as u32;
        let undo = Undo::Nothing {
            act: record(place.inode(), &chosen),
        };
        let action = format!("reset {} connections", chosen.len());
        host.change(undo, &action, &mut || {
            place.inside(|| reset_all(&chosen, guess))
        })
    }

    fn observe(&self, target: &Target, changes: &[Undo]) -> Vec<Observation> {
        let Some((inode, reset)) = changes.iter().find_map(recorded) else {
            return Vec::new();
        };
        let read = place(target)
            .map_err(io::Error::other)
            .and_then(|path| Namespace::open_known(path.as_deref(), inode))
            .and_then(|place| place.inside(|| left(&reset)));
        let (presence, evidence) = match read {
            Ok(left) if left.is_empty() => (
                Presence::Present,
                format!("{} no longer established", connections(&reset)),
            ),
            Ok(left) => (
                Presence::Unknown,
                format!("{} still established", connections(&left)),
            ),
            Err(error) => (Presence::Unknown, format!("/proc/net/tcp: {error}")),
        };
        vec![Observation {
            presence,
            source: "kernel state".to_owned(),
            evidence,
        }]
    }

    fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = self.traffic().problems(true);
        if !(1..=CONNECTIONS_MAX as usize).contains(&self.most()) {
            problems.push(problem(
                "connections",
                format!("1 to {CONNECTIONS_MAX} connections are reset"),
                "write a number in this range",
            ));
        }
        problems
    }
}

impl NetworkReset {
    fn most(&self) -> usize {
        self.connections.unwrap_or(1) as usize
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            peers: self.peers.clone(),
            ports: self.ports.clone(),
            protocol: None,
            direction: Direction::Both,
            queries: None,
        }
    }

    /// The connections that are meant, each once though both its ends are here, in an order of their own.
    fn matching(&self, networks: &[Network]) -> io::Result<Vec<Session>> {
        let spared: BTreeSet<Session> = ssh::sessions()?.into_iter().collect();
        let mut found: BTreeSet<Session> = BTreeSet::new();
        for (session, _) in ssh::connections()? {
            let ports = [session.local.port(), session.remote.port()];
            let meant = (self.ports.is_empty()
                || ports.iter().any(|port| self.ports.contains(port)))
                && (networks.is_empty()
                    || networks
                        .iter()
                        .any(|network| network.holds(session.remote.ip())));
            let known = found.contains(&turned(&session)) || spared.contains(&session);
            if meant && !known {
                found.insert(session);
            }
        }
        Ok(found.into_iter().collect())
    }
}

/// As its other end sees it.
fn turned(session: &Session) -> Session {
    Session {
        local: session.remote,
        remote: session.local,
    }
}

fn record(inode: u64, sessions: &[Session]) -> String {
    let ends = |one: &Session| format!("{}-{}", one.local, one.remote);
    let ends: Vec<String> = sessions.iter().map(ends).collect();
    format!("{RECORD}{inode} of {}", ends.join(" "))
}

/// The namespace and the connections of a record.
fn recorded(undo: &Undo) -> Option<(u64, Vec<Session>)> {
    let Undo::Nothing { act } = undo else {
        return None;
    };
    let (inode, ends) = act.strip_prefix(RECORD)?.split_once(" of ")?;
    let sessions = ends.split(' ').map(|ends| {
        let (local, remote) = ends.split_once('-')?;
        Some(Session {
            local: local.parse().ok()?,
            remote: remote.parse().ok()?,
        })
    });
    Some((inode.parse().ok()?, sessions.collect::<Option<_>>()?))
}

fn connections(sessions: &[Session]) -> String {
    let named = sessions.iter().take(4);
    let mut text: Vec<String> = named
        .map(|one| format!("{} ↔ {}", one.local, one.remote))
        .collect();
    if sessions.len() > text.len() {
        text.push(format!("{} more", sessions.len() - text.len()));
    }
    text.join(", ")
}

/// The ends of those that are still established in the network namespace of this thread, after they had time to go.
fn left(sessions: &[Session]) -> io::Result<Vec<Session>> {
    let deadline = Instant::now() + GONE;
    loop {
        let there = ssh::connections()?;
        let there: BTreeSet<Session> = there.into_iter().map(|(session, _)| session).collect();
        let left: Vec<Session> = sessions
            .iter()
            .flat_map(|one| [*one, turned(one)])
            .filter(|end| there.contains(end))
            .collect();
        if left.is_empty() || Instant::now() >= deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// By packets; what does not answer is ended by the kernel.
fn reset_all(sessions: &[Session], guess: u32) -> io::Result<()> {
    let sender = Sender::open()?;
    for session in tcp::reset(sessions, guess, &sender)? {
        diag::destroy(session.local, session.remote)?;
    }
    for session in left(sessions)? {
        diag::destroy(session.local, session.remote)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_connections() {
        let session = |local: &str, remote: &str| Session {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        };
        let sessions = vec![
            session("10.0.0.1:80", "10.0.0.2:4711"),
            session("[fd00::1]:80", "[fd00::2]:4711"),
        ];
        let act = record(7, &sessions);
        assert_eq!(recorded(&Undo::Nothing { act }), Some((7, sessions)));
        let act = "SIGKILL to process 1".to_owned();
        assert_eq!(recorded(&Undo::Nothing { act }), None);
    }

    #[test]
    fn the_longest_record_fits_into_the_journal() {
        let end = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let session = Session {
            local: end.parse().unwrap(),
            remote: end.parse().unwrap(),
        };
        let act = record(u64::MAX, &[session; CONNECTIONS_MAX as usize]);
        assert!(
            act.len() + 4096 < crate::journal::codec::RECORD_MAX,
            "{}",
            act.len()
        );
    }

    #[test]
    fn whom_it_resets_and_how_many_is_said() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkReset = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        assert_eq!(keys(r#"{"ports": [80]}"#), [""; 0]);
        assert_eq!(keys("{}"), ["peers"]);
        assert_eq!(
            keys(r#"{"ports": [80], "connections": 0}"#),
            ["connections"]
        );
    }
}
