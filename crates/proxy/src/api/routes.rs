//! Which call does what. No socket here.

use super::toxic::{self, Shown};
use super::{Answer, ApiError, VERSION, parsed};
use crate::file::read_rule;
use crate::stream::{Rule, Way};
use crate::{Proxies, ProxyError, Security, Seen, Told, Wanted};
use serde::{Deserialize, Serialize};
use squall_model::diagnostic::Diagnostic;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A proxy as we send it; the order of its keys is that of Toxiproxy.
#[derive(Serialize)]
struct ShownProxy {
    name: String,
    listen: String,
    upstream: String,
    enabled: bool,
    /// Toxiproxy leaks the name of a field of its own here.
    #[serde(rename = "Logger", skip_serializing_if = "Option::is_none")]
    logger: Option<BTreeMap<(), ()>>,
    toxics: Vec<Shown>,
}

#[derive(Default, Deserialize)]
struct AskedProxy {
    name: Option<String>,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: &'a str,
    status: u16,
    /// Null after `populate`, as with Toxiproxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxies: Option<Option<()>>,
}

type Outcome = Result<Answer, ApiError>;

/// Answers one call.
pub(super) fn answer(
    proxies: &Proxies,
    strict: bool,
    method: &str,
    path: &str,
    body: &[u8],
) -> Answer {
    let call = Call {
        proxies,
        strict,
        method,
        body,
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let outcome = match parts.as_slice() {
        ["version"] => call.version(),
        ["reset"] => call.reset(),
        ["populate"] => call.populate(),
        ["metrics"] => call.metrics(),
        ["squall"] => call.rules(),
        ["squall", "proxies", name, "rules"] => call.own_rules(name),
        ["squall", "proxies", name, "rules", rule] => call.own_rule(name, rule),
        ["proxies"] => call.proxies(),
        ["proxies", name] => call.proxy(name),
        ["proxies", name, "toxics"] => call.toxics(name),
        ["proxies", name, "toxics", toxic] => call.toxic(name, toxic),
        _ => return Answer::text(404, "404 page not found\n"),
    };
    outcome.unwrap_or_else(|error| failed(&error, strict, path == "/populate"))
}

pub(super) fn failed(error: &ApiError, strict: bool, populates: bool) -> Answer {
    let failed = Failed {
        error: &error.message,
        status: error.status,
        proxies: populates.then_some(None),
    };
    let mut body = serde_json::to_vec(&failed).unwrap_or_default();
    body.push(b'\n');
    let content_type = if strict { super::TEXT } else { super::JSON };
    Answer {
        status: error.status,
        content_type,
        body,
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::new(400, &format!("missing required field: {field}"))
}

/// The rules of one direction after the other, as clients of Toxiproxy expect them.
fn in_order(rules: &[Arc<Rule>]) -> Vec<Shown> {
    let (up, down): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.way != Way::Downstream);
    up.into_iter()
        .chain(down)
        .map(|rule| toxic::shown(rule))
        .collect()
}

struct Call<'a> {
    proxies: &'a Proxies,
    strict: bool,
    method: &'a str,
    body: &'a [u8],
}

