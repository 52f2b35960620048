//! What programs at interfaces' hooks cost those packets that they let go on: next to a way without any, in turns.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use rustix::thread::sched_setaffinity;
use serde_json::{Value, json};

use super::{Delayed, TRANSFER, at_least, core, transfer, without_probes};
use crate::bench::{Figure, median};
use crate::pair::Pair;

/// The share of what goes directly that is left.
const GOAL: f64 = 0.97;
const ROUNDS: usize = 15;
/// How often each is measured in a turn: what a busy host disturbs is only slower, so the quickest counts.
const SLICES: usize = 4;
/// How long datagrams are sent for each, and how many wait at once.
const LENGTH: Duration = Duration::from_millis(150);
const AT_ONCE: usize = 64;
/// So seldom that it does not happen.
const SELDOM: &str = "0.0000001%";

pub(super) fn figures(pair: &Pair) -> Vec<Figure> {
    if !squall_faults::kind::tcx() {
        let name = "programs at TCX hooks";
        return vec![Figure::missing(
            name,
            "of direct",
            GOAL,
            "the kernel has no TCX hook",
        )];
    }
    let loss = |port: u16| json!({"loss": SELDOM, "protocol": "udp", "ports": [port]});
    let corrupt = |port: u16| json!({"corrupted": SELDOM, "checksum": "fitting", "ports": [port]});
    let four: Make<'_> = &|| Way::datagrams(pair, false);
    let six: Make<'_> = &|| Way::datagrams(pair, true);
    let tcp: Make<'_> = &|| Way::stream(pair);
    let cases: [Case<'_>; 5] = [
        (
            "datagrams through network-loss, IPv4",
            four,
            "network-loss",
            &loss,
        ),
        (
            "datagrams through network-loss, IPv6",
            six,
            "network-loss",
            &loss,
        ),
        (
            "datagrams through network-corrupt",
            four,
            "network-corrupt",
            &corrupt,
        ),
        (
            "TCP past network-loss of datagrams",
            tcp,
            "network-loss",
            &loss,
        ),
        (
            "TCP through network-corrupt",
            tcp,
            "network-corrupt",
            &corrupt,
        ),
    ];
    let measured = cases.into_iter().map(|(name, way, kind, config)| {
        let compared = way().and_then(|way| compared(pair, &way, kind, &config(way.port()?)));
        compared.map_or_else(
            |error| Figure::missing(name, "of direct", GOAL, format!("{error:#}")),
            |found| found.figure(name),
        )
    });
    measured.collect()
}

/// A name, a way, a fault and its config for a port.
type Case<'a> = (
    &'static str,
    Make<'a>,
    &'static str,
    &'a dyn Fn(u16) -> Value,
);

type Make<'a> = &'a dyn Fn() -> anyhow::Result<Way<'a>>;

/// A way from the first namespace to the second.
enum Way<'a> {
    Datagrams(UdpSocket, UdpSocket),
    Stream(&'a Pair, TcpListener),
}

impl Way<'_> {
    fn datagrams(pair: &Pair, is_v6: bool) -> anyhow::Result<Way<'static>> {
        let (from, to) = pair.sockets(is_v6)?;
        to.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Way::Datagrams(from, to))
    }

    fn stream(pair: &Pair) -> anyhow::Result<Way<'_>> {
        let listener = pair.inside(1, || TcpListener::bind("10.99.0.2:0"))?;
        Ok(Way::Stream(pair, listener))
    }

    fn port(&self) -> anyhow::Result<u16> {
        Ok(match self {
            Way::Datagrams(_, to) => to.local_addr()?.port(),
            Way::Stream(_, listener) => listener.local_addr()?.port(),
        })
    }

    fn unit(&self) -> &'static str {
        match self {
            Way::Datagrams(..) => "datagrams/s",
            Way::Stream(..) => "Gbit/s",
        }
    }

    /// How much goes through in a second, at best.
    fn quickest(&self) -> anyhow::Result<f64> {
        let mut most = 0.0f64;
        for _ in 0..SLICES {
            most = most.max(self.measure()?);
        }
        Ok(most)
    }

    fn measure(&self) -> anyhow::Result<f64> {
        let (from, to) = match self {
            Way::Stream(pair, listener) => {
                without_probes(listener)?;
                return transfer(pair, listener, true, TRANSFER / 3);
            }
            Way::Datagrams(from, to) => (from, to),
        };
        // All of the way on one core, without anybody to be woken.
        sched_setaffinity(None, &core(0))?;
        let (begun, mut came, mut bytes) = (Instant::now(), 0u64, [0; 64]);
        while begun.elapsed() < LENGTH {
            for _ in 0..AT_ONCE {
                from.send(&[7; 64])?;
            }
            for _ in 0..AT_ONCE {
                came += u64::from(to.recv(&mut bytes).is_ok());
            }
        }
        Ok(came as f64 / begun.elapsed().as_secs_f64())
    }
}

/// Medians of both, and of their ratio in each round.
struct Compared {
    direct: f64,
    ratio: f64,
    spread: (f64, f64),
    unit: &'static str,
}

impl Compared {
    fn figure(&self, name: &str) -> Figure {
        let (low, high) = self.spread;
        let how = format!(
            "median of the ratios of {ROUNDS} interleaved rounds, of each the quickest of {SLICES}, pinned; half of them lie between {low:.3} and {high:.3}"
        );
        at_least(name, self.ratio, "of direct", GOAL, &how)
            .against(format!("{:.2} {} direct", self.direct, self.unit))
    }
}

fn compared(pair: &Pair, way: &Way<'_>, kind: &str, config: &Value) -> anyhow::Result<Compared> {
    let (mut direct, mut ratios) = (Vec::new(), Vec::new());
    way.quickest()?;
    for round in 0..ROUNDS {
        let through = || -> anyhow::Result<f64> {
            let fault = Delayed::by(pair, kind, config.clone())?;
            let found = way.quickest()?;
            let told = fault.end()?;
            // Else it were no measurement of these programs.
            anyhow::ensure!(!told.contains("overflow"), "a queue served it: {told}");
            Ok(found)
        };
        // Who comes first takes turns: what drifts does not add up.
        let (plain, treated) = if round % 2 == 0 {
            let plain = way.quickest()?;
            (plain, through()?)
        } else {
            let treated = through()?;
            (way.quickest()?, treated)
        };
        direct.push(plain);
        ratios.push(treated / plain);
    }
    let ratio = median(&mut ratios);
    ratios.sort_by(f64::total_cmp);
    Ok(Compared {
        direct: median(&mut direct),
        ratio,
        spread: (ratios[ROUNDS / 4], ratios[ROUNDS * 3 / 4]),
        unit: way.unit(),
    })
}
