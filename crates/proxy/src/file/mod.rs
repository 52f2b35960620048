//! The proxy file: what `squall proxy FILE` starts with.

mod check;
mod fault;

pub use fault::{FaultConfig, StreamFault};

use crate::proxy::{address, speaks_http};
use crate::stream::{Per, Rule, Way};
use crate::web::{Pace, WebRule, When};
use crate::{Proxies, ProxyError, Security, Serve, Wanted};
use check::{check, is_address};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_model::diagnostic::Diagnostic;
use squall_model::load;
use squall_model::units::Percent;
use std::path::PathBuf;

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
    /// The service: `host:port`, or `tls://host:port` where it speaks TLS; `http://host:port` or `https://host` where it speaks HTTP; or `mock`, which answers by itself in OpenAI's and Anthropic's shapes (`mock:first-token=20ms,token=5ms,tokens=16`).
    pub upstream: String,
    /// A file of certificates (PEM) that vouch for a service with TLS, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name that the certificate of a service with TLS must have; the upstream's host unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Speaks TLS to clients too, with a certificate of a test CA. Faults act on what is said inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Rules, in the order in which bytes pass them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleConfig>,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TlsConfig {
    /// The folder of the test CA; made, with a new CA, where there is none. Clients are to trust its `squall-test-ca.pem`.
    pub ca: PathBuf,
    /// Names and addresses that clients ask for, beside `localhost`, 127.0.0.1, ::1, and the hosts of `listen` and `upstream`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
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
    /// Which requests it acts on: all unless given. For faults of requests: `http-*`, `llm-*`, `retrieval-*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What it does: a fault `stream-*` of the bytes, or, where the upstream is `http://…`, `https://…` or `mock`, of requests and answers (`http-*`, `llm-*`, `retrieval-*`).
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

impl ProxyConfig {
    /// A proxy that leads from here to there, without rules and without TLS towards clients.
    pub fn plain(name: &str, listen: &str, upstream: &str) -> ProxyConfig {
        ProxyConfig {
            name: name.to_owned(),
            listen: listen.to_owned(),
            upstream: upstream.to_owned(),
            ca: None,
            server_name: None,
            tls: None,
            rules: Vec::new(),
        }
    }

    fn security(&self) -> Security {
        let serve = |tls: &TlsConfig| Serve {
            ca: tls.ca.clone(),
            names: tls.names.clone(),
        };
        Security {
            ca: self.ca.clone(),
            server_name: self.server_name.clone(),
            serve: self.tls.as_ref().map(serve),
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
                security: config.security(),
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
        let of = |one: Listed| {
            let listen = one.listen.unwrap_or_else(anywhere);
            ProxyConfig::plain(&one.name, &listen, &one.upstream)
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

/// Whether this is a service that a proxy can lead to.
pub fn is_service(text: &str) -> bool {
    is_address(&address(text)) || text.parse::<Pace>().is_ok()
}

#[cfg(test)]
mod tests;