impl Call<'_> {
    fn not_allowed(&self) -> Outcome {
        Ok(Answer {
            status: 405,
            content_type: super::TEXT,
            body: Vec::new(),
        })
    }

    fn shown(&self, seen: &Seen) -> ShownProxy {
        ShownProxy {
            name: seen.wanted.name.clone(),
            listen: seen.wanted.listen.clone(),
            upstream: seen.wanted.upstream.clone(),
            enabled: seen.wanted.enabled,
            logger: self.strict.then(BTreeMap::new),
            toxics: in_order(&seen.rules),
        }
    }

    fn version(&self) -> Outcome {
        match self.method {
            "GET" => Answer::json(200, &BTreeMap::from([("version", VERSION)])),
            _ => self.not_allowed(),
        }
    }

    fn reset(&self) -> Outcome {
        if self.method != "POST" {
            return self.not_allowed();
        }
        self.proxies.reset()?;
        Ok(Answer::nothing(204))
    }

    fn wanted(&self, asked: AskedProxy, place: &str) -> Result<Wanted, ApiError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Wanted {
            security: Security::default(),
            name: given(asked.name).ok_or_else(|| missing(&format!("name{place}")))?,
            upstream: given(asked.upstream).ok_or_else(|| missing(&format!("upstream{place}")))?,
            listen: given(asked.listen).unwrap_or_else(|| "127.0.0.1:0".to_owned()),
            enabled: asked.enabled.unwrap_or(true),
        })
    }

    fn proxies(&self) -> Outcome {
        match self.method {
            "GET" => {
                let all = self.proxies.all();
                let shown = all
                    .iter()
                    .map(|seen| (seen.wanted.name.clone(), self.shown(seen)));
                Answer::json(200, &shown.collect::<BTreeMap<_, _>>())
            }
            "POST" => {
                let wanted = self.wanted(parsed(self.body)?, "")?;
                Answer::json(201, &self.shown(&self.proxies.create(wanted)?))
            }
            _ => self.not_allowed(),
        }
    }

    fn populate(&self) -> Outcome {
        if self.method != "POST" {
            return self.not_allowed();
        }
        let all: Vec<AskedProxy> = parsed(self.body)?;
        let places = all.into_iter().enumerate();
        let wanted: Result<Vec<Wanted>, ApiError> = places
            .map(|(index, asked)| self.wanted(asked, &format!(" at proxy {}", index + 1)))
            .collect();
        let made = self.proxies.populate(wanted?, !self.strict)?;
        let shown: Vec<ShownProxy> = made.iter().map(|seen| self.shown(seen)).collect();
        Answer::json(201, &BTreeMap::from([("proxies", shown)]))
    }

    fn proxy(&self, name: &str) -> Outcome {
        match self.method {
            "GET" => Answer::json(200, &self.shown(&self.proxies.get(name)?)),
            "DELETE" => {
                self.proxies.remove(name)?;
                Ok(Answer::nothing(204))
            }
            "POST" | "PATCH" => {
                let mut wanted = self.proxies.get(name)?.wanted;
                let asked: AskedProxy = parsed(self.body)?;
                let given = |text: Option<String>| text.filter(|text| !text.is_empty());
                wanted.listen = given(asked.listen).unwrap_or(wanted.listen);
                wanted.upstream = given(asked.upstream).unwrap_or(wanted.upstream);
                wanted.enabled = asked.enabled.unwrap_or(wanted.enabled);
                Answer::json(200, &self.shown(&self.proxies.update(&wanted)?))
            }
            _ => self.not_allowed(),
        }
    }

    fn toxics(&self, name: &str) -> Outcome {
        let seen = self.proxies.get(name)?;
        match self.method {
            "GET" => Answer::json(200, &in_order(&seen.rules)),
            "POST" => {
                let is_taken = |name: &str| seen.rules.iter().any(|rule| rule.name == name);
                let rule = toxic::asked(self.body, is_taken, self.strict)?;
                Answer::json(200, &toxic::shown(&*self.proxies.add_rule(name, rule)?))
            }
            _ => self.not_allowed(),
        }
    }

    fn toxic(&self, name: &str, toxic: &str) -> Outcome {
        let seen = self.proxies.get(name)?;
        match self.method {
            "GET" => {
                let found = seen.rules.iter().find(|rule| rule.name == toxic);
                let rule = found.ok_or_else(|| ApiError::new(404, "toxic not found"))?;
                Answer::json(200, &toxic::shown(rule))
            }
            "POST" | "PATCH" => {
                let change = |rule: &Rule| toxic::changed(rule, self.body);
                Answer::json(
                    200,
                    &toxic::shown(&*self.proxies.change_rule(name, toxic, change)?),
                )
            }
            "DELETE" => {
                self.proxies.remove_rule(name, toxic)?;
                Ok(Answer::nothing(204))
            }
            _ => self.not_allowed(),
        }
    }

    /// Every rule: armed, or landed and how often.
    fn rules(&self) -> Outcome {
        let told: Vec<Told> = self.proxies.all().iter().flat_map(Seen::told).collect();
        Answer::json(200, &BTreeMap::from([("rules", told)]))
    }

    /// The rules of one proxy, and another, written as in the proxy file.
    fn own_rules(&self, name: &str) -> Outcome {
        match self.method {
            "GET" => Answer::json(200, &self.proxies.get(name)?.told()),
            "POST" => {
                let upstream = self.proxies.get(name)?.wanted.upstream;
                let rule = read_rule(&parsed(self.body)?, &upstream).map_err(unread)?;
                rule.set(self.proxies, name)?;
                Answer::json(201, &rule)
            }
            _ => self.not_allowed(),
        }
    }

    fn own_rule(&self, name: &str, rule: &str) -> Outcome {
        if self.method != "DELETE" {
            return self.not_allowed();
        }
        match self.proxies.remove_web_rule(name, rule) {
            Err(ProxyError::UnknownRule(_)) => self.proxies.remove_rule(name, rule)?,
            other => other?,
        }
        Ok(Answer::nothing(204))
    }

    fn metrics(&self) -> Outcome {
        if self.method != "GET" {
            return self.not_allowed();
        }
        let mut text = String::new();
        let all = self.proxies.all();
        for (name, help, of) in METRICS {
            write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n").ok();
            for seen in &all {
                let (up, down) = of(seen);
                for (direction, value) in [("upstream", up), ("downstream", down)] {
                    let labels = format!(
                        "direction=\"{direction}\",proxy=\"{}\",listener=\"{}\",upstream=\"{}\"",
                        label(&seen.wanted.name),
                        label(&seen.wanted.listen),
                        label(&seen.wanted.upstream)
                    );
                    writeln!(text, "{name}{{{labels}}} {value}").ok();
                }
            }
        }
        let name = "squall_proxy_rule_fired_total";
        write!(
            text,
            "# HELP {name} How often a rule has acted\n# TYPE {name} counter\n"
        )
        .ok();
        for told in all.iter().flat_map(Seen::told) {
            let (proxy, rule) = (label(&told.proxy), label(&told.rule));
            writeln!(
                text,
                "{name}{{proxy=\"{proxy}\",rule=\"{rule}\"}} {}",
                told.fired
            )
            .ok();
        }
        let name = "squall_proxy_records_lost_total";
        let lost = self.proxies.recorder().lost();
        write!(text, "# HELP {name} Records that no reader took in time\n# TYPE {name} counter\n{name} {lost}\n").ok();
        Ok(Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4",
            body: text.into_bytes(),
        })
    }
}

/// All problems of a rule in one line.
fn unread(problems: Vec<Diagnostic>) -> ApiError {
    let told = problems.into_iter().map(|problem| match problem.help {
        Some(help) => format!("{}: {help}", problem.message),
        None => problem.message,
    });
    ApiError::bad_body(&told.collect::<Vec<_>>().join("; "))
}

type Pair = (&'static str, &'static str, fn(&Seen) -> (u64, u64));

const METRICS: [Pair; 2] = [
    (
        "toxiproxy_proxy_received_bytes_total",
        "The total number of bytes received on a given proxy",
        |seen| {
            let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
            (
                load(&seen.counters.received_up),
                load(&seen.counters.received_down),
            )
        },
    ),
    (
        "toxiproxy_proxy_sent_bytes_total",
        "The total number of bytes sent on a given proxy",
        |seen| {
            let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
            (load(&seen.counters.sent_up), load(&seen.counters.sent_down))
        },
    ),
];

/// A label's value, as Prometheus wants it.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
