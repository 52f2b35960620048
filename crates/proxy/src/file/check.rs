//! What a file must say besides its shape.

use super::{FaultConfig, PerConfig, ProxyFile, RuleConfig, StreamFault, WayConfig};
use crate::proxy::{address, is_secured, speaks_http};
use crate::web::{Pace, WebFault};
use squall_model::load::{Node, Reporter};
use std::collections::BTreeSet;

pub(super) fn check(file: &ProxyFile, tree: &Node, report: &mut Reporter<'_>) {
    let nodes = tree.get("proxies").map(Node::items).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (proxy, node) in file.proxies.iter().zip(nodes) {
        let place = |key: &str| node.get(key).unwrap_or(node).span;
        if !names.insert(&proxy.name) {
            report.problem(
                place("name"),
                "twice",
                "another proxy has this name",
                "give each its own",
            );
        }
        let is_mock = proxy.upstream.parse::<Pace>().is_ok();
        let upstream = address(&proxy.upstream);
        for (key, address) in [
            ("listen", proxy.listen.as_str()),
            ("upstream", upstream.as_str()),
        ] {
            if !(is_address(address) || is_mock && key == "upstream") {
                let help = "write it like `127.0.0.1:6379`, or a service that is to be spoken to in HTTP like `http://127.0.0.1:8000` or `https://example.org`";
                report.problem(place(key), "address", "this is no `host:port`", help);
            }
        }
        for (key, given) in [
            ("ca", proxy.ca.is_some()),
            ("server-name", proxy.server_name.is_some()),
        ] {
            if given && !is_secured(&proxy.upstream) {
                let help = "write the upstream like `https://host` or `tls://host:port`, or leave the key out";
                report.problem(
                    place(key),
                    "no-tls",
                    "the service is not spoken to in TLS",
                    help,
                );
            }
        }
        let nodes = node.get("rules").map(Node::items).unwrap_or_default();
        check_rules(&proxy.rules, speaks_http(&proxy.upstream), nodes, report);
    }
}

fn check_rules(rules: &[RuleConfig], speaks_http: bool, nodes: &[Node], report: &mut Reporter<'_>) {
    let mut names = BTreeSet::new();
    for (rule, node) in rules.iter().zip(nodes) {
        let place = |key: &str| node.get(key).unwrap_or(node).span;
        if !names.insert(rule.name()) {
            let message = format!("another rule of this proxy is named `{}`", rule.name());
            report.problem(place("name"), "twice", &message, "give each its own `name`");
        }
        match &rule.fault {
            FaultConfig::Stream(fault) => check_stream(fault, rule, node, speaks_http, report),
            FaultConfig::Web(fault) => check_web(fault, rule, node, speaks_http, report),
        }
    }
}

fn check_stream(
    fault: &StreamFault,
    rule: &RuleConfig,
    node: &Node,
    speaks_http: bool,
    report: &mut Reporter<'_>,
) {
    let place = |key: &str| node.get(key).unwrap_or(node).span;
    if speaks_http {
        let message = format!("{} does not act on a proxy that speaks HTTP", fault.name());
        report.problem(
            place("fault"),
            "kind",
            &message,
            "write the upstream without `http://`, or take a fault `http-*`",
        );
    }
    if let Some(key) = fault.zero() {
        report.problem(
            place("fault"),
            "zero",
            &format!("`{key}` is zero"),
            "write at least 1 B",
        );
    }
    let chunks = matches!(
        fault,
        StreamFault::StreamLatency { .. } | StreamFault::StreamCorrupt { .. }
    );
    if rule.per == PerConfig::Chunk && !chunks {
        let message = format!("{} does not act on chunks by themselves", fault.name());
        report.problem(place("per"), "per-chunk", &message, "leave `per` out");
    }
    if rule.when.is_some() {
        let message = format!("{} sees no requests", fault.name());
        report.problem(place("when"), "when", &message, "leave `when` out");
    }
}

fn check_web(
    fault: &WebFault,
    rule: &RuleConfig,
    node: &Node,
    speaks_http: bool,
    report: &mut Reporter<'_>,
) {
    let place = |key: &str| node.get(key).unwrap_or(node).span;
    if !speaks_http {
        let message = format!("{} acts only on a proxy that speaks HTTP", fault.name());
        report.problem(
            place("fault"),
            "kind",
            &message,
            "write the upstream like `http://127.0.0.1:8000`",
        );
    }
    for (key, given) in [
        ("way", rule.way != WayConfig::Downstream),
        ("per", rule.per != PerConfig::Connection),
    ] {
        if given {
            let message = format!("`{key}` means nothing to {}", fault.name());
            report.problem(place(key), "kind", &message, &format!("leave `{key}` out"));
        }
    }
    let fields = match fault {
        WebFault::HttpStatus {
            headers,
            retry_after,
            ..
        } => headers
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value])
            .chain(retry_after.as_deref())
            .collect(),
        WebFault::HttpContentType { value } => vec![value.as_str()],
        _ => Vec::new(),
    };
    if fields.iter().any(|text| text.contains(['\r', '\n'])) {
        report.problem(
            place("fault"),
            "line-break",
            "a header field cannot hold a line break",
            "remove it",
        );
    }
}

/// `host:port`, with a host that may be empty.
pub(super) fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !text.contains(['/', ' ', '@'])
}
