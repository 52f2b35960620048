//! `network-dns`: names are not found, found elsewhere, found late, or never, for those who look them up.

use crate::fault::FaultKind;
use crate::network::Peer;
use crate::packet::dns::{self, Act};
use crate::packet::traffic::{Direction, LIST_MAX, Protocol, Queries, Traffic};
use crate::packet::{Treatment, chance, problem, queue_fault, said};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::syntax::{Class, ConfigProblem, KindInfo};
use squall_model::units::{Percent, Span};
use std::net::IpAddr;

/// The longest delay, in seconds.
const LONGEST_S: u64 = 60;
/// The most addresses in a wrong answer: they fit into the smallest datagram that every resolver takes.
const ADDRESSES_MAX: usize = 16;

/// Treats queries for names on port 53, by UDP and TCP. Exactly one of `fail`, `answers`, `slow` and `drop` is given.
///
/// No file is touched. Queries by UDP are answered in the name of their server, which never sees them. In a TCP stream the server's own
/// answer is changed to the same length; an answer that spans packets keeps its records, and only its code changes.
/// Answers that were changed may not be kept: their time to live is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkDns {
    /// The names, each with all below it: `example.org` is also `www.example.org`. `.` is every name. At most 64.
    pub names: Vec<String>,
    /// Queries fail, with this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<Failure>,
    /// Queries for addresses get these instead, at most 16; for a family of which none is given, an answer without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<IpAddr>,
    /// Queries leave later by this much. At most 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<Span>,
    /// Queries are lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
    /// The chance of each query to be treated, drawn from the run's seed. 100% unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// The name servers: IPv4 and IPv6 addresses, networks, or hosts' names, at most 64. All of them unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Only queries by this transport protocol. Both unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// How a query fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is no such name.
    Nxdomain,
    /// The server could not find out.
    Servfail,
    /// The server does not answer this client.
    Refused,
}

impl FaultKind for NetworkDns {
    const INFO: KindInfo = KindInfo {
        kind: "network-dns",
        summary: "Names are not found, found elsewhere, found late, or never.",
        class: Class::Served,
        layer: "the kernel's packet filter, on port 53: resolvers see the answer, the silence or the wait; what they keep in their own caches, and names looked up over TLS or HTTPS, are not met",
        requires: said::REQUIRES,
        after_kill: said::AFTER_KILL,
        targets: said::TARGETS,
        example: "network-dns: {target: {namespace: rank-1}, at: {time: 10s}, for: 20s, names: [example.org], fail: nxdomain}",
    };
}

impl NetworkDns {
    fn traffic(&self) -> Traffic {
        let by_answer = self.fail.is_some() || !self.answers.is_empty();
        let first = self.names.first().map_or("", String::as_str);
        Traffic {
            peers: self.peers.clone(),
            ports: vec![dns::PORT],
            protocol: self.protocol,
            // What is answered for a server is answered wherever the query is met; what waits is to wait once.
            direction: if by_answer {
                Direction::Both
            } else {
                Direction::Out
            },
            queries: Some(Queries {
                question: dns::question(first).unwrap_or_default(),
                by_answer,
            }),
        }
    }

    fn treatment(&self) -> Treatment {
        let act = match (self.fail, self.slow) {
            (Some(failure), _) => Act::Fail {
                code: match failure {
                    Failure::Servfail => 2,
                    Failure::Nxdomain => 3,
                    Failure::Refused => 5,
                },
            },
            (None, Some(delay)) => Act::Slow {
                delay_ns: delay.as_nanos(),
            },
            (None, None) if self.drop => Act::Drop,
            (None, None) => Act::Answer {
                addresses: self.answers.clone(),
            },
        };
        let plain = |name: &String| name.trim_end_matches('.').to_ascii_lowercase();
        Treatment::Queries {
            names: self.names.iter().map(plain).collect(),
            act,
            chance: self.share.map_or(1.0, chance),
        }
    }

    fn own_problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let is_name = |name: &String| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let labels = name.trim_end_matches('.').split('.');
            name == "."
                || (name.bytes().all(allowed)
                    && labels.clone().all(|label| !label.is_empty())
                    && dns::question(name).is_some())
        };
        if self.names.is_empty() || self.names.len() > LIST_MAX {
            problems.push(problem(
                "names",
                format!(
                    "{} names are given, and 1 to {LIST_MAX} are needed",
                    self.names.len()
                ),
                "write e.g. `names: [example.org]`; `names: [.]` is every name",
            ));
        }
        if let Some(wrong) = self.names.iter().find(|name| !is_name(name)) {
            problems.push(problem(
                "names",
                format!("`{}` is no name of DNS", wrong.escape_debug()),
                "write letters, digits, `-`, `_` and dots, e.g. `example.org`",
            ));
        }
        let ways = [
            self.fail.is_some(),
            !self.answers.is_empty(),
            self.slow.is_some(),
            self.drop,
        ];
        if ways.iter().filter(|given| **given).count() != 1 {
            problems.push(problem(
                "fail",
                "exactly one of `fail`, `answers`, `slow` and `drop: true` says what becomes of a query",
                "write e.g. `fail: nxdomain` or `answers: [192.0.2.1]`",
            ));
        }
        if self.answers.len() > ADDRESSES_MAX {
            problems.push(problem(
                "answers",
                format!(
                    "{} addresses are more than {ADDRESSES_MAX}",
                    self.answers.len()
                ),
                "write fewer",
            ));
        }
        let longest = LONGEST_S * 1_000_000_000;
        if self
            .slow
            .is_some_and(|slow| slow.as_nanos() == 0 || slow.as_nanos() > longest)
        {
            problems.push(problem(
                "slow",
                format!("a query may wait for more than 0s and at most {LONGEST_S}s"),
                "write e.g. `slow: 2s`, or `drop: true`",
            ));
        }
        if self.share.is_some_and(|share| share.0 <= 0.0) {
            problems.push(problem(
                "share",
                "a share of 0% treats nothing",
                "write more than 0%, e.g. `share: 50%`",
            ));
        }
        problems
    }
}

queue_fault!(NetworkDns);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn names_and_exactly_one_way_are_written() {
        let keys = |text: &str| -> Vec<&str> {
            let fault: NetworkDns = serde_json::from_str(text).unwrap();
            fault.problems().iter().map(|one| one.key).collect()
        };
        for fine in [
            r#"{"names": ["."], "fail": "nxdomain"}"#,
            r#"{"names": ["example.org."], "answers": ["192.0.2.1", "::1"]}"#,
            r#"{"names": ["_x.a-b.org"], "slow": "2s", "share": "50%"}"#,
            r#"{"names": ["a"], "drop": true, "peers": ["127.0.0.11"], "protocol": "udp"}"#,
        ] {
            assert_eq!(keys(fine), [""; 0], "{fine}");
        }
        assert_eq!(keys(r#"{"names": [], "fail": "refused"}"#), ["names"]);
        for wrong in ["", "a..b", "a b", "é", "a/b"] {
            let text = format!(r#"{{"names": ["{wrong}"], "fail": "servfail"}}"#);
            assert_eq!(keys(&text), ["names"], "{wrong}");
        }
        assert_eq!(keys(r#"{"names": ["a"]}"#), ["fail"]);
        assert_eq!(
            keys(r#"{"names": ["a"], "fail": "nxdomain", "drop": true}"#),
            ["fail"]
        );
        assert_eq!(keys(r#"{"names": ["a"], "slow": "0s"}"#), ["slow"]);
        assert_eq!(
            keys(r#"{"names": ["a"], "drop": true, "share": "0%"}"#),
            ["share"]
        );
    }
}
