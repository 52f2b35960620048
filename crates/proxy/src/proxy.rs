//! One proxy: where it listens, what it leads to, and the rules that are set on it. Rules change while traffic flows.

use crate::record::{Recorder, What};
use crate::stream::Rule;
use crate::tls::Secured;
use crate::web::{Pace, WebRule};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the address of a service begins that is spoken to in HTTP/1.1.
const HTTP: &str = "http://";
/// In HTTP/1.1 over TLS.
const HTTPS: &str = "https://";
/// In TLS, and nothing is known of what is said in it.
const TLS: &str = "tls://";

/// Whether what is behind this upstream is spoken to in HTTP.
pub(crate) fn speaks_http(upstream: &str) -> bool {
    [HTTP, HTTPS]
        .iter()
        .any(|scheme| upstream.starts_with(scheme))
        || upstream.parse::<Pace>().is_ok()
}

/// Whether what is behind this upstream is spoken to in TLS.
pub(crate) fn is_secured(upstream: &str) -> bool {
    [HTTPS, TLS]
        .iter()
        .any(|scheme| upstream.starts_with(scheme))
}

/// `host:port` of an upstream.
pub(crate) fn address(upstream: &str) -> String {
    let schemes = [HTTP, HTTPS, TLS];
    let rest = schemes
        .iter()
        .find_map(|scheme| upstream.strip_prefix(scheme));
    let address = rest.map_or(upstream, |rest| rest.trim_end_matches('/'));
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match upstream.starts_with(HTTPS) && !has_port {
        true => format!("{address}:443"),
        false => address.to_owned(),
    }
}

/// As a client of the service itself would write it: the usual port is left out.
fn authority(upstream: &str) -> String {
    let address = address(upstream);
    address.strip_suffix(":443").unwrap_or(&address).to_owned()
}

/// Bytes that went through, since the proxy was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read from clients.
    pub received_up: AtomicU64,
    /// Sent to the service.
    pub sent_up: AtomicU64,
    /// Read from the service.
    pub received_down: AtomicU64,
    /// Sent to clients.
    pub sent_down: AtomicU64,
    /// Connections that are open.
    pub open: AtomicU64,
}

/// What outlives a proxy that is switched off and on again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lasting {
    /// The number of the next connection.
    pub(crate) next: Arc<Mutex<u64>>,
    pub(crate) counters: Arc<Counters>,
}

/// One proxy that listens.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Unique among the proxies.
    pub(crate) name: Arc<str>,
    /// `host:port` of the service.
    pub(crate) upstream: String,
    /// What requests say in `host`, where that is not left as the client has it.
    pub(crate) authority: Option<String>,
    pub(crate) secured: Secured,
    pub(crate) speaks_http: bool,
    /// The service is built in.
    pub(crate) pace: Option<Pace>,
    /// What draws start from.
    pub(crate) seed: u64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) next: Arc<Mutex<u64>>,
    rules: Mutex<Arc<Vec<Arc<Rule>>>>,
    web_rules: Mutex<Arc<Vec<Arc<WebRule>>>>,
    version: AtomicU64,
    gone: AtomicBool,
    recorder: Recorder,
}

/// Data behind a lock stays usable when a thread panicked: each change is one assignment.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(crate) fn new(
        name: &str,
        upstream: &str,
        seed: u64,
        lasting: &Lasting,
        recorder: Recorder,
        secured: Secured,
    ) -> Proxy {
        Proxy {
            name: name.into(),
            upstream: address(upstream),
            authority: is_secured(upstream).then(|| authority(upstream)),
            secured,
            speaks_http: speaks_http(upstream),
            pace: upstream.parse().ok(),
            // Proxies under one seed draw independently of each other.
            seed: squall_model::seed::hash64(&[&seed.to_le_bytes(), name.as_bytes()]),
            counters: lasting.counters.clone(),
            next: lasting.next.clone(),
            rules: Mutex::default(),
            web_rules: Mutex::default(),
            version: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            recorder,
        }
    }

    /// The rules that are set, in order.
    pub(crate) fn rules(&self) -> Arc<Vec<Arc<Rule>>> {
        locked(&self.rules).clone()
    }

    /// The rules on requests that are set, in order.
    pub(crate) fn web_rules(&self) -> Arc<Vec<Arc<WebRule>>> {
        locked(&self.web_rules).clone()
    }

    /// Replaces all rules. Open connections follow when they next act, or when the relay is told.
    pub(crate) fn set_rules(&self, rules: Vec<Arc<Rule>>, web_rules: Vec<Arc<WebRule>>) {
        *locked(&self.rules) = Arc::new(rules);
        *locked(&self.web_rules) = Arc::new(web_rules);
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// It serves nobody any more, also not a client that was accepted a moment ago.
    pub(crate) fn retire(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// What keys the hashes of those who watch; none where nobody does.
    pub(crate) fn watching(&self) -> Option<u64> {
        (self.recorder.watches() && self.speaks_http).then_some(self.seed)
    }

    pub(crate) fn record(&self, connection: u64, what: What) {
        self.recorder.push(&self.name, connection, what);
    }
}
