//! The proxy file: what `squall proxy FILE` starts with.

use crate::proxy::{HTTP, speaks_http};
use crate::stream::{Fault, Per, Rule, Way};
use crate::web::{Pace, WebFault, WebRule, When};
use crate::{Proxies, ProxyError, Wanted};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use squall_model::diagnostic::Diagnostic;
use squall_model::load::{self, Node, Reporter};
use squall_model::units::{Bytes, Percent, Span};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// The name of the proxy file's schema.
pub const PROXY_ID: &str = "squall.proxy/1";

/// Proxies and the rules they start with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxyFile {
    /// Version of this file format: 1.
    pub version: u32,
    /// What every draw starts from: the same seed and the same order of connections give the same firings. 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The proxies.
    pub proxies: Vec<ProxyConfig>,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProxyConfig {
    /// Unique among the proxies.
    pub name: String,
    /// Where clients connect, `host:port`. Unless given, a free port of 127.0.0.1, which is told at the start.
    #[serde(default = "anywhere")]
    pub listen: String,
    /// The service: `host:port`, `http://host:port`, or `mock`, which answers by itself in OpenAI's and Anthropic's shapes (`mock:first-token=20ms,token=5ms,tokens=16`).
    pub upstream: String,
    /// Rules, in the order in which bytes pass them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleConfig>,
}

fn anywhere() -> String {
    "127.0.0.1:0".into()
}

/// One fault, set on a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleConfig {
    /// Unique in its proxy. Unless given, the name of the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The direction that it acts on: from the service to the client unless given.
    #[serde(default)]
    pub way: WayConfig,
    /// Share of connections that it acts on; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<Percent>,
    /// What the probability is drawn for: each connection unless given. Chunks only for stream-latency and stream-corrupt.
    #[serde(default)]
    pub per: PerConfig,
    /// Which requests it acts on: all unless given. For faults `http-*` and `llm-*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What it does: a fault `stream-*` of the bytes, or, where the upstream is `http://…`, `http-*` or `llm-*`.
    pub fault: FaultConfig,
}

/// A direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WayConfig {
    /// From the client to the service.
    Upstream,
    /// From the service to the client.
    #[default]
    Downstream,
    /// Each of the two.
    Both,
}

/// What a probability is drawn for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PerConfig {
    /// Once for each connection.
    #[default]
    Connection,
    /// For each chunk (stream-latency) or block (stream-corrupt), by its place in the stream.
    Chunk,
}

/// A fault: of a byte stream, or of HTTP and what is said in it.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultConfig {
    /// Of a byte stream.
    Stream(StreamFault),
    /// Of HTTP and of what models say.
    Web(WebFault),
}

impl Serialize for FaultConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FaultConfig::Stream(fault) => fault.serialize(serializer),
            FaultConfig::Web(fault) => fault.serialize(serializer),
        }
    }
}

/// The name tells which list it stands in.
impl<'de> Deserialize<'de> for FaultConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FaultConfig, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let is_stream = value
            .as_object()
            .is_some_and(|map| map.keys().all(|name| name.starts_with("stream-")));
        let read = match is_stream {
            true => serde_json::from_value(value).map(FaultConfig::Stream),
            false => serde_json::from_value(value).map(FaultConfig::Web),
        };
        read.map_err(serde::de::Error::custom)
    }
}

/// One list of both.
impl JsonSchema for FaultConfig {
    fn schema_name() -> Cow<'static, str> {
        "Fault".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = |schema: Schema| {
            schema
                .get("oneOf")
                .and_then(|list| list.as_array().cloned())
                .unwrap_or_default()
        };
        let all = [
            of(StreamFault::json_schema(generator)),
            of(WebFault::json_schema(generator)),
        ]
        .concat();
        let mut schema = schemars::json_schema!({"description": "A fault."});
        schema.insert("oneOf".to_owned(), all.into());
        schema
    }
}

