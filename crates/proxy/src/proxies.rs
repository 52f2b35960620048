//! All proxies of one process, by name. Every change is made under one lock that is never held while anything is dialled.

use crate::proxy::{Counters, Lasting, Proxy, locked, speaks_http};
use crate::record::Recorder;
use crate::relay::Relay;
use crate::stream::Rule;
use crate::tls::{Secured, Security, TlsError};
use crate::web::WebRule;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The most proxies of one process.
const PROXIES_MAX: usize = 1000;
/// The most rules of one proxy.
const RULES_MAX: usize = 100;

/// Why something could not be done with a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The name is taken.
    #[error(
        "could not make the proxy `{0}`, because one of that name exists; choose another name or remove the other"
    )]
    Exists(String),
    /// There is none.
    #[error("there is no proxy `{0}`")]
    Unknown(String),
    /// Its address cannot be used.
    #[error("could not listen on {listen}, because {source}")]
    Listen {
        /// The address as it was asked for.
        listen: String,
        /// What the system says.
        source: io::Error,
    },
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The rule's name is taken.
    #[error("could not set the rule `{0}`, because the proxy has one of that name")]
    RuleExists(String),
    /// The proxy has no such rule.
    #[error("the proxy has no rule `{0}`")]
    UnknownRule(String),
    /// The rule is for proxies of the other kind.
    #[error(
        "could not set the rule, because `{0}` is a proxy of the other kind; faults of HTTP need an upstream `http://…` or `mock`, and faults of streams one without"
    )]
    WrongKind(String),
    /// A limit is reached.
    #[error("could not add another, because there are {0} already; remove one first")]
    TooMany(usize),
}

/// A proxy as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Unique among the proxies.
    pub name: String,
    /// `host:port`; port 0 lets the system choose.
    pub listen: String,
    /// `host:port` of the service.
    pub upstream: String,
    /// Whether it accepts clients.
    pub enabled: bool,
    /// TLS on either side.
    pub security: Security,
}

/// A proxy as it is.
#[derive(Debug, Clone)]
pub struct Seen {
    /// With the address where it really listens (or listened, when it is switched off).
    pub wanted: Wanted,
    /// In order.
    pub rules: Vec<Arc<Rule>>,
    /// Rules on requests, in order.
    pub web_rules: Vec<Arc<WebRule>>,
    /// What went through.
    pub counters: Arc<Counters>,
}

/// A rule and what it did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// The proxy's name.
    pub proxy: String,
    /// The rule's name.
    pub rule: String,
    /// The kind of fault.
    pub fault: &'static str,
    /// The direction, for a fault that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<&'static str>,
    /// `armed`, or `landed` when it has acted.
    pub state: &'static str,
    /// How often it has acted.
    pub fired: u64,
}

impl Seen {
    /// Every rule and what it did.
    pub fn told(&self) -> Vec<Told> {
        let told =
            |rule: &str, fault: &'static str, way: Option<&'static str>, fired: &AtomicU64| {
                let fired = fired.load(Ordering::Relaxed);
                let state = if fired > 0 { "landed" } else { "armed" };
                Told {
                    proxy: self.wanted.name.clone(),
                    rule: rule.to_owned(),
                    fault,
                    way,
                    state,
                    fired,
                }
            };
        let stream = self
            .rules
            .iter()
            .map(|it| told(&it.name, it.fault.kind(), Some(it.way.word()), &it.fired));
        let web = self
            .web_rules
            .iter()
            .map(|it| told(&it.name, it.fault.name(), None, &it.fired));
        stream.chain(web).collect()
    }
}

struct Entry {
    wanted: Wanted,
    /// The address as it was asked for, `localhost:0` for one.
    asked: String,
    rules: Vec<Arc<Rule>>,
    web_rules: Vec<Arc<WebRule>>,
    lasting: Lasting,
    live: Option<Arc<Proxy>>,
}

/// All proxies of one process.
pub struct Proxies {
    entries: Mutex<BTreeMap<String, Entry>>,
    relay: Relay,
    seed: u64,
    recorder: Recorder,
}

type Entries = BTreeMap<String, Entry>;

fn find<'e>(entries: &'e mut Entries, name: &str) -> Result<&'e mut Entry, ProxyError> {
    entries
        .get_mut(name)
        .ok_or_else(|| ProxyError::Unknown(name.to_owned()))
}

impl Proxies {
    /// None yet, carried by `workers` threads.
    ///
    /// # Errors
    /// When the system gives no more threads or file descriptors.
    pub fn start(seed: u64, workers: usize, recorder: Recorder) -> io::Result<Proxies> {
        let relay = Relay::start(workers)?;
        Ok(Proxies {
            entries: Mutex::default(),
            relay,
            seed,
            recorder,
        })
    }

