//! A proxy as it runs: what it leads where, what fired first, and at a terminal a line for each proxy that stays below.

use super::fit::{columns, cut, for_terminal};
use crate::output::Stream;
use squall_proxy::{Record, Seen, What};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Proxies that have a line of their own.
const SHOWN: usize = 8;
/// How often a service that cannot be reached is told of.
const AGAIN: Duration = Duration::from_secs(1);

/// What is printed, to standard error.
pub(crate) struct View {
    start: Instant,
    seed: u64,
    terminal: bool,
    area: usize,
    told: BTreeSet<(String, String)>,
    unreachable: Option<Instant>,
}

impl View {
    pub(crate) fn new(seed: u64) -> View {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        View {
            start: Instant::now(),
            seed,
            terminal: std::io::stderr().is_terminal() && !dumb,
            area: 0,
            told: BTreeSet::new(),
            unreachable: None,
        }
    }

    fn say(&mut self, text: &str) {
        self.clear();
        eprintln!("{}", for_terminal(text));
    }

    fn clear(&mut self) {
        if self.area > 0 {
            eprint!("\x1b[{}A\x1b[J", self.area);
            self.area = 0;
        }
    }

    fn event(&mut self, text: &str) {
        let time = self.start.elapsed().as_secs_f64();
        self.say(&format!(" {time:<9.1}{text}"));
    }

    /// What runs now.
    pub(crate) fn started(&mut self, proxies: &squall_proxy::Proxies, api: Option<SocketAddr>) {
        self.say(&format!(
            "squall {}   proxy   seed {}",
            env!("CARGO_PKG_VERSION"),
            self.seed
        ));
        if let Some(api) = api {
            self.say(&format!(" api      http://{api}"));
        }
        for seen in proxies.all() {
            let wanted = &seen.wanted;
            self.say(&format!(
                " listen   {} {} → {}",
                wanted.name, wanted.listen, wanted.upstream
            ));
            if let Some(serve) = &wanted.security.serve {
                let path = serve.certificate();
                self.say(&format!(
                    " trust    {} · clients of {} check TLS by it",
                    path.display(),
                    wanted.name
                ));
            }
            for told in seen.told() {
                let way = told.way.map(|way| format!(", {way}")).unwrap_or_default();
                self.say(&format!(" armed    {} {}{way}", told.proxy, told.rule));
            }
        }
    }

    /// Tells what fired for the first time, and what cannot be reached.
    pub(crate) fn record(&mut self, record: &Record) {
        match &record.what {
            What::Fired {
                rule,
                fault,
                place,
                unit,
                ..
            } => {
                if self.told.insert((record.proxy.to_string(), rule.clone())) {
                    let of = if rule == fault {
                        String::new()
                    } else {
                        format!(" ({fault})")
                    };
                    let at = format!("connection {}, {unit} {place}", record.connection);
                    self.event(&format!("{} {rule}{of} landed at {at}", record.proxy));
                }
            }
            What::Unreachable { because } => {
                if self.unreachable.is_none_or(|last| last.elapsed() >= AGAIN) {
                    self.unreachable = Some(Instant::now());
                    self.event(&format!(
                        "{} could not serve a client, because {because}",
                        record.proxy
                    ));
                }
            }
            What::Refused { because } | What::Unmatched { because } => {
                if self
                    .told
                    .insert((record.proxy.to_string(), because.clone()))
                {
                    self.event(&format!("{} {because}", record.proxy));
                }
            }
            What::Opened { .. } | What::Asked { .. } | What::Exchange(_) | What::Closed { .. } => {}
        }
    }

    /// Draws the live area.
    pub(crate) fn turn(&mut self, all: &[Seen]) {
        if !self.terminal {
            return;
        }
        self.clear();
        let width = columns(Stream::Error).unwrap_or(80);
        let mut lines: Vec<String> = all.iter().take(SHOWN).map(line).collect();
        if all.len() > SHOWN {
            lines.push(format!("          and {} more", all.len() - SHOWN));
        }
        for line in &lines {
            eprintln!("{}", cut(line, width));
        }
        self.area = lines.len();
    }

    /// The log cannot be written any more.
    pub(crate) fn trouble(&mut self, error: &std::io::Error) {
        self.event(&format!(
            "could not write the log, because {error}; records that do not fit are lost and counted"
        ));
    }

    /// What every rule did.
    pub(crate) fn ended(&mut self, all: &[Seen], lost: u64) {
        for told in all.iter().flat_map(Seen::told) {
            let verdict = match told.fired {
                0 => "not landed: it never fired".to_owned(),
                1 => "landed, once".to_owned(),
                times => format!("landed, {times} times"),
            };
            self.say(&format!(" rule     {} {} {verdict}", told.proxy, told.rule));
        }
        if lost > 0 {
            self.say(&format!(
                " records  {lost} lost: more came than could be written"
            ));
        }
    }
}

fn line(seen: &Seen) -> String {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &seen.counters;
    let told = seen.told();
    let landed = told.iter().filter(|rule| rule.fired > 0).count();
    let state = match seen.wanted.enabled {
        true => format!("{} open", load(&counters.open)),
        false => "off".to_owned(),
    };
    let (up, down) = (
        bytes(load(&counters.sent_up)),
        bytes(load(&counters.sent_down)),
    );
    format!(
        " {:<9}{state} · {up} up · {down} down · {landed} of {} rules landed",
        seen.wanted.name,
        told.len()
    )
}

/// A number of bytes in three digits.
fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return match unit {
                "B" => format!("{count} B"),
                _ => format!(
                    "{value:.prec$} {unit}",
                    prec = if value < 10.0 {
                        2
                    } else {
                        usize::from(value < 100.0)
                    }
                ),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}