/// A fault of a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StreamFault {
    /// Bytes arrive later, in order. At most 64 KiB are on their way at once, so a long delay also limits the rate.
    #[serde(rename_all = "kebab-case")]
    StreamLatency {
        /// By how much.
        delay: Span,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jitter: Option<Span>,
    },
    /// Bytes arrive at a limited rate.
    #[serde(rename_all = "kebab-case")]
    StreamBandwidth {
        /// So many bytes in each second, at least 1 B.
        per_second: Bytes,
    },
    /// The end of the stream arrives later.
    #[serde(rename_all = "kebab-case")]
    StreamSlowClose {
        /// By how much.
        delay: Span,
    },
    /// Nothing arrives, and the connection is closed after a time.
    #[serde(rename_all = "kebab-case")]
    StreamTimeout {
        /// When it is closed; never unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Span>,
    },
    /// Nothing arrives, and both ends get a TCP RST.
    #[serde(rename_all = "kebab-case")]
    StreamReset {
        /// When; at once unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Span>,
    },
    /// Bytes arrive in small pieces.
    #[serde(rename_all = "kebab-case")]
    StreamSlice {
        /// Mean size of a piece, at least 1 B.
        size: Bytes,
        /// Up to so much more or less, uniformly.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variation: Option<Bytes>,
        /// Time between two pieces; none unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pause: Option<Span>,
    },
    /// The connection is closed, in order, after so many bytes.
    #[serde(rename_all = "kebab-case")]
    StreamLimit {
        /// So many still arrive.
        bytes: Bytes,
    },
    /// One bit is flipped in each block.
    #[serde(rename_all = "kebab-case")]
    StreamCorrupt {
        /// Size of a block, at least 1 B.
        every: Bytes,
    },
    /// Bytes and the end of the stream vanish, and nobody is told.
    StreamHalfOpen {},
    /// Nothing arrives while the rule is set, and all of it when it is removed.
    StreamPartition {},
}

impl StreamFault {
    fn name(&self) -> &'static str {
        match self {
            StreamFault::StreamLatency { .. } => "stream-latency",
            StreamFault::StreamBandwidth { .. } => "stream-bandwidth",
            StreamFault::StreamSlowClose { .. } => "stream-slow-close",
            StreamFault::StreamTimeout { .. } => "stream-timeout",
            StreamFault::StreamReset { .. } => "stream-reset",
            StreamFault::StreamSlice { .. } => "stream-slice",
            StreamFault::StreamLimit { .. } => "stream-limit",
            StreamFault::StreamCorrupt { .. } => "stream-corrupt",
            StreamFault::StreamHalfOpen {} => "stream-half-open",
            StreamFault::StreamPartition {} => "stream-partition",
        }
    }

    fn fault(&self) -> Fault {
        let time = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
        match *self {
            StreamFault::StreamLatency { delay, jitter } => Fault::Latency {
                latency: delay.0,
                jitter: time(jitter),
            },
            StreamFault::StreamBandwidth { per_second } => Fault::Bandwidth { rate: per_second.0 },
            StreamFault::StreamSlowClose { delay } => Fault::SlowClose { delay: delay.0 },
            StreamFault::StreamTimeout { after } => Fault::Timeout {
                timeout: time(after),
            },
            StreamFault::StreamReset { after } => Fault::ResetPeer {
                timeout: time(after),
            },
            StreamFault::StreamSlice {
                size,
                variation,
                pause,
            } => Fault::Slicer {
                average: size.0,
                variation: variation.map_or(0, |size| size.0),
                delay: time(pause),
            },
            StreamFault::StreamLimit { bytes } => Fault::LimitData { bytes: bytes.0 },
            StreamFault::StreamCorrupt { every } => Fault::Corrupt { every: every.0 },
            StreamFault::StreamHalfOpen {} => Fault::HalfOpen,
            StreamFault::StreamPartition {} => Fault::Partition,
        }
    }

    /// The key and the value that make no sense, if any.
    fn zero(&self) -> Option<&'static str> {
        match *self {
            StreamFault::StreamBandwidth { per_second } if per_second.0 == 0 => Some("per-second"),
            StreamFault::StreamSlice { size, .. } if size.0 == 0 => Some("size"),
            StreamFault::StreamCorrupt { every } if every.0 == 0 => Some("every"),
            _ => None,
        }
    }
}

impl FaultConfig {
    fn name(&self) -> &'static str {
        match self {
            FaultConfig::Stream(fault) => fault.name(),
            FaultConfig::Web(fault) => fault.name(),
        }
    }
}

/// A rule of one of the two kinds.
pub(crate) enum AnyRule {
    Stream(Rule),
    Web(WebRule),
}

impl RuleConfig {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.fault.name())
    }

    /// The rule, armed.
    pub(crate) fn rule(&self) -> AnyRule {
        let probability = self.probability.map_or(1.0, |percent| percent.0 / 100.0);
        let fault = match &self.fault {
            FaultConfig::Stream(fault) => fault.fault(),
            FaultConfig::Web(fault) => {
                let when = self.when.clone().unwrap_or_default();
                let mut rule = WebRule::new(self.name(), fault.clone());
                (rule.probability, rule.when) = (probability, when);
                return AnyRule::Web(rule);
            }
        };
        let way = match self.way {
            WayConfig::Upstream => Way::Upstream,
            WayConfig::Downstream => Way::Downstream,
            WayConfig::Both => Way::Both,
        };
        let per = match self.per {
            PerConfig::Connection => Per::Connection,
            PerConfig::Chunk => Per::Chunk,
        };
        AnyRule::Stream(Rule {
            probability,
            per,
            ..Rule::new(self.name(), way, fault)
        })
    }

    /// Sets it on a proxy.
    pub(crate) fn set(&self, proxies: &Proxies, proxy: &str) -> Result<(), ProxyError> {
        match self.rule() {
            AnyRule::Stream(rule) => proxies.add_rule(proxy, rule).map(drop),
            AnyRule::Web(rule) => proxies.add_web_rule(proxy, rule).map(drop),
        }
    }
}