    /// Makes a proxy.
    ///
    /// # Errors
    /// When the name is taken or the address cannot be used.
    pub fn create(&self, wanted: Wanted) -> Result<Seen, ProxyError> {
        let mut entries = locked(&self.entries);
        if entries.contains_key(&wanted.name) {
            return Err(ProxyError::Exists(wanted.name));
        }
        self.insert(&mut entries, wanted)
    }

    fn insert(&self, entries: &mut Entries, wanted: Wanted) -> Result<Seen, ProxyError> {
        if entries.len() >= PROXIES_MAX {
            return Err(ProxyError::TooMany(entries.len()));
        }
        let mut entry = Entry {
            asked: wanted.listen.clone(),
            wanted,
            rules: Vec::new(),
            web_rules: Vec::new(),
            lasting: Lasting::default(),
            live: None,
        };
        if entry.wanted.enabled {
            self.switch_on(&mut entry)?;
        }
        let seen = entry.seen();
        entries.insert(seen.wanted.name.clone(), entry);
        Ok(seen)
    }

    /// Makes several, in order. One that is there with the same addresses stays, and is switched on or off as asked when
    /// `switches` is set; one with others is replaced.
    ///
    /// # Errors
    /// At the first that could not be made; those before it are there.
    pub fn populate(&self, all: Vec<Wanted>, switches: bool) -> Result<Vec<Seen>, ProxyError> {
        let mut entries = locked(&self.entries);
        let mut made = Vec::new();
        for wanted in all {
            let same = entries.get_mut(&wanted.name).filter(|entry| {
                entry.wanted.upstream == wanted.upstream && entry.listens_on(&wanted.listen)
            });
            if let Some(entry) = same {
                if switches {
                    self.switch(entry, wanted.enabled)?;
                }
                made.push(entry.seen());
                continue;
            }
            if let Some(mut old) = entries.remove(&wanted.name) {
                self.switch_off(&mut old);
            }
            made.push(self.insert(&mut entries, wanted)?);
        }
        Ok(made)
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Seen> {
        locked(&self.entries).values().map(Entry::seen).collect()
    }

    /// One.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<Seen, ProxyError> {
        Ok(find(&mut locked(&self.entries), name)?.seen())
    }

    /// Changes addresses or switches on and off. Other addresses cut the open connections.
    ///
    /// # Errors
    /// When there is none, or the new address cannot be used; then it is off.
    pub fn update(&self, wanted: &Wanted) -> Result<Seen, ProxyError> {
        let mut entries = locked(&self.entries);
        let entry = find(&mut entries, &wanted.name)?;
        let moves = !entry.listens_on(&wanted.listen);
        let secured = entry.wanted.security != wanted.security;
        if moves || secured || entry.wanted.upstream != wanted.upstream {
            self.switch_off(entry);
            if moves {
                entry.wanted.listen.clone_from(&wanted.listen);
                entry.asked.clone_from(&wanted.listen);
            }
            entry.wanted.upstream.clone_from(&wanted.upstream);
            entry.wanted.security.clone_from(&wanted.security);
        }
        self.switch(entry, wanted.enabled)?;
        Ok(entry.seen())
    }