impl ProxyFile {
    /// A file with nothing in it.
    pub fn empty() -> ProxyFile {
        ProxyFile {
            version: 1,
            seed: None,
            proxies: Vec::new(),
        }
    }

    /// Makes its proxies.
    ///
    /// # Errors
    /// At the first that cannot be made.
    pub fn apply(&self, proxies: &Proxies) -> Result<(), ProxyError> {
        for config in &self.proxies {
            // Rules stand before the first client comes.
            let wanted = Wanted {
                name: config.name.clone(),
                listen: config.listen.clone(),
                upstream: config.upstream.clone(),
                enabled: false,
            };
            let seen = proxies.create(wanted)?;
            for rule in &config.rules {
                rule.set(proxies, &config.name)?;
            }
            proxies.update(&Wanted {
                enabled: true,
                ..seen.wanted
            })?;
        }
        Ok(())
    }
}

/// Reads a proxy file, or the list of proxies that Toxiproxy starts with.
///
/// # Errors
/// All problems of the file.
pub fn read(text: &str) -> Result<ProxyFile, Vec<Diagnostic>> {
    if text.trim_start().starts_with('[') {
        let proxies = load::read_other::<List>(
            &format!("proxies: {text}"),
            "squall.toxiproxy/1",
            |_, _, _| {},
        )?;
        let proxies = proxies.proxies.into_iter();
        let of = |one: Listed| ProxyConfig {
            name: one.name,
            listen: one.listen.unwrap_or_else(anywhere),
            upstream: one.upstream,
            rules: Vec::new(),
        };
        let on = proxies.filter(|one| one.enabled != Some(false)).map(of);
        return Ok(ProxyFile {
            proxies: on.collect(),
            ..ProxyFile::empty()
        });
    }
    load::read_other(text, PROXY_ID, check)
}

/// What is wrong with a rule on requests, each with what to write instead.
pub fn problems_of_rule(rule: &serde_json::Value) -> Vec<(String, Option<String>)> {
    let found = read_rule(rule, "mock").err().unwrap_or_default();
    found
        .into_iter()
        .map(|one| (one.message, one.help))
        .collect()
}

/// Reads one rule of a proxy that leads to `upstream`, as strictly as a file.
///
/// # Errors
/// All problems of the rule.
pub(crate) fn read_rule(
    rule: &serde_json::Value,
    upstream: &str,
) -> Result<RuleConfig, Vec<Diagnostic>> {
    let upstream = match speaks_http(upstream) {
        true => "http://service:1",
        false => "service:1",
    };
    let file = serde_json::json!({
        "version": 1,
        "proxies": [{"name": "proxy", "upstream": upstream, "rules": [rule]}]
    });
    let file = load::read_other::<ProxyFile>(&file.to_string(), PROXY_ID, check)?;
    let mut rules = file.proxies.into_iter().flat_map(|proxy| proxy.rules);
    rules.next().ok_or_else(Vec::new)
}

/// The proxies that Toxiproxy starts with. Toxics stand in no such file.
#[derive(Debug, Deserialize, JsonSchema)]
struct List {
    proxies: Vec<Listed>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    listen: Option<String>,
    upstream: String,
    enabled: Option<bool>,
}

/// The schema of the proxy file: JSON Schema, draft 2020-12.
pub fn schema() -> serde_json::Value {
    load::schema_of::<ProxyFile>(PROXY_ID)
}

fn check(file: &ProxyFile, tree: &Node, report: &mut Reporter<'_>) {
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
        let upstream = proxy
            .upstream
            .strip_prefix(HTTP)
            .map(|rest| rest.trim_end_matches('/'));
        for (key, address) in [
            ("listen", proxy.listen.as_str()),
            ("upstream", upstream.unwrap_or(&proxy.upstream)),
        ] {
            if !(is_address(address) || is_mock && key == "upstream") {
                let help = "write it like `127.0.0.1:6379`, or a service that is to be spoken to in HTTP like `http://127.0.0.1:8000`";
                report.problem(place(key), "address", "this is no `host:port`", help);
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

/// Whether this is a service that a proxy can lead to.
pub fn is_service(text: &str) -> bool {
    let address = text
        .strip_prefix(HTTP)
        .map_or(text, |rest| rest.trim_end_matches('/'));
    is_address(address) || text.parse::<Pace>().is_ok()
}

/// `host:port`, with a host that may be empty.
fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok()) && !text.contains(['/', ' ', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let found = read(text).expect_err("it has problems");
        found
            .iter()
            .map(|problem| problem.code.to_string())
            .collect()
    }

    #[test]
    fn a_file_becomes_rules() {
        let file = read(
            "version: 1\nseed: 3\nproxies:\n  - name: a\n    upstream: localhost:1\n    rules:\n      \
             - {fault: {stream-latency: {delay: 100ms, jitter: 5ms}}, probability: 50%, way: both, per: chunk}\n      \
             - {name: gone, fault: {stream-partition: {}}}\n",
        );
        let file = file.expect("it is valid");
        let stream = |index: usize| match file.proxies[0].rules[index].rule() {
            AnyRule::Stream(rule) => rule,
            AnyRule::Web(rule) => panic!("{rule:?}"),
        };
        let [first, second] = [stream(0), stream(1)];
        let fault = Fault::Latency {
            latency: Duration::from_millis(100),
            jitter: Duration::from_millis(5),
        };
        assert_eq!(
            (first.name.as_str(), first.fault, first.probability),
            ("stream-latency", fault, 0.5)
        );
        assert_eq!((first.way, first.per), (Way::Both, Per::Chunk));
        assert_eq!(
            (second.name.as_str(), second.fault, second.way),
            ("gone", Fault::Partition, Way::Downstream)
        );
        assert_eq!(
            (file.seed, file.proxies[0].listen.as_str()),
            (Some(3), "127.0.0.1:0")
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = "version: 1\nproxies:\n  - {name: a, upstream: nowhere}\n  - name: a\n    upstream: b:1\n    rules:\n      \
                    - {fault: {stream-corrupt: {every: 0B}}}\n      - {fault: {stream-corrupt: {every: 1B}}}\n      \
                    - {fault: {stream-half-open: {}}, per: chunk}\n";
        let mut found = problems(text);
        found.sort();
        assert_eq!(found, ["address", "per-chunk", "twice", "twice", "zero"]);
        assert!(!problems("version: 1\nproxies: [{name: a, upstream: b:1, rules: [{fault: {stream-latncy: {}}}]}]").is_empty());
        assert_eq!(problems("version: 2\nproxies: []"), ["unsupported-version"]);
    }

    #[test]
    fn faults_of_http_stand_in_the_same_list_and_on_proxies_that_speak_it() {
        let rule = "{when: {model: \"gpt-*\"}, fault: {llm-cut: {after: 3, how: reset}}}";
        let text = |upstream: &str| {
            format!(
                "version: 1\nproxies:\n  - {{name: a, upstream: \"{upstream}\", rules: [{rule}]}}\n"
            )
        };
        let file = read(&text("http://x:1/")).expect("it is valid");
        match file.proxies[0].rules[0].rule() {
            AnyRule::Web(rule) => assert_eq!(
                (rule.name.as_str(), rule.when.model.as_deref()),
                ("llm-cut", Some("gpt-*"))
            ),
            AnyRule::Stream(rule) => panic!("{rule:?}"),
        }
        assert_eq!(problems(&text("x:1")), ["kind"]);
        let stream = "version: 1\nproxies: [{name: a, upstream: \"http://x:1\", rules: [{fault: {stream-limit: {bytes: 1B}}}]}]";
        assert_eq!(problems(stream), ["kind"]);
        let broken = "version: 1\nproxies: [{name: a, upstream: \"http://x:1\", rules: [{fault: {http-content-type: {value: \"a\\r\\nb\"}}}]}]";
        assert_eq!(problems(broken), ["line-break"]);
        let written =
            serde_json::to_string(&file.proxies[0].rules[0].fault).expect("it can be written");
        assert_eq!(written, r#"{"llm-cut":{"after":3,"how":"reset"}}"#);
    }

    #[test]
    fn the_list_that_toxiproxy_starts_with_is_read() {
        let text = r#"[{"name": "web", "listen": "[::]:1", "upstream": "web:2"}, {"name": "off", "upstream": "x:1", "enabled": false}]"#;
        let file = read(text).expect("it is valid");
        assert_eq!(file.proxies.len(), 1);
        assert_eq!(
            (
                file.proxies[0].name.as_str(),
                file.proxies[0].listen.as_str()
            ),
            ("web", "[::]:1")
        );
    }
}