    /// Removes one, and cuts its connections.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove(&self, name: &str) -> Result<(), ProxyError> {
        let mut entries = locked(&self.entries);
        self.switch_off(find(&mut entries, name)?);
        entries.remove(name);
        Ok(())
    }

    /// Sets another rule on a proxy.
    ///
    /// # Errors
    /// When there is no such proxy, or it has a rule of that name.
    pub fn add_rule(&self, proxy: &str, rule: Rule) -> Result<Arc<Rule>, ProxyError> {
        self.with_rules(proxy, |rules| {
            if rules.iter().any(|known| known.name == rule.name) {
                return Err(ProxyError::RuleExists(rule.name));
            }
            if rules.len() >= RULES_MAX {
                return Err(ProxyError::TooMany(rules.len()));
            }
            rules.push(Arc::new(rule));
            Ok(rules[rules.len() - 1].clone())
        })
    }

    /// Sets a rule on requests.
    ///
    /// # Errors
    /// When there is no such proxy, it does not speak HTTP, or it has a rule of that name.
    pub fn add_web_rule(&self, proxy: &str, rule: WebRule) -> Result<Arc<WebRule>, ProxyError> {
        let mut entries = locked(&self.entries);
        let entry = find(&mut entries, proxy)?;
        if !speaks_http(&entry.wanted.upstream) {
            return Err(ProxyError::WrongKind(proxy.to_owned()));
        }
        if entry.web_rules.iter().any(|known| known.name == rule.name) {
            return Err(ProxyError::RuleExists(rule.name));
        }
        if entry.web_rules.len() >= RULES_MAX {
            return Err(ProxyError::TooMany(entry.web_rules.len()));
        }
        let rule = Arc::new(rule);
        entry.web_rules.push(rule.clone());
        self.tell(entry);
        Ok(rule)
    }

    /// Removes a rule on requests.
    ///
    /// # Errors
    /// When there is no such proxy or rule.
    pub fn remove_web_rule(&self, proxy: &str, name: &str) -> Result<(), ProxyError> {
        let mut entries = locked(&self.entries);
        let entry = find(&mut entries, proxy)?;
        let before = entry.web_rules.len();
        entry.web_rules.retain(|rule| rule.name != name);
        if entry.web_rules.len() == before {
            return Err(ProxyError::UnknownRule(name.to_owned()));
        }
        self.tell(entry);
        Ok(())
    }

    /// Changes a rule that is set; its place and its count stay.
    ///
    /// # Errors
    /// When there is no such proxy or rule, or `change` finds fault with it.
    pub fn change_rule<E: From<ProxyError>>(
        &self,
        proxy: &str,
        name: &str,
        change: impl FnOnce(&Rule) -> Result<Rule, E>,
    ) -> Result<Arc<Rule>, E> {
        self.with_rules(proxy, |rules| {
            let unknown = || ProxyError::UnknownRule(name.to_owned());
            let rule = rules
                .iter_mut()
                .find(|rule| rule.name == name)
                .ok_or_else(unknown)?;
            *rule = Arc::new(change(rule)?);
            Ok(rule.clone())
        })
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// When there is no such proxy or rule.
    pub fn remove_rule(&self, proxy: &str, name: &str) -> Result<(), ProxyError> {
        self.with_rules(proxy, |rules| {
            let before = rules.len();
            rules.retain(|rule| rule.name != name);
            match rules.len() < before {
                true => Ok(()),
                false => Err(ProxyError::UnknownRule(name.to_owned())),
            }
        })
    }

    fn with_rules<T, E: From<ProxyError>>(
        &self,
        proxy: &str,
        act: impl FnOnce(&mut Vec<Arc<Rule>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut entries = locked(&self.entries);
        let entry = find(&mut entries, proxy)?;
        if speaks_http(&entry.wanted.upstream) {
            return Err(ProxyError::WrongKind(proxy.to_owned()).into());
        }
        let done = act(&mut entry.rules)?;
        self.tell(entry);
        Ok(done)
    }

    fn tell(&self, entry: &Entry) {
        if let Some(live) = &entry.live {
            live.set_rules(entry.rules.clone(), entry.web_rules.clone());
            self.relay.changed(live);
        }
    }

    /// Removes all rules and switches every proxy on.
    ///
    /// # Errors
    /// When one cannot listen where it did; the others are reset all the same.
    pub fn reset(&self) -> Result<(), ProxyError> {
        let mut outcome = Ok(());
        for entry in locked(&self.entries).values_mut() {
            entry.rules.clear();
            entry.web_rules.clear();
            self.tell(entry);
            let switched = self.switch(entry, true);
            outcome = outcome.and(switched);
        }
        outcome
    }

    fn switch(&self, entry: &mut Entry, on: bool) -> Result<(), ProxyError> {
        match (on, entry.live.is_some()) {
            (true, false) => self.switch_on(entry),
            (false, true) => {
                self.switch_off(entry);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn switch_on(&self, entry: &mut Entry) -> Result<(), ProxyError> {
        let failed = |source| ProxyError::Listen {
            listen: entry.wanted.listen.clone(),
            source,
        };
        let (wanted, lasting) = (&entry.wanted, &entry.lasting);
        let secured = Secured::new(&wanted.security, &wanted.listen, &wanted.upstream)?;
        let listener = TcpListener::bind(host_and_port(&entry.wanted.listen)).map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        let proxy = Proxy::new(
            &wanted.name,
            &wanted.upstream,
            self.seed,
            lasting,
            self.recorder.clone(),
            secured,
        );
        let proxy = Arc::new(proxy);
        proxy.set_rules(entry.rules.clone(), entry.web_rules.clone());
        self.relay.listen(listener, &proxy).map_err(failed)?;
        entry.wanted.listen = listen.to_string();
        entry.wanted.enabled = true;
        entry.live = Some(proxy);
        Ok(())
    }

    fn switch_off(&self, entry: &mut Entry) {
        entry.wanted.enabled = false;
        if let Some(live) = entry.live.take() {
            self.relay.forget(&live);
        }
    }

    /// Whether a worker has ended by itself, which none should.
    pub fn has_failed(&self) -> bool {
        self.relay.has_failed()
    }

    /// What a rule was made on: records are told here.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

impl Entry {
    fn listens_on(&self, listen: &str) -> bool {
        self.asked == listen || self.wanted.listen == listen
    }

    fn seen(&self) -> Seen {
        Seen {
            wanted: self.wanted.clone(),
            rules: self.rules.clone(),
            web_rules: self.web_rules.clone(),
            counters: self.lasting.counters.clone(),
        }
    }
}

/// `:6379` and `6379` mean every address, as they do elsewhere.
fn host_and_port(listen: &str) -> String {
    match listen.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => listen.to_owned(),
    }
}
